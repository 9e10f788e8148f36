"""All SQL of the responder: statuses, the CA's keys, access rights, and the change feed.

Theory of operation. One connection serves everything, one query at a time; statuses are looked up for many questions at
once. It is made when it is first needed. If it fails, or does not answer within the time limit, it is cut off at once
and the next query makes a new one: a database that comes back is used without a restart, and nobody waits longer than
the limit. What is logged is the change from reachable to unreachable and back, not each try.

The number of a change is the truth (architecture: the change feed). A notification only wakes whoever waits for
changes; a standby sends none, and a pooler loses them, so he looks every `database.poll_ms` anyway.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

import asyncpg
from cryptography import x509

from ocsp.access import ClientCertificate, Credential, Grant, Network, Password, Recognition, SigningCertificate, Token
from ocsp.delegates import DelegateCertificate
from ocsp.errors import StoreUnavailableError
from ocsp.issuers import Generation
from ocsp.refresh import Change
from ocsp.status import IssuedCertificate
from pkix.revocation import CRLReason, Good, Revoked
from settings.database import FAILURES, ConnectArguments
from settings.replica import Completeness, Replication

TIME_LIMIT_S: Final = 2.0
CONNECT_LIMIT_S: Final = 10.0  # past hosts that are switched off, which the kernel gives up after some seconds
RETRY_S: Final = 1.0  # until a database that was away is tried again
CHANGES_AT_ONCE: Final = 10_000
_GOOD: Final = Good()

_logger = logging.getLogger(__name__)


class Store:
    """The database, as far as the responder may see it. Its methods raise StoreUnavailableError."""

    def __init__(self, connect_arguments: ConnectArguments, poll_s: float) -> None:
        self._connect_arguments = connect_arguments
        self._poll_s = poll_s
        self._connection: asyncpg.Connection | None = None
        self._connecting: asyncio.Task[asyncpg.Connection] | None = None
        self.connection = 0  # its number; see ocsp.refresh.Source
        self._completeness = Completeness()  # of what this connection leads to
        self._one_at_a_time = asyncio.Lock()
        self._woken = asyncio.Event()
        self._reachable: bool | None = None  # None: not tried yet

    async def statuses(self, serials: Collection[int]) -> dict[int, IssuedCertificate]:
        """What is recorded now of those of `serials` that were ever issued."""
        rows = await self._fetch(
            "SELECT serial, generation_id, public, revoked_at, reason, invalidity_date "
            "FROM certificate_status_v1 WHERE serial = ANY($1::bigint[])",
            serials,
        )
        return {row["serial"]: _issued_certificate(row) for row in rows}

    async def generations(self) -> list[Generation]:
        """Every key of the CA."""
        rows = await self._fetch("SELECT generation_id, certificate, state = 'active' FROM ca_generation_v1")
        return [Generation(number, x509.load_der_x509_certificate(der), is_active) for number, der, is_active in rows]

    async def delegate_certificates(self) -> list[DelegateCertificate]:
        """Every delegate that is not revoked."""
        rows = await self._fetch("SELECT serial, generation_id, der FROM ocsp_delegate_v1")
        return [DelegateCertificate(row["serial"], row["generation_id"], row["der"]) for row in rows]

    async def grants(self) -> list[Grant]:
        """Who may ask, and what he is recognised by."""
        rows = await self._fetch(
            "SELECT name, kind, secret_hash, network, fingerprint, certificate, agreed_from, agreed_until "
            "FROM ocsp_access_v1"
        )
        return [_grant(row) for row in rows]

    async def last_change(self) -> Change | None:
        """The newest change."""
        rows = await self._fetch("SELECT number, kind, key, changed_at FROM change_v1 ORDER BY number DESC LIMIT 1")
        return Change(**rows[0]) if rows else None

    async def changes(self, *, since: int) -> list[Change]:
        """The changes from number `since` on, oldest first; not more than CHANGES_AT_ONCE."""
        rows = await self._fetch(
            "SELECT number, kind, key, changed_at FROM change_v1 WHERE number >= $1 ORDER BY number LIMIT $2",
            since,
            CHANGES_AT_ONCE,
        )
        return [Change(**row) for row in rows]

    async def complete_until(self, now: datetime) -> datetime | None:
        """The moment up to which whatever is read next is complete: `now`, if it is read from a primary.

        None: it is read from a standby that cannot prove anything yet.
        """
        rows = await self._fetch("SELECT in_recovery, replayed, primary_end, told_at FROM replication_v1()")
        return self._completeness.until(Replication(**rows[0]), now)

    async def wait_for_change(self) -> None:
        """Wait until there may be one: for a notification, or as long as is usual."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S if self._connection is None else self._poll_s):
                await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """Let whoever waits for a change look at once."""
        self._woken.set()

    def close(self) -> None:
        """Cut off the connection, and the attempt to make one."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        with self._noticing():
            async with asyncio.timeout(TIME_LIMIT_S), self._one_at_a_time:
                connection = await self._connected()
                try:
                    return await connection.fetch(query, *arguments)
                except BaseException:  # also when cancelled: the rest of the answer may still be on its way
                    self.close()
                    raise

    async def _connected(self) -> asyncpg.Connection:
        """The connection. Making one goes on when the query that needs it is given up."""
        if self._connection is None or self._connection.is_closed():
            connecting = self._connecting = self._connecting or asyncio.create_task(self._connect())
            try:
                self._connection = await asyncio.shield(connecting)
            finally:
                if connecting.done():
                    self._connecting = None
        return self._connection

    async def _connect(self) -> asyncpg.Connection:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            connection = await asyncpg.connect(**self._connect_arguments, timeout=CONNECT_LIMIT_S)
            try:
                connection.add_termination_listener(lambda _: self.wake())  # whoever follows the changes connects again
                with contextlib.suppress(asyncpg.ReadOnlySQLTransactionError):  # a standby cannot listen
                    await connection.add_listener("prefca_change", lambda *_: self.wake())
            except BaseException:
                connection.terminate()
                raise
        self.connection += 1
        self._completeness = Completeness()
        return connection

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        """Make every failure a StoreUnavailableError, and log when the database goes and when it comes."""
        try:
            yield
        except FAILURES as e:
            error = f"{type(e).__name__}: {e}"
            if self._reachable is not False:
                _logger.warning("database_unreachable", extra={"error": error})
            self._reachable = False
            raise StoreUnavailableError(error) from e
        if not self._reachable:
            _logger.info("database_reachable")
        self._reachable = True


def _issued_certificate(row: asyncpg.Record) -> IssuedCertificate:
    serial, generation_id, public, revoked_at, reason, invalidity_date = row
    status = _GOOD if revoked_at is None else Revoked(revoked_at, CRLReason(reason), invalidity_date)
    return IssuedCertificate(serial, generation_id, public, status)


def _grant(row: asyncpg.Record) -> Grant:
    """A row of ocsp_access_v1; a certificate is of no use before its validity, nor after it."""
    begin, end = row["agreed_from"], row["agreed_until"]
    if row["certificate"] is not None:
        certificate = x509.load_der_x509_certificate(row["certificate"])
        begin, end = max(begin, certificate.not_valid_before_utc), min(end, certificate.not_valid_after_utc)
    return Grant(row["name"], _credential(row), begin, end)


def _credential(row: asyncpg.Record) -> Credential:
    match Recognition(row["kind"]):
        case Recognition.NETWORK:
            return Network(row["network"])
        case Recognition.CLIENT_CERTIFICATE:
            return ClientCertificate(row["certificate"])
        case Recognition.SIGNING_CERTIFICATE:
            return SigningCertificate(row["certificate"])
        case Recognition.PASSWORD:
            return Password(row["secret_hash"])
        case Recognition.TOKEN:
            return Token(row["fingerprint"])
