"""A small published directory, an LDAP client that hides nothing, and a `prefca-repository` process to ask."""

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

import asyncpg
import pytest
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ldaptor.protocols import pureber, pureldap

from repository.snapshot import PublishedObject
from tests.support import journal

CA = "OU=The Governor of Tokyo-to,OU=Tokyo-to,O=JPKI,C=JP"
CHIYODA = "CN=Chiyoda-ku CRLDP,OU=CRL Distribution Points,OU=Tokyo-to,O=JPKI,C=JP"
MINATO = "CN=Minato-ku CRLDP,OU=CRL Distribution Points,OU=Tokyo-to,O=JPKI,C=JP"
TOYAMA = "CN=富山市 CRLDP,OU=CRL Distribution Points,OU=Toyama-ken,O=JPKI,C=JP"
LIST = "certificateRevocationList"
PASSWORD = b"correct horse"
PUBLISHED_AT = datetime(2014, 4, 2, 9, 30, tzinfo=UTC)
FIRST_PUBLISHED_AT = datetime(2014, 4, 1, tzinfo=UTC)
PARTY_DN = "uid=verifier,ou=Relying Parties,o=JPKI,c=JP"


def published(entry_dn: str, attribute: str, value: bytes, *, public: bool = True) -> PublishedObject:
    """One value with its true hash."""
    sha256 = hashlib.sha256(value).digest()
    return PublishedObject(entry_dn, attribute, value, sha256, public, PUBLISHED_AT, FIRST_PUBLISHED_AT)


OBJECTS = (
    published(CA, "cACertificate", b"new self-signed"),
    published(CA, "cACertificate", b"old with new"),
    published(CA, "authorityRevocationList", b"arl"),
    published(CA, LIST, b"operations crl"),
    published(CHIYODA, LIST, b"chiyoda crl", public=False),
    published(MINATO, LIST, b"minato crl", public=False),
    published(TOYAMA, LIST, b"toyama crl", public=False),
)


# ---------------------------------------------------------------- messages


def message(operation: Any, message_id: int = 1, controls: list[tuple[str, bool, bytes | None]] | None = None) -> bytes:
    """The octets of an LDAPMessage, encoded by ldaptor."""
    octets: bytes = pureldap.LDAPMessage(operation, id=message_id, controls=controls).toWire()
    return octets


def search_request(base: str = "", scope: int = 0, search_filter: Any = None, *attributes: str, **limits: Any) -> Any:
    """A SearchRequest; without a filter, (objectClass=*)."""
    return pureldap.LDAPSearchRequest(
        baseObject=base,
        scope=scope,
        derefAliases=limits.get("deref", 0),
        sizeLimit=limits.get("size_limit", 0),
        timeLimit=0,
        typesOnly=limits.get("types_only", False),
        filter=search_filter or pureldap.LDAPFilter_present("objectClass"),
        attributes=attributes,
    )


def bind_request(name: str = "", password: bytes = b"", version: int = 3) -> Any:
    """A BindRequest with simple authentication."""
    return pureldap.LDAPBindRequest(version=version, dn=name, auth=password)


@dataclass(frozen=True)
class Answer:
    """One response, read by ldaptor."""

    message_id: int
    operation: Any
    controls: Any = None

    @property
    def is_result(self) -> bool:
        """Whether this ends the answer to a request."""
        return hasattr(self.operation, "resultCode")

    @property
    def code(self) -> int:
        """Its resultCode."""
        return int(self.operation.resultCode)

    @property
    def dn(self) -> str:
        """The name of an entry."""
        return str(self.operation.objectName, "utf-8")

    @property
    def attributes(self) -> dict[str, list[bytes]]:
        """What an entry shows."""
        return {str(name, "utf-8"): values for name, values in self.operation.attributes}


def read_answers(octets: bytes) -> list[Answer]:
    """All responses in a stream."""
    fallback = pureber.BERDecoderContext()
    inner = pureldap.LDAPBERDecoderContext(fallback=fallback)
    context = pureldap.LDAPBERDecoderContext_TopLevel(
        inherit=pureldap.LDAPBERDecoderContext_LDAPMessage(fallback=inner, inherit=inner)
    )
    return [Answer(each.id, each.value, each.controls) for each in pureber.berDecodeMultiple(octets, context)]


