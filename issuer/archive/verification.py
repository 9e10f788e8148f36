"""`prefca journal verify`: everything that can be proved about the journals, put together."""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

import zstandard
from cryptography.x509 import Certificate

from issuer.archive import proof, waiting_check
from issuer.archive.collection import (
    STREAM,
    Places,
    Waiting,
    known_keys,
    operation_number,
    require_same,
    strangers,
    waiting,
)
from issuer.records.audit_store import AuditStore
from issuer.records.journal_store import JournalStore, RootRow, SegmentRow, StampRow
from issuer.rules.time_stamp import NoTimeStampError, stamped_at
from issuer.rules.usage import Amount, UsageCounter
from journal.reading import TamperedError
from pkix.validity import day_in_japan

CLOCK_TOLERANCE: Final = timedelta(minutes=5)  # between our clock and that of the authority for time stamps
LATE_STAMP: Final = timedelta(hours=26)  # a day's root is stamped on its day, with time to try again


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found."""

    segments: int  # that were read
    findings: list[str] = field(default_factory=list)  # something was changed, removed, inserted or reordered
    notes: list[str] = field(default_factory=list)  # what somebody may want to ask about


async def verify(
    journals: JournalStore,
    audits: AuditStore,
    places: Places,
    moments: tuple[datetime | None, datetime | None],
    trusted: Sequence[Certificate],
) -> Verified:
    """Check everything, and read the archived segments of a period.

    Args:
        journals: of the installation.
        audits: who deleted what.
        places: where segments are.
        moments: from the first to before the second; None is without end.
        trusted: who may have certified the authority for time stamps; none: time stamps cannot be checked.

    Raises:
        OSError: what is not collected yet cannot be read.
    """
    connected = await check_connections(journals, audits, places)
    findings = [*await proof.check_roots(journals, connected.keys.get(STREAM)), *connected.findings]
    roots, stamps = await journals.roots(), await journals.stamps()
    wrong, notes = check_stamps(roots, stamps, trusted)
    wanted = [one for one in connected.archived if _overlaps(one, *moments)]
    counter, unread = UsageCounter(), set[date]()
    more = await _read_archived(audits, places, wanted, connected.keys, counter, unread)
    if moments == (None, None):
        more.findings.extend(await _miscounted(journals, wanted, counter, unread))
    return Verified(
        len(wanted) + connected.waiting,
        [*findings, *wrong, *more.findings],
        [*_times_of_roots(roots), *notes, *connected.notes, *more.notes],
    )


@dataclass(frozen=True, slots=True)
class Connections:
    """Segments held against each other, the archive and what their processes noted."""

    archived: Sequence[SegmentRow]
    waiting: int  # segments that are not collected yet
    keys: Mapping[str, bytes]
    findings: Sequence[str]
    notes: Sequence[str]


async def check_connections(journals: JournalStore, audits: AuditStore, places: Places) -> Connections:
    """Is anything missing, added or exchanged? What is in the archive is not read for that.

    What the auditor has looked into is a note.

    Raises:
        OSError: what is not collected yet cannot be read.
    """
    noted = await asyncio.to_thread(waiting_check.notes, places.segments, places.keys)
    acts = await journals.operations_written()
    with waiting(places.segments) as left:
        # Asked afterwards: what was collected meanwhile is not missed.
        segments, collected_keys = await journals.segments(), await journals.streams()
        keys = known_keys(places.keys, collected_keys)
        rows = {(one.stream, one.number): one for one in segments}
        not_collected = [one for one in left if (one.stream, one.number) not in rows]
        findings = await asyncio.to_thread(strangers, places.segments)
        findings += _not_the_same(left, rows)
        for _, its in groupby(segments, key=lambda one: one.stream):
            findings += proof.check_chain(list(its))
        checked = await asyncio.to_thread(waiting_check.check_waiting, not_collected, segments, keys, places.host)
        findings += checked.findings
        findings += await asyncio.to_thread(_acts_left_out, places.archive, segments, acts)
        findings += waiting_check.check_notes(noted, not_collected, segments)
    accepted = await audits.acceptances()
    return Connections(
        segments,
        len(not_collected),
        keys,
        [one for one in findings if one not in accepted],
        [
            *(f"{one}: looked into by {accepted[one].origin}" for one in findings if one in accepted),
            *proof.times(segments),
            *checked.notes,
        ],
    )


def _acts_left_out(archive: Path, segments: Sequence[SegmentRow], acts: int) -> list[str]:
    """Is the act from which collecting goes on the last one of the archive?"""
    newest = next((one for one in reversed(segments) if one.stream == STREAM), None)
    if newest is None:
        last = 0
    else:
        try:
            (line,) = deque(proof.archived_records(archive, newest), maxlen=1)
        except (OSError, ValueError, zstandard.ZstdError):
            return []  # the auditor has deleted it; of damage the check of the file tells
        last = operation_number(line)
    told = f"{STREAM}: acts until {acts} are said to be in the archive, which ends with {last}"
    return [told] if acts > last else []


def _not_the_same(left: Iterable[Waiting], rows: Mapping[tuple[str, int], SegmentRow]) -> Iterator[str]:
    """Segments beside their namesakes in the archive: there is one, if collecting was interrupted."""
    for one in left:
        row = rows.get((one.stream, one.number))
        if row is not None:
            try:
                require_same(one.file, row)
            except TamperedError as e:
                yield f"{one.file_name}: {e}"


def _overlaps(one: SegmentRow, begin: datetime | None, end: datetime | None) -> bool:
    return (begin is None or one.sealed_at >= begin) and (end is None or one.began < end)


async def _read_archived(  # noqa: PLR0913 - what is read, and what comes of it
    audits: AuditStore,
    places: Places,
    wanted: Sequence[SegmentRow],
    keys: Mapping[str, bytes],
    counter: UsageCounter,
    unread: set[date],
) -> Verified:
    """Read the archived segments; of what days not all was read is added to `unread`."""
    read = Verified(len(wanted))
    deletions = await audits.deletions()
    for one in wanted:
        deletion = deletions.get((one.stream, one.number))
        if deletion is not None:
            read.notes.append(f"{one.file}: deleted {deletion.deleted_at:%Y-%m-%d} by {deletion.origin}")
            unread.update(_days(one))
            continue
        checked = await asyncio.to_thread(proof.check_archived, places.archive, one, keys[one.stream], counter)
        if checked.finding:
            read.findings.append(checked.finding)
            unread.update(_days(one))
        read.notes.extend(checked.notes)
    return read


def _days(one: SegmentRow) -> Iterator[date]:
    """The days in Japan of which a segment may tell."""
    day, last = day_in_japan(one.began), day_in_japan(one.sealed_at)
    while day <= last:
        yield day
        day += timedelta(days=1)


async def _miscounted(
    journals: JournalStore, read: Sequence[SegmentRow], counter: UsageCounter, unread: Collection[date]
) -> list[str]:
    """What reports and fees go by, held against the records themselves."""
    counted, stored = counter.totals(), await journals.usage(date.min, date.max)
    if await journals.segments() != list(read):
        return []  # more was collected meanwhile
    wrong = {
        use: (stored.get(use, Amount()), counted.get(use, Amount()))
        for use in sorted({*counted, *stored})
        if use.party and use.day not in unread and stored.get(use) != counted.get(use)
    }
    return [
        f"usage of {use.day}: {use.kind} {use.result} of {use.party} is counted {said.items} times with"
        f" {said.octets} octets; the archive has {found.items} with {found.octets}"
        for use, (said, found) in wrong.items()
    ]


def check_stamps(
    roots: Sequence[RootRow], stamps: Mapping[int, StampRow], trusted: Sequence[Certificate]
) -> tuple[list[str], list[str]]:
    """What is wrong with the time stamps of roots, and what may be asked about."""
    if stamps and not trusted:
        return [], [f"{len(stamps)} time stamps were not checked: set `archive.time_stamp_roots`"]
    findings: list[str] = []
    notes: list[str] = []
    statements = {root.number: root for root in roots}
    for number, stamp in stamps.items():
        try:
            at = stamped_at(stamp.response, statements[number].statement, trusted)
        except NoTimeStampError as e:
            findings.append(f"root {number}: its time stamp proves nothing: {e}")
            continue
        except KeyError:
            findings.append(f"root {number}: there is a time stamp of it, and no root")
            continue
        notes += _against(statements[number], at)
    return findings, notes


def _against(root: RootRow, stamped: datetime) -> Iterator[str]:
    """Our time of a root beside that of the authority, which nobody here can set."""
    at = proof.made_at(root)
    if at - stamped > CLOCK_TOLERANCE:
        yield f"root {root.number}: made {at:%Y-%m-%dT%H:%M:%SZ} by our clock, after its time stamp: it was ahead"
    elif stamped - at > LATE_STAMP:
        yield (
            f"root {root.number}: made {at:%Y-%m-%dT%H:%M:%SZ} by our clock, stamped only {stamped:%Y-%m-%dT%H:%M:%SZ}:"
            " the clock was set back, or the authority was away"
        )


def _times_of_roots(roots: Sequence[RootRow]) -> Iterator[str]:
    for earlier, later in pairwise(roots):
        if proof.made_at(earlier) - proof.made_at(later) > CLOCK_TOLERANCE:
            yield f"root {later.number}: made before root {earlier.number}, by our clock: it was set back"
