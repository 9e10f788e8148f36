"""What commands about the journals work with."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import click

from issuer.audit_store import AuditStore
from issuer.collection import Places
from issuer.installation import connected, database, origin, require_database
from issuer.journal_store import JournalStore
from issuer.party_store import PartyStore
from issuer.store import Store
from pkix.validity import JST
from settings.load import Settings

DAY = click.DateTime(["%Y-%m-%d"])
MONTH = click.DateTime(["%Y-%m"])


@dataclass(frozen=True, slots=True)
class Desk:
    """Stores, all on one connection, and directories."""

    journals: JournalStore
    audits: AuditStore
    operations: Store
    parties: PartyStore
    places: Places


@contextlib.asynccontextmanager
async def desk_of(settings: Settings) -> AsyncIterator[Desk]:
    """The desk of an instance.

    Raises:
        RefusedError: nothing is set up there.
        NotNowError: PostgreSQL is away.
    """
    require_database(settings)
    section = settings.journal
    segments, keys, archive = map(settings.path, (section.directory, section.key_directory, section.archive))
    places = Places(segments, keys, archive, section.host)
    async with database(settings), connected(settings) as connection:
        yield Desk(
            JournalStore(connection),
            AuditStore(connection),
            Store(connection, origin()),
            PartyStore(connection),
            places,
        )


def days(begin: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """From the beginning of one day in Japan to the end of another."""
    return (
        None if begin is None else begin.replace(tzinfo=JST),
        None if end is None else end.replace(tzinfo=JST) + timedelta(days=1),
    )


def today(moment: datetime) -> date:
    """The day in Japan."""
    return moment.astimezone(JST).date()
