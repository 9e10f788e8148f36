"""A revoked certificate's entry is written as an established encoder writes it inside a list."""

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from pkix import names
from pkix.revocation import CRLReason, Revoked, revoked_entry

pytestmark = pytest.mark.req("R-4-4-4-4-2")

SERIAL_NUMBER = 2**62 + 12_345
LISTED = datetime(2026, 4, 1, 20, tzinfo=UTC)
X509_REASONS = {
    CRLReason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    CRLReason.CA_COMPROMISE: x509.ReasonFlags.ca_compromise,
    CRLReason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    CRLReason.SUPERSEDED: x509.ReasonFlags.superseded,
    CRLReason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
}
DATES = [
    pytest.param(datetime(2026, 3, 31, 14, 59, 59, tzinfo=UTC), id="2026"),
    pytest.param(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), id="last second of 2049"),
    pytest.param(datetime(2050, 1, 1, tzinfo=UTC), id="first second of 2050"),
]


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def list_of_one(serial_number: int, status: Revoked) -> bytes:
    """The TBSCertList of a list with this entry alone, by pyca."""
    entry = x509.RevokedCertificateBuilder(serial_number, status.at.replace(tzinfo=None)).add_extension(
        x509.CRLReason(X509_REASONS[status.reason]), critical=False
    )
    if status.invalidity_date is not None:
        entry = entry.add_extension(x509.InvalidityDate(status.invalidity_date.replace(tzinfo=None)), critical=False)
    listing = x509.CertificateRevocationListBuilder(names.name(("C", "JP")), LISTED, LISTED + timedelta(days=3))
    return listing.add_revoked_certificate(entry.build()).sign(key(), SHA256()).tbs_certlist_bytes


def holds(tbs_cert_list: bytes, entry: bytes) -> bool:
    """Is `entry` all that revokedCertificates has?"""
    return b"\x30" + bytes((len(entry),)) + entry in tbs_cert_list


@pytest.mark.req("R-4-4-4-2-2")
@pytest.mark.parametrize("reason", CRLReason, ids=lambda reason: reason.label)
@pytest.mark.parametrize("at", DATES)
@pytest.mark.parametrize("invalidity_date", [pytest.param(None, id="no invalidityDate"), *DATES])
def test_an_entry_is_that_of_the_encoder(reason: CRLReason, at: datetime, invalidity_date: datetime | None) -> None:
    """Octet for octet, with every reason, with and without invalidityDate, before and after 2050."""
    status = Revoked(at, reason, invalidity_date)
    assert holds(list_of_one(SERIAL_NUMBER, status), revoked_entry(SERIAL_NUMBER, status))


@given(serial_number=st.integers(1, 2**159 - 1), second=st.integers(0, 3_000_000_000))
def test_an_entry_of_any_serial_number_and_date(serial_number: int, second: int) -> None:
    """From 1 to 20 octets of serial number, from 1970 to 2065."""
    status = Revoked(datetime.fromtimestamp(second, UTC), CRLReason.SUPERSEDED)
    assert holds(list_of_one(serial_number, status), revoked_entry(serial_number, status))


@pytest.mark.parametrize("serial_number", [2**62, 2**63 - 1])
@pytest.mark.parametrize("reason", CRLReason, ids=lambda reason: reason.label)
def test_entries_of_our_serial_numbers_have_41_octets(serial_number: int, reason: CRLReason) -> None:
    """Fixed width until 2050: what the space of a list is reckoned with."""
    assert len(revoked_entry(serial_number, Revoked(LISTED, reason))) == 41


@pytest.mark.req("R-4-4-4-2-2", "R-4-4-5")
def test_reasons_are_the_five_of_the_rule() -> None:
    """No certificateHold, no removeFromCRL, no unspecified; labels are RFC 5280's identifiers."""
    assert {reason.value: reason.label for reason in CRLReason} == {
        1: "keyCompromise",
        2: "cACompromise",
        3: "affiliationChanged",
        4: "superseded",
        5: "cessationOfOperation",
    }
