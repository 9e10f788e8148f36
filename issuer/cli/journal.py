"""`prefca journal`: what every process wrote down, collected; how it is proved is in `journal_proof`."""

import asyncio
import base64
from datetime import datetime
from pathlib import Path

import click

from issuer import collection, journal_media, proof
from issuer.cli.journal_desk import DAY, days, desk_of
from issuer.cli.journal_proof import prove_command, stamp_command, verify_command
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import REFUSED_STATUS, now, run, settings_of
from issuer.collection import Collected
from issuer.errors import RefusedError
from issuer.journal_store import SegmentRow
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


for command in (verify_command, prove_command, stamp_command):
    journal.add_command(command)

COMMANDS = (journal,)
