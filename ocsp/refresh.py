"""What is held in memory, the CA's keys and the access rights, and how it is kept current.

A Snapshot is replaced as a whole and never changed. It is loaded at the start, and again in part when the change feed
tells of a generation, a delegate (new or revoked) or a right. Statuses are not in it: they are read for each answer,
and what was kept of earlier answers is dropped when the feed tells of a revocation.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from ocsp import delegates
from ocsp.access import ALL_WAYS, AccessList, Grant, Recognition
from ocsp.delegates import DelegateCertificate, Keys
from ocsp.errors import StoreUnavailableError
from ocsp.issuers import Generation, Issuers

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change feed."""

    number: int  # strictly rising
    kind: str  # revocation, publication, generation, access
    key: int | None  # serial number of a revocation
    changed_at: datetime


class Source(Protocol):
    """Where all of it comes from. The queries raise StoreUnavailableError."""

    async def generations(self) -> list[Generation]:
        """Every key of the CA."""

    async def delegate_certificates(self) -> list[DelegateCertificate]:
        """Every delegate that is not revoked."""

    async def grants(self) -> list[Grant]:
        """Who may ask, and what he is recognised by."""

    async def last_change(self) -> int:
        """The number of the newest change."""

    async def changes(self, *, after: int) -> list[Change]:
        """Changes behind a number, oldest first; not all at once if they are many."""

    async def wait_for_change(self) -> None:
        """Wait until there may be one, a second at most."""

    def wake(self) -> None:
        """End such a wait."""


class Kept(Protocol):
    """What was remembered of earlier answers."""

    def forget(self, serials: Iterable[int]) -> None:
        """These were revoked."""

    def clear(self) -> None:
        """Keys or delegates have changed."""

    def confirm(self, at: float) -> None:
        """All changes up to that moment have been heard of."""


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
        self._snapshot: Snapshot | None = None
        self.position = 0  # the last change that is in the snapshot
        self.lag_s = 0.0  # how old it was when it was heard of
        self.confirmed_at: datetime | None = None  # all changes until then are in the snapshot
        self._stale = True  # everything is to be loaded
        self.refusals: tuple[str, ...] = ()  # of the last load: why which delegates cannot be used

    @property
    def access(self) -> AccessList | None:
        """Who may ask, as far as that is known."""
        return None if self._snapshot is None else self._snapshot.access

    @property
    def snapshot(self) -> Snapshot:
        """What is known.

        Raises:
            StoreUnavailableError: nothing yet.
        """
        if self._snapshot is None:
            raise StoreUnavailableError("nothing was loaded yet")
        return self._snapshot

    async def load(self) -> None:
        """Load everything.

        Raises:
            StoreUnavailableError: what was known stays.
        """
        self._stale = False  # before the work, as is the position: what comes meanwhile is then loaded once more
        begun = self._clock()
        try:
            position = await self._source.last_change()
            snapshot = Snapshot(await self._issuers(), await self._access())
        except StoreUnavailableError:
            self._stale = True
            raise
        self._adopt(snapshot, position)
        self._confirm(begun)

    def reload(self) -> None:
        """Let `follow` load everything again: also keys that somebody put into their directory."""
        self._stale = True
        self._source.wake()

    async def follow(self) -> None:
        """Keep up with the change feed until cancelled."""
        while True:
            await self._source.wait_for_change()
            try:
                await self._keep_up()
            except StoreUnavailableError:
                continue  # logged by the store; what is known stays, and the next turn tries again

    async def _keep_up(self) -> None:
        if self._stale:
            await self.load()
            return
        while True:
            begun = self._clock()
            changes = await self._source.changes(after=self.position)
            if not changes:
                self._confirm(begun)
                return
            await self._follow(changes)
            self.lag_s = (begun - changes[-1].changed_at).total_seconds()

    async def _follow(self, changes: Sequence[Change]) -> None:
        # Before anything that takes time: a revocation is to be seen at once.
        self._kept.forget(change.key for change in changes if change.kind == "revocation" and change.key is not None)
        snapshot = self.snapshot
        if any(_concerns_issuers(change, snapshot.issuers) for change in changes):
            snapshot = replace(snapshot, issuers=await self._issuers())
        if any(change.kind == "access" for change in changes):
            snapshot = replace(snapshot, access=await self._access())
        self._adopt(snapshot, changes[-1].number)

    def _adopt(self, snapshot: Snapshot, position: int) -> None:
        before = self._snapshot
        if snapshot is not before:
            delegates = sorted(f"{serial:016X}" for serial in snapshot.issuers.delegate_serials)
            self._snapshot = snapshot
            _logger.info("loaded", extra={"position": position, "delegates": " ".join(delegates)})
        if before is None or snapshot.issuers is not before.issuers:
            self._kept.clear()
        self.position = position

    def _confirm(self, at: datetime) -> None:
        self.confirmed_at = at
        self._kept.confirm(at.timestamp())

    async def _issuers(self) -> Issuers:
        generations = await self._source.generations()
        certificates = await self._source.delegate_certificates()
        loaded = await asyncio.to_thread(delegates.load, certificates, generations, self._keys, self._clock())
        for refusal in loaded.refusals:
            _logger.warning("delegate_refused", extra={"reason": refusal})
        self.refusals = loaded.refusals
        return Issuers(generations, loaded.delegates)

    async def _access(self) -> AccessList:
        return AccessList(await self._source.grants(), self._ways)


def _concerns_issuers(change: Change, issuers: Issuers) -> bool:
    """New generations and delegates are told as `generation`; a revoked delegate, like any certificate, by serial."""
    if change.kind == "revocation":
        return change.key in issuers.delegate_serials
    return change.kind == "generation"
