"""What the directory does while something slow goes on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest

import repository.store
from repository import local_copy
from repository.directory import Directory
from repository.dit import DIT
from repository.names import parse
from repository.schema import described
from repository.snapshot import PublishedObject, build
from repository.store import Store
from settings.database import ConnectArguments
from tests.support.database import Database
from tests.support.repository import CA, LIST, add_party, publish, published


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(8):
        while not condition():  # noqa: ASYNC110 - the feed
            await asyncio.sleep(0.01)


@asynccontextmanager
async def following(
    database: Database, copy_file: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncIterator[Directory]:
    """A directory that is loaded and follows the database."""
    directory, loaded = Directory(), asyncio.Event()
    arguments = ConnectArguments(dsn=database.dsn, user="prefca_repository")
    store = Store(arguments, 0.05, now, copy_file, writes_copy=True)
    task = asyncio.create_task(store.follow(directory, loaded.set))
    try:
        await loaded.wait()
        yield directory
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.req("R-2-6-3-2")
@pytest.mark.parametrize("slow", ["check", "disk"])
async def test_a_right_ends_while_a_publication_is_taken_up(
    database: Database,
    writer: asyncpg.Connection,
    authority: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slow: str,
) -> None:
    """Neither the check of large lists nor a slow disk delays that."""
    party = await add_party(writer)
    begun, may_end = threading.Event(), threading.Event()

    def slow_build(objects: Iterable[PublishedObject]) -> DIT:
        begun.set()
        may_end.wait(60)
        return build(objects)

    def slow_write(path: Path, publication: local_copy.Publication) -> None:
        begun.set()
        may_end.wait(60)

    async with following(database, tmp_path / "copy") as directory:
        if slow == "check":
            monkeypatch.setattr(repository.store, "build", slow_build)
        else:
            monkeypatch.setattr(local_copy, "write", slow_write)
        await publish(writer, authority, [published(CA, LIST, b"next")])
        await eventually(begun.is_set)
        assert directory.access is not None
        assert directory.access.by_party
        await writer.execute("UPDATE relying_party SET state = 'suspended' WHERE relying_party_id = $1", party)
        try:
            await eventually(lambda: directory.access is not None and not directory.access.by_party)
        finally:
            may_end.set()


def served(directory: Directory) -> set[bytes]:
    """The values of the CA's list."""
    found = directory.dit.entries.get(parse(CA).key)
    held = described(LIST)
    return set() if found is None or held is None else set(found.complete[held])


@pytest.mark.req("R-2-6-4")
async def test_a_damaged_publication_is_read_again_and_meanwhile_the_one_before_is_served(
    database: Database, writer: asyncpg.Connection, authority: int, tmp_path: Path
) -> None:
    """Also by a server that starts then: from its local copy."""
    copy_file, at = tmp_path / "copy", datetime.now(UTC)
    async with following(database, copy_file):
        await publish(writer, authority, [published(CA, LIST, b"before")])
        await eventually(lambda: copy_file.exists() and b"before" in copy_file.read_bytes())
    await publish(writer, authority, [replace(published(CA, LIST, b"damaged"), sha256=sha256(b"after").digest())])
    async with following(database, copy_file, lambda: at) as directory:
        assert directory.is_refused
        assert served(directory) == {b"before"}
        async with database.connect("owner") as owner:
            await owner.execute("SET session_replication_role = replica")
            await owner.execute("UPDATE published_object SET value = 'after' WHERE value = 'damaged'")
        await asyncio.sleep(0.2)
        assert directory.is_refused
        at += repository.store.REFUSED_RETRY
        await eventually(lambda: not directory.is_refused)
        assert served(directory) == {b"after"}
        await eventually(lambda: b"after" in copy_file.read_bytes())
