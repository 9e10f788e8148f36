"""OpenSSL and curl ask the responder; OpenSSL verifies every answer under the CA certificate alone."""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import NEVER_ISSUED, fetch_list, ocsp, run
from tests.support.ca import notice_line
from tests.support.running import RunningCA, eventually

VERIFIED = "Response verify OK"
# As `openssl ocsp` and `openssl crl -text` call the reasons of R-4-4-4-2-2.
REASONS = {
    "keyCompromise": "Key Compromise",
    "cACompromise": "CA Compromise",
    "affiliationChanged": "Affiliation Changed",
    "superseded": "Superseded",
    "cessationOfOperation": "Cessation Of Operation",
}


@pytest.mark.req("R-4-4-4-1-1", "R-4-4-4-2-1")
@pytest.mark.parametrize("nonce", [[], ["-no_nonce"]], ids=["nonce", "no nonce"])
@pytest.mark.parametrize("algorithm", ["-sha1", "-sha256", "-sha384", "-sha512"])
def test_every_client_gets_good_and_revoked(running_ca: RunningCA, algorithm: str, nonce: list[str]) -> None:
    """Whatever the hash of the CertIDs, with or without nonce; several certificates in one request."""
    certificates = ["-cert", running_ca.good, algorithm, "-cert", running_ca.revoked]
    answer = ocsp(running_ca, *nonce, algorithm, *certificates)
    assert VERIFIED in answer
    assert "WARNING" not in answer, "the nonce comes back"
    assert f"{running_ca.good}: good" in answer
    assert f"{running_ca.revoked}: revoked" in answer
    assert "Reason: keyCompromise" in answer


@pytest.mark.req("R-4-4-4-2-1")
def test_a_serial_number_that_was_never_issued_is_unknown(running_ca: RunningCA) -> None:
    """Not good, as responders made from lists say."""
    answer = ocsp(running_ca, "-serial", NEVER_ISSUED)
    assert VERIFIED in answer
    assert f"{NEVER_ISSUED}: unknown" in answer


@pytest.mark.req("R-4-4-4-2-1", "R-2-8-2")
@pytest.mark.parametrize("kind", ["self-signed", "ocsp"])
def test_the_certificates_of_the_ca_itself_have_a_status(running_ca: RunningCA, kind: str) -> None:
    """The Governor's certificate and the responder's own."""
    (certificate,) = running_ca.report("list", "--kind", kind)
    serial = f"0x{certificate['serial']}"
    assert f"{serial}: good" in ocsp(running_ca, "-serial", serial)


@pytest.mark.req("R-4-4-4-1-1")
@pytest.mark.parametrize("method", ["POST", "GET", "GET, not escaped"])
def test_http_clients_get_the_same_answer_by_each_method(running_ca: RunningCA, tmp_path: Path, method: str) -> None:
    """OpenSSL makes the request, curl sends it, and OpenSSL verifies the answer."""
    request, answer = tmp_path / "request.der", tmp_path / "answer.der"
    run("openssl", "ocsp", "-issuer", running_ca.ca, "-cert", running_ca.good, "-no_nonce", "-reqout", request)
    path = base64.b64encode(request.read_bytes()).decode()
    sent: list[str] = {
        "POST": [running_ca.ocsp_url, "-H", "Content-Type: application/ocsp-request", "--data-binary", f"@{request}"],
        "GET": [running_ca.ocsp_url + quote(path, safe="")],
        "GET, not escaped": [running_ca.ocsp_url + path],
    }[method]
    content_type = run("curl", "-sS", "-o", answer, "-w", "%{http_code} %{content_type}", *sent).stdout
    assert content_type == "200 application/ocsp-response"
    verified = run(
        *("openssl", "ocsp", "-respin", answer, "-no_nonce"),
        *("-issuer", running_ca.ca, "-CAfile", running_ca.ca, "-cert", running_ca.good),
    )
    assert VERIFIED in verified.stderr
    assert f"{running_ca.good}: good" in verified.stdout


@pytest.fixture(scope="module")
def revoked_by_reason(running_ca: RunningCA, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A certificate for each reason: revoked, and on the list of Kiyose-shi."""
    directory = tmp_path_factory.mktemp("reasons")
    notices, results = directory / "notices.jsonl", directory / "results.jsonl"
    notices.write_bytes(b"".join(notice_line(number) for number in range(1, 1 + len(REASONS))))
    running_ca.prefca("issue", notices, "--results", results)
    certificates = {}
    for reason, line in zip(REASONS, results.read_text(encoding="utf-8").splitlines(), strict=True):
        issued = json.loads(line)
        running_ca.prefca("revoke", issued["serial"], "--reason", reason)
        certificate = x509.load_der_x509_certificate(base64.b64decode(issued["certificate"]))
        certificates[reason] = directory / f"{reason}.pem"
        certificates[reason].write_bytes(certificate.public_bytes(Encoding.PEM))
    running_ca.prefca("batch", "--now")
    return certificates


@pytest.mark.req("R-4-4-4-2-1", "R-4-4-4-2-2", "R-4-4-4-4-2")
@pytest.mark.parametrize("reason", REASONS)
def test_list_and_responder_tell_the_same_revocation(
    running_ca: RunningCA, revoked_by_reason: Mapping[str, Path], tmp_path: Path, reason: str
) -> None:
    """The same time and the same reason, for each reason that there is."""
    certificate = revoked_by_reason[reason]
    answer = ocsp(running_ca, "-cert", certificate)
    serial = run("openssl", "x509", "-in", certificate, "-noout", "-serial").stdout.strip().removeprefix("serial=")

    def listed() -> re.Match[str] | None:
        fetched = fetch_list(running_ca, "Kiyose-shi", tmp_path / "list.pem")
        text = run("openssl", "crl", "-in", fetched, "-noout", "-text").stdout
        dated = rf"Serial Number: {serial}\n\s+Revocation Date: (?P<at>.*)\n"
        return re.search(dated + r"\s+CRL entry extensions:\s+X509v3 CRL Reason Code: \n\s+(?P<why>.*)\n", text)

    entry = eventually(listed, "the list with the revocation is in the directory")
    assert entry is not None
    assert entry["why"].strip() == REASONS[reason]
    assert f"Reason: {reason}\n" in answer
    assert f"Revocation Time: {entry['at']}\n" in answer


@pytest.mark.req("R-4-4-4-2-1", "R-4-4-2-1")
def test_a_revocation_is_told_without_waiting_for_a_list(running_ca: RunningCA, tmp_path: Path) -> None:
    """The answer is of the time of the query, although an earlier one said good and is still valid."""
    resident = running_ca.issue(tmp_path)
    question = ("-no_nonce", "-cert", resident.certificate)
    assert f"{resident.certificate}: good" in ocsp(running_ca, *question)
    running_ca.prefca("revoke", resident.serial, "--reason", "keyCompromise")
    eventually(lambda: f"{resident.certificate}: revoked" in ocsp(running_ca, *question), "OCSP says revoked")