# ---------------------------------------------------------------- rows


@cache
def password_hash() -> str:
    """Of PASSWORD; made once, for it is slow by design."""
    return PasswordHasher().hash(PASSWORD)


async def add_authority(connection: asyncpg.Connection, prefecture: str = "Tokyo-to") -> int:
    """A row without which there is no publication."""
    authority: int = await connection.fetchval(
        "INSERT INTO authority (prefecture, hierarchy, name, entry_dn, created_at)"
        " VALUES ($1, 'test', '', '', now()) RETURNING authority_id",
        prefecture,
    )
    return authority


async def publish(connection: asyncpg.Connection, authority: int, objects: Iterable[PublishedObject]) -> None:
    """A publication of these objects, in force at once."""
    async with connection.transaction():
        publication = await connection.fetchval(
            "INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)"
            " VALUES ($1, now(), now(), now() + interval '24 h', now() + interval '72 h', now())"
            " RETURNING publication_id",
            authority,
        )
        await connection.executemany(
            "INSERT INTO published_object (publication_id, position, entry_dn, attribute, value, sha256, public)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            [
                (publication, position, each.entry_dn, each.attribute, each.value, each.sha256, each.public)
                for position, each in enumerate(objects)
            ],
        )


async def add_party(connection: asyncpg.Connection, name: str = "verifier") -> int:
    """A relying party with the right crl and PASSWORD."""
    async with connection.transaction():
        party: int = await connection.fetchval(
            "INSERT INTO relying_party"
            " (name, description, agreed_from, agreed_until, state, may_ocsp, may_crl, created_at)"
            " VALUES ($1, $1, now() - interval '1 day', now() + interval '1 day', 'active', false, true, now())"
            " RETURNING relying_party_id",
            name,
        )
        await connection.execute(
            "INSERT INTO credential (relying_party_id, kind, secret_hash, created_at)"
            " VALUES ($1, 'password', $2, now())",
            party,
            password_hash(),
        )
    return party


async def add_certificate(connection: asyncpg.Connection, party: int, certificate: bytes) -> None:
    """A client certificate (DER) of a relying party."""
    await connection.execute(
        "INSERT INTO credential (relying_party_id, kind, fingerprint, certificate, created_at)"
        " VALUES ($1, 'client-certificate', sha256($2), $2, now())",
        party,
        certificate,
    )


# ---------------------------------------------------------------- client and process


