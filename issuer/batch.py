"""The batch: one list for every municipality, the ARL, the list of operations certificates, published together.

    reserve numbers, commit -> read entries in one snapshot, build, sign, check -> publish in one transaction

Killed at any point, the publication before stays in force. Numbers that were reserved are then skipped: a number is
never on two lists.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.crl import ListOrder, certificate_list
from issuer.errors import NotNowError, RefusedError
from issuer.installation import ActiveKey, Installation
from issuer.lint import check_list, check_signature
from issuer.rows import NewObject, PartitionRow, Publication
from issuer.store import Store
from pkix.names import text
from pkix.validity import UpdateWindow


@dataclass(frozen=True, slots=True)
class Published:
    """What a batch made public."""

    publication_id: int
    window: UpdateWindow
    lists: int
    entries: int
    size: int  # octets of all lists


async def run(installation: Installation, key: ActiveKey, now: datetime) -> Published:
    """Publish lists of all revocations received up to `now` (R-4-4-3-1).

    Raises:
        NotNowError: another batch of this CA runs.
        RefusedError: the clock is behind the publication in force.
        LintError: a list broke its profile; nothing was published.
        SigningError: the key cannot be used now; nothing was published.
    """
    store = installation.store
    if not await store.lock_publication(installation.authority_id):
        raise NotNowError("another batch of this CA is running; wait for it to end")
    try:
        return await _run(installation, key, now)
    finally:
        await store.unlock_publication(installation.authority_id)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all lists of one batch share."""

    key: ActiveKey
    cut_off: datetime
    window: UpdateWindow
    previous: Publication | None
    numbers: dict[int, int]  # partition_id to CRLNumber


async def _run(installation: Installation, key: ActiveKey, now: datetime) -> Published:
    store, authority_id = installation.store, installation.authority_id
    window = _window(installation, now)
    previous = await store.publication_in_force(authority_id)
    _refuse_backward_clock(window, previous)
    plan = _Plan(key, now, window, previous, await store.reserve_crl_numbers(authority_id))
    async with store.snapshot():
        lists = [await _list(store, plan, partition) for partition in await store.partitions(authority_id)]
    entries = sum(made.entries or 0 for made in lists)
    async with store.transaction():
        objects = [*_certificates(installation, key), *lists]
        publication_id = await store.publish(authority_id, plan.cut_off, plan.window, objects, now)
        await store.record("published", now, str(publication_id), {"lists": len(lists), "entries": entries})
    return Published(publication_id, plan.window, len(lists), entries, sum(len(made.value) for made in lists))


async def _list(store: Store, plan: _Plan, partition: PartitionRow) -> NewObject:
    entries, number_of_entries = await store.entries(partition.partition_id, plan.cut_off, plan.previous)
    order = ListOrder(partition.idp, plan.numbers[partition.partition_id], plan.window, entries)
    value = await asyncio.to_thread(_signed, plan.key, order)
    public = partition.kind != "municipality"  # R-2-6-3-1, R-2-6-3-2
    return NewObject(
        partition.entry_dn,
        partition.attribute,
        value,
        public,
        partition.partition_id,
        order.crl_number,
        number_of_entries,
    )


def _signed(key: ActiveKey, order: ListOrder) -> bytes:
    value = certificate_list(key.issuer, order, key.signer)
    check_signature(value, key.signer.public_key)
    check_list(value, order, key.issuer)
    return value


def _certificates(installation: Installation, key: ActiveKey) -> list[NewObject]:
    return [NewObject(text(installation.authority.name), "cACertificate", key.generation.certificate, public=True)]


def _window(installation: Installation, now: datetime) -> UpdateWindow:
    dates = installation.settings.crl
    return UpdateWindow.starting(
        now, period=timedelta(hours=dates.period_h), validity=timedelta(hours=dates.validity_h)
    )


def _refuse_backward_clock(window: UpdateWindow, previous: Publication | None) -> None:
    if previous is not None and window.this_update < previous.window.this_update:
        raise RefusedError(
            f"the publication in force is of {previous.window.this_update:%Y-%m-%dT%H:%M:%SZ}, later than now;"
            " set the clock of this machine"
        )
