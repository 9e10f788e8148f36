"""Whose certificates are asked about, what is known of them, and who may speak of them."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ocsp.issuers import Delegate, Issuers
from ocsp.request import CertID, parse_request
from ocsp.status import SERIALS, IssuedCertificate, single_response
from pkix.names import name
from pkix.revocation import CRLReason, Good, Revoked, Unknown
from pkix.signing import ECDSA_WITH_SHA256_OID, SHA256_WITH_RSA_OID
from pkix.software import SoftwareSigner
from pkix.validity import Validity
from tests.support.ocsp import CA, DAY, SERIAL, request, rsa_key

NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
CA_1, CA_2 = CA(NOW), CA(NOW, generation_id=2)
STRANGER = CA(NOW, generation_id=9, subject=name(("C", "JP"), ("O", "Somebody else")))
SIGNER = SoftwareSigner(rsa_key("delegate"))
EC_SIGNER = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))


def cert_id(ca: CA, serial: int = SERIAL, algorithm: str = "sha256") -> CertID:
    return parse_request(request(ca.cert_id(serial, algorithm)), max_certificates=1).cert_ids[0]


def delegate(serial: int, generation_id: int, first: int, last: int, signer: SoftwareSigner = SIGNER) -> Delegate:
    """Valid from the `first` to the `last` day from now."""
    return Delegate(serial, generation_id, Validity(NOW + first * DAY, NOW + last * DAY), b"", b"", b"", signer)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_every_generation_is_found_by_every_hash(algorithm: str) -> None:
    """Two keys of one CA have the same name: the key tells them apart."""
    issuers = Issuers([CA_1.generation, CA_2.generation], [])
    assert issuers.generation(cert_id(CA_1, algorithm=algorithm)) == CA_1.generation
    assert issuers.generation(cert_id(CA_2, algorithm=algorithm)) == CA_2.generation


@pytest.mark.parametrize(
    ("ca", "algorithm"), [(STRANGER, "sha256"), (CA_1, "md5")], ids=["another CA", "unknown hash algorithm"]
)
def test_other_issuers_are_not_ours(ca: CA, algorithm: str) -> None:
    """Also one that is named in a way we do not know."""
    assert Issuers([CA_1.generation], []).generation(cert_id(ca, algorithm=algorithm)) is None


def test_our_key_under_another_name_is_not_ours() -> None:
    """Both hashes count."""
    ours, theirs = cert_id(CA_1), cert_id(STRANGER)
    mixed = CertID(ours.hash_algorithm, theirs.issuer_name_hash, ours.issuer_key_hash, SERIAL, b"")
    assert Issuers([CA_1.generation], []).generation(mixed) is None


@pytest.mark.parametrize(
    ("delegates", "expected"),
    [
        ([], None),
        ([delegate(1, 1, -10, 10)], 1),
        ([delegate(1, 1, -10, 10), delegate(2, 1, -5, 10)], 2),
        ([delegate(1, 1, -10, 10), delegate(2, 1, 5, 20)], 1),
        ([delegate(1, 1, -10, -5)], None),
        ([delegate(1, 1, 0, 1)], 1),
        ([delegate(1, 1, -1, 0)], 1),
        ([delegate(1, 2, -10, 10)], None),
    ],
    ids=["none", "one", "the newest", "not yet valid", "ended", "first second", "last second", "of another key"],
)
def test_the_newest_valid_delegate_of_the_same_key_speaks(delegates: list[Delegate], expected: int | None) -> None:
    """RFC 6960, section 4.2.2.2: signed by the key that signed the certificate asked about."""
    issuers = Issuers([CA_1.generation, CA_2.generation], delegates)
    chosen = issuers.delegate(CA_1.generation, NOW)
    assert (chosen.serial if chosen else None) == expected


@pytest.mark.parametrize(
    ("delegates", "expected"),
    [
        ([], False),
        ([delegate(1, 1, -10, 10)], False),
        ([delegate(1, 1, -10, 10), delegate(2, 2, 5, 20)], False),
        ([delegate(1, 1, -10, 10), delegate(2, 2, -5, -1)], False),
        ([delegate(2, 2, -10, 10)], True),
    ],
    ids=["none", "of the key before", "not yet valid", "ended", "of the present key"],
)
def test_the_present_key_needs_a_delegate(delegates: list[Delegate], *, expected: bool) -> None:
    """Those of keys that were replaced may have ended with all their certificates."""
    generations = [CA_1.generation, replace(CA_2.generation, is_active=True)]
    assert Issuers(generations, delegates).have_delegates(NOW) is expected


REVOKED = Revoked(NOW - DAY, CRLReason.SUPERSEDED)
ISSUED = {
    SERIAL: IssuedCertificate(SERIAL, 1, public=False, status=Good()),
    SERIAL + 1: IssuedCertificate(SERIAL + 1, 1, public=False, status=REVOKED),
    SERIAL + 2: IssuedCertificate(SERIAL + 2, 1, public=True, status=Good()),
    SERIAL + 3: IssuedCertificate(SERIAL + 3, 2, public=True, status=Good()),
}


@pytest.mark.req("R-4-4-4-2-1", "R-2-8-2")
@pytest.mark.parametrize(
    ("ca", "serial", "expected", "public"),
    [
        (CA_1, SERIAL, Good(), False),
        (CA_1, SERIAL + 1, REVOKED, False),
        (CA_1, SERIAL + 2, Good(), True),
        (CA_1, SERIAL + 3, Unknown(), False),
        (CA_1, SERIAL + 4, Unknown(), False),
        (CA_1, -SERIAL, Unknown(), False),
        (STRANGER, SERIAL, Unknown(), True),
    ],
    ids=["good", "revoked", "public", "of another generation", "never issued", "negative", "foreign issuer"],
)
def test_what_is_said_of_a_certificate(
    ca: CA, serial: int, expected: Good | Revoked | Unknown, *, public: bool
) -> None:
    """Unknown is whatever was not issued under that name and key; anybody may hear it of foreign issuers only."""
    asked = cert_id(ca, serial)
    single = single_response(asked, Issuers([CA_1.generation], []).generation(asked), ISSUED)
    assert (single.cert_id, single.cert_status, single.public) == (asked, expected, public)


def test_serial_numbers_that_the_database_cannot_hold_are_not_looked_up() -> None:
    """Those of our CA are positive and of 8 octets."""
    assert [serial in SERIALS for serial in (2**62, 2**63 - 1, 2**63, 0, -1)] == [True, True, False, False, False]


SHA1_WITH_RSA = "1.2.840.113549.1.1.5"


@pytest.mark.parametrize(
    ("preferred", "expected"),
    [
        ([], 3),
        ([SHA256_WITH_RSA_OID], 2),
        ([ECDSA_WITH_SHA256_OID, SHA256_WITH_RSA_OID], 3),
        ([SHA256_WITH_RSA_OID, ECDSA_WITH_SHA256_OID], 2),
        ([SHA1_WITH_RSA, SHA256_WITH_RSA_OID], 2),
        ([SHA1_WITH_RSA], 3),
    ],
    ids=["none", "RSA", "P-256 first", "RSA first", "the first is not served", "none is served"],
)
def test_the_client_chooses_the_algorithm_if_it_can(preferred: list[str], expected: int) -> None:
    """RFC 6960, section 4.4.7; else the newest delegate speaks, as the operator would have it."""
    delegates = [delegate(1, 1, -9, 9), delegate(2, 1, -8, 9), delegate(3, 1, -5, 9, EC_SIGNER)]
    issuers = Issuers([CA_1.generation], delegates)
    chosen = issuers.delegate(CA_1.generation, NOW, preferred)
    assert chosen is not None
    assert chosen.serial == expected
