"""PostgreSQL: all SQL of the directory. Reads what is in force and follows the change feed.

The feed number is the truth: first the last number is read, then what is in force, and then every later number in turn.
A notification only wakes the reader early; a standby sends none, so it wakes by itself every `database.poll_ms`.
Publications are loaded, checked and copied to the disk on the side, while rights are followed at once.
Without a database, or with one that knows less than we do, the last snapshot stays in force, and so it does while a
publication is refused because it is damaged: that is read again now and then. A server that starts without a database,
or with such a publication, serves its local copy.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
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
REFUSED_RETRY: Final = timedelta(minutes=1)  # reads a whole publication again

PUBLICATION: Final = "publication"  # kinds of changes
ACCESS: Final = "access"

_CHANNEL: Final = "prefca_change"
_REPLICATION: Final = "SELECT in_recovery, replayed, primary_end, told_at FROM replication_v1()"
_LAST_CHANGE: Final = "SELECT coalesce(max(number), 0), pg_is_in_recovery() FROM change_v1"
_CHANGES: Final = """
    SELECT coalesce(max(number), $1), coalesce(array_agg(DISTINCT kind), '{}') FROM change_v1 WHERE number > $1"""
_OBJECTS: Final = """
    SELECT o.publication_id, o.position, o.entry_dn, o.attribute, o.sha256, o.public, o.published_at,
        o.first_published_at, p.next_update
    FROM published_object_v1 o JOIN publication_v1 p USING (publication_id) ORDER BY o.authority_id, o.position"""
_VALUE: Final = "SELECT value FROM published_object_v1 WHERE publication_id = $1 AND position = $2"
_CREDENTIALS: Final = """
    SELECT relying_party_id, name, secret_hash, agreed_from, agreed_until, certificate FROM repository_access_v1"""


class _Server:
    """A connection that several tasks share: one query at a time, so nobody waits longer than for one value."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows."""
        async with self._one_at_a_time:
            return await self._connection.fetch(query, *arguments)

    def close(self) -> None:
        """Cut it off; queries fail."""
        self._connection.terminate()


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
        self.confirmed_at: datetime | None = None  # all changes until then are in the directory, or were refused
        self._arguments = arguments
        self._poll_s = poll_s
        self._now = now
        self._copy_file = copy_file
        self._writes_copy = writes_copy
        self._retry_s = FIRST_RETRY_S
        self._known = 0  # number of the last change that was heard of, on whatever server
        self._refused_at: datetime | None = None  # when a publication was refused, if one is
        self._copying = ThreadPoolExecutor(1)  # one copy after the other, and nobody waits for the disk
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
                await self._follow(connection, directory, when_tried)
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
        server = _Server(connection)
        wake = asyncio.Event()
        try:
            # A standby cannot listen: there, polling alone has to do.
            with contextlib.suppress(asyncpg.ReadOnlySQLTransactionError):
                await connection.add_listener(_CHANNEL, lambda *_: wake.set())
            await self._wait_until_caught_up(server)
            await self._follow_changes(server, wake, directory, when_loaded)
        finally:
            server.close()

    async def _woken(self, wake: asyncio.Event) -> None:
        """Wait until there is something to do, or time to ask."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await wake.wait()
        wake.clear()

    async def _follow_changes(
        self, server: _Server, wake: asyncio.Event, directory: Directory, when_loaded: Callable[[], None]
    ) -> None:
        completeness = Completeness()
        due = {PUBLICATION, ACCESS}
        loading: asyncio.Task[bool] | None = None
        try:
            while True:
                until = await self._complete_until(server, completeness)
                due |= await self._changes(server)
                if ACCESS in due:  # at once: a right that has ended waits for no list
                    directory.access = AccessTable.of(Credential(**row) for row in await server.fetch(_CREDENTIALS))
                    due.discard(ACCESS)
                if loading is not None and loading.done():
                    if not loading.result():
                        due.add(PUBLICATION)
                    loading = None
                if loading is None and (PUBLICATION in due or self._is_retry_due()):
                    loading = self._loading(server, directory, wake)
                    due.discard(PUBLICATION)
                if loading is None:
                    self.confirmed_at = until or self.confirmed_at
                    self._tell_back()
                    when_loaded()
                await self._woken(wake)
        finally:
            if loading is not None:
                server.close()
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)

    async def _wait_until_caught_up(self, server: _Server) -> None:
        """Wait while this is a standby that lacks changes that we know of: else rights that have ended would come back.

        A primary that lacks them has lost them, so what it has is in force.
        """
        is_told = False
        while True:
            ((last, in_recovery),) = await server.fetch(_LAST_CHANGE)
            if not in_recovery or last >= self._known:
                self._known = last
                return
            if not is_told:
                logger.warning("standby_behind", extra={"last_change": last, "known_change": self._known})
                self._tell_back()
                is_told = True
            await asyncio.sleep(self._poll_s)

    def _tell_back(self) -> None:
        if self.is_away:
            logger.info("database_back")
        self.is_away, self._retry_s = False, FIRST_RETRY_S

    async def _complete_until(self, server: _Server, completeness: Completeness) -> datetime | None:
        """The moment up to which whatever is read next is complete, as far as can be told."""
        now = self._now()
        (row,) = await server.fetch(_REPLICATION)
        return completeness.until(Replication(**row), now)

    async def _changes(self, server: _Server) -> set[str]:
        """Of what kinds there are changes that were not known."""
        ((last, kinds),) = await server.fetch(_CHANGES, self._known)
        self._known = last
        return {PUBLICATION, ACCESS}.intersection(kinds)

    def _loading(self, server: _Server, directory: Directory, wake: asyncio.Event) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._load_publications(server, directory))
        task.add_done_callback(lambda _: wake.set())
        return task

    async def _load_publications(self, server: _Server, directory: Directory) -> bool:
        """Put in force what is published; False if another publication came meanwhile, so that values were missing."""
        rows = await server.fetch(_OBJECTS)
        if directory.dit.is_loaded and rows == self._objects:
            self._refuse(directory, None)
            return True
        values: dict[bytes, bytes] = {}
        for row in rows:
            key = row["sha256"]
            value = self._values.get(key) or values.get(key)
            if value is None:
                found = await server.fetch(_VALUE, row["publication_id"], row["position"])
                if not found:
                    return False
                value = found[0]["value"]
            values[key] = value
        objects = [_published_object(row, values) for row in rows]
        next_update = min((row["next_update"] for row in rows), default=None)
        publication = Publication(tuple(sorted({row["publication_id"] for row in rows})), next_update, objects)
        if await self._put_in_force(publication, directory):
            self._objects = rows
            self._refuse(directory, None)
            if self._writes_copy:
                self._copying.submit(self._keep, publication)
            await asyncio.to_thread(give_back)  # the old publication's memory
        else:
            self._refuse(directory, self._now())
            await self._restore(directory)
        return True

    def _refuse(self, directory: Directory, at: datetime | None) -> None:
        self._refused_at, directory.is_refused = at, at is not None

    def _is_retry_due(self) -> bool:
        return self._refused_at is not None and self._now() - self._refused_at >= REFUSED_RETRY

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

    def _keep(self, publication: Publication) -> None:
        """Write the local copy. Without it the server serves as well, only a restart may not."""
        try:
            local_copy.write(self._copy_file, publication)
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
