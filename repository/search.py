"""Search and compare on a snapshot of the directory (RFC 4511, sections 4.5 and 4.10).

An answer is encoded without a message ID and depends on the request, the tree and the rights alone: whoever wants to
keep answers for requests that repeat keeps an `Outcome` under exactly these three.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from repository import codec, names
from repository.dit import DIT, Attributes, Entry
from repository.errors import OperationError
from repository.filters import predicate, values
from repository.matching import EQUALITY
from repository.messages import CompareRequest, Result, ResultCode, Scope, SearchRequest, SearchResultEntry
from repository.schema import AttributeType, described

# What a relying party is given to check validity with: every delivery is recorded (R-4-11-2-1).
_LIST_NAMES: Final = frozenset({"certificateRevocationList", "authorityRevocationList"})

_Selected = Sequence[tuple[AttributeType, tuple[bytes, ...]]]


class DeliveredList(NamedTuple):
    """One CRL or ARL in an answer."""

    entry_dn: str
    attribute: str
    size: int  # octets


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a search leads to."""

    entries: tuple[codec.Operation, ...]
    result: Result
    lists: tuple[DeliveredList, ...]
    is_withheld: bool  # something that was asked for is restricted, and the reader has no right to it


def search(dit: DIT, request: SearchRequest, *, may_read_restricted: bool, size_limit_entries: int) -> Outcome:
    """Answer a search. What the reader has no right to is absent: from the answer and for the filter.

    Raises:
        OperationError: noSuchObject, invalidDNSyntax, protocolError (scope), unavailable.
    """
    limit = min(request.size_limit or size_limit_entries, size_limit_entries)
    matching = _matching(dit, request, may_read_restricted=may_read_restricted)
    found = list(islice(matching, limit + 1))
    if len(found) <= limit:
        result = Result(ResultCode.SUCCESS)
    elif limit == request.size_limit:
        result = Result(ResultCode.SIZE_LIMIT_EXCEEDED)
    else:
        result = Result(ResultCode.ADMIN_LIMIT_EXCEEDED, f"a search returns at most {limit} entries; narrow it")
    selection = _Selection.of(request.attributes)
    shown = [(entry, selection.attributes(visible)) for entry, visible in found[:limit]]
    is_withheld = any(selection.attributes(entry.complete) != selected for entry, selected in shown)
    if request.types_only:
        shown = [(entry, [(held, ()) for held, _ in selected]) for entry, selected in shown]
    return Outcome(
        entries=tuple(_encoded(entry, selected) for entry, selected in shown),
        result=result,
        lists=tuple(each for entry, selected in shown for each in _lists(entry, selected)),
        is_withheld=is_withheld,
    )


def compare(dit: DIT, request: CompareRequest, *, may_read_restricted: bool) -> Result:
    """Answer a compare with compareTrue or compareFalse.

    Raises:
        OperationError: undefinedAttributeType, noSuchAttribute (also where the reader has no right to the values),
            inappropriateMatching, invalidAttributeSyntax, or what finding the entry raises.
    """
    entry = dit.find(_name(request.entry))
    wanted = described(request.ava.attribute_desc)
    if wanted is None:
        raise OperationError(ResultCode.UNDEFINED_ATTRIBUTE_TYPE, "this attribute type is unknown here")
    held = list(values(entry.attributes(may_read_restricted=may_read_restricted), wanted))
    if not held:
        raise OperationError(ResultCode.NO_SUCH_ATTRIBUTE, "")
    normal = EQUALITY.get(wanted.equality or "")
    if normal is None:
        raise OperationError(ResultCode.INAPPROPRIATE_MATCHING, "values of this attribute type cannot be compared here")
    try:
        asserted = normal(request.ava.assertion_value)
    except ValueError as e:
        raise OperationError(ResultCode.INVALID_ATTRIBUTE_SYNTAX, str(e)) from e
    is_equal = asserted in map(normal, held)
    return Result(ResultCode.COMPARE_TRUE if is_equal else ResultCode.COMPARE_FALSE)


def _matching(dit: DIT, request: SearchRequest, *, may_read_restricted: bool) -> Iterator[tuple[Entry, Attributes]]:
    """Each entry in scope for which the filter is true, with what the reader may see of it."""
    try:
        scope = Scope(request.scope)
    except ValueError as e:
        raise OperationError(ResultCode.PROTOCOL_ERROR, "the scope is none of base, one and sub") from e
    is_match = predicate(request.filter)
    for entry in dit.scope(dit.find(_name(request.base_object)), scope):
        visible = entry.attributes(may_read_restricted=may_read_restricted)
        if is_match(entry, visible):
            yield entry, visible


def _name(text: str) -> names.NameKey:
    try:
        return names.parse(text).key
    except ValueError as e:
        raise OperationError(ResultCode.INVALID_DN_SYNTAX, str(e)) from e


class _Selection(NamedTuple):
    """Which attributes a search asks for (RFC 4511, section 4.5.1.8)."""

    user: bool
    operational: bool  # "+": RFC 3673
    types: tuple[AttributeType, ...]

    @classmethod
    def of(cls, descriptions: Sequence[str]) -> "_Selection":
        """An unknown description selects nothing; "1.1" (none) is one of these."""
        types = tuple(found for found in map(described, descriptions) if found is not None)
        return cls(not descriptions or "*" in descriptions, "+" in descriptions, types)

    def attributes(self, held: Attributes) -> list[tuple[AttributeType, tuple[bytes, ...]]]:
        """What is selected of these, each attribute once."""
        return [(each, its_values) for each, its_values in held.items() if self._includes(each)]

    def _includes(self, held: AttributeType) -> bool:
        return (self.operational if held.operational else self.user) or any(held.is_a(wanted) for wanted in self.types)


def _encoded(entry: Entry, attributes: _Selected) -> codec.Operation:
    described_values = [(held.description, its_values) for held, its_values in attributes]
    return codec.search_result_entry(SearchResultEntry(entry.name.text, described_values))


def _lists(entry: Entry, attributes: _Selected) -> Iterator[DeliveredList]:
    for held, its_values in attributes:
        if held.names[0] in _LIST_NAMES:
            for value in its_values:
                yield DeliveredList(entry.name.text, held.names[0], len(value))
