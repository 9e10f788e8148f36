"""Search and compare on a snapshot of the directory (RFC 4511, sections 4.5 and 4.10).

A search has two steps: `find` makes a list of the entries, `answer` encodes what is to be shown of all of them, or of
one page. An answer is encoded without a message ID and depends on the request, the tree and the rights alone: whoever
wants to keep answers for requests that repeat keeps them under exactly these three. Only pages, and what ended at the
time limit, depend on more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from repository import codec, names
from repository.controls import NONE, Controls
from repository.dit import DIT, Attributes, Entry
from repository.errors import OperationError
from repository.filters import Predicate, cost, predicate, values
from repository.matching import EQUALITY
from repository.messages import CompareRequest, Filter, Result, ResultCode, Scope, SearchRequest
from repository.schema import AttributeType, described

# What a relying party is given to check validity with: every delivery is recorded (R-4-11-2-1).
_LIST_NAMES: Final = frozenset({"certificateRevocationList", "authorityRevocationList"})

# Of one search, in units of `filters.cost`: some 50 ms in which nobody else is answered. A filter of 50 items passes
# over 2,000 entries, which is more than one CA has.
MAX_WORK: Final = 100_000
_TOO_MUCH_WORK: Final = "this filter is too long for so many entries; narrow the search"

_SelectedAttribute = tuple[AttributeType, tuple[bytes, ...]]
_Selected = Sequence[_SelectedAttribute]


class DeliveredList(NamedTuple):
    """One CRL or ARL in an answer."""

    entry_dn: str
    attribute: str
    size: int  # octets


class Outcome(NamedTuple):
    """All that a search leads to."""

    entries: tuple[codec.Operation, ...]
    result: Result
    lists: tuple[DeliveredList, ...]
    is_withheld: bool  # something that was asked for is restricted, and the reader has no right to it


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a search may go."""

    entries: int  # that it returns
    time_s: float
    clock: Callable[[], float]  # seconds, from any moment on


class Found(NamedTuple):
    """The entries of a search, in the order of the tree, and whether these are all."""

    entries: Sequence[Entry]
    result: Result


def search(
    dit: DIT, request: SearchRequest, controls: Controls = NONE, *, may_read_restricted: bool, limits: Limits
) -> Outcome:
    """Answer a search. What the reader has no right to is absent: from the answer and for the filter.

    Raises:
        OperationError: what `find` raises.
    """
    found = find(dit, request, controls, may_read_restricted=may_read_restricted, limits=limits)
    return answer(found, request, controls, may_read_restricted=may_read_restricted)


def find(dit: DIT, request: SearchRequest, controls: Controls, *, may_read_restricted: bool, limits: Limits) -> Found:
    """Find the entries of a search.

    Raises:
        OperationError: noSuchObject, invalidDNSyntax, protocolError (scope), assertionFailed, unavailable.
    """
    try:
        scope = Scope(request.scope)
    except ValueError as e:
        raise OperationError(ResultCode.PROTOCOL_ERROR, "the scope is none of base, one and sub") from e
    base = dit.find(_name(request.base_object))
    _assert(controls.assertion, base, may_read_restricted=may_read_restricted)
    is_match, cost_of_one, work = predicate(request.filter), cost(request.filter), 0
    end = limits.clock() + min(request.time_limit or limits.time_s, limits.time_s)
    most = min(request.size_limit or limits.entries, limits.entries)
    found: list[Entry] = []
    for entry in dit.scope(base, scope):
        if limits.clock() > end:
            return Found(found, Result(ResultCode.TIME_LIMIT_EXCEEDED, "this search takes too long; narrow it"))
        work += cost_of_one
        if work > MAX_WORK:
            return Found(found, Result(ResultCode.ADMIN_LIMIT_EXCEEDED, _TOO_MUCH_WORK))
        if not is_match(entry, entry.attributes(may_read_restricted=may_read_restricted)):
            continue
        if len(found) == most:
            return Found(found, _size_exceeded(most, request.size_limit))
        found.append(entry)
    return Found(found, Result(ResultCode.SUCCESS))


def _size_exceeded(most: int, asked: int) -> Result:
    if most == asked:
        return Result(ResultCode.SIZE_LIMIT_EXCEEDED)
    message = f"a search returns at most {most} entries; narrow it, or ask for pages"
    return Result(ResultCode.ADMIN_LIMIT_EXCEEDED, message)


def _assert(assertion: Filter | None, entry: Entry, *, may_read_restricted: bool) -> None:
    """The assertion control: the operation is done only if this is true of the entry that it names (RFC 4528)."""
    visible = entry.attributes(may_read_restricted=may_read_restricted)
    if assertion is not None and not predicate(assertion)(entry, visible):
        raise OperationError(ResultCode.ASSERTION_FAILED, "the assertion is not true of this entry")


