"""All SQL about activation data, and about when the CA's key may be used."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg


@dataclass(frozen=True, slots=True)
class SealedData:
    """A PIN or passphrase that was split."""

    needed: int
    shares: int
    sealed: bytes
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Activation:
    """A time in which the key may be used."""

    activation_id: int
    begins_at: datetime
    ends_at: datetime
    ended_at: datetime | None  # before its time


class ActivationStore:
    """Of all authorities, as role prefca_issuer."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def data(self, authority_id: int) -> SealedData | None:
        """What was split last."""
        row = await self._connection.fetchrow(
            "SELECT needed, shares, sealed, made_at FROM activation_data"
            " WHERE authority_id = $1 ORDER BY activation_data_id DESC LIMIT 1",
            authority_id,
        )
        return None if row is None else SealedData(**row)

    async def all_data(self, authority_id: int) -> list[SealedData]:
        """All that was ever split, in its order."""
        rows = await self._connection.fetch(
            "SELECT needed, shares, sealed, made_at FROM activation_data"
            " WHERE authority_id = $1 ORDER BY activation_data_id",
            authority_id,
        )
        return [SealedData(**row) for row in rows]

    async def add_data(self, authority_id: int, new: SealedData) -> None:
        """Keep what was split; shares of what was split before open nothing from now on."""
        await self._connection.execute(
            "INSERT INTO activation_data (authority_id, needed, shares, sealed, made_at) VALUES ($1, $2, $3, $4, $5)",
            *(authority_id, new.needed, new.shares, new.sealed, new.made_at),
        )

    async def newest(self, authority_id: int) -> Activation | None:
        """The last activation, whether it has ended or not."""
        row = await self._connection.fetchrow(
            "SELECT a.activation_id, a.begins_at, a.ends_at, e.ended_at"
            " FROM activation a LEFT JOIN activation_end e USING (activation_id)"
            " WHERE a.authority_id = $1 ORDER BY a.activation_id DESC LIMIT 1",
            authority_id,
        )
        return None if row is None else Activation(**row)

    async def is_active(self, authority_id: int) -> bool:
        """Whether the key may be used now: by the clock of the database, which nobody at this machine sets."""
        found: bool = await self._connection.fetchval(
            "SELECT EXISTS (SELECT FROM (SELECT activation_id, ends_at FROM activation WHERE authority_id = $1"
            " ORDER BY activation_id DESC LIMIT 1) a LEFT JOIN activation_end e USING (activation_id)"
            " WHERE e.activation_id IS NULL AND a.ends_at > clock_timestamp())",
            authority_id,
        )
        return found

    async def begin(self, authority_id: int, begins_at: datetime, ends_at: datetime) -> int:
        """The key may be used until then. What was said before ends with it."""
        activation_id: int = await self._connection.fetchval(
            "INSERT INTO activation (authority_id, begins_at, ends_at) VALUES ($1, $2, $3) RETURNING activation_id",
            *(authority_id, begins_at, ends_at),
        )
        return activation_id

    async def end(self, activation_id: int, now: datetime) -> None:
        """The key may not be used from now on."""
        await self._connection.execute(
            "INSERT INTO activation_end (activation_id, ended_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            *(activation_id, now),
        )
