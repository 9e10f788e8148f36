"""`prefca journal`, `report`: what every process wrote down, proof that it is all there, and what is made from it."""

import asyncio
import base64
import json
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import click

from issuer import collection, journal_media, proof
from issuer.cli.journal_desk import DAY, MONTH, days, desk_of
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import REFUSED_STATUS, now, run, settings_of
from issuer.collection import Collected
from issuer.errors import RefusedError
from issuer.journal_store import SegmentRow
from issuer.municipality import PREFECTURES
from issuer.provision_report import ProvisionReport, as_csv, as_html, as_json, month_after, provisions
from journal.reading import TamperedError, read_segment
from journal.seal import spki
from settings.load import Settings


@click.group()
def journal() -> None:
    """The record of every access and operation (監査ログ, 利用履歴): collect, verify, prove."""


@journal.command("collect")
@click.option("--retired", metavar="HOST", help="This host will never write again: all it wrote is here.")
@json_option
@click.pass_context
def collect_command(context: click.Context, retired: str | None, as_json: bool) -> None:
    """Move sealed segments to the archive, count what they tell of, and sign a root over them.

    The scheduler does it every day. One host collects for all; others refuse. Exit status 3 if a segment is not what
    its process wrote.
    """
    settings = settings_of(context)
    collected, root, complete = run(collect(settings, retired))
    if as_json:
        print_json(
            {
                "segments": collected.segments,
                "records": collected.records,
                "root": root,
                "refused": collected.refused,
                "complete_until": complete,
            }
        )
    else:
        click.echo(f"{collected.segments} segments with {collected.records} records are in the archive")
        for host, moment in complete.items():
            if host != settings.journal.host:
                click.echo(f"of host {host!r} everything is here until {moment:%Y-%m-%d %H:%M:%S} UTC")
        for refusal in collected.refused:
            click.echo(f"prefca: {refusal}; look at the file, it stays where it is", err=True)
    if collected.refused:
        context.exit(REFUSED_STATUS)


async def collect(settings: Settings, retired: str | None) -> tuple[Collected, int | None, dict[str, datetime]]:
    """Collect everything that is sealed, and sign a root over it; until when everything of each host is there."""
    async with desk_of(settings) as desk:
        journals, operations = desk.journals, desk.operations
        collected = await collection.collect(journals, operations, desk.places, now())
        key = collection.issuer_key(desk.places, await journals.streams())
        root = await proof.make_root(journals, operations, key, now())
        if retired is not None:
            async with operations.transaction():
                if not await journals.retire(retired):
                    raise RefusedError(f"no segment of a host {retired!r} was ever collected; correct its name")
                await operations.record("journal_host_retired", now(), retired)
        return collected, root, await journals.complete_hosts()


@journal.command("list")
@click.option("--from", "begin", type=DAY, help="First day, in Japan.")
@click.option("--to", "end", type=DAY, help="Last day, in Japan.")
@json_option
@click.pass_context
def list_command(context: click.Context, begin: datetime | None, end: datetime | None, as_json: bool) -> None:
    """List the segments in the archive."""

    async def segments(settings: Settings) -> list[SegmentRow]:
        async with desk_of(settings) as desk:
            return await desk.journals.segments(*days(begin, end))

    rows = [
        {
            "stream": one.stream,
            "segment": one.number,
            "began": one.began,
            "sealed_at": one.sealed_at,
            "records": one.records,
            "file": one.file,
        }
        for one in run(segments(settings_of(context)))
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ["stream", "segment", "began", "sealed at", "records", "file"], [list(row.values()) for row in rows]
        )


@journal.command("verify")
@click.option("--from", "begin", type=DAY, help="First day, in Japan.  [default: all]")
@click.option("--to", "end", type=DAY, help="Last day, in Japan.")
@json_option
@click.pass_context
def verify_command(context: click.Context, begin: datetime | None, end: datetime | None, as_json: bool) -> None:
    """Prove that no record was changed, removed, inserted or reordered; name the first bad place of each segment.

    Checked are chains, signatures, archive files, roots, and what waits to be collected. Exit status 3 if anything is
    wrong. Told without that are a clock that was set back, which may have had to be, and what the auditor deleted.
    """
    checked, findings, notes = run(_verify(settings_of(context), *days(begin, end)))
    if as_json:
        print_json({"segments": checked, "findings": findings, "notes": notes})
    else:
        for said in (*findings, *notes):
            click.echo(f"prefca: {said}", err=True)
        click.echo(f"{checked} segments checked: " + (f"{len(findings)} findings" if findings else "nothing is wrong"))
    if findings:
        context.exit(REFUSED_STATUS)


async def _verify(settings: Settings, begin: datetime | None, end: datetime | None) -> tuple[int, list[str], list[str]]:
    async with desk_of(settings) as desk:
        streams = await desk.journals.streams()
        segments = await desk.journals.segments()
        findings = await proof.check_roots(desk.journals, streams.get(collection.STREAM))
        for _, rows in groupby(segments, key=lambda one: one.stream):
            findings += proof.check_chain(list(rows))
        wanted = [one for one in segments if _overlaps(one, begin, end)]
        notes: list[str] = []
        deletions = await desk.audits.deletions()
        for one in wanted:
            deletion = deletions.get((one.stream, one.number))
            if deletion is not None:
                notes.append(f"{one.file}: deleted {deletion.deleted_at:%Y-%m-%d} by {deletion.origin}")
                continue
            checked = await asyncio.to_thread(proof.check_archived, desk.places.archive, one, streams[one.stream])
            findings += [checked.finding] if checked.finding else []
            notes += checked.notes
        waiting = sorted(desk.places.segments.glob("**/*.jsonl"))
        findings += [finding for file in waiting if (finding := await asyncio.to_thread(_waiting, file))]
        return len(wanted) + len(waiting), findings, notes


