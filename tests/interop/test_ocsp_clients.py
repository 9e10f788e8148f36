"""What docs/integrate-ocsp.md tells relying parties to do, done as it stands there."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import journal
from tests.support.document import Reader, sections
from tests.support.running import RunningCA

SECTIONS: Final = sections("integrate-ocsp.md")
PARTY: Final = "tax-office"
GO_CRYPTO: Final = Path("/usr/share/gocode/src/golang.org/x/crypto/ocsp")


@pytest.fixture(scope="module")
def party(running_ca: RunningCA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Registered with everything that the document names, but no network."""
    directory = tmp_path_factory.mktemp("party")
    environment = {
        "OCSP": running_ca.ocsp_url,
        "OCSPS": f"https://localhost:{running_ca.ocsp_tls.port}/",
        "TRUST": str(running_ca.service_ca),
        "CA": str(running_ca.ca),
        "GOOD": str(running_ca.good),
        "REVOKED": str(running_ca.revoked),
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(directory / "go"),
    }
    party = Reader(directory, environment)
    party.follow(SECTIONS["Ways to be recognised"])
    running_ca.prefca("relying-party", "add", PARTY, "--right", "ocsp")
    add = ("relying-party", "credential", "add")
    running_ca.prefca(*add, "client-certificate", PARTY, directory / "client.pem")
    running_ca.prefca(*add, "signing-certificate", PARTY, directory / "signer.pem")
    (directory / "token").write_text(running_ca.prefca(*add, "token", PARTY))
    yield party
    running_ca.prefca("relying-party", "withdraw", PARTY)


def told(ca: RunningCA) -> int:
    """How many answers the party got under its own name."""
    return sum(record["party"] == PARTY for record in journal.records(ca.instance, "ocsp-*"))


@pytest.mark.req("R-4-4-4-1-1", "R-4-4-4-2-1", "R-4-4-4-3")
@pytest.mark.parametrize(
    ("heading", "needs", "answers", "printed"),
    [
        ("OpenSSL", "openssl", 1, {"Response verify OK": 4, "good.pem: good": 4, "revoked.pem: revoked": 1}),
        ("curl and wget", "wget", 3, {"Response verify OK": 3, "good.pem: good": 3}),
        ("GnuTLS", "ocsptool", 0, {"Verifying OCSP Response: Success.": 1}),
        ("Python", "openssl", 2, {"GOOD None None": 1, "REVOKED 20": 1, "key_compromise": 1}),
        ("Java", "javac", 1, {}),
        ("Go", "go", 2, {"good\n": 1, "revoked 20": 1}),
    ],
    ids=["OpenSSL", "curl and wget", "GnuTLS", "Python", "Java", "Go"],
)
def test_what_the_document_says_works(
    party: Reader, running_ca: RunningCA, heading: str, needs: str, answers: int, printed: dict[str, int]
) -> None:
    """And the responder knows who asks: not by the network, which is the sample party's."""
    if shutil.which(needs) is None or (needs == "go" and not GO_CRYPTO.exists()):
        pytest.skip(f"needs {needs}" + " and the Debian package golang-golang-x-crypto-dev" * (needs == "go"))
    before = told(running_ca)
    output = party.follow(SECTIONS[heading])
    assert {text: output.count(text) for text in printed} == printed
    assert told(running_ca) - before == answers


def test_every_program_in_the_document_is_run() -> None:
    """A section without a case here would not be."""
    with_programs = {heading for heading, text in SECTIONS.items() if re.search(r"^```sh$", text, flags=re.MULTILINE)}
    cases = {"OpenSSL", "curl and wget", "GnuTLS", "Python", "Java", "Go"}
    assert with_programs == cases | {"Ways to be recognised"}
