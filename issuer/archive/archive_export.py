"""`prefca archive export`: what is kept, from the database and the archive to a directory on external media."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from issuer.archive import archive_media, collection, journal_media, stamping
from issuer.archive.archive_media import Bundle
from issuer.archive.desk import Desk, desk_of
from issuer.archive.journal_media import Proofs
from issuer.errors import IssuerError
from issuer.installation import origin
from issuer.records.archive_store import KINDS
from issuer.records.journal_store import SegmentRow
from issuer.records.media_store import Written
from issuer.rules import media
from issuer.rules.provision_report import month_after
from journal.seal import spki
from settings.load import Settings

Months = tuple[date | None, date | None]  # the first and the last; None: without end


@dataclass(frozen=True, slots=True)
class Exported:
    """What is on the media."""

    files: int  # of months
    segments: int  # of journals, that this run put or found there
    new: int  # files of months that this run wrote
    medium: str  # the name of these media


async def export(
    settings: Settings, directory: Path, months: Months, name: str, clock: Callable[[], datetime]
) -> tuple[Exported, str | None]:
    """Add what is missing to a directory, and say why it has no time stamp; None: it has one, or none is wanted.

    Args:
        settings: of the instance.
        directory: on the media.
        months: that are wanted.
        name: of new media; those that have a name keep it.
        clock: tells the time.

    Raises:
        RefusedError: another host has the archive; the manifest there is damaged; or a damaged copy cannot be replaced.
        OSError: archive or media cannot be read or written.
    """
    now = clock()
    async with desk_of(settings) as desk:
        key = collection.issuer_key(desk.places, await desk.journals.streams())
        segments = await _write_journal(desk, directory, months)
        bundles = archive_media.listed(directory)
        new = await _write_months(desk, directory, bundles, months, now)
        medium = archive_media.named(directory)[0] or name
        statement = archive_media.write_list(directory, bundles.values(), spki(key), medium, now)
        time_stamp, complaint = await _stamped(settings, statement)
        archive_media.write_statement(directory, statement, key, time_stamp)
        async with desk.operations.transaction():
            written = Written(medium, str(directory), await _whole(desk, months, now), segments)
            await desk.media.add_export(written, origin(), now)
            about = f"{len(segments)} segments and {len(bundles)} files of months to {directory}"
            await desk.operations.record("archive_exported", now, about)
    return Exported(len(bundles), len(segments), new, medium), complaint


async def _whole(desk: Desk, wanted: Months, now: datetime) -> tuple[date, date] | None:
    """The first and the last month that are on the media now."""
    first = await desk.media.began()
    begin, end = wanted[0] or date.min, wanted[1] or date.max
    found = [] if first is None else [one for one in media.months(first, now) if begin <= one <= end]
    return (found[0], found[-1]) if found else None


async def _write_journal(desk: Desk, directory: Path, months: Months) -> list[SegmentRow]:
    """Segments that the auditor deleted here stay named there, if they are on these media already."""
    target = directory / archive_media.JOURNAL
    target.mkdir(mode=0o700, exist_ok=True)
    begin, end = months
    deleted = await desk.audits.deletions()
    segments = [
        one
        for one in await desk.journals.segments(
            None if begin is None else media.begin_of(begin),
            None if end is None else media.begin_of(month_after(end)),
        )
        if (one.stream, one.number) not in deleted or (target / one.file).exists()
    ]
    stamps = await desk.journals.stamps()
    keys, roots, places = await desk.journals.streams(), await desk.journals.roots(), await desk.journals.places()
    proofs = Proofs(keys, roots, list(stamps.values()), places)
    await asyncio.to_thread(journal_media.write, target, desk.places.archive, segments, proofs)
    return segments


async def _write_months(desk: Desk, directory: Path, bundles: dict[str, Bundle], months: Months, now: datetime) -> int:
    """Write what is not there or damaged; how many files."""
    begin, end = months[0] or date.min, months[1] or date.max
    new = 0
    async with desk.operations.snapshot():
        for kind in KINDS:
            first = await desk.archive.first(kind)
            for month in media.months(first, now) if first is not None else ():
                if not begin <= month <= end:
                    continue
                there = bundles.get(archive_media.file_of(kind, month))
                if there is not None and await asyncio.to_thread(archive_media.is_whole, directory, there):
                    continue
                moments = media.begin_of(month), media.begin_of(month_after(month))
                items = desk.archive.items(kind, *moments)
                bundle = await archive_media.write_bundle(directory, kind, month, items, now)
                if bundle is not None:
                    bundles[bundle.file] = bundle
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
