"""Statuses become an OCSPResponse that other implementations read and verify."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from ocsp.errors import OCSPResponseStatus
from ocsp.issuers import Delegate
from ocsp.request import parse_request
from ocsp.response import (
    ARCHIVE_CUTOFF,
    ERROR_RESPONSES,
    INVALIDITY_DATE,
    USUAL_FORM,
    ResponseForm,
    ValidityInterval,
    Voice,
    assemble,
    response_data,
)
from ocsp.status import SingleResponse
from pkix import der
from pkix.certid import key_identifier
from pkix.revocation import CertStatus, CRLReason, Good, Revoked, Unknown
from pkix.signing import sign
from pkix.software import SoftwareSigner
from pkix.validity import Validity
from tests.support.ocsp import (
    CA,
    DAY,
    DELEGATE_NAME,
    SERIAL,
    PrivateKey,
    around,
    nonce,
    refused,
    request,
    rsa_key,
    verified,
)

NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
INTERVAL = ValidityInterval(NOW, NOW + timedelta(minutes=5))
CA_1 = CA(NOW)


def delegate(key: PrivateKey) -> Delegate:
    certificate = CA_1.delegate(SERIAL - 1, key).der
    key_hash = key_identifier(key.public_key())
    name = DELEGATE_NAME.public_bytes()
    return Delegate(SERIAL - 1, 1, Validity(*around(NOW)), certificate, name, key_hash, SoftwareSigner(key))


RSA_DELEGATE = delegate(rsa_key("delegate"))


def answer(
    *statuses: CertStatus, signer: Delegate = RSA_DELEGATE, extensions: bytes = b"", form: ResponseForm = USUAL_FORM
) -> ocsp.OCSPResponse:
    """What a client gets that asks about as many certificates as there are statuses."""
    octets = request(*(CA_1.cert_id(SERIAL + n) for n in range(len(statuses))), extensions=extensions)
    asked = parse_request(octets, max_certificates=10)
    singles = [SingleResponse(c, status, public=False) for c, status in zip(asked.cert_ids, statuses, strict=True)]
    voice = Voice(signer, INTERVAL, form)
    tbs = response_data(singles, voice, asked.nonce)
    return verified(assemble(tbs, sign(voice.signer, tbs), voice), CA_1)


@pytest.mark.req("R-4-4-4-2-1", "R-4-4-4-1-1")
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Good(), ocsp.OCSPCertStatus.GOOD),
        (Revoked(NOW - DAY, CRLReason.SUPERSEDED), ocsp.OCSPCertStatus.REVOKED),
        (Unknown(), ocsp.OCSPCertStatus.UNKNOWN),
    ],
    ids=["good", "revoked", "unknown"],
)
def test_the_three_statuses(status: CertStatus, expected: ocsp.OCSPCertStatus) -> None:
    """As of the time of the query: thisUpdate and producedAt are now."""
    given = answer(status)
    assert given.certificate_status is expected
    assert given.serial_number == SERIAL
    assert given.this_update_utc == given.produced_at_utc == NOW
    assert given.next_update_utc == INTERVAL.next_update


@pytest.mark.req("R-4-4-4-2-2")
@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (CRLReason.KEY_COMPROMISE, x509.ReasonFlags.key_compromise),
        (CRLReason.CA_COMPROMISE, x509.ReasonFlags.ca_compromise),
        (CRLReason.AFFILIATION_CHANGED, x509.ReasonFlags.affiliation_changed),
        (CRLReason.SUPERSEDED, x509.ReasonFlags.superseded),
        (CRLReason.CESSATION_OF_OPERATION, x509.ReasonFlags.cessation_of_operation),
    ],
    ids=[reason.label for reason in CRLReason],
)
def test_a_revocation_tells_its_reason_and_time(reason: CRLReason, expected: x509.ReasonFlags) -> None:
    """The five reasons of the rule."""
    given = answer(Revoked(NOW - DAY, reason))
    assert given.revocation_reason is expected
    assert given.revocation_time_utc == NOW - DAY
    assert len(given.single_extensions) == 0


def test_an_invalidity_date_is_told() -> None:
    """As a single extension: RFC 6960, section 4.4.5."""
    given = answer(Revoked(NOW - DAY, CRLReason.KEY_COMPROMISE, NOW - 3 * DAY))
    extension = given.single_extensions.get_extension_for_class(x509.InvalidityDate)
    assert extension.value.invalidity_date_utc == NOW - 3 * DAY
    assert not extension.critical


def test_times_have_no_fractions() -> None:
    """RFC 5280, section 4.1.2.5.2: clients reject them."""
    given = answer(Revoked(NOW - DAY + timedelta(microseconds=5), CRLReason.SUPERSEDED))
    assert b"20260331120000Z" in given.tbs_response_bytes


def test_several_certificates_are_answered_in_order() -> None:
    """One SingleResponse for each: RFC 6960, section 4.2.2.3."""
    given = answer(Unknown(), Good(), Revoked(NOW - DAY, CRLReason.SUPERSEDED))
    assert [(one.serial_number, one.certificate_status.name) for one in given.responses] == [
        (SERIAL, "UNKNOWN"),
        (SERIAL + 1, "GOOD"),
        (SERIAL + 2, "REVOKED"),
    ]


@pytest.mark.parametrize("octets", [1, 16, 32, 128])
def test_a_nonce_is_repeated(octets: int) -> None:
    """RFC 9654, section 2.1."""
    given = answer(Good(), extensions=nonce(b"n" * octets))
    assert given.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * octets


def test_without_a_nonce_there_are_no_extensions() -> None:
    """RFC 9919, section 3.2.1."""
    assert len(answer(Good()).extensions) == 0


@pytest.mark.parametrize("key", [rsa_key("delegate"), ec.generate_private_key(ec.SECP256R1())], ids=["RSA", "P-256"])
def test_the_delegate_names_itself_by_its_key(key: PrivateKey) -> None:
    """RFC 9919, section 3.2.2; `verified` has checked the signature with the certificate that came along."""
    given = answer(Good(), signer=delegate(key))
    assert given.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    assert given.responder_name is None


def test_a_signature_of_another_delegate_does_not_verify() -> None:
    """The test's own judge can say no."""
    other = replace(RSA_DELEGATE, signer=SoftwareSigner(rsa_key("other")))
    with pytest.raises(InvalidSignature):
        answer(Good(), signer=other)


