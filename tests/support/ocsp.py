"""A small CA with delegates, a working store in memory, and questions and answers as clients see them."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_network
from pathlib import Path

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from journal.record import Record, records_in
from ocsp import provision
from ocsp.access import (
    ClientCertificate,
    Credential,
    Grant,
    Network,
    Password,
    Recognition,
    SigningCertificate,
    Token,
)
from ocsp.answering import Means
from ocsp.cache import AnswerCache
from ocsp.connection import HTTPServer
from ocsp.delegates import DelegateCertificate, Keys, KeyStore
from ocsp.errors import StoreUnavailableError
from ocsp.issuers import Generation
from ocsp.metrics import Metrics
from ocsp.refresh import Change, Refresh
from ocsp.server import Listener, listening
from ocsp.signing import Signatures
from ocsp.status import IssuedCertificate
from ocsp.turn import Turn
from pkix import der, software
from pkix.certid import subject_public_key
from pkix.names import name
from pkix.revocation import Good, Revoked
from settings.load import Settings
from settings.sections import Endpoint, OCSPSection
from settings.workers import bind
from tests.support.database import Database

DAY = timedelta(days=1)
LOOPBACK = Endpoint("127.0.0.1", 0)
PASSPHRASE = b"correct horse"
SERIAL = 2**62 + 1000  # of the first certificate that a test asks about
CA_NAME = name(("C", "JP"), ("O", "JPKI"), ("OU", "Tokyo-to"), ("OU", "The Governor of Tokyo-to"))
DELEGATE_NAME = name(("C", "JP"), ("O", "JPKI"), ("CN", "OCSP Responder"))
ALGORITHMS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
    "md5": "1.2.840.113549.2.5",
}
NONCE_OID = "1.3.6.1.5.5.7.48.1.2"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Period = tuple[datetime, datetime]


@cache
def rsa_key(_use: str) -> rsa.RSAPrivateKey:
    """The RSA key for a use: made once, for it takes a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


def around(now: datetime) -> Period:
    """A validity that `now` is in the middle of."""
    return now - 180 * DAY, now + 180 * DAY


