"""Whose signature is on a request, and whether his certificate leads to somebody who is trusted."""

from datetime import UTC, datetime

import pytest
from cryptography import x509

from ocsp.access import Failure
from ocsp.request import RequestSignature, parse_request
from ocsp.signature import path_to, registered_is_enough, signing_certificate
from tests.support.ocsp import CA, SERIAL, request
from tests.support.parties import DAY, Identity, signed

pytestmark = pytest.mark.req("R-4-4-4-3")

NOW = datetime.now(UTC)
ROOT, OTHER = Identity.new("root"), Identity.new("other root")
BETWEEN = Identity.new("between", issuer=ROOT, is_ca=True)
NO_CA = Identity.new("no CA", issuer=ROOT)
ENDED = Identity.new("ended", issuer=ROOT, is_ca=True, ended=True)
PARTY = Identity.new("party", issuer=BETWEEN)


def signature(signer: Identity, *brought: Identity) -> RequestSignature:
    """Of a request that brings along the certificates of signer and `brought`."""
    octets = signed(request(CA(NOW).cert_id(SERIAL)), signer, [signer.der, *(each.der for each in brought)])
    found = parse_request(octets, max_certificates=1).signature
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("party", "brought", "anchor", "trusted"),
    [
        (PARTY, [BETWEEN], ROOT, True),
        (PARTY, [], BETWEEN, True),
        (PARTY, [], ROOT, False),
        (PARTY, [BETWEEN], OTHER, False),
        (PARTY, [BETWEEN, OTHER], OTHER, False),
        (Identity.new("party", issuer=NO_CA), [NO_CA], ROOT, False),
        (Identity.new("party", issuer=ENDED), [ENDED], ROOT, False),
    ],
    ids=["over one", "direct", "one is missing", "another root", "brings its root", "issuer is no CA", "ended issuer"],
)
def test_a_certificate_leads_to_an_anchor(
    party: Identity, brought: list[Identity], anchor: Identity, *, trusted: bool
) -> None:
    """RFC 5280, section 6; being registered alone is not enough."""
    found = signing_certificate(signature(party, *brought), {party.der}, path_to([anchor.certificate]), NOW)
    assert found == (party.der if trusted else Failure.NO_SIGNER_PATH)


POLICY = x509.CertificatePolicies(
    [x509.PolicyInformation(x509.ObjectIdentifier("1.2.392.200149.8.5.1.1.10"), ["https://www.jpki.go.jp/cps.html"])]
)
USAGE = x509.KeyUsage(*[True, *[False] * 8])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.mark.parametrize(
    ("extensions", "trusted"),
    [([POLICY], True), ([POLICY, USAGE], True), ([UNKNOWN], False)],
    ids=["policies", "as of a resident", "nobody knows it"],
)
def test_critical_extensions(
    extensions: list[x509.ExtensionType], caplog: pytest.LogCaptureFixture, *, trusted: bool
) -> None:
    """Those that certificates of this CA have do no harm; for any other there is no path, and the log says why."""
    caplog.set_level("INFO")
    between = Identity.new("between", issuer=ROOT, is_ca=True, extensions=[POLICY])
    party = Identity.new("party", issuer=between, extensions=extensions)
    path = path_to([ROOT.certificate])
    found = signing_certificate(signature(party, between), {party.der}, path, NOW)
    assert found == (party.der if trusted else Failure.NO_SIGNER_PATH)
    reasons = [vars(record)["reason"] for record in caplog.records if record.message == "no_path"]
    assert trusted or "extension" in reasons[0]
    assert bool(reasons) != trusted


def test_a_path_is_as_of_the_moment() -> None:
    """Once the certificate has ended, there is none any more."""
    path, signed_by_party = path_to([ROOT.certificate]), signature(PARTY, BETWEEN)
    assert signing_certificate(signed_by_party, {PARTY.der}, path, NOW) == PARTY.der
    assert signing_certificate(signed_by_party, {PARTY.der}, path, NOW + 10 * DAY) == Failure.NO_SIGNER_PATH


@pytest.mark.parametrize(
    "nonsense", [b"\x30\x00", PARTY.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1)]
)
def test_what_comes_along_and_is_no_certificate_is_no_path(nonsense: bytes) -> None:
    """Anybody may send it: it must do no harm. It is of no interest where no path is asked for."""
    octets = signed(request(CA(NOW).cert_id(SERIAL)), PARTY, [PARTY.der, BETWEEN.der, nonsense])
    found = parse_request(octets, max_certificates=1).signature
    assert found is not None
    assert signing_certificate(found, {PARTY.der}, path_to([ROOT.certificate]), NOW) == Failure.NO_SIGNER_PATH
    assert signing_certificate(found, {PARTY.der}, registered_is_enough, NOW) == PARTY.der


def test_the_name_alone_proves_nothing() -> None:
    """Two certificates of one name: the one whose key signed is meant."""
    twin = Identity.new("party", issuer=BETWEEN)
    octets = signed(request(CA(NOW).cert_id(SERIAL)), PARTY, certificates=[])
    unaccompanied = parse_request(octets, max_certificates=1).signature
    assert unaccompanied is not None
    assert signing_certificate(unaccompanied, {twin.der, PARTY.der}, registered_is_enough, NOW) == PARTY.der
    assert signing_certificate(unaccompanied, {twin.der}, registered_is_enough, NOW) == Failure.BAD_SIGNATURE
