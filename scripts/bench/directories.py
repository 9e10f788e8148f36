"""The same content in two directories to measure: prefca-repository and slapd."""

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuer.postgres.embedded import postgres
from issuer.records.migrate import migrate
from pkix import der
from settings.database import connect_arguments
from settings.load import Settings, load

SERVER_CORE = "0"
START_TIMEOUT_S = 60
ROOT = "O=JPKI,C=JP"
CRL_SIZES = {"100k": 100_000, "1m": 1_000_000, "10m": 10_000_000}  # octets; each at several entries
ENTRIES_OF_A_SIZE = 4
SMALL_ENTRIES = 8
SHA256_WITH_RSA = "1.2.840.113549.1.1.11"


@dataclass(frozen=True)
class Value:
    """One value of one entry."""

    entry: str
    attribute: str
    der: bytes


@dataclass(frozen=True)
class Directory:
    """A running server."""

    name: str
    port: int
    tls_port: int
    pid: int

    def memory_bytes(self) -> int:
        """The resident sets of its processes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """The time that processors have spent on it, in user mode and in the kernel."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids()]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[int]:
        """It and its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


def small_entries() -> list[str]:
    """Entries of about two kilobytes: a CA's certificate and ARL."""
    return [f"OU=CA {number},{ROOT}" for number in range(SMALL_ENTRIES)]


def crl_entries(size: str) -> list[str]:
    """Entries with a list of this size."""
    return [f"CN={size} {number},{ROOT}" for number in range(ENTRIES_OF_A_SIZE)]


def content() -> Iterator[Value]:
    """Everything there is to read."""
    for entry in small_entries():
        yield Value(entry, "cACertificate", _certificate(entry)[0])
        yield Value(entry, "authorityRevocationList", _crl(820))
    for size, octets in CRL_SIZES.items():
        for entry in crl_entries(size):
            yield Value(entry, "certificateRevocationList", _crl(octets))


