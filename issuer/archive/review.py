"""Where the records of a period are: in the archive, in what is not collected yet, and in the database."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from issuer.archive.collection import OPERATIONS_AT_A_TIME, STREAM, Places, Waiting, operation_line, waiting
from issuer.archive.proof import archived_records
from issuer.records.audit_store import AuditStore
from issuer.records.journal_store import JournalStore, SegmentRow
from issuer.records.store import Store
from issuer.rules.audit import Period


@dataclass(frozen=True, slots=True)
class Sources:
    """All records of a period, and some before and after it; none is there twice."""

    archive: Path
    segments: Sequence[SegmentRow]
    waiting: Sequence[Waiting]
    operations: Sequence[bytes]  # of the issuer, that are not collected yet: from the database, where they are final
    deleted: int  # segments of the period whose files are no more

    def records(self) -> Iterator[bytes]:
        """Each record. Blocks.

        Raises:
            OSError: a file of the archive cannot be read.
            zstandard.ZstdError: it is damaged.
        """
        for segment in self.segments:
            yield from archived_records(self.archive, segment)
        for one in self.waiting:
            yield from one.records()
        yield from self.operations


@contextlib.asynccontextmanager
async def sources(
    journals: JournalStore, audits: AuditStore, operations: Store, places: Places, period: Period
) -> AsyncIterator[Sources]:
    """The records of a period, whatever is collected meanwhile."""
    with waiting(places.segments) as left:
        async with operations.snapshot():
            segments = await journals.segments(*period.moments)
            not_collected = [
                one for one in left if one.stream != STREAM and await journals.segment(one.stream, one.number) is None
            ]
            written, deleted = await journals.operations_written(), await audits.deletions()
        yield Sources(
            places.archive,
            [one for one in segments if (one.stream, one.number) not in deleted],
            not_collected,
            [line async for line in _operations(journals, written)],
            sum((one.stream, one.number) in deleted for one in segments),
        )


async def _operations(journals: JournalStore, last: int) -> AsyncIterator[bytes]:
    while rows := await journals.operations_after(last, OPERATIONS_AT_A_TIME):
        for row in rows:
            yield operation_line(row)
        last = rows[-1]["record_id"]
