"""What certificateExactMatch and its relatives compare (X.509, clause 11.3; RFC 4523): read from DER without the rest.

The DER comes from the issuer and the assertions from peers. Of a list only its outside is walked over, however long it
is.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from repository import gser, names
from repository.ber import BOOLEAN, END, INTEGER, OCTET_STRING, SEQUENCE, Reader
from repository.errors import MalformedMessageError
from repository.names import NameKey

T = TypeVar("T")

_OBJECT_IDENTIFIER: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_TIMES: Final = frozenset({_UTC_TIME, _GENERALIZED_TIME})
_MOMENT: Final = re.compile(r"[0-9]{14}Z")
_NUMBER: Final = re.compile(r"-?[0-9]{1,100}")  # serial numbers have 20 octets at most: RFC 5280, section 4.1.2.2
_EXPLICIT: Final = (0xA0, 0xA1)  # [0] and [1]
_FULL_NAME: Final = 0xA0
_DIRECTORY_NAME: Final = 0xA4
_ISSUING_DISTRIBUTION_POINT: Final = b"\x55\x1d\x1c"  # 2.5.29.28


@dataclass(frozen=True, slots=True)
class CertificateKey:
    """What an exact match compares of a certificate: CertificateExactAssertion."""

    serial_number: int
    issuer: NameKey


@dataclass(frozen=True, slots=True)
class ListKey:
    """What it compares of a CRL or ARL: CertificateListExactAssertion."""

    issuer: NameKey
    this_update: datetime
    distribution_point: NameKey | None  # its directoryName; None in an assertion: any


@dataclass(frozen=True, slots=True)
class PairKey:
    """What it compares of a pair of cross certificates: CertificatePairExactAssertion."""

    issued_to_this_ca: CertificateKey | None  # None in an assertion: any
    issued_by_this_ca: CertificateKey | None


# ---------------------------------------------------------------- values: DER
# Each raises MalformedMessageError or ValueError if the value is not what it should be.


def certificate(value: bytes) -> CertificateKey:
    """Of a Certificate."""
    return _certificate(Reader(value).constructed())


def _certificate(reader: Reader) -> CertificateKey:
    tbs = reader.constructed()
    if tbs.peek() == _EXPLICIT[0]:
        tbs.skip()  # version
    serial_number = _integer(tbs)
    tbs.skip()  # signature
    return CertificateKey(serial_number, names.key_of_der(tbs))


def _integer(reader: Reader) -> int:
    return int.from_bytes(reader.octets(INTEGER), "big", signed=True)


def not_after(value: bytes) -> datetime:
    """The last moment of the validity of a Certificate."""
    tbs = Reader(value).constructed().constructed()
    for _ in range(3 + (tbs.peek() == _EXPLICIT[0])):
        tbs.skip()  # version, serialNumber, signature and issuer, of which the version may be absent
    validity = tbs.constructed()
    validity.skip()
    return _time(validity)


def certificate_pair(value: bytes) -> PairKey:
    """Of a CertificatePair."""
    reader = Reader(value).constructed()
    found = [_certificate(reader.constructed(tag).constructed()) if reader.peek() == tag else None for tag in _EXPLICIT]
    return PairKey(*found)


def certificate_list(value: bytes) -> ListKey:
    """Of a CertificateList."""
    tbs = Reader(value).constructed().constructed()
    if tbs.peek() == INTEGER:
        tbs.skip()  # version
    tbs.skip()  # signature
    issuer, this_update = names.key_of_der(tbs), _time(tbs)
    if tbs.peek() in _TIMES:
        tbs.skip()  # nextUpdate
    if tbs.peek() == SEQUENCE:
        tbs.skip()  # revokedCertificates
    extensions = tbs.constructed(_EXPLICIT[0]).constructed() if tbs.peek() == _EXPLICIT[0] else None
    return ListKey(issuer, this_update, _distribution_point(extensions) if extensions else None)


def _distribution_point(extensions: Reader) -> NameKey | None:
    while extensions.peek() != END:
        extension = extensions.constructed()
        is_wanted = extension.octets(_OBJECT_IDENTIFIER) == _ISSUING_DISTRIBUTION_POINT
        if extension.peek() == BOOLEAN:
            extension.skip()  # critical
        if is_wanted:
            return _directory_name(Reader(extension.octets(OCTET_STRING)).constructed())
    return None


def _directory_name(point: Reader) -> NameKey | None:
    return _full_name(point.constructed(_EXPLICIT[0])) if point.peek() == _EXPLICIT[0] else None


def _full_name(name: Reader) -> NameKey | None:
    """The directoryName in a DistributionPointName."""
    if name.peek() != _FULL_NAME:
        return None
    full_name = name.constructed(_FULL_NAME)
    while full_name.peek() != END:
        if full_name.peek() == _DIRECTORY_NAME:
            return names.key_of_der(full_name.constructed(_DIRECTORY_NAME))
        full_name.skip()
    return None


def _time(reader: Reader) -> datetime:
    tag = reader.peek()
    text = reader.octets(tag).decode("ascii")
    return _utc_time(text) if tag == _UTC_TIME else _generalized_time(text)


def _utc_time(text: str) -> datetime:
    """A year of two digits is one from 1950 to 2049: RFC 5280, section 4.1.2.5.1."""
    return _generalized_time(f"{'20' if text < '50' else '19'}{text}")


def _generalized_time(text: str) -> datetime:
    """In the one form that DER has and RFC 5280, section 4.1.2.5.2 allows."""
    if not _MOMENT.fullmatch(text):
        raise ValueError("a time that is not YYYYMMDDHHMMSSZ")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


# ---------------------------------------------------------------- assertions
# With ;binary an assertion is BER (RFC 4522, section 3), without it GSER (RFC 4523, appendix A). Clients write GSER
# with it, too, so both are read wherever they stand. Each raises ValueError if the value is no assertion of its kind.


def certificate_assertion(value: bytes) -> CertificateKey:
    """CertificateExactAssertion; also `serial$issuer`, which was written before RFC 4523."""
    return _assertion(value, _certificate_from_ber, _certificate_from_text)


def certificate_pair_assertion(value: bytes) -> PairKey:
    """CertificatePairExactAssertion."""
    return _assertion(value, _pair_from_ber, lambda text: _pair_from_gser(gser.parse(text)))


def certificate_list_assertion(value: bytes) -> ListKey:
    """CertificateListExactAssertion; of the names of a distribution point only directoryName."""
    return _assertion(value, _list_from_ber, lambda text: _list_from_gser(gser.parse(text)))


def _assertion(value: bytes, from_ber: Callable[[Reader], T], from_text: Callable[[str], T]) -> T:
    try:
        return from_ber(Reader(value).constructed())
    except MalformedMessageError:
        return from_text(value.decode())


def _certificate_from_ber(reader: Reader) -> CertificateKey:
    return CertificateKey(_integer(reader), names.key_of_der(reader))


def _pair_from_ber(reader: Reader) -> PairKey:
    return _pair(_certificate_from_ber(reader.constructed(tag)) if reader.peek() == tag else None for tag in _EXPLICIT)


def _list_from_ber(reader: Reader) -> ListKey:
    issuer, this_update = names.key_of_der(reader), _time(reader)
    return ListKey(issuer, this_update, None if reader.peek() == END else _required(_full_name(reader)))


def _certificate_from_text(text: str) -> CertificateKey:
    serial_number, dollar, issuer = text.partition("$")
    if dollar and "{" not in serial_number:
        return CertificateKey(_serial_number(serial_number), names.parse(issuer).key)
    return _certificate_from_gser(gser.parse(text))


def _certificate_from_gser(value: gser.Value) -> CertificateKey:
    fields = _fields(value)
    return CertificateKey(_serial_number(fields.get("serialNumber")), _name(fields.get("issuer")))


def _pair_from_gser(value: gser.Value) -> PairKey:
    fields = _fields(value)
    return _pair(
        _certificate_from_gser(fields[name]) if name in fields else None
        for name in ("issuedToThisCAAssertion", "issuedByThisCAAssertion")
    )


def _pair(certificates: Iterable[CertificateKey | None]) -> PairKey:
    pair = PairKey(*certificates)
    if pair == PairKey(None, None):
        raise ValueError("an assertion about a pair without any certificate")
    return pair


def _list_from_gser(value: gser.Value) -> ListKey:
    fields = _fields(value)
    point = fields.get("distributionPoint")
    return ListKey(
        _name(fields.get("issuer")),
        _asserted_time(fields.get("thisUpdate")),
        None if point is None else _required(_point(point)),
    )


def _asserted_time(value: gser.Value | None) -> datetime:
    match value:
        case gser.Choice("utcTime", str() as text):
            return _utc_time(text)
        case gser.Choice("generalizedTime", str() as text) | str(text):  # the latter is how slapd has it
            return _generalized_time(text)
        case _:
            raise ValueError("an assertion about a list without thisUpdate")


def _point(value: gser.Value) -> NameKey | None:
    match value:
        case gser.Choice("fullName", (gser.Choice("directoryName", name),)):
            return _name(name)
        case _:
            return None


def _required(directory_name: NameKey | None) -> NameKey:
    if directory_name is None:
        raise ValueError("a distributionPoint that is not one directoryName")
    return directory_name


def _name(value: gser.Value | None) -> NameKey:
    match value:
        case gser.Choice("rdnSequence", str() as text) | str(text):
            return names.parse(text).key
        case _:
            raise ValueError("an assertion without a name")


def _serial_number(value: gser.Value | None) -> int:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError("an assertion without a serialNumber")
    return int(value)


def _fields(value: gser.Value) -> Mapping[str, gser.Value]:
    if not isinstance(value, Mapping):
        raise ValueError("an assertion that has no named parts")  # noqa: TRY004 - as above
    return value


# ---------------------------------------------------------------- whether they match


def is_same_list(held: ListKey, asserted: ListKey) -> bool:
    """X.509, clause 11.3.5: the distribution point counts only if the assertion has one."""
    return (held.issuer, held.this_update) == (asserted.issuer, asserted.this_update) and (
        asserted.distribution_point in {None, held.distribution_point}
    )


def is_same_pair(held: PairKey, asserted: PairKey) -> bool:
    """X.509, clause 11.3.3: what the assertion leaves out does not count."""
    return asserted.issued_to_this_ca in {None, held.issued_to_this_ca} and (
        asserted.issued_by_this_ca in {None, held.issued_by_this_ca}
    )
