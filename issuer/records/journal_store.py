"""All SQL about what was collected from the journals."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import asyncpg

from issuer.errors import NotNowError
from issuer.rules.audit import Stream
from issuer.rules.usage import Amount, Use

WRITERS_TRIES: Final = 600
WRITERS_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A segment in the archive. Its fields are the columns of journal_segment."""

    stream: str
    number: int
    began: datetime
    sealed_at: datetime
    records: int
    octets: int
    sha256: bytes
    previous: bytes
    merkle_root: bytes
    file: str  # below the archive directory
    file_sha256: bytes
    collected_at: datetime


@dataclass(frozen=True, slots=True)
class RootRow:
    """A signed Merkle root."""

    number: int
    statement: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class StampRow:
    """The time stamp of a root."""

    number: int  # of the root
    response: bytes  # DER of the TimeStampResp
    stamped_at: datetime  # as the authority says


_SEGMENT = (
    "SELECT stream, number, began, sealed_at, records, octets, sha256, previous, merkle_root, file, file_sha256,"
    " collected_at FROM journal_segment"
)


class JournalStore:
    """Streams, segments, roots and usage, as role prefca_issuer; transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def lock(self) -> bool:
        """Be the only one who collects while the connection lives; False: another one does."""
        taken: bool = await self._connection.fetchval("SELECT pg_try_advisory_lock(4, 0)")
        return taken

    async def unlock(self) -> None:
        """Let others collect."""
        await self._connection.execute("SELECT pg_advisory_unlock(4, 0)")

    async def streams(self) -> dict[str, bytes]:
        """The key of every stream."""
        rows = await self._connection.fetch("SELECT stream, key FROM journal_stream ORDER BY stream")
        return {row["stream"]: row["key"] for row in rows}

    async def first_sights(self) -> list[Stream]:
        """Every stream, as it was first seen."""
        rows = await self._connection.fetch(
            "SELECT s.stream, sha256(s.key), s.first_seen, g.number, g.began FROM journal_stream s LEFT JOIN LATERAL"
            " (SELECT number, began FROM journal_segment WHERE stream = s.stream ORDER BY number LIMIT 1) g ON true"
            " ORDER BY s.stream"
        )
        return [Stream(*row) for row in rows]

    async def add_stream(self, stream: str, key: bytes, now: datetime) -> None:
        """Take over a key."""
        await self._connection.execute(
            "INSERT INTO journal_stream (stream, key, first_seen) VALUES ($1, $2, $3)", stream, key, now
        )

    async def segment(self, stream: str, number: int) -> SegmentRow | None:
        """A segment that was collected."""
        row = await self._connection.fetchrow(f"{_SEGMENT} WHERE stream = $1 AND number = $2", stream, number)
        return None if row is None else SegmentRow(*row)

    async def segments(self, begin: datetime | None = None, end: datetime | None = None) -> list[SegmentRow]:
        """All segments that have records between two moments, stream by stream."""
        rows = await self._connection.fetch(
            f"{_SEGMENT} WHERE ($1::timestamptz IS NULL OR sealed_at >= $1)"
            " AND ($2::timestamptz IS NULL OR began < $2) ORDER BY stream, number",
            begin,
            end,
        )
        return [SegmentRow(*row) for row in rows]

    async def add_segment(self, row: SegmentRow, usage: Mapping[Use, Amount]) -> None:
        """Record a segment, and add what it counts."""
        await self._connection.execute(
            "INSERT INTO journal_segment (stream, number, began, sealed_at, records, octets, sha256, previous,"
            " merkle_root, file, file_sha256, collected_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            row.stream,
            row.number,
            row.began,
            row.sealed_at,
            row.records,
            row.octets,
            row.sha256,
            row.previous,
            row.merkle_root,
            row.file,
            row.file_sha256,
            row.collected_at,
        )
        await self._connection.executemany(
            "INSERT INTO usage (day, kind, result, attribute, party, items, octets) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            " ON CONFLICT (day, kind, result, attribute, party)"
            " DO UPDATE SET items = usage.items + excluded.items, octets = usage.octets + excluded.octets",
            [
                (use.day, use.kind, use.result, use.attribute, use.party, amount.items, amount.octets)
                for use, amount in usage.items()
            ],
        )

    async def without_root(self) -> list[SegmentRow]:
        """Segments that no root covers yet, in the order of its tree."""
        rows = await self._connection.fetch(
            f"{_SEGMENT} s WHERE NOT EXISTS"
            " (SELECT FROM journal_root_leaf l WHERE l.stream = s.stream AND l.segment = s.number)"
            " ORDER BY stream, number"
        )
        return [SegmentRow(*row) for row in rows]

    async def add_root(self, root: RootRow, leaves: Sequence[SegmentRow], now: datetime) -> None:
        """Record a root over these segments."""
        await self._connection.execute(
            "INSERT INTO journal_root (number, statement, signature, made_at) VALUES ($1, $2, $3, $4)",
            root.number,
            root.statement,
            root.signature,
            now,
        )
        await self._connection.executemany(
            "INSERT INTO journal_root_leaf (number, position, stream, segment) VALUES ($1, $2, $3, $4)",
            [(root.number, position, leaf.stream, leaf.number) for position, leaf in enumerate(leaves)],
        )

    async def roots(self) -> list[RootRow]:
        """All roots, in their order."""
        rows = await self._connection.fetch("SELECT number, statement, signature FROM journal_root ORDER BY number")
        return [RootRow(*row) for row in rows]

    async def stamps(self) -> dict[int, StampRow]:
        """The time stamps of roots, by the number of the root."""
        rows = await self._connection.fetch(
            "SELECT number, response, stamped_at FROM journal_root_stamp ORDER BY number"
        )
        return {row["number"]: StampRow(*row) for row in rows}

    async def unstamped_since(self) -> datetime | None:
        """When the oldest root was made that no time stamp proves; None: the newest one has its stamp."""
        found: datetime | None = await self._connection.fetchval(
            "SELECT min(made_at) FROM journal_root"
            " WHERE number > (SELECT coalesce(max(number), 0) FROM journal_root_stamp)"
        )
        return found

    async def add_stamp(self, stamp: StampRow, now: datetime) -> None:
        """Record the time stamp of a root; one that came meanwhile stays."""
        await self._connection.execute(
            "INSERT INTO journal_root_stamp (number, response, stamped_at, received_at) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (number) DO NOTHING",
            stamp.number,
            stamp.response,
            stamp.stamped_at,
            now,
        )

    async def leaves(self, number: int) -> list[SegmentRow]:
        """The segments under a root, in their order."""
        rows = await self._connection.fetch(
            "SELECT s.stream, s.number, began, sealed_at, records, octets, sha256, previous, merkle_root, file,"
            " file_sha256, collected_at FROM journal_segment s"
            " JOIN journal_root_leaf l ON l.stream = s.stream AND l.segment = s.number"
            " WHERE l.number = $1 ORDER BY l.position",
            number,
        )
        return [SegmentRow(*row) for row in rows]

    async def places(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Under which root each segment is, and where in its tree, by stream and number."""
        rows = await self._connection.fetch("SELECT stream, segment, number, position FROM journal_root_leaf")
        return {(row["stream"], row["segment"]): (row["number"], row["position"]) for row in rows}

    async def root_of(self, stream: str, segment: int) -> int | None:
        """The number of the root above a segment."""
        found: int | None = await self._connection.fetchval(
            "SELECT number FROM journal_root_leaf WHERE stream = $1 AND segment = $2", stream, segment
        )
        return found

    async def usage(self, begin: date, end: date) -> dict[Use, Amount]:
        """What was counted from day `begin` to the day before `end`."""
        rows = await self._connection.fetch(
            "SELECT day, kind, result, attribute, party, items, octets FROM usage WHERE day >= $1 AND day < $2"
            " ORDER BY day, kind, result, attribute, party",
            begin,
            end,
        )
        return {Use(*row[:5]): Amount(row["items"], row["octets"]) for row in rows}

    async def operations_written(self) -> int:
        """The highest number of an operation record in a segment that was collected."""
        last: int = await self._connection.fetchval("SELECT operations FROM journal_progress")
        return last

    async def operations_are_written(self, last: int) -> None:
        """Note it."""
        await self._connection.execute("UPDATE journal_progress SET operations = greatest(operations, $1)", last)

    async def complete_until(self) -> datetime | None:
        """Until when everything of all hosts is counted; None: nothing was collected yet."""
        return min((await self.complete_hosts()).values(), default=None)

    async def collected_until(self) -> datetime | None:
        """Until when everything of any host is counted; None: nothing was collected yet.

        Nobody is ahead of the host that collects by more than its day: so this stands still when that does.
        """
        found: datetime | None = await self._connection.fetchval("SELECT max(complete_until) FROM journal_host")
        return found

    async def complete_hosts(self) -> dict[str, datetime]:
        """Until when everything is counted of each host that is not retired."""
        rows = await self._connection.fetch(
            "SELECT host, complete_until FROM journal_host WHERE NOT retired ORDER BY host"
        )
        return {row["host"]: row["complete_until"] for row in rows}

    async def newest_seals(self) -> dict[str, datetime]:
        """When the newest segment of each stream was sealed."""
        rows = await self._connection.fetch("SELECT stream, max(sealed_at) AS at FROM journal_segment GROUP BY stream")
        return {row["stream"]: row["at"] for row in rows}

    async def are_complete_until(self, moments: Mapping[str, datetime]) -> None:
        """Note it for each host; one of which something new has come is not retired."""
        await self._connection.executemany(
            "INSERT INTO journal_host (host, complete_until) VALUES ($1, $2)"
            " ON CONFLICT (host) DO UPDATE SET complete_until = excluded.complete_until,"
            " retired = journal_host.retired AND excluded.complete_until = journal_host.complete_until",
            list(moments.items()),
        )

    async def retire(self, host: str) -> bool:
        """All that this host ever wrote is here; False: it is not known."""
        done: str = await self._connection.execute("UPDATE journal_host SET retired = true WHERE host = $1", host)
        return done != "UPDATE 0"

    async def operations_after(self, record_id: int, limit: int) -> list[asyncpg.Record]:
        """Operation records with a higher number, in their order; waits for those that are being written.

        Raises:
            NotNowError: an act does not end.
        """
        await self._wait_for_writers()
        rows: list[asyncpg.Record] = await self._connection.fetch(
            "SELECT record_id, at, kind, result, origin, object FROM operation_record"
            " WHERE record_id > $1 ORDER BY record_id LIMIT $2",
            record_id,
            limit,
        )
        return rows

    async def _wait_for_writers(self) -> None:
        """Find a moment at which nobody has taken a number and not committed.

        It is tried, and not waited for in the queue of the lock: everybody who acts would wait behind us.
        """
        for _ in range(WRITERS_TRIES):
            if await self._connection.fetchval(
                "SELECT CASE WHEN pg_try_advisory_lock(5, 0) THEN pg_advisory_unlock(5, 0) ELSE false END"
            ):
                return
            await asyncio.sleep(WRITERS_PAUSE_S)
        raise NotNowError(
            f"acts have been under way for {WRITERS_TRIES * WRITERS_PAUSE_S:.0f} s; run it again when they have ended,"
            " or see which session of PostgreSQL hangs"
        )
