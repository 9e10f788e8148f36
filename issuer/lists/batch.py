"""The batch: one list for every municipality, the ARL, the list of operations certificates, published together.

    reserve numbers, commit -> for each list: read entries, lint, sign, check, write -> commit: in force

All lists are read in one snapshot and written in one transaction, which is why there are two connections; of lists that
are done nothing stays in memory. Killed at any point, the publication before stays in force. Numbers that were reserved
are then skipped: a number is never on two lists.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count, zip_longest
from typing import Final

from issuer.errors import NotNowError, RefusedError
from issuer.installation import ActiveKey, Installation, connected, origin
from issuer.lists.shown import certificates_shown
from issuer.profiles.crl import ListOrder, certificate_list
from issuer.profiles.lint import Covered, LintError, ListRecord, check_list, check_order, check_signature
from issuer.records.list_store import REPLACED
from issuer.records.rows import Entries, NewObject, PartitionRow, Publication, PublishedList
from issuer.records.store import Store
from issuer.schedule import MAX_SKEW, is_of_the_future
from pkix.signing import PublicKey
from pkix.validity import UpdateWindow, whole_second, zulu

MAX_CLOCK_DIFFERENCE: Final = timedelta(minutes=5)  # more would stop lists for what harms nobody


@dataclass(frozen=True, slots=True)
class Published:
    """What a batch made public."""

    publication_id: int
    cut_off: datetime
    window: UpdateWindow
    lists: int
    entries: int
    size: int  # octets of all lists


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a batch would make public."""

    cut_off: datetime
    window: UpdateWindow
    lists: tuple[PublishedList, ...]


async def run(  # noqa: PLR0913 - what differs from batch to batch
    installation: Installation,
    key: ActiveKey,
    now: datetime,
    *,
    cut_off: datetime | None = None,
    next_publish: datetime | None = None,
    clock_was_ahead: bool = False,
    reader: Store | None = None,
) -> Published:
    """Publish lists of all revocations whose reception ended by the cut-off (R-4-4-3-1).

    Args:
        installation: the CA.
        key: signs the lists.
        now: thisUpdate.
        cut_off: None: now.
        next_publish: when the next lists are due, at most `crl.period_h` from now; None: just then.
        clock_was_ahead: these lists replace some of the future, and do as if those had not been made.
        reader: another connection than the installation's, which reads; None: one that is opened and closed.

    Raises:
        NotNowError: another batch of this CA runs.
        RefusedError: the publication in force is of a later moment or cut-off, or is not although a clock is said to
            have been ahead, the cut-off lies in the future, or the key was replaced meanwhile.
        LintError: a list would break its profile; nothing was published.
        SigningError: the key cannot be used now; nothing was published.
    """
    store = installation.store
    async with alone(installation):
        plan = await _plan(installation, now, cut_off or now, next_publish, clock_was_ahead=clock_was_ahead)
        numbers = await store.reserve_crl_numbers(installation.authority_id)
        async with (
            nullcontext(reader) if reader else _opened_reader(installation) as used,
            used.snapshot(),
            aclosing(_lists(plan, numbers, used, _makers(key, _signed))) as lists,
        ):
            return await _publish(plan, key, lists)


async def require_right_clock(installation: Installation, now: datetime) -> None:
    """Hold the clock of this machine against the database's: what is dated wrong is for everybody to see.

    For whoever reads a clock, before `run`. If both are of one machine, nothing is found.

    Raises:
        NotNowError: they differ.
    """
    there = await installation.operations.clock()
    if abs(now - there) > MAX_CLOCK_DIFFERENCE:
        raise NotNowError(
            f"the clock of this machine shows {zulu(now)}, that of the database {zulu(there)};"
            " set the one that is wrong (NTP)"
        )


@asynccontextmanager
async def _opened_reader(installation: Installation) -> AsyncIterator[Store]:
    async with connected(installation.settings) as connection:
        yield Store(connection, origin())


@asynccontextmanager
async def alone(installation: Installation) -> AsyncIterator[None]:
    """No other process publishes for this CA meanwhile. May be nested.

    Raises:
        NotNowError: another batch of this CA runs.
    """
    if not await installation.store.lock_publication(installation.authority_id):
        raise NotNowError("another batch of this CA is running; wait for it to end")
    try:
        yield
    finally:
        await installation.store.unlock_publication(installation.authority_id)


