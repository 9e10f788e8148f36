"""Strict reading of the BER that LDAP allows (RFC 4511, section 5.1): definite lengths, primitive strings.

A `Reader` walks over the elements inside one constructed value without copying it. What it does not check, because the
peer decides it, is what a string contains.
"""

from typing import Final, Self

from repository.errors import MalformedMessageError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
SET: Final = 0x31
END: Final = -1  # what `Reader.peek` says when there is no further element

_MAX_INTEGER_BYTES: Final = 4  # maxInt of RFC 4511 is 2**31 - 1
_CONTEXT_SPECIFIC: Final = 0x80  # a class of tags
_CONSTRUCTED: Final = 0x20
_LONG_TAG: Final = 0x1F
_LONG_LENGTH: Final = 0x80
_MAX_LENGTH_OCTETS: Final = 4


def primitive_tag(number: int) -> int:
    """Of a primitive element that is [number] where it stands."""
    return _CONTEXT_SPECIFIC | number


def constructed_tag(number: int) -> int:
    """The same for a constructed one."""
    return _CONTEXT_SPECIFIC | _CONSTRUCTED | number


def header(octets: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Where the contents of the element at `start` begin, and how long they are; None if more octets are needed.

    Raises:
        MalformedMessageError: a tag of several octets, an indefinite length or one of more than four octets.
    """
    if len(octets) < start + 2:
        return None
    if octets[start] & _LONG_TAG == _LONG_TAG:
        raise MalformedMessageError("a tag of several octets")
    first = octets[start + 1]
    if first < _LONG_LENGTH:
        return start + 2, first
    length_octets = first & 0x7F
    if not 1 <= length_octets <= _MAX_LENGTH_OCTETS:
        raise MalformedMessageError("an indefinite or overlong length")
    body = start + 2 + length_octets
    if len(octets) < body:
        return None
    return body, int.from_bytes(octets[start + 2 : body], "big")


class Reader:
    """The elements in octets[start:end], read one after the other.

    Every method raises MalformedMessageError if the next element is not what was asked for or leaves its bounds.
    """

    __slots__ = ("_end", "_octets", "position")

    def __init__(self, octets: bytes, start: int = 0, end: int | None = None) -> None:
        self._octets = octets
        self._end = len(octets) if end is None else end
        self.position = start

    def peek(self) -> int:
        """The tag of the next element; END at the end."""
        return self._octets[self.position] if self.position < self._end else END

    def skip(self) -> None:
        """Pass over the next element, whatever it is."""
        tag = self.peek()
        if tag == END:
            raise MalformedMessageError("an element is missing")
        self._contents(tag)

    def _contents(self, tag: int) -> tuple[int, int]:
        octets, position = self._octets, self.position
        if position + 1 < self._end and octets[position] == tag and tag & _LONG_TAG != _LONG_TAG:
            length = octets[position + 1]  # in the usual form, which takes fewer steps than `header` does
            end = position + 2 + length
            if end <= self._end and length < _LONG_LENGTH:
                self.position = end
                return position + 2, end
        if self.peek() != tag:
            raise MalformedMessageError(f"an element of type 0x{tag:02x} was expected")
        found = header(self._octets, self.position)
        if found is None or found[0] + found[1] > self._end:
            raise MalformedMessageError("an element that is longer than what holds it")
        start, length = found
        self.position = start + length
        return start, self.position

    def constructed(self, tag: int = SEQUENCE) -> Self:
        """A reader for what is inside the next element."""
        return type(self)(self._octets, *self._contents(tag))

    def octets(self, tag: int = OCTET_STRING) -> bytes:
        """The contents of a primitive element."""
        start, end = self._contents(tag)
        return self._octets[start:end]

    def text(self, tag: int = OCTET_STRING) -> str:
        """An LDAPString; octets that are not UTF-8 become lone surrogates."""
        return self.octets(tag).decode("utf-8", "surrogateescape")

    def integer(self, tag: int = INTEGER) -> int:
        """An INTEGER or ENUMERATED of 1 to 4 octets, not negative."""
        octets = self.octets(tag)
        if not 1 <= len(octets) <= _MAX_INTEGER_BYTES or octets[0] & 0x80:
            raise MalformedMessageError("a number outside 0 .. 2**31 - 1")
        return int.from_bytes(octets, "big")

    def boolean(self, tag: int = BOOLEAN) -> bool:
        """A BOOLEAN; like everybody, take any octet but 00 for TRUE."""
        octets = self.octets(tag)
        if len(octets) != 1:
            raise MalformedMessageError("a BOOLEAN that is not one octet")
        return octets != b"\x00"
