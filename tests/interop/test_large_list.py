"""OpenSSL reads a list of a million entries, and finds in it who is revoked and who is not."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.profiles.authority import Kind
from issuer.profiles.crl import ListOrder, certificate_list
from issuer.profiles.lint import check_list, check_signature
from issuer.profiles.profile import MIN_SERIAL, resident
from issuer.profiles.scan import Scanned, scan, take_apart
from issuer.signing.certification import certify
from pkix.distribution import Scope, issuing_distribution_point
from pkix.revocation import CRLReason, Revoked, revoked_entry
from pkix.validity import UpdateWindow
from tests.interop.clients import run
from tests.support.ca import NOW, notice, software_ca

CA = software_ca()
ENTRIES, STEP = 1_000_000, 1_000_003
LAST = MIN_SERIAL + (ENTRIES - 1) * STEP
AT = int(NOW.timestamp()) + 3600  # when it is looked at


@pytest.fixture(scope="module")
def order() -> ListOrder:
    """Every STEP-th serial number is revoked."""
    entry = revoked_entry(MIN_SERIAL, Revoked(NOW, CRLReason.SUPERSEDED))
    before, after = entry.split(MIN_SERIAL.to_bytes(8, "big"))
    serials = range(MIN_SERIAL, LAST + 1, STEP)
    entries = b"".join([before + serial.to_bytes(8, "big") + after for serial in serials])
    idp = issuing_distribution_point(CA.issuer.authority.distribution_point(notice().municipality), Scope.USER)
    window = UpdateWindow.starting(NOW, period=timedelta(hours=24), validity=timedelta(hours=72))
    return ListOrder(idp.public_bytes(), 7, window, (entries,))


@pytest.fixture(scope="module")
def files(order: ListOrder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list and the CA's certificate."""
    directory = tmp_path_factory.mktemp("large")
    octets = certificate_list(CA.issuer, order, CA.signer)
    check_signature(octets, CA.signer.public_key)
    check_list(octets, order, CA.issuer)
    assert scan([take_apart(octets).entries.tobytes()]) == Scanned(ENTRIES, LAST)
    (directory / "list.der").write_bytes(octets)
    (directory / "ca.pem").write_bytes(CA.issuer.certificate.public_bytes(Encoding.PEM))
    return directory


@pytest.mark.req("R-4-4-4-4-1")
def test_the_signature_over_a_million_entries_verifies(files: Path) -> None:
    """The digest was made outside the key's device, piece by piece."""
    checked = run("openssl", "crl", "-inform", "DER", "-in", files / "list.der", "-CAfile", files / "ca.pem", "-noout")
    assert (checked.returncode, checked.stderr.strip()) == (0, "verify OK")


@pytest.mark.req("R-4-4-4-4-1", "R-4-4-4-4-2", "R-2-1-2-11")
def test_a_verifier_finds_a_certificate_among_a_million_entries(files: Path) -> None:
    """The first, one in the middle, the last; and that one between two of them and one behind are not there."""
    revoked, good = [MIN_SERIAL, MIN_SERIAL + ENTRIES // 2 * STEP, LAST], [MIN_SERIAL + 1, LAST + 1]
    for serial in (*revoked, *good):
        octets = certify(CA, resident(CA.issuer, notice(), serial, 1, NOW), Kind.RESIDENT)
        certificate = x509.load_der_x509_certificate(octets).public_bytes(Encoding.PEM)
        (files / f"{serial}.pem").write_bytes(certificate)
    checks = ["-x509_strict", "-crl_check", "-extended_crl", "-attime", AT]
    trusted = ["-CAfile", files / "ca.pem", "-CRLfile", files / "list.der"]
    done = run("openssl", "verify", *checks, *trusted, *(files / f"{serial}.pem" for serial in (*revoked, *good)))
    assert done.stdout.splitlines() == [f"{files / str(serial)}.pem: OK" for serial in good]
    assert done.stderr.count("error 23 at 0 depth lookup: certificate revoked") == len(revoked)