@pytest.mark.parametrize("status", [status for status in OCSPResponseStatus if status], ids=lambda s: s.label)
def test_refusals_are_unsigned(status: OCSPResponseStatus) -> None:
    """Without responseBytes: RFC 6960, section 2.3."""
    assert refused(ERROR_RESPONSES[status]) == status.name
    assert len(ERROR_RESPONSES[status]) == 5


@pytest.mark.parametrize("by_name", [False, True])
def test_the_responder_is_named_by_key_or_by_name(*, by_name: bool) -> None:
    """RFC 6960, section 4.2.2.3: either way the certificate that comes along is meant."""
    given = answer(Good(), form=ResponseForm(by_name=by_name))
    assert given.responder_name == (DELEGATE_NAME if by_name else None)
    assert given.responder_key_hash == (None if by_name else RSA_DELEGATE.key_hash)


@pytest.mark.parametrize(
    ("status", "oids"),
    [
        (Good(), [ARCHIVE_CUTOFF]),
        (Revoked(NOW - DAY, CRLReason.SUPERSEDED), [ARCHIVE_CUTOFF]),
        (Revoked(NOW - DAY, CRLReason.SUPERSEDED, NOW - DAY), [INVALIDITY_DATE, ARCHIVE_CUTOFF]),
        (Unknown(), []),
    ],
    ids=["good", "revoked", "with invalidityDate", "unknown"],
)
def test_archive_cutoff_is_said_if_statuses_are_kept(status: CertStatus, oids: list[str]) -> None:
    """RFC 6960, section 4.4.4: producedAt minus the time for which they are kept after expiry."""
    extensions = answer(status, form=ResponseForm(retention=timedelta(days=3650))).single_extensions
    assert [extension.oid.dotted_string for extension in extensions] == oids
    if oids:
        cutoff = extensions.get_extension_for_oid(x509.ObjectIdentifier(ARCHIVE_CUTOFF)).value
        assert cutoff.public_bytes() == der.generalized_time(NOW - timedelta(days=3650))
    assert not any(one.oid.dotted_string == ARCHIVE_CUTOFF for one in answer(status).single_extensions)
