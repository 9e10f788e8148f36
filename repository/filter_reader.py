"""Filters from octets (RFC 4511, section 4.5.1.7), of bounded depth and length."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from repository.ber import END, Reader, constructed_tag, primitive_tag
from repository.errors import MalformedMessageError, OperationError
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
    ResultCode,
    Substrings,
    UnrecognizedFilter,
)

MAX_FILTER_DEPTH: Final = 50
MAX_FILTER_ITEMS: Final = 100  # each costs time for every entry in scope

_INITIAL, _ANY, _FINAL = primitive_tag(0), primitive_tag(1), primitive_tag(2)
_MATCHING_RULE, _TYPE, _MATCH_VALUE, _DN_ATTRIBUTES = (primitive_tag(number) for number in (1, 2, 3, 4))


def read_filter(reader: Reader) -> Filter:
    """Read a Filter, or an item of a filter, of which the other kinds are a part.

    Raises:
        MalformedMessageError: an element has the wrong type or length.
        OperationError: adminLimitExceeded: it is too deep or too long.
    """
    return _FilterReader().read(reader)


class _FilterReader:
    """Reads one Filter, counting its items."""

    def __init__(self) -> None:
        self._items = 0

    def read(self, reader: Reader, depth: int = 1) -> Filter:
        self._items += 1
        if depth > MAX_FILTER_DEPTH or self._items > MAX_FILTER_ITEMS:
            raise OperationError(
                ResultCode.ADMIN_LIMIT_EXCEEDED,
                f"a filter may have at most {MAX_FILTER_ITEMS} items and be nested at most {MAX_FILTER_DEPTH} deep",
            )
        tag = reader.peek()
        if tag == _NOT:
            return self._not(reader.constructed(tag), depth + 1)
        if tag in _SETS:
            return _SETS[tag](tuple(self._all(reader.constructed(tag), depth + 1)))
        if tag in _ITEMS:
            return _ITEMS[tag](reader, tag)
        reader.skip()
        return UnrecognizedFilter()

    def _not(self, reader: Reader, depth: int) -> Not:
        found = Not(self.read(reader, depth))
        if reader.peek() != END:
            raise MalformedMessageError("a NOT of more than one filter")
        return found

    def _all(self, reader: Reader, depth: int) -> Iterator[Filter]:
        while reader.peek() != END:
            yield self.read(reader, depth)


def _assertion(of: Callable[[str, bytes], Filter]) -> Callable[[Reader, int], Filter]:
    def read(outer: Reader, tag: int) -> Filter:
        reader = outer.constructed(tag)
        return of(reader.text(), reader.octets())

    return read


def _substrings(outer: Reader, tag: int) -> Substrings:
    reader = outer.constructed(tag)
    attribute = reader.text()
    pieces = reader.constructed()
    initial = pieces.octets(_INITIAL) if pieces.peek() == _INITIAL else None
    between = []
    while pieces.peek() == _ANY:
        between.append(pieces.octets(_ANY))
    final = pieces.octets(_FINAL) if pieces.peek() == _FINAL else None
    if pieces.peek() != END or (initial is None and final is None and not between):
        raise MalformedMessageError("substrings that are out of order, or none")
    return Substrings(attribute, initial, tuple(between), final)


def _present(reader: Reader, tag: int) -> Present:
    return Present(reader.text(tag))


def _extensible_match(outer: Reader, tag: int) -> ExtensibleMatch:
    reader = outer.constructed(tag)
    rule = reader.text(_MATCHING_RULE) if reader.peek() == _MATCHING_RULE else None
    attribute = reader.text(_TYPE) if reader.peek() == _TYPE else None
    value = reader.octets(_MATCH_VALUE)
    dn_attributes = reader.peek() == _DN_ATTRIBUTES and reader.boolean(_DN_ATTRIBUTES)
    return ExtensibleMatch(rule, attribute, value, dn_attributes)


_NOT: Final = constructed_tag(2)
_SETS: Final[Mapping[int, Callable[[tuple[Filter, ...]], Filter]]] = {constructed_tag(0): And, constructed_tag(1): Or}
_ITEMS: Final[Mapping[int, Callable[[Reader, int], Filter]]] = {
    constructed_tag(3): _assertion(EqualityMatch),
    constructed_tag(4): _substrings,
    constructed_tag(5): _assertion(GreaterOrEqual),
    constructed_tag(6): _assertion(LessOrEqual),
    primitive_tag(7): _present,
    constructed_tag(8): _assertion(ApproxMatch),
    constructed_tag(9): _extensible_match,
}
