"""GnuTLS verifies answers of the responder, and what the lists are signed with."""

from pathlib import Path

import pytest

from tests.interop.clients import fetch_list, run
from tests.support.running import RunningCA


@pytest.mark.req("R-4-4-4-1-1", "R-4-4-4-2-1")
@pytest.mark.parametrize("nonce", [[], ["--no-nonce"]], ids=["nonce", "no nonce"])
@pytest.mark.parametrize("which", ["good", "revoked"])
def test_ocsptool_verifies_an_answer(running_ca: RunningCA, which: str, nonce: list[str]) -> None:
    """`ocsptool --ask` reads the status and trusts the signature under the CA certificate."""
    certificate = {"good": running_ca.good, "revoked": running_ca.revoked}[which]
    files = [f"--load-issuer={running_ca.ca}", f"--load-trust={running_ca.ca}", f"--load-cert={certificate}"]
    answer = run("ocsptool", f"--ask={running_ca.ocsp_url}", *nonce, *files)
    assert f"Certificate Status: {which}\n" in answer.stdout
    assert "Verifying OCSP Response: Success." in answer.stdout


@pytest.mark.req("R-4-4-4-4-1")
@pytest.mark.parametrize("municipality", ["Chiyoda-ku", "Chuo-ku"], ids=["empty", "with an entry"])
def test_certtool_verifies_a_municipal_list(running_ca: RunningCA, tmp_path: Path, municipality: str) -> None:
    """Its signature, that is: GnuTLS does not know IssuingDistributionPoint, so it cannot decide about revocation."""
    fetched = fetch_list(running_ca, municipality, tmp_path / "list.pem")
    verify = ["--verify-crl", "--load-ca-certificate", running_ca.ca, "--infile", fetched]
    assert "Verified. The certificate is trusted." in run("certtool", *verify).stdout
