"""Segments as processes write them, for tests of what is done with them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from journal.record import Record, kind, peer, result, several, stamp
from journal.recovery import StreamPlace
from journal.writing import Journal

NOW: Final = datetime(2026, 10, 15, 3, tzinfo=UTC)


def answered(party: str | None, result: str = "good", at: datetime = NOW) -> Record:
    """An OCSP answer about one certificate."""
    return Record(at, "ocsp_request", result, party, "192.0.2.1", "5A00000000000001", 1500)


def together(*records: Record) -> bytes:
    """Records that have time, kind and peer in common, as one line."""
    one = records[0]
    common = stamp(one.at) + kind(one.kind) + peer(one.party, one.origin, one.by)
    return several(common, [result(each.result, each.object, each.size) for each in records])


def started(instance: Path, stream: str, *records: Record, now: datetime = NOW) -> Journal:
    """A process that has written these and goes on."""
    journal = Journal(StreamPlace(instance / "journal", instance / "keys" / "journal", stream), now)
    for record in records:
        journal.append(record)
    journal.flush()
    return journal


def written(instance: Path, stream: str, *records: Record) -> None:
    """A process ran, wrote these and ended."""
    journal = started(instance, stream)
    for number, record in enumerate(records, 1):
        journal.append(record)
        if number % 10 == 0:
            journal.checkpoint(NOW)
    journal.close(NOW + timedelta(seconds=1))