class CA:
    """One key of a CA."""

    def __init__(self, now: datetime, *, generation_id: int = 1, subject: x509.Name = CA_NAME) -> None:
        self.now = now.replace(microsecond=0)
        self.generation_id = generation_id
        self.subject = subject
        self.key = rsa_key(f"{subject.rfc4514_string()} {generation_id}")
        self.certificate = self.issue(2**62 + generation_id, self.key, subject, (now - 365 * DAY, now + 3650 * DAY))

    @property
    def generation(self) -> Generation:
        """As the responder knows it."""
        return Generation(self.generation_id, self.certificate)

    def issue(
        self,
        serial: int,
        key: PrivateKey,
        subject: x509.Name,
        period: Period,
        usage: Sequence[x509.ObjectIdentifier] = (),
    ) -> x509.Certificate:
        """A certificate, made by pyca."""
        builder = (
            x509.CertificateBuilder(self.subject, subject, key.public_key(), serial, *period)
            .add_extension(x509.BasicConstraints(ca=subject == self.subject, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def delegate(
        self,
        serial: int,
        key: PrivateKey,
        period: Period | None = None,
        usage: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.OCSP_SIGNING,),
    ) -> DelegateCertificate:
        """A delegate's certificate, as the database has it."""
        certificate = self.issue(serial, key, DELEGATE_NAME, period or around(self.now), usage)
        return DelegateCertificate(serial, self.generation_id, certificate.public_bytes(Encoding.DER))

    def cert_id(self, serial: int, algorithm: str = "sha256", parameters: bytes = der.NULL) -> bytes:
        """The DER of a CertID, made without the code under test."""
        names, key = self.subject.public_bytes(), subject_public_key(self.certificate.public_key())
        return der.sequence(
            der.sequence(der.object_identifier(ALGORITHMS[algorithm]), parameters),
            der.octet_string(hashlib.new(algorithm, names).digest()),
            der.octet_string(hashlib.new(algorithm, key).digest()),
            der.integer(serial),
        )


def request(*cert_ids: bytes, extensions: bytes = b"", single_extensions: bytes = b"", front: bytes = b"") -> bytes:
    """The DER of an unsigned OCSPRequest.

    Args:
        cert_ids: DER of each.
        extensions: joined DER of its requestExtensions.
        single_extensions: joined DER of the extensions of each Request.
        front: what stands before requestList: version, requestorName.
    """
    singles = der.explicit(0, der.sequence(single_extensions)) if single_extensions else b""
    return der.sequence(
        der.sequence(
            front,
            der.sequence(*(der.sequence(cert_id, singles) for cert_id in cert_ids)),
            der.explicit(2, der.sequence(extensions)) if extensions else b"",
        )
    )


def nonce(octets: bytes) -> bytes:
    """The nonce extension of RFC 9654."""
    return der.extension(NONCE_OID, der.octet_string(octets))


def verified(octets: bytes, ca: CA) -> ocsp.OCSPResponse:
    """A successful answer, signed by the delegate that it brings, which `ca` signed.

    Raises:
        InvalidSignature: it is not.
    """
    response = ocsp.load_der_ocsp_response(octets)
    assert response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    (delegate,) = response.certificates
    delegate.verify_directly_issued_by(ca.certificate)
    key = delegate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(response.signature, response.tbs_response_bytes, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    return response


def refused(octets: bytes) -> str:
    """The status of an answer that refuses, such as UNAUTHORIZED."""
    response = ocsp.load_der_ocsp_response(octets)
    assert response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL
    return response.response_status.name


class MemoryStore:
    """What the database is to the responder, in memory."""

    def __init__(self) -> None:
        self.certificates: dict[int, IssuedCertificate] = {}
        self.away = False  # out of reach
        self.connection = 1
        self.lag: timedelta | None = timedelta()  # behind the primary; None: it does not know
        self._generations: list[Generation] = []
        self._delegates: list[DelegateCertificate] = []
        self._grants: list[Grant] = []
        self._changes: list[Change] = []
        self._woken = asyncio.Event()
        self.asked = asyncio.Event()  # about statuses, since `hold_back`
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def hold_back(self) -> None:
        """Statuses are told once `may_answer` is set; `asked` says that somebody waits for them."""
        self.asked.clear()
        self.may_answer.clear()

    def add_ca(self, ca: CA, *delegates: DelegateCertificate) -> None:
        """A new key of the CA with delegates."""
        self._generations.append(ca.generation)
        self._delegates.extend(delegates)
        self._changed("generation")

    def add(self, serial: int, status: Good | Revoked, *, public: bool = False, generation_id: int = 1) -> None:
        """A certificate is issued, or its status changes."""
        self.certificates[serial] = IssuedCertificate(serial, generation_id, public, status)
        if isinstance(status, Revoked):
            self._delegates = [delegate for delegate in self._delegates if delegate.serial != serial]
            self._changed("revocation", serial)

    def revoke_all(self, status: Revoked) -> None:
        """Thousands of certificates are revoked at once: the feed names none of them."""
        for serial, issued in self.certificates.items():
            self.certificates[serial] = issued._replace(status=status)
        self._delegates = []
        self._changed("revocation")

    def grant(self, party: str, credential: Credential | str, period: Period) -> None:
        """A relying party gets the right `ocsp`, recognised by a network or something else."""
        known_by = Network(ip_network(credential)) if isinstance(credential, str) else credential
        self._grants.append(Grant(party, known_by, *period))
        self._changed("access")

    def withdraw(self, party: str) -> None:
        """A relying party loses it."""
        self._grants = [grant for grant in self._grants if grant.party != party]
        self._changed("access")

    def lose_last_change(self) -> None:
        """As a standby that did not have it yet when its primary was lost."""
        del self._changes[-1]

    def _changed(self, kind: str, key: int | None = None) -> None:
        self._changes.append(Change(len(self._changes) + 1, kind, key, datetime.now(UTC)))
        self.wake()

    def _reached(self) -> None:
        if self.away:
            raise StoreUnavailableError("away")

    async def statuses(self, serials: Collection[int]) -> dict[int, IssuedCertificate]:
        """See ocsp.responder.StatusSource."""
        self.asked.set()
        await self.may_answer.wait()
        self._reached()
        return {serial: self.certificates[serial] for serial in serials if serial in self.certificates}

    async def generations(self) -> list[Generation]:
        """See ocsp.refresh.Source, also for the following."""
        self._reached()
        return list(self._generations)

    async def delegate_certificates(self) -> list[DelegateCertificate]:
        """Those not revoked."""
        self._reached()
        return list(self._delegates)

    async def grants(self) -> list[Grant]:
        """All of them."""
        self._reached()
        return list(self._grants)

    async def last_change(self) -> Change | None:
        """The newest."""
        self._reached()
        return self._changes[-1] if self._changes else None

    async def changes(self, *, since: int) -> list[Change]:
        """Those from a number on, two at a time."""
        self._reached()
        return [change for change in self._changes if change.number >= since][:2]

    async def complete_until(self, now: datetime) -> datetime | None:
        """As a primary, or as a standby that is behind."""
        self._reached()
        return None if self.lag is None else now - self.lag

    async def wait_for_change(self) -> None:
        """Without a poll: nothing here goes unnoticed."""
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()


class MemoryJournal:
    """Keeps the records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.full = False
        self._batch: list[Record] = []

    def append_line(self, line: bytes) -> None:
        """Add to the batch."""
        for fields in map(json.loads, records_in(line)):
            self._batch.append(Record(**fields | {"at": datetime.fromisoformat(fields["at"])}))

    def flush(self) -> None:
        """Keep the batch."""
        if self.full:
            raise OSError("no space left on device")
        self.records += self._batch
        self._batch = []

    def discard(self) -> None:
        """Forget the batch."""
        self._batch = []


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds.

    Raises:
        TimeoutError: it never did.
    """
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - conditions of the code under test have no event
            await asyncio.sleep(0.005)


def key_store(directory: Path, *keys: tuple[int, PrivateKey]) -> KeyStore:
    """Key files below `directory`: (serial number of the delegate, key)."""
    store = KeyStore(directory / "ocsp", lambda: PASSPHRASE)
    for serial, key in keys:
        software.store(store.file(serial), key, PASSPHRASE)
    return store


class Records:
    """Writes to a database what the issuer would, as its owner."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._partition = 0

    async def add_ca(self, ca: CA, *delegates: DelegateCertificate) -> None:
        """A new key of the CA with delegates; the first one is active."""
        name_der = ca.subject.public_bytes()
        await self._connection.execute(
            "INSERT INTO authority (prefecture, hierarchy, name, entry_dn, created_at)"
            " VALUES ('Tokyo-to', 'test', $1, $2, $3) ON CONFLICT DO NOTHING",
            *(name_der, ca.subject.rfc4514_string(), ca.now),
        )
        await self._connection.execute(
            "INSERT INTO ca_generation (generation_id, authority_id, number, key_reference, certificate, signs_from,"
            " signs_until, state) OVERRIDING SYSTEM VALUE SELECT $1::smallint, authority_id, $1, 'key', $2, $3, $4, $5"
            " FROM authority",
            *(ca.generation_id, ca.certificate.public_bytes(Encoding.DER), ca.now - 365 * DAY, ca.now + 1460 * DAY),
            "active" if ca.generation_id == 1 else "planned",
        )
        self._partition = await self._connection.fetchval(
            "INSERT INTO partition (authority_id, kind, entry_dn, attribute, idp)"
            " SELECT authority_id, 'operations', '', '', '' FROM authority"
            " ON CONFLICT (authority_id, kind, code) DO UPDATE SET entry_dn = '' RETURNING partition_id"
        )
        for delegate in delegates:
            await self.add(delegate.serial, kind="ocsp", generation_id=ca.generation_id, certificate=delegate.der)

    async def switch_to(self, ca: CA) -> None:
        """From now on another key of the CA signs certificates."""
        await self._connection.execute("UPDATE ca_generation SET state = 'retired' WHERE state = 'active'")
        await self._connection.execute(
            "UPDATE ca_generation SET state = 'active' WHERE generation_id = $1", ca.generation_id
        )

    async def add(
        self, serial: int, *, kind: str = "resident", generation_id: int = 1, certificate: bytes = b""
    ) -> None:
        """A certificate is issued."""
        not_before, not_after = around(datetime.now(UTC))
        await self._connection.execute(
            "INSERT INTO certificate (serial, generation_id, partition_id, kind, not_before, not_after, spki_sha256,"
            " der, issued_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $5)",
            *(serial, generation_id, self._partition, kind, not_before, not_after),
            *(hashlib.sha256(b"%d" % serial).digest(), certificate),
        )

    async def revoke(self, serial: int, status: Revoked) -> None:
        """A certificate is revoked."""
        await self._connection.execute(
            "INSERT INTO revocation (serial, partition_id, reason, received_at, revoked_at, invalidity_date, not_after,"
            " entry) SELECT serial, partition_id, $2, $3, $3, $4, not_after,"
            " '\\x30270208'::bytea || int8send(serial) FROM certificate WHERE serial = $1",
            *(serial, status.reason, status.at, status.invalidity_date),
        )

    async def grant(self, party: str, credential: Credential | str, period: Period) -> None:
        """A relying party gets the right `ocsp`, recognised by a network or something else."""
        known_by = Network(ip_network(credential)) if isinstance(credential, str) else credential
        columns: dict[str, object] = {}
        match known_by:
            case Network(network=network):
                columns = {"network": network}
            case Password(secret_hash=secret_hash):
                columns = {"secret_hash": secret_hash}
            case Token(digest=digest):
                columns = {"fingerprint": digest}
            case ClientCertificate(certificate=der_) | SigningCertificate(certificate=der_):
                columns = {"fingerprint": hashlib.sha256(der_).digest(), "certificate": der_}
        places = ", ".join(f"${number}" for number in range(5, 5 + len(columns)))
        await self._connection.execute(
            "WITH party AS (INSERT INTO relying_party (name, description, agreed_from, agreed_until, state, may_ocsp,"
            " may_crl, created_at) VALUES ($1, '', $2, $3, 'active', true, false, $2) RETURNING relying_party_id)"
            f" INSERT INTO credential (relying_party_id, kind, created_at, {', '.join(columns)})"
            f" SELECT relying_party_id, $4, $2, {places} FROM party",
            *(party, *period, known_by.kind, *columns.values()),
        )

    async def suspend(self, party: str) -> None:
        """It loses the right."""
        await self._connection.execute("UPDATE relying_party SET state = 'suspended' WHERE name = $1", party)


@asynccontextmanager
async def out_of_reach(database: Database) -> AsyncIterator[None]:
    """Nobody can connect to `database` as long as the context lasts, and who was connected is cut off."""
    async with Database(database.instance, "postgres").connect("owner") as connection:
        await connection.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1", database.name
        )
        try:
            yield
        finally:
            await connection.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")


class Served:
    """A responder that listens on loopback."""

    def __init__(
        self,
        refresh: Refresh,
        means: Means,
        journal: "MemoryJournal",
        endpoints: Sequence[Endpoint],
        server: HTTPServer,
    ) -> None:
        self.refresh = refresh
        self.means = means
        self.cache = means.cache
        self.journal = journal  # what it wrote down
        self.server = server
        self.endpoint, *self.tls_endpoints = endpoints
        self.url = f"http://{self.endpoint}/"

    @property
    def tls_url(self) -> str:
        """Of the HTTPS listener, with the name in its certificate."""
        (endpoint,) = self.tls_endpoints
        return f"https://localhost:{endpoint.port}/"


@asynccontextmanager
async def served(
    store: MemoryStore, keys: Keys, section: OCSPSection | None = None, instance: Path | None = None
) -> AsyncIterator[Served]:
    """The whole responder without its database, for as long as the context lasts; HTTPS too if it has an `instance`."""
    section = section or OCSPSection()
    settings = Settings(instance=instance or Path("/nonexistent"), ocsp=section)
    metrics, cache = Metrics(), AnswerCache(section.cache_mib * 2**20, section.max_staleness_s)
    refresh = Refresh(store, keys, lambda: datetime.now(UTC), cache, tuple(map(Recognition, section.recognition)))
    if not store.away:
        await refresh.load()
    with ExitStack() as stack:
        journal = MemoryJournal()
        turn = Turn(journal, metrics, refresh, time.time)
        signing = stack.enter_context(closing(Signatures(metrics, turn.end)))
        recogniser = stack.enter_context(provision.recogniser(settings, bytes(32)))
        means = Means(
            knowledge=refresh,
            statuses=store,
            recogniser=recogniser,
            limits=provision.rate_limits(section),
            responder=provision.responder(section),
            signing=signing,
            cache=cache,
            metrics=metrics,
            clock=time.time,
        )
        listeners = [Listener(bind("ocsp", "listen", LOOPBACK)[0])]
        if instance is not None:
            tls = provision.server_tls(settings, lambda: refresh.access)
            listeners.append(Listener(bind("ocsp", "tls_listen", LOOPBACK)[0], tls.context))
        endpoints = [Endpoint(*listener.socket.getsockname()) for listener in listeners]
        async with (
            listening(section, means, turn, listeners) as server,
            asyncio.TaskGroup() as tasks,
        ):
            following = tasks.create_task(refresh.follow())
            yield Served(refresh, means, journal, endpoints, server)
            following.cancel()
