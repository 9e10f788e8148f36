"""All SQL about an installation as a whole: what a backup tells of it, what a restored one jumps over. As its owner."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg


@dataclass(frozen=True, slots=True)
class NewestRecord:
    """The newest operation record."""

    record_id: int
    at: datetime
    kind: str
    object: str


class InstanceStore:
    """The database, as its owner."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @property
    def server_major(self) -> int:
        """The version of the server."""
        major: int = self._connection.get_server_version().major
        return major

    @asynccontextmanager
    async def exported_snapshot(self) -> AsyncIterator[str]:
        """What is read inside is of one moment; others read the same with the name of the snapshot."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            await self._connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield await self._connection.fetchval("SELECT pg_export_snapshot()")

    async def is_empty(self) -> bool:
        """Is there no table at all?"""
        empty: bool = await self._connection.fetchval(
            "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r')"
        )
        return empty

    async def was_restored_from(self, backup: str) -> bool:
        """Was the numbering jump after that restoration done?"""
        found: bool = await self._connection.fetchval(
            "SELECT EXISTS (SELECT FROM operation_record WHERE kind = 'restored' AND object = $1)", backup
        )
        return found

    async def migrations(self) -> list[str]:
        """The migrations that were applied."""
        rows = await self._connection.fetch("SELECT name FROM schema_migration ORDER BY number")
        return [row["name"] for row in rows]

    async def roles(self) -> list[str]:
        """Our roles, which the rights in a dump are for."""
        rows = await self._connection.fetch(r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'prefca\_%' ORDER BY 1")
        return [row["rolname"] for row in rows]

    async def make_roles(self, names: list[str]) -> None:
        """Make those that are missing, as the migrations do."""
        for name in sorted(set(names) - set(await self.roles())):
            quoted = await self._connection.fetchval("SELECT quote_ident($1)", name)
            await self._connection.execute(f"CREATE ROLE {quoted} LOGIN; GRANT {quoted} TO CURRENT_USER")

    async def newest_record(self) -> NewestRecord | None:
        """The newest operation record."""
        row = await self._connection.fetchrow(
            "SELECT record_id, at, kind, object FROM operation_record ORDER BY record_id DESC LIMIT 1"
        )
        return None if row is None else NewestRecord(*row)

    async def publications(self) -> list[dict[str, Any]]:
        """Of each authority the lists in force and their numbers."""
        rows = await self._connection.fetch(
            "SELECT a.prefecture, a.hierarchy, p.publication_id, p.this_update, max(o.crl_number) AS newest_number"
            " FROM authority a JOIN publication_v1 p USING (authority_id)"
            " JOIN published_object o USING (publication_id) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2"
        )
        return [dict(row) for row in rows]

    async def archived_files(self) -> list[str]:
        """The segments that lie in the archive, by their names there."""
        rows = await self._connection.fetch(
            "SELECT s.file FROM journal_segment s LEFT JOIN journal_deletion d"
            " ON (d.stream, d.segment) = (s.stream, s.number) WHERE d.stream IS NULL ORDER BY 1"
        )
        return [row["file"] for row in rows]

    async def withdraw_operations(self, reason: str, origin: str, now: datetime) -> list[tuple[int, bytes]]:
        """End what several persons may have agreed to and was not done, as far as is known; number and content."""
        if await self._connection.fetchval("SELECT to_regclass('operation_event') IS NULL"):
            return []  # a backup from before there were operations
        rows = await self._connection.fetch(
            "INSERT INTO operation_event (authority_id, number, position, event, at, origin, detail)"
            " SELECT o.authority_id, o.number, 1 + (SELECT count(*) FROM operation_event e"
            " WHERE (e.authority_id, e.number) = (o.authority_id, o.number)), 'withdrawn', $3, $2,"
            " json_build_object('reason', $1::text)::text FROM operation o"
            " WHERE NOT EXISTS (SELECT FROM operation_event e WHERE (e.authority_id, e.number)"
            " = (o.authority_id, o.number) AND e.event IN ('done', 'withdrawn'))"
            " RETURNING number, (SELECT content FROM operation o WHERE"
            " (o.authority_id, o.number) = (operation_event.authority_id, operation_event.number))",
            *(reason, origin, now),
        )
        return [(row["number"], row["content"]) for row in rows]

    async def jump(self, gap: int) -> None:
        """Leave so many numbers out, of lists, changes, publications and all else that is counted; wake all readers."""
        await self._connection.execute("UPDATE partition SET next_crl_number = next_crl_number + $1", gap)
        await self._connection.execute("UPDATE change_counter SET last = last + $1", gap)
        await self._connection.execute(
            "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, coalesce(last_value, 0) + $1)"
            " FROM pg_sequences WHERE schemaname = 'public' AND data_type = 'bigint'::regtype"
            " AND coalesce(last_value, 0) + $1 <= max_value",
            gap,
        )
        for kind in ("revocation", "generation", "access", "publication"):
            await self._connection.execute("SELECT record_changes($1, ARRAY[NULL::bigint])", kind)
