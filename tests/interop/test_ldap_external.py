"""OpenLDAP's client logs in with a certificate instead of a password: SASL EXTERNAL."""

import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.support.database import Database
from tests.support.repository import (
    CHIYODA,
    LIST,
    OBJECTS,
    PARTY_DN,
    RepositoryProcess,
    add_authority,
    add_certificate,
    add_party,
    metric,
    publish,
    running,
    write_certificate,
)
from tests.support.running import eventually

INVALID_CREDENTIALS = 49
PUBLISHED = "Y2hpeW9kYSBjcmw="  # the list, in base64


@dataclass(frozen=True)
class Directory:
    """A server, and the database behind it."""

    server: RepositoryProcess
    issuer: asyncpg.Connection
    party: int  # which has registered a certificate
    files: Path  # of clients

    def tool(
        self, program: str, *arguments: str, certificate: str | None = "party", tls: str = "starttls"
    ) -> subprocess.CompletedProcess[str]:
        """Run a tool, which shows this certificate in TLS and binds by EXTERNAL."""
        kind = "ldaps" if tls == "ldaps" else "ldap"
        address = f"{kind}://127.0.0.1:{self.server.port(kind)}"
        environment = {"PATH": os.environ["PATH"], "LDAPTLS_CACERT": str(self.server.instance / "tls" / "ldap.pem")}
        if certificate is not None:
            environment["LDAPTLS_CERT"] = str(self.files / f"{certificate}.pem")
            environment["LDAPTLS_KEY"] = str(self.files / f"{certificate}.key.pem")
        upgrade = ["-ZZ"] if tls == "starttls" else []
        command = [program, "-Q", "-Y", "EXTERNAL", "-H", address, *upgrade, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, check=False, text=True, timeout=20)


@pytest.fixture
async def directory(database: Database, tmp_path: Path) -> AsyncIterator[Directory]:
    """One relying party has registered a certificate, a stranger has one of its own."""
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(database.connect("prefca_issuer"))
        await publish(issuer, await add_authority(issuer), OBJECTS)
        party = await add_party(issuer)
        certificates = {
            name: write_certificate(tmp_path / f"{name}.pem", tmp_path / f"{name}.key.pem", name)
            for name in ("party", "stranger")
        }
        await add_certificate(issuer, party, certificates["party"])
        server = stack.enter_context(running(tmp_path, database.dsn))
        server.event("snapshot_loaded")
        yield Directory(server, issuer, party, tmp_path)


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2", "R-4-11-2-1")
@pytest.mark.parametrize("tls", ["starttls", "ldaps"])
def test_a_registered_certificate_opens_the_municipal_lists(directory: Directory, tls: str) -> None:
    """`ldapsearch -Y EXTERNAL` needs no name and no password; the journal has the party's name."""
    assert directory.tool("ldapwhoami", tls=tls).stdout.strip() == f"dn:{PARTY_DN}"
    found = directory.tool("ldapsearch", "-LLL", "-b", CHIYODA, "-s", "base", LIST, tls=tls)
    assert f"{LIST};binary:: {PUBLISHED}" in found.stdout, found.stderr
    assert [record["party"] for record in directory.server.records() if record["kind"] == "ldap_search"] == ["verifier"]


def test_a_party_may_say_who_it_is_but_not_be_somebody_else(directory: Directory) -> None:
    """`-X` asks for an authorization identity."""
    assert directory.tool("ldapwhoami", "-X", f"dn:{PARTY_DN}").stdout.strip() == f"dn:{PARTY_DN}"
    assert directory.tool("ldapwhoami", "-X", "dn:uid=x,c=JP").returncode == INVALID_CREDENTIALS


@pytest.mark.req("R-4-4-4-5")
def test_without_a_registered_certificate_there_is_no_login(directory: Directory) -> None:
    """Without one the client does not even ask; what nobody registered is refused by TLS already, as the log tells."""
    assert directory.tool("ldapwhoami", certificate=None).returncode != 0
    assert directory.tool("ldapwhoami", certificate="stranger").returncode != 0
    failed = directory.server.event("handshake_failed")
    assert failed["origin"] == "127.0.0.1"
    assert "self-signed certificate" in failed["reason"]
    assert metric(directory.server, "failed_handshakes_total") == 1


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2")
async def test_a_certificate_can_be_registered_and_withdrawn_while_the_server_runs(directory: Directory) -> None:
    """From then on, new connections can bind with it, or cannot."""
    der = ssl.PEM_cert_to_DER_cert((directory.files / "stranger.pem").read_text())
    await add_certificate(directory.issuer, directory.party, der)

    def is_known() -> bool:
        return directory.tool("ldapwhoami", certificate="stranger").returncode == 0

    eventually(is_known, "the new certificate is a login")
    await directory.issuer.execute("UPDATE credential SET ended_at = now() WHERE certificate = $1", der)
    eventually(lambda: not is_known(), "the withdrawn certificate is none any more")
    assert directory.tool("ldapwhoami", certificate="stranger").returncode == INVALID_CREDENTIALS
    assert directory.tool("ldapwhoami").returncode == 0
