"""Programs and libraries that relying parties use: dirmngr of GnuPG, and ldap3 for Python."""

import gc
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import ldap3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import CA_ENTRY, list_entry
from tests.support.database import Database
from tests.support.repository import (
    CA,
    LIST,
    RepositoryProcess,
    add_authority,
    publish,
    published,
    running,
)
from tests.support.running import RunningCA

CRL = f"{LIST};binary"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # ldap3 leaves sockets to the garbage collector


@pytest.fixture(autouse=True)
def _no_sockets_for_later_tests() -> Iterator[None]:
    """Where that warning would be an error."""
    yield
    gc.collect()


# ---------------------------------------------------------------- dirmngr


@pytest.fixture
async def simple_list(database: Database, tmp_path: Path) -> AsyncIterator[tuple[RepositoryProcess, bytes]]:
    """A server with a list as dirmngr knows them: without IssuingDistributionPoint; its issuer's key identifier."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name.from_rfc4514_string(CA)
    now = datetime.now(UTC).replace(microsecond=0)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, hashes.SHA256())
    )
    crl = (
        x509.CertificateRevocationListBuilder(name, now - timedelta(hours=1), now + timedelta(days=3))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .sign(key, hashes.SHA256())
    )
    values = [
        published(CA, "cACertificate", certificate.public_bytes(Encoding.DER)),
        published(CA, LIST, crl.public_bytes(Encoding.DER)),
    ]
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(database.connect("prefca_issuer"))
        await publish(issuer, await add_authority(issuer), values)
        server = stack.enter_context(running(tmp_path, database.dsn))
        server.event("snapshot_loaded")
        yield server, key_id.digest


@pytest.mark.skipif(shutil.which("dirmngr") is None, reason="needs dirmngr (Debian: dirmngr)")
@pytest.mark.req("R-4-4-4-1-2", "R-2-6-3-1")
def test_dirmngr_fetches_a_list(simple_list: tuple[RepositoryProcess, bytes], tmp_path: Path) -> None:
    """GnuPG's fetcher gets the list by its URL and reads it.

    It then looks for the issuer's certificate, which only the administrator of a machine can make it trust: that it
    names the key shows that it has read the list.
    """
    server, key_id = simple_list
    url = f"ldap://127.0.0.1:{server.port('ldap')}/{quote(CA)}?certificateRevocationList"
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    command: list[str | Path] = ["dirmngr", "--homedir", home, "--fetch-crl", url]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert f"CRL issuer certificate {{{key_id.hex().upper()}}} not found" in done.stderr
    assert [record["object"] for record in server.records() if record["size"]] == [f"{CA} {LIST}"]


# ---------------------------------------------------------------- ldap3


def _server(ca: RunningCA, *, use_ssl: bool = False) -> ldap3.Server:
    endpoint = ca.ldaps if use_ssl else ca.ldap
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(ca.service_ca))
    return ldap3.Server(endpoint.host, endpoint.port, use_ssl=use_ssl, tls=tls, get_info=ldap3.ALL)


@pytest.mark.req("R-2-6-3-1", "R-4-4-4-1-2")
def test_ldap3_understands_root_dse_and_schema(running_ca: RunningCA) -> None:
    """It reads both, and checks its own requests and the values of answers against the schema."""
    with ldap3.Connection(_server(running_ca), raise_exceptions=True) as connection:
        assert connection.server.info.naming_contexts == ["C=JP"]
        assert "pkiCA" in connection.server.schema.object_classes
        assert connection.search(CA_ENTRY, "(objectClass=pkiCA)", ldap3.BASE, attributes=["cACertificate;binary"])
        (entry,) = connection.entries
        authority = x509.load_pem_x509_certificate(running_ca.ca.read_bytes())
        assert entry["cACertificate;binary"].raw_values == [authority.public_bytes(Encoding.DER)]


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2")
@pytest.mark.parametrize("access", ["starttls", "ldaps"])
def test_ldap3_reads_a_municipal_list(running_ca: RunningCA, access: str) -> None:
    """As a relying party, by StartTLS or LDAPS, whose certificate it checks."""
    password = running_ca.password_file.read_text()
    bind = ldap3.AUTO_BIND_TLS_BEFORE_BIND if access == "starttls" else ldap3.AUTO_BIND_NO_TLS
    server = _server(running_ca, use_ssl=access == "ldaps")
    with ldap3.Connection(server, running_ca.bind_name, password, auto_bind=bind, raise_exceptions=True) as connection:
        assert connection.extend.standard.who_am_i() == f"dn:{running_ca.bind_name}"
        connection.search(list_entry("Chiyoda-ku"), "(objectClass=*)", ldap3.BASE, attributes=[LIST])
        (found,) = connection.response
        (value,) = found["raw_attributes"][CRL]
        assert (
            x509.load_der_x509_crl(value).issuer == x509.load_pem_x509_certificate(running_ca.ca.read_bytes()).subject
        )


def test_ldap3_reads_page_by_page(running_ca: RunningCA) -> None:
    """Its generator asks for the next page until there is none."""
    with ldap3.Connection(_server(running_ca), raise_exceptions=True) as connection:
        found = connection.extend.standard.paged_search(
            "C=JP", "(objectClass=cRLDistributionPoint)", ldap3.SUBTREE, attributes=["cn"], paged_size=7, generator=True
        )
        assert len({entry["dn"] for entry in found}) == 62
