"""`prefca archive export`: what is kept, from the database and the archive to a directory on external media.

Media come back from where others could get at them, and what they hold is signed again. So of what is there only what
our own key has signed is believed; all else is compared with the database, and written anew. Nothing is written before
it is known that the database has everything that would be replaced: these media may be the only ones with the rest.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from issuer.archive import archive_media, collection, journal_media, stamping
from issuer.archive.archive_media import Bundle
from issuer.archive.desk import Desk, desk_of
from issuer.archive.journal_media import Proofs
from issuer.errors import IssuerError, RefusedError
from issuer.installation import origin
from issuer.records.archive_store import KINDS, Amount, ArchiveKind
from issuer.records.journal_store import SegmentRow
from issuer.records.media_store import Written
from issuer.rules import media
from issuer.rules.provision_report import month_after
from journal.seal import spki
from pkix.validity import zulu
from settings.load import Settings

Months = tuple[date | None, date | None]  # the first and the last; None: without end


@dataclass(frozen=True, slots=True)
class Exported:
    """What is on the media."""

    files: int  # of months
    segments: int  # of journals, that this run put or found there
    new: int  # files of months that this run wrote
    medium: str  # the name of these media


@dataclass(frozen=True, slots=True)
class _Due:
    """A file of a month that has to be written, or written again."""

    kind: ArchiveKind
    month: date

    @property
    def file(self) -> str:
        return archive_media.file_of(self.kind, self.month)

    @property
    def moments(self) -> tuple[datetime, datetime]:
        return media.begin_of(self.month), media.begin_of(month_after(self.month))


async def export(
    settings: Settings, directory: Path, months: Months, name: str, clock: Callable[[], datetime]
) -> tuple[Exported, list[str]]:
    """Add what is missing to a directory; with what somebody has to know of it.

    Args:
        settings: of the instance.
        directory: on the media.
        months: that are wanted.
        name: of new media; those that have a name keep it.
        clock: tells the time.

    Raises:
        RefusedError: another host has the archive; the media hold what the database does not have; or a damaged copy
            cannot be replaced.
        OSError: archive or media cannot be read or written.
    """
    now = clock()
    async with desk_of(settings) as desk:
        key = collection.issuer_key(desk.places, await desk.journals.streams())
        signed = archive_media.signed(directory, spki(key))
        medium, bundles = signed.medium or name, dict(signed.bundles)
        # Under its name a medium is known to hold what it ever held: it goes there again if somebody took it out.
        wanted = [_from_to(months), *(await desk.media.months_on(medium))]
        async with desk.operations.snapshot():
            due = await _due(desk, directory, bundles, wanted, now)
            await _require_known(desk, directory, due, bundles)
            segments = await _write_journal(desk, directory, months, medium)
            new = await _write_months(desk, directory, due, bundles, now)
        lists = archive_media.lists(directory, bundles.values(), spki(key), medium, now)
        time_stamp, complaint = await _stamped(settings, lists.statement)
        archive_media.write_lists(directory, lists, key, time_stamp)
        async with desk.operations.transaction():
            written = Written(medium, str(directory), await _whole(desk, months, now), segments)
            await desk.media.add_export(written, origin(), now)
            about = f"{len(segments)} segments and {len(bundles)} files of months to {directory}"
            doubt = None if signed.doubt is None else {"doubt": signed.doubt}
            await desk.operations.record("archive_exported", now, about, doubt)
    return Exported(len(bundles), len(segments), new, medium), _complaints(signed.doubt, complaint)


def _complaints(doubt: str | None, no_stamp: str | None) -> list[str]:
    told = []
    if doubt is not None:
        told.append(
            f"{doubt}: somebody changed these media, they are damaged, or an export was killed; what they hold was"
            " compared with the database, and written anew"
        )
    if no_stamp is not None:
        told.append(f"without a time stamp: {no_stamp}")
    return told


def _from_to(months: Months) -> tuple[date, date]:
    return months[0] or date.min, months[1] or date.max


async def _whole(desk: Desk, wanted: Months, now: datetime) -> tuple[date, date] | None:
    """The first and the last month that are on the media now."""
    first = await desk.media.began()
    begin, end = _from_to(wanted)
    found = [] if first is None else [one for one in media.months(first, now) if begin <= one <= end]
    return (found[0], found[-1]) if found else None


async def _write_journal(desk: Desk, directory: Path, months: Months, medium: str) -> list[SegmentRow]:
    """Segments that are wanted, that are there, and that ever were on this medium.

    Those that the auditor deleted here stay there, if they are on these media already.
    """
    target = directory / archive_media.JOURNAL
    begin, end = months
    wanted = await desk.journals.segments(
        None if begin is None else media.begin_of(begin),
        None if end is None else media.begin_of(month_after(end)),
    )
    every, deleted = await desk.journals.segments(), await desk.audits.deletions()
    places = ({(one.stream, one.number) for one in wanted} - deleted.keys()) | await desk.media.segments_on(medium)
    segments = [one for one in every if (one.stream, one.number) in places or (target / one.file).exists()]
    stamps = await desk.journals.stamps()
    keys, roots, under = await desk.journals.streams(), await desk.journals.roots(), await desk.journals.places()
    proofs = Proofs(keys, roots, list(stamps.values()), under)
    await asyncio.to_thread(journal_media.require_known, target, every, proofs)
    target.mkdir(mode=0o700, exist_ok=True)
    await asyncio.to_thread(journal_media.write, target, desk.places.archive, segments, proofs)
    return segments


async def _due(
    desk: Desk, directory: Path, bundles: Mapping[str, Bundle], wanted: Sequence[tuple[date, date]], now: datetime
) -> list[_Due]:
    """What is not there, damaged, signed by nobody, or less or more than the database has."""
    due = []
    for kind in KINDS:
        first = await desk.archive.first(kind)
        months = [] if first is None else list(media.months(first, now))
        if not months:
            continue
        amounts = await desk.archive.amounts(kind, media.begin_of(months[0]), media.begin_of(month_after(months[-1])))
        for month, amount in sorted(amounts.items()):
            one = _Due(kind, month)
            there = bundles.get(one.file)
            is_wanted = any(begin <= month <= end for begin, end in wanted)
            if there is None:
                is_due = is_wanted or (directory / one.file).exists()
            else:
                is_due = is_wanted and not await asyncio.to_thread(_is_as_known, directory, there, amount)
            if is_due:
                due.append(one)
    return due


def _is_as_known(directory: Path, there: Bundle, amount: Amount) -> bool:
    """Is a file what was signed, and as much as the database has?"""
    said = (there.items, there.first, there.last)
    known = (amount.items, zulu(amount.first), zulu(amount.last))
    return said == known and archive_media.is_whole(directory, there)


async def _require_known(desk: Desk, directory: Path, due: Sequence[_Due], bundles: Mapping[str, Bundle]) -> None:
    """Refuse media with anything of a month that is nowhere else."""
    for one in due:
        left = await asyncio.to_thread(archive_media.digests, directory / one.file)
        if left:
            async for item in desk.archive.items(one.kind, *one.moments):
                left.discard(archive_media.digest(item.line.encode()))
        if left:
            raise RefusedError(
                f"{directory / one.file} has {len(left)} items that the database does not have; {journal_media.KEEP}"
            )
    known = {one.file for one in due} | bundles.keys()
    for kind in KINDS:
        for file in sorted((directory / kind.name).glob("*.jsonl.zst")):
            if f"{kind.name}/{file.name}" not in known:
                raise RefusedError(f"{file} is of a month of which the database has nothing; {journal_media.KEEP}")


async def _write_months(
    desk: Desk, directory: Path, due: Sequence[_Due], bundles: dict[str, Bundle], now: datetime
) -> int:
    """Write what is due; how many files."""
    new = 0
    for one in due:
        items = desk.archive.items(one.kind, *one.moments)
        bundle = await archive_media.write_bundle(directory, one.kind, one.month, items, now)
        if bundle is not None:
            bundles[one.file] = bundle
            new += 1
    return new


async def _stamped(settings: Settings, statement: str) -> tuple[bytes | None, str | None]:
    if settings.archive.time_stamp_authority is None:
        return None, None
    try:
        response, _ = await stamping.stamp(stamping.authority(settings), statement.encode())
    except IssuerError as e:
        return None, str(e)
    return response, None
