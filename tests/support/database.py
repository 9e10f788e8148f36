"""One PostgreSQL for a test run, and a fresh database for each test that asks for one."""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

import asyncpg

from issuer.postgres.cluster import PORT
from issuer.postgres.embedded import postgres
from issuer.records.migrate import migrate
from settings.database import ConnectArguments, Role, connect_arguments, socket_directory
from settings.load import Settings
from settings.sections import DatabaseSection

NOW = datetime(2026, 4, 1, tzinfo=UTC)
TEMPLATE = "migrated_template"
_NUMBERS = count(1)


@dataclass(frozen=True)
class Database:
    """A database with the whole schema."""

    instance: Path
    name: str

    @property
    def dsn(self) -> str:
        """Without a user: each program connects as its own role. What PREFCA_DATABASE__DSN may be set to."""
        return f"postgresql:///{self.name}?host={socket_directory(self.instance)}&port={PORT}"

    def arguments(self, role: Role | Literal["owner"]) -> ConnectArguments:
        """Keyword arguments of asyncpg.connect and asyncpg.create_pool."""
        return connect_arguments(Settings(instance=self.instance, database=DatabaseSection(dsn=self.dsn)), role)

    @asynccontextmanager
    async def connect(self, role: Role | Literal["owner"]) -> AsyncIterator[asyncpg.Connection]:
        """A connection as `role`."""
        connection = await asyncpg.connect(**self.arguments(role))
        try:
            yield connection
        finally:
            await connection.close()


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A directory that the account of PostgreSQL reaches when root runs the tests (tmp_path is of mode 0700)."""
    directory = Path(tempfile.mkdtemp(prefix="prefca-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def embedded_server(instance: Path) -> Iterator[None]:
    """The embedded PostgreSQL of `instance` with the template, on an event loop of its own: it may outlive a test."""
    with ThreadPoolExecutor(max_workers=1) as thread, ExitStack() as stack:
        runner = asyncio.Runner()
        stack.callback(lambda: thread.submit(runner.close).result())

        def run(step: Coroutine[Any, Any, object]) -> None:
            thread.submit(runner.run, step).result()

        server = AsyncExitStack()
        stack.callback(lambda: run(server.aclose()))
        run(server.enter_async_context(postgres(instance)))
        run(_make_template(instance))
        yield


@contextmanager
def installed_server(instance: Path, binaries: Path) -> Iterator[None]:
    """A PostgreSQL of the operator with the template; `Database` finds it where the embedded one would be."""
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("nobody")
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    run = socket_directory(instance)
    data = run.with_name("data")
    for directory in (run.parent, run, data):
        directory.mkdir(mode=0o700)
        if account:
            os.chown(directory, account["user"], account["group"])

    def control(*arguments: str | Path) -> None:
        subprocess.run([binaries / "pg_ctl", "-s", "-D", data, *arguments], cwd="/", check=True, **account)

    control("initdb", "-o", "-U prefca -A trust -E UTF8 --locale=C")
    control("start", "-l", run / "log", "-o", f"-k {run} -h ''")
    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(asyncio.run, _make_template(instance)).result()
        yield
    finally:
        control("stop", "-m", "immediate")


async def _make_template(instance: Path) -> None:
    await _administer(instance, f"CREATE DATABASE {TEMPLATE}")
    async with Database(instance, TEMPLATE).connect("owner") as connection:
        await migrate(connection, NOW)


@asynccontextmanager
async def fresh_database(instance: Path, template: str = TEMPLATE) -> AsyncIterator[Database]:
    """A copy of `template`, dropped afterwards whoever is still connected."""
    name = f"test_{next(_NUMBERS)}"
    await _administer(instance, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield Database(instance, name)
    finally:
        await _administer(instance, f"DROP DATABASE {name} WITH (FORCE)")


async def _administer(instance: Path, command: str) -> None:
    async with Database(instance, "postgres").connect("owner") as connection:
        await connection.execute(command)
