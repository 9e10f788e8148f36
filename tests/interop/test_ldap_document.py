"""What docs/integrate-ldap.md tells relying parties to do, done as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.running import RunningCA, eventually

DOCUMENT: Final = (Path(__file__).parents[2] / "docs" / "integrate-ldap.md").read_text(encoding="utf-8")
TIMEOUT_S: Final = 100
_BLOCK: Final = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTIONS: Final = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))


class Party:
    """A relying party in a directory of its own, which has read the document."""

    def __init__(self, ca: RunningCA, directory: Path) -> None:
        self._ca = ca
        self.directory = directory

    def follow(self, heading: str) -> str:
        """Write the files of a section and run its lines, after those that name the entries; what they print."""
        lines = ["set -eu -o pipefail"]
        for block in _BLOCK.finditer(_SECTIONS["What to know"] + _SECTIONS[heading]):
            if block["file"]:
                (self.directory / block["file"]).write_text(block["content"])
            elif block["language"] == "sh":
                lines.append(block["content"])
        return self.run("\n".join(lines))

    def run(self, script: str) -> str:
        """What a script that succeeds prints."""
        done = subprocess.run(
            ["bash", "-c", script],
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
            "LDAP": str(self._ca.ldap),
            "LDAPS": str(self._ca.ldaps),
            "TRUST": str(self._ca.service_ca),
            "PASSWORD": str(self._ca.password_file),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
            "no_proxy": "127.0.0.1,localhost",
        }


@pytest.fixture(scope="module")
def party(running_ca: RunningCA, tmp_path_factory: pytest.TempPathFactory) -> Party:
    """With a certificate that is registered and known to the directory."""
    party = Party(running_ca, tmp_path_factory.mktemp("party"))
    party.follow("Log in")
    certificate = party.directory / "client.pem"
    running_ca.prefca("relying-party", "credential", "add", "client-certificate", "sample-verifier", certificate)
    login = "LDAPTLS_CACERT=$TRUST LDAPTLS_CERT=client.pem LDAPTLS_KEY=client.key.pem ldapwhoami -Q -Y EXTERNAL"
    eventually(lambda: party.run(f"{login} -H ldaps://$LDAPS 2>&1 || true").startswith("dn:"), "the certificate counts")
    return party


EXPECTED: Final = {
    "OpenLDAP": [
        "namingContexts: C=JP",
        "cACertificate;binary:: ",
        "authorityRevocationList;binary:: ",
        *["certificateRevocationList;binary:: "] * 3,
        "pagedresults: estimate=62",
        *["dn:uid=sample-verifier,ou=Relying Parties,o=JPKI,c=JP"] * 2,
        "crlNumber=",
        "nextUpdate=",
    ],
    "curl": ["cACertificate;binary:: MII"],
    "GnuPG": ["CRL issuer certificate {"],
    "Java": ["GMT|UTC|JST", *["[0-9]{3,} octets"] * 2],
    "Python": [*["CN=.* CRLDP,OU=CRL Distribution Points,.* [0-9]{3,}"] * 62, "dn:uid=sample-verifier,"],
}


@pytest.mark.req("R-4-4-4-1-2", "R-4-4-4-5", "R-2-6-3-1")
@pytest.mark.parametrize("heading", EXPECTED)
def test_the_document_says_what_works(party: Party, heading: str) -> None:
    """Line by line; what each client shows is what it came for."""
    printed = party.follow(heading)
    for pattern in set(EXPECTED[heading]):
        assert len(re.findall(pattern, printed)) >= EXPECTED[heading].count(pattern), f"{pattern}\n{printed}"