async def rehearse(
    installation: Installation,
    key: ActiveKey,
    now: datetime,
    *,
    cut_off: datetime | None = None,
    next_publish: datetime | None = None,
) -> Rehearsal:
    """Make and lint the lists that `run` would publish; sign nothing, reserve no number, write nothing.

    Raises:
        RefusedError: as `run`.
        LintError: as `run`.
    """
    store = installation.store
    plan = await _plan(installation, now, cut_off or now, next_publish)
    numbers = await store.next_crl_numbers(installation.authority_id)
    async with store.snapshot(), aclosing(_lists(plan, numbers, store, _makers(key, _unsigned))) as lists:
        return Rehearsal(plan.cut_off, plan.window, tuple([made.summary async for made in lists]))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all lists of one batch share."""

    installation: Installation
    now: datetime
    cut_off: datetime
    window: UpdateWindow
    previous: Publication | None
    numbers_before: Mapping[int, int]  # partition_id to CRLNumber of the list in force
    replaced: Publication | None = None  # lists of the future that these replace; `previous` is what was before them

    @property
    def covered(self) -> Covered | None:
        """What the publication in force covers."""
        return None if self.previous is None else Covered(self.previous.window.this_update, self.previous.cut_off)


async def _plan(
    installation: Installation,
    now: datetime,
    cut_off: datetime,
    next_publish: datetime | None,
    *,
    clock_was_ahead: bool = False,
) -> _Plan:
    store, dates = installation.store, installation.settings.crl
    window = UpdateWindow.starting(
        now, period=timedelta(hours=dates.period_h), validity=timedelta(hours=dates.validity_h)
    )
    if next_publish is not None:
        window = replace(window, next_publish=min(whole_second(next_publish), window.next_publish))
    in_force = await store.publication_in_force(installation.authority_id)
    lists = await store.published_lists(in_force.publication_id) if in_force else []
    numbers_before = {made.partition_id: made.crl_number for made in lists}
    if not clock_was_ahead:
        _refuse_dates(now, cut_off, window, in_force)
        return _Plan(installation, now, cut_off, window, in_force, numbers_before)
    if in_force is None or not is_of_the_future(in_force, now):
        raise RefusedError("the lists in force are not of the future; leave --clock-was-ahead out")
    previous = await newest_not_of_the_future(installation, now)
    _refuse_dates(now, cut_off, window, previous)
    return _Plan(installation, now, cut_off, window, previous, numbers_before, replaced=in_force)


async def newest_not_of_the_future(installation: Installation, now: datetime) -> Publication | None:
    """What was published last before a clock was ahead; the publication in force, if none was."""
    return await installation.lists.publication_at(installation.authority_id, now + MAX_SKEW)


def _refuse_dates(now: datetime, cut_off: datetime, window: UpdateWindow, previous: Publication | None) -> None:
    if cut_off > now:
        raise RefusedError(f"the cut-off {zulu(cut_off)} lies in the future; take one that has passed")
    if previous is None:
        return
    if window.this_update < previous.window.this_update:
        raise RefusedError(
            f"the publication in force is of {zulu(previous.window.this_update)}, later than now;"
            " set the clock of this machine; if the one that made it was ahead, `prefca batch --now --clock-was-ahead`"
        )
    if cut_off < previous.cut_off:
        raise RefusedError(
            f"the publication in force has what was received until {zulu(previous.cut_off)}; take no earlier cut-off"
        )


async def _publish(plan: _Plan, key: ActiveKey, made_lists: AsyncIterator["_Made"]) -> Published:
    store = plan.installation.store
    lists: list[PublishedList] = []
    position = count()
    async with store.transaction():
        publication_id = await store.add_publication(
            plan.installation.authority_id, plan.cut_off, plan.window, plan.now
        )
        for certificate in await certificates_shown(plan.installation, plan.now):
            await store.add_object(publication_id, next(position), certificate)
        async for made in made_lists:
            lists.append(made.summary)
            await store.add_object(publication_id, next(position), made.object)
        # What another key has signed meanwhile replaced this one's lists: none of them may come after.
        authority_id = plan.installation.authority_id
        await plan.installation.recovery.require_list_signer(authority_id, key.generation.generation_id)
        entries, size = sum(each.entries for each in lists), sum(each.size for each in lists)
        detail = {"lists": len(lists), "entries": entries}
        if plan.replaced is not None:
            detail[REPLACED] = plan.replaced.publication_id
        await store.record("published", plan.now, str(publication_id), detail)
    return Published(publication_id, plan.cut_off, plan.window, len(lists), entries, size)


# ---------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True)
class _Made:
    """A finished list."""

    partition: PartitionRow
    crl_number: int
    entries: int
    value: bytes
    generation: int  # number of the key that signed it

    @property
    def summary(self) -> PublishedList:
        """What is told of it."""
        partition = self.partition
        return PublishedList(
            *(partition.partition_id, partition.kind, partition.code),
            *(self.crl_number, self.entries, len(self.value), self.generation),
        )

    @property
    def object(self) -> NewObject:
        """What is published; residents' lists to relying parties alone (R-2-6-3-1, R-2-6-3-2)."""
        partition, public = self.partition, self.partition.kind != "municipality"
        return NewObject(
            partition.entry_dn,
            partition.attribute,
            self.value,
            public,
            partition.partition_id,
            self.crl_number,
            self.entries,
            self.generation,
        )


