"""What commands about the journals work with."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from issuer.archive.collection import Places
from issuer.installation import connected, database, origin, require_database
from issuer.records.archive_store import ArchiveStore
from issuer.records.audit_store import AuditStore
from issuer.records.journal_store import JournalStore
from issuer.records.media_store import MediaStore
from issuer.records.party_store import PartyStore
from issuer.records.store import Store
from settings.load import Settings


@dataclass(frozen=True, slots=True)
class Desk:
    """Stores, all on one connection, and directories."""

    journals: JournalStore
    audits: AuditStore
    operations: Store
    parties: PartyStore
    archive: ArchiveStore
    media: MediaStore
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
            ArchiveStore(connection),
            MediaStore(connection),
            places,
        )