def write_tls(directory: Path) -> None:
    """An RSA-2048 certificate for 127.0.0.1 and its key, for both servers."""
    directory.mkdir(exist_ok=True)
    certificate, key = _certificate("CN=127.0.0.1")
    pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    (directory / "ldap.pem").write_bytes(pem)
    (directory / "ldap.key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _certificate(name: str) -> tuple[bytes, rsa.RSAPrivateKey]:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name.from_rfc4514_string(name)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.DER), key


def _crl(size: int) -> bytes:
    """A list of about this size; nobody checks its signature."""
    now = datetime.now(UTC)
    algorithm = der.sequence(der.object_identifier(SHA256_WITH_RSA), der.element(0x05))
    issuer = x509.Name.from_rfc4514_string(ROOT).public_bytes()
    reason = der.sequence(der.extension("2.5.29.21", der.enumerated(4)))
    sample = der.sequence(der.integer(2**62), der.time(now), reason)
    count = max(1, (size - 400) // len(sample))
    revoked = [der.sequence(der.integer(2**62 + number), der.time(now), reason) for number in range(count)]
    tbs = der.sequence(
        der.integer(1), algorithm, issuer, der.time(now), der.time(now + timedelta(days=3)), der.sequence(*revoked)
    )
    return der.sequence(tbs, algorithm, der.bit_string(bytes(256)))


# ---------------------------------------------------------------- prefca


@contextlib.asynccontextmanager
async def prefca(instance: Path, values: Iterable[Value], workers: int = 1) -> AsyncIterator[Directory]:
    """`prefca-repository` on the server's core, with these values published."""
    instance.mkdir()
    write_tls(instance / "tls")
    port, tls_port = _free_port(), _free_port()
    settings = load(instance, {})
    async with postgres(instance):
        await _set_up(settings)
        await publish(settings, values)
        environment = os.environ | {
            "PREFCA_REPOSITORY__LISTEN": f"127.0.0.1:{port}",
            "PREFCA_REPOSITORY__TLS_LISTEN": f"127.0.0.1:{tls_port}",
            "PREFCA_REPOSITORY__ADMIN_LISTEN": "",
            "PREFCA_REPOSITORY__MAX_CONNECTIONS_PER_ADDRESS": "5000",
            "PREFCA_LOG__LEVEL": "warning",
        }
        command = [sys.executable, "-m", "repository", "--instance", str(instance), "--workers", str(workers)]
        with _running("prefca", command, (port, tls_port), environment) as directory:
            yield directory


async def _set_up(settings: Settings) -> None:
    connection = await asyncpg.connect(**connect_arguments(settings, "owner"))
    now = datetime.now(UTC)
    try:
        await migrate(connection, now)
        await connection.execute(
            "INSERT INTO authority (prefecture, hierarchy, name, entry_dn, created_at)"
            " VALUES ('Tokyo-to', 'test', '', '', $1)",
            now,
        )
    finally:
        connection.terminate()  # at once, also when the bench is stopped


async def publish(settings: Settings, values: Iterable[Value]) -> float:
    """Make a publication of these values; the moment of its COMMIT (`time.monotonic`)."""
    connection = await asyncpg.connect(**connect_arguments(settings, "owner"))
    now = datetime.now(UTC)
    try:
        transaction = connection.transaction()
        await transaction.start()
        publication = await connection.fetchval(
            "INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)"
            " SELECT authority_id, $1, $1, $2, $2, $1 FROM authority RETURNING publication_id",
            *(now, now + timedelta(days=3)),
        )
        await connection.executemany(
            "INSERT INTO published_object (publication_id, position, entry_dn, attribute, value, sha256, public)"
            " VALUES ($1, $2, $3, $4, $5, $6, true)",
            [
                (publication, position, each.entry, each.attribute, each.der, hashlib.sha256(each.der).digest())
                for position, each in enumerate(values)
            ],
        )
        await transaction.commit()
        return time.monotonic()
    finally:
        connection.terminate()  # at once, also when the bench is stopped


# ---------------------------------------------------------------- slapd


@contextlib.contextmanager
def slapd(directory: Path, values: Iterable[Value]) -> Iterator[Directory]:
    """slapd on the server's core, with the same values in an mdb database; everybody may read."""
    (directory / "data").mkdir(parents=True)
    write_tls(directory)
    # A copy: where AppArmor confines /usr/sbin/slapd, that one may not read here.
    binary = shutil.copy(shutil.which("slapd") or "/usr/sbin/slapd", directory / "slapd")
    configuration = directory / "slapd.conf"
    configuration.write_text(f"""
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/pid
threads 16
loglevel none
TLSCertificateFile {directory}/ldap.pem
TLSCertificateKeyFile {directory}/ldap.key.pem
access to * by * read
database mdb
suffix "{ROOT}"
directory {directory}/data
maxsize 1073741824
index objectClass eq
""")
    content_file = directory / "content.ldif"
    content_file.write_text("\n".join(_ldif(values)))
    subprocess.run([binary, "-Tadd", "-q", "-f", configuration, "-l", content_file], check=True)
    ports = _free_port(), _free_port()
    urls = "ldap://127.0.0.1:{}/ ldaps://127.0.0.1:{}/".format(*ports)
    with _running("slapd", [binary, "-d", "0", "-f", str(configuration), "-h", urls], ports, os.environ) as directory_:
        yield directory_


def _ldif(values: Iterable[Value]) -> Iterator[str]:
    yield f"dn: {ROOT}\nobjectClass: organization\no: JPKI\n"
    lines: dict[str, list[str]] = {}
    for each in values:
        kind, name = each.entry.partition(",")[0].split("=")
        classes = {"OU": ("organizationalUnit", "pkiCA"), "CN": ("cRLDistributionPoint",)}[kind]
        head = [f"dn: {each.entry}", *(f"objectClass: {one}" for one in classes), f"{kind}: {name}"]
        octets = base64.b64encode(each.der).decode()
        lines.setdefault(each.entry, head).append(f"{each.attribute};binary:: {octets}")
    for entry in lines.values():
        yield "\n".join(entry) + "\n"


# ---------------------------------------------------------------- processes


@contextlib.contextmanager
def _running(
    name: str, command: list[str], ports: tuple[int, int], environment: "os._Environ[str] | dict[str, str]"
) -> Iterator[Directory]:
    with subprocess.Popen(["taskset", "-c", SERVER_CORE, *command], env=environment) as process:
        try:
            _await_port(ports[1], process)
            yield Directory(name, *ports, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("a server does not start; it has said why above")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port
