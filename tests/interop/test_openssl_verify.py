"""OpenSSL validates residents' certificates with the municipal lists that a relying party fetches by LDAP."""

from pathlib import Path

import pytest

from tests.interop.clients import fetch_list, run
from tests.support.running import RunningCA, eventually

TEST_POLICY, PRODUCTION_POLICY = "1.2.392.200149.8.5.1.0.10", "1.2.392.200149.8.5.1.1.10"

REVOKED = "error 23 at 0 depth lookup: certificate revoked"
OTHER_SCOPE = "error 44 at 0 depth lookup: different CRL scope"
VERDICTS = [
    pytest.param("good", "Chiyoda-ku", "good.pem: OK", id="good, list of its municipality"),
    pytest.param("revoked", "Chuo-ku", REVOKED, id="revoked, list of its municipality"),
    pytest.param("good", "Chuo-ku", OTHER_SCOPE, id="good, list of another municipality"),
    pytest.param("revoked", "Chiyoda-ku", OTHER_SCOPE, id="revoked, list of another municipality"),
]


@pytest.mark.req("R-4-4-4-4-1", "R-4-4-4-4-2", "R-4-4-4-5", "R-2-1-2-11")
@pytest.mark.parametrize("extended", [[], ["-extended_crl"]], ids=["plain", "extended_crl"])
@pytest.mark.parametrize(("which", "municipality", "verdict"), VERDICTS)
def test_only_the_list_of_its_own_municipality_decides(
    running_ca: RunningCA, tmp_path: Path, which: str, municipality: str, verdict: str, extended: list[str]
) -> None:
    """A list says who is revoked in its municipality, and says nothing about others."""
    revocation_list = fetch_list(running_ca, municipality, tmp_path / "list.pem")
    certificate = {"good": running_ca.good, "revoked": running_ca.revoked}[which]
    checks = ["-x509_strict", "-crl_check", *extended, "-CRLfile", revocation_list]
    done = run("openssl", "verify", "-CAfile", running_ca.ca, *checks, certificate)
    assert verdict in done.stdout + done.stderr


@pytest.mark.req("R-4-4-4-4-2")
@pytest.mark.parametrize("which", ["arl", "operations-crl"])
def test_the_public_lists_say_nothing_about_residents(running_ca: RunningCA, tmp_path: Path, which: str) -> None:
    """Neither the ARL nor the list of operations certificates satisfies the check of a resident."""
    public_list = tmp_path / "list.pem"
    running_ca.prefca("export", which, "--output", public_list)
    checks = ["-crl_check", "-extended_crl", "-CRLfile", public_list]
    done = run("openssl", "verify", "-CAfile", running_ca.ca, *checks, running_ca.good)
    assert OTHER_SCOPE in done.stderr


@pytest.mark.req("R-1-2-1", "R-1-2-2")
@pytest.mark.parametrize(
    ("policy", "verdict"),
    [(TEST_POLICY, "good.pem: OK"), (PRODUCTION_POLICY, "error 43 at 0 depth lookup: no explicit policy")],
    ids=["test", "production"],
)
def test_a_test_certificate_is_only_for_the_test_policy(running_ca: RunningCA, policy: str, verdict: str) -> None:
    """A verifier that demands the policy of production refuses a certificate of the test hierarchy."""
    demand = ["-policy", policy, "-explicit_policy"]
    done = run("openssl", "verify", "-CAfile", running_ca.ca, *demand, running_ca.good)
    assert verdict in done.stdout + done.stderr


@pytest.mark.req("R-4-2-1", "R-4-4-2-1", "R-4-4-3-1", "R-2-6-1-2")
def test_a_signed_application_is_accepted_until_its_signer_is_on_the_list(
    running_ca: RunningCA, tmp_path: Path
) -> None:
    """What a resident signs (CMS) verifies with the CA certificate and the list of the day; revocation ends that."""
    resident = running_ca.issue(tmp_path)
    application, signed = tmp_path / "application.txt", tmp_path / "application.p7m"
    application.write_text("住民票の写しの交付申請\n", encoding="utf-8")
    key = ["-signer", resident.certificate, "-inkey", resident.private_key]
    run("openssl", "cms", "-sign", "-nodetach", "-binary", "-in", application, *key, "-outform", "DER", "-out", signed)

    def verdict() -> str:
        revocation_list = fetch_list(running_ca, "Minato-ku", tmp_path / "list.pem")
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(running_ca.ca.read_bytes() + revocation_list.read_bytes())
        checks = ["-crl_check", "-extended_crl", "-CAfile", trusted]
        return run("openssl", "cms", "-verify", "-inform", "DER", "-in", signed, *checks).stderr

    assert "CMS Verification successful" in verdict()
    running_ca.prefca("revoke", resident.serial, "--reason", "cessationOfOperation")
    assert "CMS Verification successful" in verdict(), "only the next list changes that"
    running_ca.prefca("batch", "--now")
    eventually(lambda: "certificate revoked" in verdict(), "the list with the revocation is in the directory")
