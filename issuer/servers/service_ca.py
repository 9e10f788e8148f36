"""TLS certificates of our servers, from a CA of their own: the Governor's key signs no server certificates (R-6-1-1-4).

Files below `<instance>/tls/`: service-ca.pem for clients to trust, `<server>.pem` and `<server>.key.pem`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from issuer.profiles.profile import key_usage
from pkix.names import name
from pkix.software import write_secret

SERVERS: Final = ("ocsp", "ldap")
CA_VALIDITY: Final = timedelta(days=3650)
SERVER_VALIDITY: Final = timedelta(days=365)
RENEW_BEFORE: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def ensure(directory: Path, hosts: list[str], now: datetime) -> list[str]:
    """Make what is missing or ends within 30 days; the names of the servers that got a new certificate."""
    authority = _load_authority(directory) or _new_authority(directory, now)
    due = [server for server in SERVERS if _is_due(directory, server, authority, now)]
    for server in due:
        _new_server(directory, server, authority, hosts, now)
    return due


def _load_authority(directory: Path) -> _Authority | None:
    file = directory / "service-ca.pem"
    if not file.exists():
        return None
    key = load_pem_private_key((directory / "service-ca.key.pem").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{directory}: the key of the service CA is not a P-256 key")
    return _Authority(key, x509.load_pem_x509_certificate(file.read_bytes()))


def _new_authority(directory: Path, now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name(("C", "JP"), ("O", "prefca"), ("CN", "prefca service CA"))
    certificate = (
        _builder(subject, subject, key.public_key(), now, CA_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The certificate comes last: where it is, its key is too.
    _write(directory / "service-ca.key.pem", _pem(key))
    _write(directory / "service-ca.pem", certificate.public_bytes(Encoding.PEM))
    return _Authority(key, certificate)


def _new_server(directory: Path, server: str, authority: _Authority, hosts: list[str], now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name(("C", "JP"), ("O", "prefca"), ("CN", f"{server} {hosts[0]}"))
    issuer = authority.certificate
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), now, SERVER_VALIDITY)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    _write(directory / f"{server}.key.pem", _pem(key))
    _write(directory / f"{server}.pem", certificate.public_bytes(Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, validity: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + validity)
    )


def _is_due(directory: Path, server: str, authority: _Authority, now: datetime) -> bool:
    file, key_file = directory / f"{server}.pem", directory / f"{server}.key.pem"
    if not file.exists() or not key_file.exists():
        return True
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    key = load_pem_private_key(key_file.read_bytes(), None)
    signed_by = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    return (
        certificate.public_key() != key.public_key()  # interrupted between the two files
        or signed_by != x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
        or certificate.not_valid_after_utc < now + RENEW_BEFORE
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, content: bytes) -> None:
    file.unlink(missing_ok=True)
    write_secret(file, content)
