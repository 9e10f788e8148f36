"""What docs/integrate-ocsp.md tells relying parties to do, done as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import journal
from tests.support.running import RunningCA

DOCUMENT = Path(__file__).parents[2] / "docs" / "integrate-ocsp.md"
PARTY = "tax-office"
GO_CRYPTO = Path("/usr/share/gocode/src/golang.org/x/crypto/ocsp")
TIMEOUT_S = 100
_BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """The text below a heading."""
    return re.split(
        r"^## ", DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2], flags=re.MULTILINE
    )[0]


class Party:
    """A relying party in a directory of its own, which has read that document."""

    def __init__(self, ca: RunningCA, directory: Path) -> None:
        self._ca = ca
        self.directory = directory

    def follow(self, heading: str) -> str:
        """Write the files of a section, then run its lines; what they print."""
        lines = ["set -eu -o pipefail"]
        for block in _BLOCK.finditer(section(heading)):
            if block["file"]:
                (self.directory / block["file"]).write_text(block["content"])
            elif block["language"] == "sh":
                lines.append(block["content"])
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)],
            check=False,
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "OCSP": self._ca.ocsp_url,
            "OCSPS": f"https://localhost:{self._ca.ocsp_tls.port}/",
            "TRUST": str(self._ca.service_ca),
            "CA": str(self._ca.ca),
            "GOOD": str(self._ca.good),
            "REVOKED": str(self._ca.revoked),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "no_proxy": "127.0.0.1,localhost",
            "GO111MODULE": "off",
            "GOPATH": "/usr/share/gocode",
            "GOCACHE": str(self.directory / "go"),
        }

    def told(self) -> int:
        """How many answers it got under its own name."""
        return sum(record["party"] == PARTY for record in journal.records(self._ca.instance, "ocsp-*"))


@pytest.fixture(scope="module")
def party(running_ca: RunningCA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Party]:
    """Registered with everything that the document names, but no network."""
    party = Party(running_ca, tmp_path_factory.mktemp("party"))
    party.follow("Ways to be recognised")
    running_ca.prefca("relying-party", "add", PARTY, "--right", "ocsp")
    add = ("relying-party", "credential", "add")
    running_ca.prefca(*add, "client-certificate", PARTY, party.directory / "client.pem")
    running_ca.prefca(*add, "signing-certificate", PARTY, party.directory / "signer.pem")
    (party.directory / "token").write_text(running_ca.prefca(*add, "token", PARTY))
    yield party
    running_ca.prefca("relying-party", "withdraw", PARTY)


@pytest.mark.req("R-4-4-4-1-1", "R-4-4-4-2-1", "R-4-4-4-3")
@pytest.mark.parametrize(
    ("heading", "needs", "told", "printed"),
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
    party: Party, heading: str, needs: str, told: int, printed: dict[str, int]
) -> None:
    """And the responder knows who asks: not by the network, which is the sample party's."""
    if shutil.which(needs) is None or (needs == "go" and not GO_CRYPTO.exists()):
        pytest.skip(f"needs {needs}" + " and the Debian package golang-golang-x-crypto-dev" * (needs == "go"))
    before = party.told()
    output = party.follow(heading)
    assert {text: output.count(text) for text in printed} == printed
    assert party.told() - before == told


def test_every_program_in_the_document_is_run() -> None:
    """A section without a case here would not be."""
    headings = re.findall(r"^## (.*)$", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    with_programs = {each for each in headings if re.search(r"^```sh$", section(each), flags=re.MULTILINE)}
    cases = {"OpenSSL", "curl and wget", "GnuTLS", "Python", "Java", "Go"}
    assert with_programs == cases | {"Ways to be recognised"}
