"""The servers' TLS certificates come from a CA of their own, and are there when they are needed."""

import stat
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from issuer.servers import service_ca
from issuer.servers.service_ca import RENEW_BEFORE, SERVER_VALIDITY

NOW = datetime(2026, 4, 1, 3, 0, 0, tzinfo=UTC)
HOSTS = ["localhost", "127.0.0.1", "::1"]
FILES = {"service-ca.pem", "service-ca.key.pem", "ocsp.pem", "ocsp.key.pem", "ldap.pem", "ldap.key.pem"}


def ensure(directory: Path, now: datetime = NOW) -> list[str]:
    return service_ca.ensure(directory, HOSTS, now)


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def assert_usable(directory: Path) -> None:
    """Each server has a certificate of this CA and the key to it."""
    authority = certificate(directory / "service-ca.pem")
    for server in service_ca.SERVERS:
        made = certificate(directory / f"{server}.pem")
        made.verify_directly_issued_by(authority)
        key = load_pem_private_key((directory / f"{server}.key.pem").read_bytes(), None)
        assert made.public_key() == key.public_key()


@pytest.mark.req("R-6-1-1-4")
def test_every_server_gets_a_certificate_for_its_hosts(tmp_path: Path) -> None:
    """Names and addresses are subjectAltNames; the key of the Governor has no part in it."""
    assert ensure(tmp_path / "tls") == ["ocsp", "ldap"]
    assert {file.name for file in (tmp_path / "tls").iterdir()} == FILES
    assert_usable(tmp_path / "tls")
    for server in service_ca.SERVERS:
        extensions = certificate(tmp_path / "tls" / f"{server}.pem").extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("127.0.0.1"), IPv6Address("::1")]
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    "host", [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1")), x509.IPAddress(IPv6Address("::1"))]
)
def test_a_client_that_trusts_the_service_ca_accepts_a_server(
    host: x509.DNSName | x509.IPAddress, tmp_path: Path
) -> None:
    """By every name, with the strict rules of a TLS client."""
    ensure(tmp_path)
    trusted = x509.verification.Store([certificate(tmp_path / "service-ca.pem")])
    client = x509.verification.PolicyBuilder().store(trusted).time(NOW + timedelta(days=1))
    client.build_server_verifier(host).verify(certificate(tmp_path / "ldap.pem"), [])


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    """They are not encrypted: servers start unattended."""
    ensure(tmp_path / "tls")
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    for file in (tmp_path / "tls").glob("*.key.pem"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    """Until 30 days before its end."""
    ensure(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert ensure(tmp_path, NOW + SERVER_VALIDITY - RENEW_BEFORE) == []
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_certificates_are_renewed_thirty_days_before_they_end(tmp_path: Path) -> None:
    """With new keys, by the same CA."""
    ensure(tmp_path)
    authority, old = certificate(tmp_path / "service-ca.pem"), certificate(tmp_path / "ocsp.pem")
    later = NOW + SERVER_VALIDITY - RENEW_BEFORE + timedelta(seconds=1)
    assert ensure(tmp_path, later) == ["ocsp", "ldap"]
    assert certificate(tmp_path / "service-ca.pem") == authority
    assert certificate(tmp_path / "ocsp.pem").public_key() != old.public_key()
    assert_usable(tmp_path)


@pytest.mark.parametrize("lost", sorted(FILES - {"service-ca.key.pem"}))
def test_what_is_missing_is_made_anew(lost: str, tmp_path: Path) -> None:
    """Whichever file is gone, by an interruption or by hand, the next run makes a set that belongs together."""
    ensure(tmp_path)
    (tmp_path / lost).unlink()
    ensure(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FILES
    assert_usable(tmp_path)


def test_an_interruption_between_key_and_certificate_is_noticed(tmp_path: Path) -> None:
    """A new key beside the old certificate: the server gets a certificate for it."""
    ensure(tmp_path)
    other = tmp_path / "other"
    ensure(other)
    (other / "ocsp.key.pem").replace(tmp_path / "ocsp.key.pem")
    assert ensure(tmp_path) == ["ocsp"]
    assert_usable(tmp_path)
