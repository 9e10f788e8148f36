"""Reading lists of millions of entries: strict, linear, block by block.

An entry here is what `pkix.revocation.revoked_entry` writes and nothing else: 8 octets of serial number, the date, one
of the five reasons, invalidityDate or not. Dates are held to their digits, not to the calendar.

Theory of operation. Most entries have 41 octets that differ in serial number, date and reason only. A block of such
entries is checked column by column: the same octet of all of them is one slice. Any other block goes through a regular
expression that matches one whole entry: split by it, nothing may be left.
"""

import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, pairwise
from operator import lt
from typing import Final

from pkix import der
from pkix.revocation import CRLReason, Revoked

_FIELDS: Final = 6  # of TBSCertList: version, signature, issuer, thisUpdate, nextUpdate, extensions

_REASON: Final = bytes.fromhex("300a0603551d1504030a01")  # reasonCode, up to its value
_INVALIDITY: Final = bytes.fromhex("30180603551d180411180f")  # invalidityDate, up to its digits

# Each length is tied to what follows, so that every match is DER.
_ENTRY: Final = re.compile(
    rb"\x30(?:\x27(?=.{10}\x17.{14}\x30\x0c)|\x29(?=.{10}\x18.{16}\x30\x0c)"  # with UTCTime, with GeneralizedTime
    rb"|\x41(?=.{10}\x17.{14}\x30\x26)|\x43(?=.{10}\x18.{16}\x30\x26))"  # the same with invalidityDate
    rb"\x02\x08([\x40-\x7f].{7})(?:\x17\x0d[0-9]{12}Z|\x18\x0f[0-9]{14}Z)"
    rb"\x30[\x0c\x26]" + re.escape(_REASON) + rb"[\x01-\x05]"
    rb"(?:(?<=\x30\x0c.{12})|" + re.escape(_INVALIDITY) + rb"[0-9]{14}Z)",
    re.DOTALL,
)

# An entry of 41 octets by columns: what may stand in each, None for anything.
_DIGIT: Final = b"0123456789"
_COLUMNS: Final[tuple[bytes | None, ...]] = (
    *(b"\x30", b"\x27", b"\x02", b"\x08"),
    *(bytes(range(0x40, 0x80)), *[None] * 7),  # the serial number, from 2^62 on
    *(b"\x17", b"\x0d", *[_DIGIT] * 12, b"Z"),
    *(b"\x30", b"\x0c", *(bytes((octet,)) for octet in _REASON), bytes(CRLReason)),
)
_WIDTH: Final = len(_COLUMNS)
_SERIAL: Final = slice(4, 12)

# Where the length of the date lies in an entry, and from the end of the date on, what varies in the extensions.
_TIME_AT: Final = 13
_REASON_VALUE: Final = 2 + len(_REASON)
_INVALIDITY_DIGITS: Final = _REASON_VALUE + 1 + len(_INVALIDITY)


class ScanError(ValueError):
    """The octets are no list of ours; the message says where."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A CertificateList (RFC 5280, section 5.1) taken apart. Views of it, not copies."""

    to_be_signed: memoryview
    signature: bytes
    entries: memoryview  # contents of revokedCertificates
    without_entries: bytes  # the same list without revokedCertificates, for parsers that would read all of it


@dataclass(frozen=True, slots=True)
class Scanned:
    """Entries that are in order."""

    count: int
    last: int  # serial number of the last one, 0 if there is none


def take_apart(octets: bytes) -> Parts:
    """The parts of a finished list.

    Raises:
        ScanError: it is no CertificateList of version 2 with extensions.
    """
    try:
        to_be_signed, algorithm, signature = der.elements(der.contents(memoryview(octets)))
        *fields, extensions = der.elements(der.contents(to_be_signed))
        entries = der.contents(fields.pop()) if len(fields) == _FIELDS else memoryview(b"")
        without_entries = der.sequence(der.sequence(*fields, extensions), algorithm, signature)
        signature_octets = bytes(der.contents(signature)[1:])
    except ValueError as e:
        raise ScanError(f"it is no CertificateList: {e}") from e
    if len(fields) != _FIELDS - 1:
        raise ScanError("it is no CertificateList of version 2 with extensions")
    return Parts(to_be_signed, signature_octets, entries, without_entries)


def scan(blocks: Iterable[bytes]) -> Scanned:
    """Hold every octet of entries against their form; their serial numbers must rise.

    Args:
        blocks: entries joined, cut between two of them.

    Raises:
        ScanError: naming the first entry that is wrong.
    """
    count = last = 0
    for block in filter(None, blocks):
        serials = _serials(block)
        if serials[0] <= last or not all(map(lt, serials, islice(serials, 1, None))):
            fall = next(high for low, high in pairwise((last, *serials)) if low >= high)
            raise ScanError(f"the serial number {fall:016X} is not above the one before it")
        count += len(serials)
        last = serials[-1]
    return Scanned(count, last)


def revocations(entries: bytes) -> Iterator[tuple[int, Revoked]]:
    """The serial numbers of entries, and what is said of them.

    Raises:
        ScanError: naming the first entry that is wrong.
        ValueError: a date is none of the calendar.
    """
    at = 0
    for entry in _ENTRY.finditer(entries):
        if entry.start() != at:
            break
        at = entry.end()
        yield int.from_bytes(entry[1], "big"), _status(entry[0])
    if at < len(entries):
        raise _no_entry(at)


def _serials(block: bytes) -> "array[int]":
    """The serial numbers of a block, every octet of which is in form."""
    serials = array("Q", _columns_of_serials(block) if _is_uniform(block) else _split(block))
    if sys.byteorder == "little":
        serials.byteswap()
    return serials


def _is_uniform(block: bytes) -> bool:
    """Has it nothing but sound entries of 41 octets?"""
    return len(block) % _WIDTH == 0 and not any(
        block[column::_WIDTH].translate(None, allowed) for column, allowed in enumerate(_COLUMNS) if allowed is not None
    )


def _columns_of_serials(block: bytes) -> bytes:
    octets = bytearray(len(block) // _WIDTH * 8)
    for position, column in enumerate(range(_WIDTH)[_SERIAL]):
        octets[position::8] = block[column::_WIDTH]
    return bytes(octets)


def _split(block: bytes) -> bytes:
    between_and_serials = _ENTRY.split(block)
    if any(between_and_serials[::2]):
        for _ in revocations(block):  # finds the place
            pass
    return b"".join(between_and_serials[1::2])


def _no_entry(at: int) -> ScanError:
    return ScanError(f"at octet {at} stands no entry with a serial number of 8 octets, a date and one of the reasons")


def _status(entry: bytes) -> Revoked:
    extensions_at = _TIME_AT + 1 + entry[_TIME_AT]
    invalidity = entry[extensions_at + _INVALIDITY_DIGITS :]
    return Revoked(
        _moment(entry[_TIME_AT + 1 : extensions_at]),
        CRLReason(entry[extensions_at + _REASON_VALUE]),
        _moment(invalidity) if invalidity else None,
    )


def _moment(time: bytes) -> datetime:
    """Contents of UTCTime or GeneralizedTime (RFC 5280, section 4.1.2.5)."""
    digits = time.decode()
    if len(digits) == len("YYMMDDhhmmssZ"):
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}")
