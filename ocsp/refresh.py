"""What is held in memory, the CA's keys and the access rights, and how it is kept current.

A Snapshot is replaced as a whole and never changed. It is loaded at the start, and again in part when the change feed
tells of a generation, a delegate (new or revoked), a right, or that a certificate was revoked which somebody is
recognised by. Statuses are not in it: they are read for each answer, and what was kept of earlier answers is dropped
when the feed tells of a revocation.

A standby may be behind its primary, and a connection that is made anew may lead to another server, which may lack the
end of the feed as it was known or have another one. Therefore:

* what is known is current up to the moment that the source vouches for, not up to when it was asked. If that is too
  long ago, there is no snapshot for anybody, and so no answer but tryLater;
* each look at the feed begins with the last change that was heard of. If it is gone, everything is loaded.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from cryptography import x509

from ocsp import delegates
from ocsp.access import ALL_WAYS, AccessList, Grant, Recognition
from ocsp.delegates import DelegateCertificate, Keys
from ocsp.errors import StoreUnavailableError
from ocsp.issuers import Generation, Issuers
from ocsp.status import SERIALS, IssuedCertificate
from pkix.revocation import Revoked

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change feed."""

    number: int  # strictly rising
    kind: str  # revocation, publication, generation, access
    key: int | None  # serial number of a revocation; None: of thousands
    changed_at: datetime


class Source(Protocol):
    """Where all of it comes from. The queries raise StoreUnavailableError."""

    @property
    def connection(self) -> int:
        """Another number when it is read on a connection made anew, which may lead to another server."""

    async def generations(self) -> list[Generation]:
        """Every key of the CA."""

    async def delegate_certificates(self) -> list[DelegateCertificate]:
        """Every delegate that is not revoked."""

    async def grants(self) -> list[Grant]:
        """Who may ask, and what he is recognised by."""

    async def statuses(self, serials: Collection[int]) -> dict[int, IssuedCertificate]:
        """What is recorded now of those that were ever issued."""

    async def last_change(self) -> Change | None:
        """The newest change."""

    async def changes(self, *, since: int) -> list[Change]:
        """Changes from a number on, oldest first; not all at once if they are many, but always two if there are."""

    async def complete_until(self, now: datetime) -> datetime | None:
        """The moment up to which whatever is read next is complete: `now`, or earlier; None: nobody can tell."""

    async def wait_for_change(self) -> None:
        """Wait until there may be one, a second at most."""

    def wake(self) -> None:
        """End such a wait."""


class Kept(Protocol):
    """What was remembered of earlier answers."""

    def forget(self, serials: Iterable[int]) -> None:
        """These were revoked."""

    def clear(self) -> None:
        """Keys, delegates, or the status of many have changed."""

    def confirm(self, at: float) -> None:
        """All changes up to that moment have been heard of."""

    @property
    def trusted_until(self) -> float:
        """When that will have been too long ago."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment."""

    issuers: Issuers
    access: AccessList


