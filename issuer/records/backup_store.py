"""All SQL about daily backups."""

from datetime import datetime

import asyncpg


class BackupStore:
    """When backups succeeded, as role prefca_issuer; transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def last(self) -> datetime | None:
        """The last one; None: there was none."""
        found: datetime | None = await self._connection.fetchval("SELECT max(done_at) FROM backup_run")
        return found

    async def add(self, done_at: datetime, origin: str, command: str) -> None:
        """Record one that succeeded."""
        await self._connection.execute(
            "INSERT INTO backup_run (done_at, origin, command) VALUES ($1, $2, $3)", done_at, origin, command
        )