@dataclass(frozen=True, slots=True)
class _Maker:
    """What makes one value of a list: a key, and whether it signs or only looks as if."""

    key: ActiveKey
    make: Callable[[ActiveKey, ListOrder, ListRecord], bytes]

    async def __call__(self, partition: PartitionRow, order: ListOrder, record: ListRecord) -> _Made:
        """Make it, in a thread.

        Raises:
            LintError: naming the list.
        """
        try:
            value = await asyncio.to_thread(self.make, self.key, order, record)
        except LintError as e:
            raise LintError(f"the list of {partition.code or partition.kind}: {e}") from e
        return _Made(partition, order.crl_number, record.count, value, self.key.generation.number)


async def _lists(
    plan: _Plan, numbers: Mapping[int, int], reader: Store, makers: Sequence[_Maker]
) -> AsyncGenerator[_Made, None]:
    """One after the other, each by all makers; the next one is read meanwhile."""

    async def read(partition: PartitionRow) -> tuple[ListOrder, ListRecord]:
        entries = await reader.entries(partition.partition_id, plan.cut_off, plan.previous, plan.now + MAX_SKEW)
        order = ListOrder(partition.idp, numbers[partition.partition_id], plan.window, entries.blocks)
        return order, await _record(plan, reader, partition, entries)

    partitions = await reader.partitions(plan.installation.authority_id)
    reading = asyncio.create_task(read(partitions[0]))
    try:
        for partition, following in zip_longest(partitions, partitions[1:]):
            order, record = await reading
            if following is not None:
                reading = asyncio.create_task(read(following))
            for maker in makers[:-1]:
                yield await maker(partition, order, record)
            made = await makers[-1](partition, order, record)
            del order  # its entries are in the value now, and there may be millions
            yield made
            del made
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)  # the connection is free again


def _makers(key: ActiveKey, make: Callable[[ActiveKey, ListOrder, ListRecord], bytes]) -> list[_Maker]:
    return [_Maker(each, make) for each in (key, *key.retired)]


async def _record(plan: _Plan, reader: Store, partition: PartitionRow, entries: Entries) -> ListRecord:
    serials = [] if entries.last is None else [entries.last]
    found = await reader.certificates(plan.installation.authority_id, serials) if serials else {}
    return ListRecord(
        entries.count,
        found[serials[0]].der if found else None,
        plan.numbers_before.get(partition.partition_id, 0),
        plan.covered,
        entries.left_out_expiry,
        entries.left_out_received,
    )


def _signed(key: ActiveKey, order: ListOrder, record: ListRecord) -> bytes:
    check_order(order, record)
    value = certificate_list(key.issuer, order, key.signer)
    check_signature(value, key.signer.public_key)
    check_list(value, order, key.issuer)
    return value


def _unsigned(key: ActiveKey, order: ListOrder, record: ListRecord) -> bytes:
    check_order(order, record)
    value = certificate_list(key.issuer, order, _NoSigner(key.signer.public_key))
    check_list(value, order, key.issuer)
    return value


@dataclass(frozen=True, slots=True)
class _NoSigner:
    """Signs nothing."""

    public_key: PublicKey

    def sign_digest(self, digest: bytes) -> bytes:  # noqa: ARG002 - as a Signer
        """Octets where a signature would be."""
        return bytes(self.public_key.key_size // 8)