def _overlaps(one: SegmentRow, begin: datetime | None, end: datetime | None) -> bool:
    return (begin is None or one.sealed_at >= begin) and (end is None or one.began < end)


def _waiting(file: Path) -> str | None:
    """What is wrong with a segment that is not collected yet; its last line may be in the middle of being written."""
    try:
        with file.open("rb") as lines:
            read_segment(line for line in lines if line.endswith(b"\n"))
    except TamperedError as e:
        return f"{file}: {e}"
    return None


@journal.command("prove")
@click.argument("stream")
@click.argument("segment", type=click.IntRange(1))
@click.argument("record", type=click.IntRange(1))
@click.pass_context
def prove_command(context: click.Context, stream: str, segment: int, record: int) -> None:
    """Print a proof that the archive holds a RECORD (its number in the SEGMENT of the STREAM).

    Anybody can check it, with nothing but scripts/check-journal-proof and the issuer's journal key.
    """

    async def work(settings: Settings) -> dict[str, object]:
        async with desk_of(settings) as desk:
            if (stream, segment) in await desk.audits.deletions():
                raise RefusedError(f"segment {segment} of {stream} was deleted here; look for it on exported media")
            return await proof.prove(desk.journals, desk.places.archive, stream, segment, record)

    click.echo(json.dumps(run(work(settings_of(context))), ensure_ascii=False, indent=1))


@journal.command("export")
@click.argument("directory", type=click.Path(file_okay=False, resolve_path=True, path_type=Path))
@click.option("--from", "begin", type=DAY, help="First day, in Japan.  [default: all]")
@click.option("--to", "end", type=DAY, help="Last day, in Japan.")
@click.pass_context
def export_command(context: click.Context, directory: Path, begin: datetime | None, end: datetime | None) -> None:
    """Copy the archive, with what proves it, to external media (R-4-11-6, R-4-12-2-4); `check` reads it years later.

    Segments that the auditor deleted here stay named there, if they are on these media already.
    """

    async def work(settings: Settings) -> int:
        async with desk_of(settings) as desk:
            deleted = await desk.audits.deletions()
            segments = [
                one
                for one in await desk.journals.segments(*days(begin, end))
                if (one.stream, one.number) not in deleted or (directory / one.file).exists()
            ]
            keys, roots = await desk.journals.streams(), await desk.journals.roots()
            await asyncio.to_thread(journal_media.write, directory, desk.places.archive, segments, keys, roots)
            async with desk.operations.transaction():
                await desk.audits.add_exports(segments, str(directory), now())
                about = f"{len(segments)} segments to {directory}"
                await desk.operations.record("journal_exported", now(), about)
            return len(segments)

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    click.echo(f"{run(work(settings_of(context)))} segments are in {directory}, named in {journal_media.SUMS}")


@journal.command("check")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def check_command(directory: Path) -> None:
    """Read exported media again, every year (R-4-12-2-6); nothing but the media is needed.

    Exit status 3 if a file is missing, cannot be read, or is not what was written.
    """
    findings = list(journal_media.check(directory))
    for finding in findings:
        click.echo(f"prefca: {finding}", err=True)
    if findings:
        raise RefusedError(f"{len(findings)} findings in {directory}; make the media again from the archive")
    click.echo("everything can be read, and is what was written")


@journal.command("key")
@click.pass_context
def key_command(context: click.Context) -> None:
    """Print the public key that signs roots, for those who check proofs: base64 of its SubjectPublicKeyInfo."""

    async def work(settings: Settings) -> bytes:
        async with desk_of(settings) as desk:
            return spki(collection.issuer_key(desk.places, await desk.journals.streams()))

    click.echo(base64.b64encode(run(work(settings_of(context)))).decode())


@click.group()
def report() -> None:
    """Reports that the rule asks for."""


@report.command("provision")
@click.option("--month", type=MONTH, required=True, help="Year and month in Japan, such as 2026-10.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json", "html", "pdf"]),
    default="csv",
    show_default=True,
    help="The form.",
)
@click.option("-o", "--output", type=click.File("wb"), default="-", help="A file.")
@click.pass_context
def provision_command(context: click.Context, month: datetime, form: str, output: BinaryIO) -> None:
    """提供状況報告書: how many items each relying party was given in a month, and how (R-4-5-1).

    Counted is what `prefca journal collect` has collected; the report says whether that is all of the month.
    """
    made = run(_provision(settings_of(context), month.date()))
    if form == "pdf":
        from issuer.provision_pdf import as_pdf  # slow: no other command should pay for it

        output.write(as_pdf(made))
    else:
        output.write({"csv": as_csv, "json": as_json, "html": as_html}[form](made).encode())
    if not made.is_complete:
        click.echo("prefca: the month is not over, or not all of its journals are collected yet", err=True)


async def _provision(settings: Settings, month: date) -> ProvisionReport:
    async with desk_of(settings) as desk:
        usage = await desk.journals.usage(month, month_after(month))
        parties = await desk.parties.relying_parties()
        return ProvisionReport(
            prefectures=tuple(PREFECTURES[one.prefecture].name_ja for one in settings.cas),
            month=month,
            made_at=now(),
            complete_until=await desk.journals.complete_until(),
            provisions=provisions(usage, {party.name: party.description for party in parties}),
        )


COMMANDS = (journal, report)
