"""All SQL about external media with the archive: what was written to which, and when they were read again."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from issuer.records.journal_store import SegmentRow
from issuer.rules.media import Export, MediaSight, Reading


@dataclass(frozen=True, slots=True)
class Written:
    """What an export put on a medium, or found there."""

    medium: str
    directory: str
    months: tuple[date, date] | None  # the first and the last, with all between them
    segments: Iterable[SegmentRow]


class MediaStore:
    """Exports and readings, as role prefca_issuer; transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def began(self) -> datetime | None:
        """The time of the first act: nothing of the archive is older."""
        found: datetime | None = await self._connection.fetchval(
            "SELECT at FROM operation_record ORDER BY record_id LIMIT 1"
        )
        return found

    async def add_export(self, written: Written, origin: str, now: datetime) -> None:
        """Something was written."""
        first, last = written.months or (None, None)
        await self._connection.execute(
            "INSERT INTO archive_export (medium, exported_at, directory, origin, first_month, last_month)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            written.medium,
            now,
            written.directory,
            origin,
            first,
            last,
        )
        await self._connection.executemany(
            "INSERT INTO journal_export (stream, segment, exported_at, directory) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT DO NOTHING",
            [(one.stream, one.number, now, written.directory) for one in written.segments],
        )

    async def months_on(self, medium: str) -> list[tuple[date, date]]:
        """Which months its exports brought or found there: the first and the last of each."""
        rows = await self._connection.fetch(
            "SELECT DISTINCT first_month, last_month FROM archive_export WHERE medium = $1 AND first_month IS NOT NULL",
            medium,
        )
        return [(row["first_month"], row["last_month"]) for row in rows]

    async def segments_on(self, medium: str) -> set[tuple[str, int]]:
        """Which segments its exports brought or found there, by stream and number."""
        rows = await self._connection.fetch(
            "SELECT DISTINCT stream, segment FROM journal_export JOIN archive_export USING (exported_at, directory)"
            " WHERE medium = $1",
            medium,
        )
        return {(row["stream"], row["segment"]) for row in rows}

    async def add_reading(self, medium: str, reading: Reading, origin: str) -> None:
        """A medium was read."""
        await self._connection.execute(
            "INSERT INTO archive_check (medium, checked_at, origin, stated_at, findings) VALUES ($1, $2, $3, $4, $5)",
            medium,
            reading.at,
            origin,
            reading.stated_at,
            reading.findings,
        )

    async def medium_in(self, directory: str) -> str | None:
        """The one that was last written to, under that name of a directory."""
        found: str | None = await self._connection.fetchval(
            "SELECT medium FROM archive_export WHERE directory = $1 ORDER BY exported_at DESC LIMIT 1", directory
        )
        return found

    async def sight(self) -> MediaSight:
        """All that alarms need."""
        exports = await self._connection.fetch(
            "SELECT medium, exported_at, directory, first_month, last_month FROM archive_export ORDER BY exported_at"
        )
        readings = await self._connection.fetch(
            "SELECT DISTINCT ON (medium) medium, checked_at, stated_at, findings FROM archive_check"
            " ORDER BY medium, checked_at DESC"
        )
        return MediaSight(
            await self.began(),
            tuple(Export(*row) for row in exports),
            {row["medium"]: Reading(row["checked_at"], row["stated_at"], row["findings"]) for row in readings},
        )

    async def segments(self) -> dict[tuple[str, int], bool]:
        """Which segments are on media, and whether the newest reading of one with it was of that export and good."""
        rows = await self._connection.fetch(
            "SELECT stream, segment, coalesce(bool_or(r.findings = 0"
            " AND r.stated_at >= date_trunc('second', j.exported_at)), false) AS is_read"
            " FROM journal_export j LEFT JOIN archive_export e USING (exported_at, directory)"
            " LEFT JOIN (SELECT DISTINCT ON (medium) medium, stated_at, findings FROM archive_check"
            " ORDER BY medium, checked_at DESC) r USING (medium) GROUP BY stream, segment"
        )
        return {(row["stream"], row["segment"]): row["is_read"] for row in rows}
