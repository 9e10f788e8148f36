"""A primary and a hot standby that streams from it, of the binaries that prefca brings along."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import asyncpg

from issuer.postgres import cluster
from settings.database import socket_directory
from tests.support.database import Database, reachable_directory

NAME = "prefca"
OWNER = "prefca"
# It hears from an idle primary every second, and looks for a primary that came back as often.
STANDBY = {"wal_receiver_timeout": "2s", "wal_retrieve_retry_interval": "1s"}


@dataclass(frozen=True)
class Server:
    """One PostgreSQL; `Database` finds it where the embedded one of the instance would be."""

    instance: Path

    @property
    def database(self) -> Database:
        """The database on it."""
        return Database(self.instance, NAME)

    @property
    def sockets(self) -> Path:
        """The directory of its socket."""
        return socket_directory(self.instance)

    @property
    def data(self) -> Path:
        """Its cluster."""
        return self.sockets.with_name("data")

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run a program of PostgreSQL, as the account that may."""
        account = cluster._account(self.data)
        for directory in (self.sockets.parent, self.sockets, self.data):
            if not directory.exists():
                directory.mkdir(mode=0o700, parents=True)
                cluster._make_private(directory, account)
        binaries = cluster._binaries(account)
        subprocess.run([binaries / program, *arguments], cwd="/", check=True, **cluster._as(account))

    def start(self, **settings: str) -> None:
        """Start it, and wait until it takes connections."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self.sockets), "fsync": "off"} | settings
        line = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self.run("pg_ctl", "start", "-s", "-w", "-D", self.data, "-l", self.sockets / "log", "-o", line)

    def stop(self) -> None:
        """End it like a power failure."""
        self.run("pg_ctl", "stop", "-s", "-m", "immediate", "-D", self.data)

    def promote(self) -> None:
        """Make a standby the primary."""
        self.run("pg_ctl", "promote", "-s", "-w", "-D", self.data)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection as the superuser, whatever the server is now."""
        connection = await asyncpg.connect(host=str(self.sockets), user=OWNER, database=NAME)
        try:
            yield connection
        finally:
            await connection.close()


@dataclass(frozen=True)
class Pair:
    """Two servers with one content."""

    primary: Server
    standby: Server

    def dsn(self, wanted: str) -> str:
        """A DSN that names both, the primary first; `wanted` is what target_session_attrs says."""
        hosts = f"{self.primary.sockets},{self.standby.sockets}"
        return f"postgresql:///{NAME}?" + urlencode({"host": hosts, "port": "5432", "target_session_attrs": wanted})

    async def caught_up(self) -> None:
        """Wait until the standby has what the primary has."""
        async with self.primary.connect() as primary, self.standby.connect() as standby:
            end = await primary.fetchval("SELECT pg_current_wal_lsn()::text")
            while not await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end):
                pass


@contextmanager
def replicated() -> Iterator[Pair]:
    """A primary without anything on it, and its standby; both are gone afterwards."""
    with reachable_directory() as directory:
        pair = Pair(Server(directory / "primary"), Server(directory / "standby"))
        primary, standby = pair.primary, pair.standby
        primary.run("pg_ctl", "initdb", "-s", "-D", primary.data, "-o", f"-U {OWNER} -A trust -E UTF8 --locale=C -N")
        primary.start()
        try:
            primary.run("createdb", "-h", primary.sockets, "-U", OWNER, NAME)
            standby.run(
                *("pg_basebackup", "-h", primary.sockets, "-U", OWNER, "-D", standby.data),
                *("-R", "-X", "stream", "-c", "fast", "--no-sync"),
            )
            standby.start(**STANDBY)
            try:
                yield pair
            finally:
                standby.stop()
        finally:
            if primary.data.joinpath("postmaster.pid").exists():
                primary.stop()