def answer(found: Found, request: SearchRequest, controls: Controls, *, may_read_restricted: bool) -> Outcome:
    """Encode what is to be shown of these entries.

    Raises:
        OperationError: adminLimitExceeded: too many values for the matched values control.
    """
    selection = _Selection.of(request.attributes)
    shown = [
        (entry, selection.attributes(entry.attributes(may_read_restricted=may_read_restricted)))
        for entry in found.entries
    ]
    is_withheld = not may_read_restricted and any(
        entry.public is not entry.complete and selection.attributes(entry.complete) != selected
        for entry, selected in shown
    )
    if controls.matched_values is not None:
        number_of_values = sum(len(its_values) for _, selected in shown for _, its_values in selected)
        if number_of_values * sum(map(cost, controls.matched_values)) > MAX_WORK:
            raise OperationError(ResultCode.ADMIN_LIMIT_EXCEEDED, _TOO_MUCH_WORK)
        wanted = [predicate(item) for item in controls.matched_values]
        shown = [(entry, list(_matched(wanted, entry, selected))) for entry, selected in shown]
    if request.types_only:
        shown = [(entry, [(held, ()) for held, _ in selected]) for entry, selected in shown]
    return Outcome(
        entries=tuple(_encoded(entry, selected) for entry, selected in shown),
        result=found.result,
        lists=tuple(each for entry, selected in shown for each in _lists(entry, selected)),
        is_withheld=is_withheld,
    )


def _matched(wanted: Iterable[Predicate], entry: Entry, attributes: _Selected) -> Iterator[_SelectedAttribute]:
    """Only the values for which one of the items is true; an attribute without any stays as its type (RFC 3876)."""
    for held, its_values in attributes:
        yield held, tuple(value for value in its_values if any(item(entry, {held: (value,)}) for item in wanted))


def compare(dit: DIT, request: CompareRequest, controls: Controls = NONE, *, may_read_restricted: bool) -> Result:
    """Answer a compare with compareTrue or compareFalse.

    Raises:
        OperationError: undefinedAttributeType, noSuchAttribute (also where the reader has no right to the values),
            inappropriateMatching, invalidAttributeSyntax, assertionFailed, or what finding the entry raises.
    """
    entry = dit.find(_name(request.entry))
    _assert(controls.assertion, entry, may_read_restricted=may_read_restricted)
    wanted = described(request.ava.attribute_desc)
    if wanted is None:
        raise OperationError(ResultCode.UNDEFINED_ATTRIBUTE_TYPE, "this attribute type is unknown here")
    held = list(values(entry.attributes(may_read_restricted=may_read_restricted), wanted))
    if not held:
        raise OperationError(ResultCode.NO_SUCH_ATTRIBUTE, "")
    rule = EQUALITY.get(wanted.equality or "")
    if rule is None:
        raise OperationError(ResultCode.INAPPROPRIATE_MATCHING, "values of this attribute type cannot be compared here")
    try:
        is_equal = rule(request.ava.assertion_value)
    except ValueError as e:
        raise OperationError(ResultCode.INVALID_ATTRIBUTE_SYNTAX, _reason(e)) from e
    return Result(ResultCode.COMPARE_TRUE if any(map(is_equal, held)) else ResultCode.COMPARE_FALSE)


def _name(text: str) -> names.NameKey:
    try:
        return names.parse(text).key
    except ValueError as e:
        raise OperationError(ResultCode.INVALID_DN_SYNTAX, _reason(e)) from e


def _reason(error: ValueError) -> str:
    """What is wrong with what a peer wrote; of encodings Python tells only what its programmers understand."""
    if isinstance(error, UnicodeEncodeError | UnicodeDecodeError):
        return f"octets that are not {error.encoding.upper()}"
    return str(error)


class _Selection(NamedTuple):
    """Which attributes a search asks for (RFC 4511, section 4.5.1.8)."""

    user: bool
    operational: bool  # "+": RFC 3673
    types: frozenset[AttributeType]  # with all their subtypes

    @classmethod
    def of(cls, descriptions: Sequence[str]) -> "_Selection":
        """An unknown description selects nothing; "1.1" (none) is one of these."""
        wanted = [found for found in map(described, descriptions) if found is not None]
        types = frozenset(chain.from_iterable([each.subtypes() for each in wanted]))
        return cls(not descriptions or "*" in descriptions, "+" in descriptions, types)

    def attributes(self, held: Attributes) -> list[_SelectedAttribute]:
        """What is selected of these, each attribute once."""
        user, operational, types = self
        return [
            (each, its_values)
            for each, its_values in held.items()
            if (operational if each.operational else user) or each in types
        ]


def _encoded(entry: Entry, attributes: _Selected) -> codec.Operation:
    return codec.search_result_entry(
        entry.name.text, [entry.encoded(held, its_values) for held, its_values in attributes]
    )


def _lists(entry: Entry, attributes: _Selected) -> Iterator[DeliveredList]:
    for held, its_values in attributes:
        if held.names[0] in _LIST_NAMES:
            for value in its_values:
                yield DeliveredList(entry.name.text, held.names[0], len(value))
