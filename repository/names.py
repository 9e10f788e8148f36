"""Distinguished names as text (RFC 4514), comparable by distinguishedNameMatch (RFC 4517, section 4.2.15)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from repository.ber import END, SET, Reader
from repository.errors import MalformedMessageError
from repository.preparation import prepare
from repository.schema import attribute_type

MAX_NAME_BYTES: Final = 4096
_MAX_REMEMBERED_CHARACTERS: Final = 256
_MAX_REMEMBERED_VALUES: Final = 16  # of a name; what is kept of one grows with them

# Spaces around the separators, `;` for `,` and values in quotation marks are not in RFC 4514, but in what its
# predecessors made clients write (RFC 2253, section 4).
_TYPE: Final = re.compile(r" *([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+) *= *")
_HEX_VALUE: Final = re.compile(r"#((?:[0-9A-Fa-f]{2})+) *")
_VALUE: Final = re.compile(r"""(?!#)((?:[^\\"+,;<>\x00]|\\[0-9A-Fa-f]{2}|\\[ "#+,;<=>\\])*)""")
_QUOTED_VALUE: Final = re.compile(r"""\"((?:[^\\"\x00]|\\[0-9A-Fa-f]{2}|\\[ "#+,;<=>\\])*)\" *""")
_PAIR: Final = re.compile(rb"\\(?:([0-9A-Fa-f]{2})|(.))")
_STRING_ENCODINGS: Final = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}

_OBJECT_IDENTIFIER: Final = 0x06
_MAX_IDENTIFIER_BYTES: Final = 64

NameKey = tuple[tuple[tuple[str, str], ...], ...]  # from the entry up; within an RDN in one fixed order


@dataclass(frozen=True, slots=True)
class AttributeTypeAndValue:
    """One `type=value`; the type as it was written."""

    type: str
    value: str

    @property
    def key(self) -> tuple[str, str]:
        """Type and value in the form in which equal ones are equal."""
        known = attribute_type(self.type)
        return known.oid if known else self.type.lower(), prepare(self.value)


RelativeDistinguishedName = tuple[AttributeTypeAndValue, ...]


@dataclass(frozen=True, slots=True)
class DistinguishedName:
    """A name with the text it was read from."""

    text: str
    rdns: tuple[RelativeDistinguishedName, ...]  # the entry's own first
    parents: tuple[str, ...]  # the text of each name above, nearest first, down to one RDN
    key: NameKey  # equal for names that distinguishedNameMatch takes for equal; key[1:] is the parent's


ROOT: Final = DistinguishedName("", (), (), ())


def parse(text: str) -> DistinguishedName:
    """Read a name.

    Args:
        text: at most 4096 octets in UTF-8.

    Raises:
        ValueError: not a DN, too long, or with a value that is too long or has characters that no name may contain.
    """
    if len(text.encode()) > MAX_NAME_BYTES:  # an UnicodeEncodeError is a ValueError
        raise ValueError(f"a DN of more than {MAX_NAME_BYTES} octets")
    is_usual = len(text) <= _MAX_REMEMBERED_CHARACTERS and text.count("=") <= _MAX_REMEMBERED_VALUES
    return _remembered(text) if is_usual else _parsed(text)


def _parsed(text: str) -> DistinguishedName:
    if not text.strip(" "):
        return ROOT
    rdns: list[list[AttributeTypeAndValue]] = [[]]
    starts = [0]
    position = 0
    while True:
        ava, position = _attribute_type_and_value(text, position)
        rdns[-1].append(ava)
        if position == len(text):
            break
        if text[position] in ",;":
            rdns.append([])
            starts.append(position + 1)
        elif text[position] != "+":
            raise ValueError(f"{text[position]!a} has to be escaped in a DN: character {position + 1}")
        position += 1
    parents = tuple(text[start:].strip(" ") for start in starts[1:])
    return DistinguishedName(text, tuple(map(tuple, rdns)), parents, tuple(map(_key, rdns)))


# The same few names are asked for again and again.
_remembered: Final = lru_cache(1024)(_parsed)


def key_of_der(reader: Reader) -> NameKey:
    """The key of the Name (RFC 5280, section 4.1.2.4) that comes next.

    Raises:
        MalformedMessageError: it is no Name.
        ValueError: a string with characters that no name may contain, or a type whose identifier is too long.
    """
    rdns = []
    sequence = reader.constructed()
    while sequence.peek() != END:
        rdn, avas = sequence.constructed(SET), []
        while rdn.peek() != END:
            ava = rdn.constructed()
            oid = _dotted(ava.octets(_OBJECT_IDENTIFIER))
            tag = ava.peek()
            avas.append(AttributeTypeAndValue(oid, _text(tag, ava.octets(tag))))
        rdns.append(_key(avas))
    return tuple(reversed(rdns))


def _dotted(octets: bytes) -> str:
    """An OBJECT IDENTIFIER (X.690, clause 8.19)."""
    if len(octets) > _MAX_IDENTIFIER_BYTES:  # to shift a number of any length costs the square of that
        raise ValueError("an OBJECT IDENTIFIER that is too long")
    numbers, number = [], 0
    for octet in octets:
        number = number << 7 | octet & 0x7F
        if octet < 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        raise ValueError("an empty OBJECT IDENTIFIER")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _key(rdn: list[AttributeTypeAndValue]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({ava.key for ava in rdn}))


def _attribute_type_and_value(text: str, position: int) -> tuple[AttributeTypeAndValue, int]:
    attribute = _TYPE.match(text, position)
    if attribute is None:
        raise ValueError(f"a DN without `type=` at character {position + 1}")
    encoded = _HEX_VALUE.match(text, attribute.end())
    if encoded:
        return AttributeTypeAndValue(attribute[1], _from_ber(bytes.fromhex(encoded[1]))), encoded.end()
    value = _QUOTED_VALUE.match(text, attribute.end()) or _VALUE.match(text, attribute.end())
    if value is None:
        raise ValueError(f"a DN without a value at character {attribute.end() + 1}")
    # Spaces at the ends, even escaped ones, mean nothing to the matching rules of names (RFC 4518, section 2.6.1).
    return AttributeTypeAndValue(attribute[1], _unescaped(value[1]).strip(" ")), value.end()


def _unescaped(text: str) -> str:
    def octet(pair: re.Match[bytes]) -> bytes:
        return bytes.fromhex(pair[1].decode()) if pair[1] else pair[2]

    return _PAIR.sub(octet, text.encode()).decode()


def _from_ber(octets: bytes) -> str:
    """The string in a `#hex` value; of other types the hexadecimal text itself, which equals only itself."""
    try:
        reader = Reader(octets)
        tag = reader.peek()
        contents = reader.octets(tag)
    except MalformedMessageError as e:
        raise ValueError("a DN with a #value that is not BER") from e
    return _text(tag, contents) if tag in _STRING_ENCODINGS else f"#{octets.hex()}"


def _text(tag: int, contents: bytes) -> str:
    if tag not in _STRING_ENCODINGS:
        raise ValueError("a value in a Name that is not a string")
    return contents.decode(_STRING_ENCODINGS[tag])
