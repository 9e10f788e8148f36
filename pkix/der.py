"""Writing DER and walking it (X.690, chapters 8 and 11).

Writing by hand is for structures whose parts exist as octets already: a TBSCertList joined from millions of entries, a
ResponseData on the hot path. What is parsed from a peer goes through declared types instead.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeVar

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

Octets = TypeVar("Octets", bytes, memoryview)  # a view is walked without a copy

SEQUENCE: Final = 0x30
NULL: Final = b"\x05\x00"
GENERALIZED_TIME_FROM: Final = datetime(2050, 1, 1, tzinfo=UTC)  # RFC 5280, section 4.1.2.5


@lru_cache(maxsize=4096)
def header(tag: int, length: int) -> bytes:
    """Identifier and length octets of an element whose contents have `length` octets."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def element(tag: int, *contents: bytes | memoryview) -> bytes:
    """One element, its contents joined."""
    body = b"".join(contents)
    return header(tag, len(body)) + body


def sequence(*elements: bytes | memoryview) -> bytes:
    """SEQUENCE of ready elements."""
    return element(SEQUENCE, *elements)


def explicit(number: int, *elements: bytes) -> bytes:
    """[number] EXPLICIT around ready elements."""
    return element(0xA0 | number, *elements)


def octet_string(octets: bytes) -> bytes:
    """OCTET STRING."""
    return element(0x04, octets)


def bit_string(octets: bytes) -> bytes:
    """BIT STRING without unused bits."""
    return element(0x03, b"\x00", octets)


def enumerated(value: int) -> bytes:
    """ENUMERATED of 0 .. 127."""
    return bytes((0x0A, 1, value))


def integer(value: int) -> bytes:
    """INTEGER."""
    return asn1.encode_der(value)


@lru_cache(maxsize=256)
def object_identifier(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    return asn1.encode_der(ObjectIdentifier(dotted))


@lru_cache(maxsize=256)
def generalized_time(moment: datetime) -> bytes:
    """GeneralizedTime in UTC and whole seconds."""
    return element(0x18, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def time(moment: datetime) -> bytes:
    """Time: UTCTime through 2049, GeneralizedTime from 2050 on (RFC 5280, section 4.1.2.5)."""
    moment = moment.astimezone(UTC)
    if moment >= GENERALIZED_TIME_FROM:
        return generalized_time(moment)
    return element(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """Extension (RFC 5280, section 4.1) around the DER of its value."""
    flag = b"\x01\x01\xff" if critical else b""
    return sequence(object_identifier(dotted), flag, octet_string(value))


def contents(der: Octets) -> Octets:
    """The contents octets of the one element that `der` is.

    Raises:
        ValueError: `der` is not exactly one element, or not DER (see `elements`).
    """
    start, end = _span(der, 0)
    if end != len(der):
        raise ValueError("octets follow the element")
    return der[start:end]


def elements(body: Octets) -> Iterator[Octets]:
    """The elements of a constructed value's contents, each whole.

    Raises:
        ValueError: an element reaches past the end, its length is indefinite or not the shortest, or its tag number is
            above 30, which no structure here has.
    """
    at = 0
    while at < len(body):
        _, end = _span(body, at)
        yield body[at:end]
        at = end


def _span(der: bytes | memoryview, at: int) -> tuple[int, int]:
    """Where the contents of the element at `at` begin and end."""
    if len(der) < at + 2:
        raise ValueError("the element is cut short")
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > len(der):
        raise ValueError("the element is cut short")
    if tag & 0x1F == 0x1F or der[at:start] != header(tag, length):
        raise ValueError("the identifier or the length is not DER")
    return start, start + length