class Refresh:
    """Keeps the Snapshot current."""

    def __init__(
        self,
        source: Source,
        keys: Keys,
        clock: Callable[[], datetime],
        kept: Kept,
        ways: Collection[Recognition] = ALL_WAYS,  # how callers are recognised
    ) -> None:
        self._source = source
        self._keys = keys
        self._clock = clock
        self._kept = kept
        self._ways = ways
        self.known: Snapshot | None = None  # however old it is
        self._last: Change | None = None  # that is in it
        self.lag_s = 0.0  # how old it was when it was heard of
        self.confirmed_at: datetime | None = None  # all changes until then are in it
        self._shown_serials: frozenset[int] = frozenset()  # of certificates that somebody is recognised by
        self._was_outdated = True  # that was too long ago, when it was last looked at
        self._stale = True  # everything is to be loaded
        self._again_at: datetime | None = None  # when the keys of delegates are to be looked for once more
        self.refusals: tuple[str, ...] = ()  # of the last load: why which delegates cannot be used

    @property
    def position(self) -> int:
        """The number of the last change that was heard of."""
        return 0 if self._last is None else self._last.number

    @property
    def access(self) -> AccessList | None:
        """Who may ask, as far as that is known."""
        return None if self.known is None else self.known.access

    @property
    def snapshot(self) -> Snapshot:
        """What is known now; see `at`."""
        return self.at(self._clock().timestamp())

    def at(self, moment: float) -> Snapshot:
        """What is known at this moment, in seconds since the epoch: now.

        Raises:
            StoreUnavailableError: nothing yet, or nothing that is current.
        """
        if self.known is None or self._is_outdated(moment):
            raise StoreUnavailableError("nothing current is known")
        return self.known

    async def load(self) -> None:
        """Load everything.

        Raises:
            StoreUnavailableError: what was known stays.
        """
        self._stale = False  # before the work, as is the position: what comes meanwhile is then loaded once more
        try:
            until, last, snapshot = await self._everything()
        except StoreUnavailableError:
            self._stale = True
            raise
        self._adopt(snapshot, last)
        self._confirm(until)
        self._look_at_its_age()

    def reload(self) -> None:
        """Let `follow` load everything again: also keys that somebody put into their directory."""
        self._stale = True
        self._source.wake()

    async def follow(self) -> None:
        """Keep up with the change feed until cancelled."""
        while True:
            await self._source.wait_for_change()
            if self._again_at is not None and self._clock() >= self._again_at:
                self._stale = True
            # A failure is logged by the store; what is known stays, and the next turn tries again.
            with contextlib.suppress(StoreUnavailableError):
                await self._keep_up()
            self._look_at_its_age()

    async def _keep_up(self) -> None:
        while self.known is not None and not self._stale:
            begun = self._clock()
            until = await self._source.complete_until(begun)
            connection = self._source.connection
            changes = await self._source.changes(since=self.position)
            if self._last is not None and self._last not in changes[:1]:
                _logger.warning("feed_lost", extra={"position": self.position})
                break
            new = changes if self._last is None else changes[1:]
            if not new:
                if self._source.connection == connection:
                    self._confirm(until or self.confirmed_at)
                return
            await self._follow(new, self.known)
            self.lag_s = (begun - new[-1].changed_at).total_seconds()
        await self.load()

    async def _follow(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        # Before anything that takes time: a revocation is to be seen at once.
        revoked = [change.key for change in changes if change.kind == "revocation"]
        if None in revoked:
            self._kept.clear()  # more at once than are told one by one
        self._kept.forget(serial for serial in revoked if serial is not None)
        if any(self._concerns_access(change) for change in changes):
            snapshot = replace(snapshot, access=await self._access(snapshot.issuers))
            self._adopt(snapshot, self._last)  # a token may let its keys wait
        if any(_concerns_issuers(change, snapshot.issuers) for change in changes):
            snapshot = replace(snapshot, issuers=await self._issuers())
        self._adopt(snapshot, changes[-1])

    def _adopt(self, snapshot: Snapshot, last: Change | None) -> None:
        before, self._last = self.known, last
        if snapshot is not before:
            delegates = sorted(f"{serial:016X}" for serial in snapshot.issuers.delegate_serials)
            self.known = snapshot
            _logger.info("loaded", extra={"position": self.position, "delegates": " ".join(delegates)})
        if before is None or snapshot.issuers is not before.issuers:
            self._kept.clear()

    def _confirm(self, until: datetime | None) -> None:
        self.confirmed_at = until
        self._kept.confirm(0.0 if until is None else until.timestamp())

    def _is_outdated(self, moment: float) -> bool:
        return moment > self._kept.trusted_until

    def _look_at_its_age(self) -> None:
        was_outdated, self._was_outdated = self._was_outdated, self._is_outdated(self._clock().timestamp())
        if self._was_outdated and not was_outdated:
            _logger.warning("outdated", extra={"since": self.confirmed_at})
        elif was_outdated and not self._was_outdated:
            _logger.info("current")

    async def _everything(self) -> tuple[datetime | None, Change | None, Snapshot]:
        until = await self._source.complete_until(self._clock())
        connection = self._source.connection
        last = await self._source.last_change()
        issuers = await self._issuers()
        snapshot = Snapshot(issuers, await self._access(issuers))
        if self._source.connection != connection:
            raise StoreUnavailableError("perhaps not all from one server")
        return until, last, snapshot

    async def _issuers(self) -> Issuers:
        generations = await self._source.generations()
        certificates = await self._source.delegate_certificates()
        loaded = await asyncio.to_thread(delegates.load, certificates, generations, self._keys, self._clock())
        for refusal in loaded.refusals:
            _logger.warning("delegate_refused", extra={"reason": refusal})
        self.refusals, self._again_at = loaded.refusals, loaded.again_at
        return Issuers(generations, loaded.delegates)

    async def _access(self, issuers: Issuers) -> AccessList:
        """Who may ask; a certificate of this CA is worth nothing once it was revoked."""
        grants = await self._source.grants()
        shown = {grant.certificate: one for grant in grants if (one := _parsed(grant.certificate)) is not None}
        self._shown_serials = frozenset(one.serial_number for one in shown.values() if one.serial_number in SERIALS)
        issued = await self._source.statuses(self._shown_serials) if self._shown_serials else {}
        revoked = {der for der, one in shown.items() if _is_revoked(one, issued.get(one.serial_number), issuers)}
        return AccessList((grant for grant in grants if grant.certificate not in revoked), self._ways)

    def _concerns_access(self, change: Change) -> bool:
        if change.kind == "revocation":
            return bool(self._shown_serials) and (change.key is None or change.key in self._shown_serials)
        return change.kind == "access"


def _parsed(certificate: bytes | None) -> x509.Certificate | None:
    try:
        return None if certificate is None else x509.load_der_x509_certificate(certificate)
    except ValueError:  # nobody can show it either
        return None


def _is_revoked(shown: x509.Certificate, issued: IssuedCertificate | None, issuers: Issuers) -> bool:
    """Is it a certificate of this CA, and not only one with the same serial number?"""
    if issued is None or not isinstance(issued.status, Revoked):
        return False
    return shown.issuer == issuers.names.get(issued.generation_id)


def _concerns_issuers(change: Change, issuers: Issuers) -> bool:
    """New generations and delegates are told as `generation`; a revoked delegate, like any certificate, by serial."""
    if change.kind == "revocation":
        return change.key is None or change.key in issuers.delegate_serials
    return change.kind == "generation"
