"""Brings the schema of a database up to what this program knows."""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Final

import asyncpg

from issuer.errors import RefusedError

OLDEST_SERVER: Final = 15  # UNIQUE … NULLS NOT DISTINCT
LOCK_KEY: Final = int.from_bytes(b"prefca")  # of pg_advisory_lock: one migration at a time in one database
_FILE_NAME: Final = re.compile(r"(?P<number>\d{3})_\w+\.sql")


class MigrationError(RefusedError):
    """The schema cannot be brought up to date; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of issuer/sql/migrations. Its place in the order and its text never change once it is released."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        """What the database remembers of the text."""
        return hashlib.sha256(self.sql.encode()).digest()


async def migrate(connection: asyncpg.Connection, now: datetime) -> list[str]:
    """Apply the migrations that the database does not have yet, each in a transaction of its own.

    Args:
        connection: as the owner of the schema, outside a transaction.
        now: recorded as the time of application.

    Returns:
        The names of the files applied.

    Raises:
        MigrationError: server or program too old, a migration changed after it was applied, or one refused.
    """
    version = connection.get_server_version().major
    if version < OLDEST_SERVER:
        raise MigrationError(f"PostgreSQL {version} is too old; install {OLDEST_SERVER} or later")
    migrations = _migrations()
    async with _alone(connection):
        pending = _pending(migrations, await _applied(connection))
        for migration in pending:
            await _apply(connection, migration, now)
    return [migration.name for migration in pending]


async def is_current(connection: asyncpg.Connection) -> bool:
    """Has the database exactly the migrations of this program?"""
    try:
        rows = await connection.fetch("SELECT number, sha256 FROM schema_migration ORDER BY number")
    except asyncpg.UndefinedTableError:
        return False
    return [tuple(row) for row in rows] == [(migration.number, migration.sha256) for migration in _migrations()]


def _migrations() -> list[Migration]:
    files = resources.files("issuer.records.sql.migrations").iterdir()
    named = [(match, file) for file in files if (match := _FILE_NAME.fullmatch(file.name))]
    return sorted(
        (Migration(int(match["number"]), file.name, file.read_text(encoding="utf-8")) for match, file in named),
        key=lambda migration: migration.number,
    )


def _pending(migrations: list[Migration], applied: Mapping[int, tuple[str, bytes]]) -> list[Migration]:
    """What is still to be applied, after a check of what was.

    Args:
        migrations: all that the program knows, in order.
        applied: number to name and SHA-256, as the database remembers them.
    """
    known = {migration.number for migration in migrations}
    for number, (name, _) in applied.items():
        if number not in known:
            raise MigrationError(f"the database has {name}, which this program does not know; install a newer prefca")
    for migration in migrations:
        if applied.get(migration.number, ("", migration.sha256))[1] != migration.sha256:
            raise MigrationError(
                f"{migration.name} was changed after it was applied; install the prefca that applied it"
            )
    return [migration for migration in migrations if migration.number not in applied]


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK_KEY)


async def _applied(connection: asyncpg.Connection) -> dict[int, tuple[str, bytes]]:
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migration (
            number     smallint PRIMARY KEY,
            name       text NOT NULL,
            sha256     bytea NOT NULL,
            applied_at timestamptz NOT NULL
        )"""
    )
    rows = await connection.fetch("SELECT number, name, sha256 FROM schema_migration ORDER BY number")
    return {row["number"]: (row["name"], row["sha256"]) for row in rows}


async def _apply(connection: asyncpg.Connection, migration: Migration, now: datetime) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migration (number, name, sha256, applied_at) VALUES ($1, $2, $3, $4)",
                migration.number,
                migration.name,
                migration.sha256,
                now,
            )
    except asyncpg.InsufficientPrivilegeError as e:
        raise MigrationError(f"{migration.name}: {e}; run it as the owner of the database, with CREATEROLE") from e
    except asyncpg.PostgresError as e:
        raise MigrationError(f"{migration.name}: {e}") from e
