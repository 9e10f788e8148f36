"""PostgreSQL: all SQL of the directory. Reads what is in force and follows the change feed.

The feed number is the truth: a snapshot is read together with the last number, and then every later number is read in
turn. A notification only wakes the reader early; a standby sends none, so it wakes by itself every `database.poll_ms`.
Without a database the last snapshot stays in force; a server that starts without one serves its local copy.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg

from repository import local_copy
from repository.access import AccessTable, Credential
from repository.directory import Directory
from repository.errors import CorruptPublicationError
from repository.local_copy import Publication
from repository.memory import give_back
from repository.snapshot import PublishedObject, build
from settings.database import FAILURES, ConnectArguments
from settings.replica import Completeness, Replication

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 5.0  # a server that starts waits for so long before it serves its local copy
TIMEOUT_S: Final = 30.0  # of one query; the largest reads one list of some ten megabytes
FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 5.0

PUBLICATION: Final = "publication"  # kinds of changes
ACCESS: Final = "access"

_CHANNEL: Final = "prefca_change"
_REPLICATION: Final = "SELECT in_recovery, replayed, primary_end, told_at FROM replication_v1()"
_LAST_CHANGE: Final = "SELECT coalesce(max(number), 0) FROM change_v1"
_CHANGES: Final = "SELECT max(number) AS last, array_agg(DISTINCT kind) AS kinds FROM change_v1 WHERE number > $1"
_NEXT_UPDATE: Final = "SELECT min(next_update) FROM publication_v1"
_OBJECTS: Final = """
    SELECT publication_id, position, entry_dn, attribute, sha256, public, published_at, first_published_at
    FROM published_object_v1 ORDER BY authority_id, position"""
_VALUE: Final = "SELECT value FROM published_object_v1 WHERE publication_id = $1 AND position = $2"
_CREDENTIALS: Final = """
    SELECT relying_party_id, name, secret_hash, agreed_from, agreed_until, certificate FROM repository_access_v1"""


class Store:
    """Keeps a Directory as the database has it."""

    def __init__(
        self,
        arguments: ConnectArguments,
        poll_s: float,
        now: Callable[[], datetime],
        copy_file: Path,
        *,
        writes_copy: bool,
    ) -> None:
        """Make one.

        Args:
            arguments: how to reach the database.
            poll_s: how often to look for changes that nobody notifies us of.
            now: the clock.
            copy_file: where the last publication is kept.
            writes_copy: this process keeps it there; of several workers one does.
        """
        self.is_away = False
        self.confirmed_at: datetime | None = None  # all changes until then are in the directory
        self._arguments = arguments
        self._poll_s = poll_s
        self._now = now
        self._copy_file = copy_file
        self._writes_copy = writes_copy
        self._retry_s = FIRST_RETRY_S
        self._objects: list[asyncpg.Record] = []  # as last read
        self._values: Mapping[bytes, bytes] = {}  # those of `_objects` by their hash: most outlive a publication

    async def follow(self, directory: Directory, when_tried: Callable[[], None]) -> None:
        """Load `directory`, and whatever changes, until cancelled; connect again whenever the connection breaks.

        Args:
            directory: to keep as the database has it.
            when_tried: called once that is so, or the database turned out to be away.
        """
        while True:
            try:
                connection = await asyncpg.connect(
                    **self._arguments, timeout=CONNECT_TIMEOUT_S, command_timeout=TIMEOUT_S
                )  # fmt: skip
                try:
                    await self._follow(connection, directory, when_tried)
                finally:
                    connection.terminate()
            except FAILURES as e:
                if not self.is_away:
                    logger.warning("database_away", extra={"error": f"{type(e).__name__}: {e}"})
                    self.is_away = True
                    await self._restore(directory)
                    when_tried()
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    async def _follow(
        self, connection: asyncpg.Connection, directory: Directory, when_loaded: Callable[[], None]
    ) -> None:
        wake = asyncio.Event()
        # A standby cannot listen: there, polling alone has to do.
        with contextlib.suppress(asyncpg.ReadOnlySQLTransactionError):
            await connection.add_listener(_CHANNEL, lambda *_: wake.set())
        completeness = Completeness()
        until = await self._complete_until(connection, completeness)
        last = await self._load(connection, directory, {PUBLICATION, ACCESS})
        when_loaded()
        if self.is_away:
            logger.info("database_back")
        self.is_away, self._retry_s = False, FIRST_RETRY_S
        while True:
            self.confirmed_at = until or self.confirmed_at
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), self._poll_s)
            wake.clear()
            until = await self._complete_until(connection, completeness)
            changes = await connection.fetchrow(_CHANGES, last)
            if changes is not None and changes["last"] is not None:
                await self._load(connection, directory, changes["kinds"])
                last = changes["last"]

    async def _complete_until(self, connection: asyncpg.Connection, completeness: Completeness) -> datetime | None:
        """The moment up to which whatever is read next is complete, as far as can be told."""
        now = self._now()
        row = await connection.fetchrow(_REPLICATION)
        return None if row is None else completeness.until(Replication(**row), now)

    async def _load(self, connection: asyncpg.Connection, directory: Directory, kinds: Collection[str]) -> int:
        """Read what is in force of these kinds of changes, and the number of the last change it contains."""
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            last: int = await connection.fetchval(_LAST_CHANGE)
            if ACCESS in kinds:  # first: a right that has ended must not wait for the lists
                directory.access = await self._access(connection)
            if PUBLICATION in kinds:
                await self._load_publications(connection, directory)
        return last

    async def _access(self, connection: asyncpg.Connection) -> AccessTable:
        return AccessTable.of(Credential(**row) for row in await connection.fetch(_CREDENTIALS))

    async def _load_publications(self, connection: asyncpg.Connection, directory: Directory) -> None:
        rows = await connection.fetch(_OBJECTS)
        if directory.dit.is_loaded and rows == self._objects:
            return
        values: dict[bytes, bytes] = {}
        for row in rows:
            key = row["sha256"]
            value = self._values.get(key) or values.get(key)
            values[key] = value or await connection.fetchval(_VALUE, row["publication_id"], row["position"])
        objects = [_published_object(row, values) for row in rows]
        next_update: datetime | None = await connection.fetchval(_NEXT_UPDATE)
        publication = Publication(tuple(sorted({row["publication_id"] for row in rows})), next_update, objects)
        if await self._put_in_force(publication, directory):
            self._objects = rows
            if self._writes_copy:
                await self._keep(publication)
            await asyncio.to_thread(give_back)  # the old publication's memory

    async def _put_in_force(self, publication: Publication, directory: Directory) -> bool:
        try:
            dit = await asyncio.to_thread(build, publication.objects)  # hashing all values takes a second or more
        except CorruptPublicationError as e:
            logger.error("snapshot_refused", extra={"publications": list(publication.ids), "error": str(e)})  # noqa: TRY400
            return False
        directory.dit = dit
        directory.next_update = publication.next_update
        self._values = {each.sha256: each.value for each in publication.objects}
        logger.info(
            "snapshot_loaded", extra={"publications": list(publication.ids), "values": len(publication.objects)}
        )
        return True

    async def _keep(self, publication: Publication) -> None:
        """Write the local copy. Without it the server serves as well, only a restart may not."""
        try:
            await asyncio.to_thread(local_copy.write, self._copy_file, publication)
        except OSError as e:
            logger.error("copy_not_written", extra={"error": str(e)})  # noqa: TRY400 - the disk, not our code

    async def _restore(self, directory: Directory) -> None:
        """Serve the local copy, if nothing else is there."""
        if directory.dit.is_loaded:
            return
        try:
            publication = await asyncio.to_thread(local_copy.read, self._copy_file)
        except FileNotFoundError:
            return
        except (OSError, CorruptPublicationError) as e:
            logger.error("copy_refused", extra={"error": str(e)})  # noqa: TRY400 - the disk, not our code
            return
        await self._put_in_force(publication, directory)


def _published_object(row: asyncpg.Record, values: Mapping[bytes, bytes]) -> PublishedObject:
    return PublishedObject(
        entry_dn=row["entry_dn"],
        attribute=row["attribute"],
        value=values[row["sha256"]],
        sha256=row["sha256"],
        public=row["public"],
        published_at=row["published_at"],
        first_published_at=row["first_published_at"],
    )
