"""Search filters with three-valued logic (RFC 4511, section 4.5.1.7): True, False, or None for Undefined.

A filter is prepared once for a search and then tried on each entry, so that its cost for an entry is a few comparisons.
Nothing in a filter is an error: what is not known, not visible or not of its syntax is Undefined or absent.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import chain
from typing import Final

from repository.dit import Attributes, Entry
from repository.matching import (
    EQUALITY,
    EXTENSIBLE,
    GREATER_OR_EQUAL,
    LESS_OR_EQUAL,
    SUBSTRINGS,
    Rule,
    applies,
)
from repository.messages import (
    And,
    ApproxMatch,
    EqualityMatch,
    ExtensibleMatch,
    Filter,
    GreaterOrEqual,
    LessOrEqual,
    Not,
    Or,
    Present,
    Substrings,
    UnrecognizedFilter,
)
from repository.preparation import prepare, prepare_substring
from repository.schema import AttributeType, attribute_type, described, matching_rule

Truth = bool | None
_COSTLY: Final = 20  # certificates and lists are read to be compared; a rule may have to look at all attributes
_PIECES_AT_ONCE: Final = 4  # of a substrings filter are found in the time of a comparison
_MOST_FOUND: Final = 64  # pieces: so long are the values of names

Predicate = Callable[[Entry, Attributes], Truth]  # the attributes are those of the entry that the reader may see


def predicate(search_filter: Filter) -> Predicate:  # noqa: C901, PLR0911, PLR0912 - one case for each choice
    """Prepare a filter."""
    match search_filter:
        case And(filters):
            return partial(_and, [predicate(each) for each in filters])
        case Or(filters):
            return partial(_or, [predicate(each) for each in filters])
        case Not(inner):
            return partial(_not, predicate(inner))
        case Present(attribute_desc):
            return _present(attribute_desc)
        case EqualityMatch(attribute_desc, value) | ApproxMatch(attribute_desc, value):
            return _equality(attribute_desc, value)
        case Substrings():
            return _substrings(search_filter)
        case ExtensibleMatch():
            return _extensible(search_filter)
        case GreaterOrEqual() | LessOrEqual():
            return _ordering(search_filter)
        case UnrecognizedFilter():
            return _undefined


def cost(search_filter: Filter) -> int:
    """How much trying it on one entry may cost, in comparisons of short values (half a microsecond)."""
    match search_filter:
        case And(filters) | Or(filters):
            return 1 + sum(map(cost, filters))
        case Not(inner):
            return 1 + cost(inner)
        case EqualityMatch(attribute_desc) | ApproxMatch(attribute_desc):
            wanted = described(attribute_desc)
            return _COSTLY if wanted is not None and wanted.binary else 1
        case ExtensibleMatch():
            return _COSTLY
        case Substrings(any=between):
            return 1 + min(len(between), _MOST_FOUND) // _PIECES_AT_ONCE
        case _:
            return 1


def _and(predicates: Iterable[Predicate], entry: Entry, attributes: Attributes) -> Truth:
    result: Truth = True
    for each in predicates:
        truth = each(entry, attributes)
        if truth is False:
            return False
        if truth is None:
            result = None
    return result


def _or(predicates: Iterable[Predicate], entry: Entry, attributes: Attributes) -> Truth:
    result: Truth = False
    for each in predicates:
        truth = each(entry, attributes)
        if truth is True:
            return True
        if truth is None:
            result = None
    return result


def _not(inner: Predicate, entry: Entry, attributes: Attributes) -> Truth:
    truth = inner(entry, attributes)
    return None if truth is None else not truth


def _undefined(_entry: Entry, _attributes: Attributes) -> Truth:
    return None


def _present(attribute_desc: str) -> Predicate:
    wanted = described(attribute_desc)
    if wanted is None:
        return _undefined
    subtypes = wanted.subtypes()
    return lambda _, attributes: any(held in attributes for held in subtypes)


def _equality(attribute_desc: str, assertion_value: bytes) -> Predicate:
    wanted = described(attribute_desc)
    return _matching(wanted, EQUALITY.get(wanted.equality or "") if wanted else None, assertion_value)


def _ordering(search_filter: GreaterOrEqual | LessOrEqual) -> Predicate:
    wanted = described(search_filter.attribute_desc)
    rules = GREATER_OR_EQUAL if isinstance(search_filter, GreaterOrEqual) else LESS_OR_EQUAL
    return _matching(wanted, rules.get(wanted.ordering or "") if wanted else None, search_filter.assertion_value)


def _matching(wanted: AttributeType | None, rule: Rule | None, assertion_value: bytes) -> Predicate:
    if wanted is None or rule is None:
        return _undefined
    try:
        is_match = rule(assertion_value)
    except ValueError:
        return _undefined
    return lambda _, attributes: any(map(is_match, values(attributes, wanted)))


def values(attributes: Attributes, wanted: AttributeType) -> Iterator[bytes]:
    """The values of an attribute and of its subtypes (RFC 4512, section 2.5.1)."""
    for held in wanted.subtypes():
        if held in attributes:
            yield from attributes[held]


def _substrings(search_filter: Substrings) -> Predicate:
    wanted = described(search_filter.type)
    if wanted is None or wanted.substr not in SUBSTRINGS:
        return _undefined
    try:
        initial, between, final = _pieces(search_filter)
    except ValueError:
        return _undefined
    return lambda _, attributes: any(
        _contains(_prepared(value), initial, between, final) for value in values(attributes, wanted)
    )


@lru_cache(4096)
def _prepared(value: bytes) -> str:
    """A value of a string syntax, all of which are short here, as it is compared."""
    return prepare(value.decode())


def _pieces(search_filter: Substrings) -> tuple[str, list[str], str]:
    initial, final = search_filter.initial, search_filter.final
    if b"" in (initial, *search_filter.any, final):
        raise ValueError("a substring has at least one character (RFC 4517, section 3.3.30)")
    return (
        "" if initial is None else prepare_substring(initial.decode(), first=True),
        [prepare_substring(piece.decode()) for piece in search_filter.any],
        "" if final is None else prepare_substring(final.decode(), last=True),
    )


def _contains(value: str, initial: str, between: Iterable[str], final: str) -> bool:
    """Whether the pieces occur in this order without overlap (RFC 4517, section 4.1)."""
    if not value.startswith(initial):
        return False
    position = len(initial)
    for piece in between:
        found = value.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    return len(value) - position >= len(final) and value.endswith(final)


def _extensible(search_filter: ExtensibleMatch) -> Predicate:
    """`(type:dn:rule:=value)`: without a rule, that of the type; without a type, all to which the rule applies."""
    wanted = described(search_filter.type) if search_filter.type is not None else None
    if wanted is None and search_filter.type is not None:
        return _undefined
    rule = _rule(search_filter.matching_rule, wanted)
    if rule not in EXTENSIBLE or (wanted is not None and not applies(rule, wanted)):
        return _undefined
    try:
        is_match = EXTENSIBLE[rule](search_filter.match_value)
    except ValueError:
        return _undefined

    def is_meant(held: AttributeType) -> bool:
        return held.is_a(wanted) if wanted is not None else applies(rule, held)

    def truth(entry: Entry, attributes: Attributes) -> Truth:
        held_values = (value for held, held_values in attributes.items() if is_meant(held) for value in held_values)
        named = _dn_values(entry, is_meant) if search_filter.dn_attributes else ()
        return any(map(is_match, chain(held_values, named)))

    return truth


def _rule(name: str | None, wanted: AttributeType | None) -> str:
    found = matching_rule(name) if name is not None else wanted and wanted.equality
    return found or ""


def _dn_values(entry: Entry, is_meant: Callable[[AttributeType], bool]) -> Iterator[bytes]:
    for ava in chain.from_iterable(entry.name.rdns):
        held = attribute_type(ava.type)
        if held is not None and is_meant(held):
            yield ava.value.encode()
