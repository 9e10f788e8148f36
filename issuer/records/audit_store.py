"""All SQL about the auditor's work: reviews, deletions, and what he has looked into."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from issuer.records.journal_store import SegmentRow

SegmentKey = tuple[str, int]  # stream and number


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who deleted the file of a segment."""

    deleted_at: datetime
    origin: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Who has looked into something that was found."""

    accepted_at: datetime
    origin: str
    note: str


class AuditStore:
    """Reviews, deletions and acceptances, as role prefca_issuer; transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def reviewed_until(self) -> datetime | None:
        """The end of the last review; None: there was none."""
        found: datetime | None = await self._connection.fetchval("SELECT max(until) FROM audit_review")
        return found

    async def unreviewed_since(self) -> datetime | None:
        """The beginning of what was collected and is in no review; None: there is nothing."""
        found: datetime | None = await self._connection.fetchval(
            "SELECT min(greatest(began, until)) FROM journal_segment,"
            " (SELECT coalesce(max(until), '-infinity') AS until FROM audit_review) AS reviewed WHERE sealed_at > until"
        )
        return found

    async def add_review(self, until: datetime, origin: str, note: str, now: datetime) -> None:
        """Everything until then was reviewed.

        Raises:
            asyncpg.UniqueViolationError: another review is being recorded.
        """
        await self._connection.execute(
            "INSERT INTO audit_review (number, until, origin, note, reviewed_at)"
            " SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4 FROM audit_review",
            until,
            origin,
            note,
            now,
        )

    async def acceptances(self) -> dict[str, Acceptance]:
        """What was found and is looked into, by what was told."""
        rows = await self._connection.fetch("SELECT finding, accepted_at, origin, note FROM audit_acceptance")
        return {row["finding"]: Acceptance(row["accepted_at"], row["origin"], row["note"]) for row in rows}

    async def accept(self, finding: str, one: Acceptance) -> None:
        """Record that a finding was looked into."""
        await self._connection.execute(
            "INSERT INTO audit_acceptance (finding, accepted_at, origin, note) VALUES ($1, $2, $3, $4)",
            finding,
            one.accepted_at,
            one.origin,
            one.note,
        )

    async def deletions(self) -> dict[SegmentKey, Deletion]:
        """The segments whose files were deleted."""
        rows = await self._connection.fetch("SELECT stream, segment, deleted_at, origin FROM journal_deletion")
        return {(row["stream"], row["segment"]): Deletion(row["deleted_at"], row["origin"]) for row in rows}

    async def add_deletions(self, segments: Iterable[SegmentRow], origin: str, now: datetime) -> None:
        """The files of segments are going to be deleted."""
        await self._connection.executemany(
            "INSERT INTO journal_deletion (stream, segment, deleted_at, origin) VALUES ($1, $2, $3, $4)",
            [(one.stream, one.number, now, origin) for one in segments],
        )