class Client:
    """A blocking connection."""

    def __init__(self, port: int, *, tls: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._buffer = b""
        if tls:
            try:
                self.encrypt()
            except OSError:
                self._socket.close()
                raise

    def encrypt(self) -> None:
        """TLS from here on, whoever the server is."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(self._socket)

    def certificate(self) -> bytes:
        """Of the server, in DER."""
        assert isinstance(self._socket, ssl.SSLSocket)
        return self._socket.getpeercert(binary_form=True) or b""

    def send(self, octets: bytes) -> None:
        """Send octets."""
        self._socket.sendall(octets)

    def await_octets(self) -> None:
        """Wait until the server has sent something."""
        self._buffer += self._socket.recv(1)

    def receive(self) -> Answer | None:
        """The next response; None if the server has closed the connection."""
        while (length := _message_length(self._buffer)) is None or len(self._buffer) < length:
            octets = self._socket.recv(1 << 20)
            if not octets:
                return None
            self._buffer += octets
        message_octets, self._buffer = self._buffer[:length], self._buffer[length:]
        return read_answers(message_octets)[0]

    def ask(self, operation: Any, message_id: int = 1) -> list[Answer]:
        """Send a request, and receive up to its result."""
        self.send(message(operation, message_id))
        answers = []
        while (answer := self.receive()) is not None:
            answers.append(answer)
            if answer.is_result:
                break
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _message_length(octets: bytes) -> int | None:
    """Of the LDAPMessage at the beginning, with its header; None if the header is not there yet."""
    if len(octets) < 6:
        return None
    first = octets[1]
    return 2 + first if first < 0x80 else 2 + first - 0x80 + int.from_bytes(octets[2 : 2 + first - 0x80], "big")


@dataclass(frozen=True)
class RepositoryProcess:
    """A running `prefca-repository`."""

    instance: Path
    process: subprocess.Popen[bytes]

    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def log(self) -> str:
        """Its standard error."""
        return (self.instance / "log").read_text()

    def event(self, name: str, number: int = 1) -> dict[str, Any]:
        """Wait for the `number`-th event of this name."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            found = [event for event in self.events() if event["event"] == name]
            if len(found) >= number:
                return found[number - 1]
            time.sleep(0.02)
        raise AssertionError(f"no event {name}: {self.log()}")

    def port(self, kind: str) -> int:
        """Of "ldap" or "ldaps"."""
        return int(self.event("listening")[kind].rpartition(":")[2])

    def connect(self, *, tls: bool = False) -> Client:
        """A client."""
        return Client(self.port("ldaps" if tls else "ldap"), tls=tls)

    def records(self) -> list[dict[str, Any]]:
        """The journal."""
        return journal.records(self.instance)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """It can write no record; somebody has asked for one, and lost his connection."""
        with self.connect() as client:
            (segment,) = (self.instance / "journal").iterdir()
            while segment.stat().st_size < 10_000:  # beyond the log, which the limit holds for, too
                assert len(client.ask(search_request(CA))) == 2
            with journal.full_disk(segment.stat().st_size, self.process.pid):
                with pytest.raises(ConnectionResetError):
                    client.ask(search_request(CA))
                yield


def asked(server: RepositoryProcess, path: str) -> tuple[int, str]:
    """Status and body of the admin listener."""
    address = server.event("administering")["admin"]
    try:
        with urlopen(f"http://{address}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except HTTPError as e:
        return e.code, e.read().decode()


def alarms(server: RepositoryProcess) -> list[str]:
    """What is wrong, as it says itself."""
    found: list[str] = json.loads(asked(server, "/healthz")[1])["alarms"]
    return found


def metric(server: RepositoryProcess, name: str, worker: int = 0) -> float:
    """One of its numbers."""
    prefix = f'prefca_repository_{name}{{worker="{worker}"}} '
    (line,) = [each for each in asked(server, "/metrics")[1].splitlines() if each.startswith(prefix)]
    return float(line.removeprefix(prefix))


def write_tls(instance: Path) -> None:
    """A certificate for 127.0.0.1 and its key, where the server looks for them."""
    (instance / "tls").mkdir(exist_ok=True)
    write_certificate(instance / "tls" / "ldap.pem", instance / "tls" / "ldap.key.pem", "127.0.0.1")


def write_certificate(certificate: Path, private_key: Path, common_name: str) -> bytes:
    """A self-signed certificate, valid for 127.0.0.1, and its key, both in PEM; returns its DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made.public_bytes(Encoding.DER)


def start(instance: Path, dsn: str, **settings: object) -> subprocess.Popen[bytes]:
    """`prefca-repository` on free ports; `settings` are keys of the section [repository]."""
    keys = {"listen": "127.0.0.1:0", "tls_listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"} | settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFCA_")} | {
        "PREFCA_DATABASE__DSN": dsn,
        "PREFCA_LOG__FORMAT": "json",
    }
    environment |= {f"PREFCA_REPOSITORY__{key.upper()}": str(value) for key, value in keys.items()}
    with (instance / "log").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "repository", "--instance", instance], env=environment, stderr=errors
        )


@contextmanager
def running(instance: Path, dsn: str, **settings: object) -> Iterator[RepositoryProcess]:
    """Start, and stop as an operator does."""
    write_tls(instance)
    with start(instance, dsn, **settings) as process:
        try:
            yield RepositoryProcess(instance, process)
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, (instance / "log").read_text()
