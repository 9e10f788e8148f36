"""`prefca journal`: what every process wrote down, collected; how it is proved is in `journal_proof`."""

import base64
from datetime import datetime

import click

from issuer.archive import collection, proof, verification
from issuer.archive.collection import Collected
from issuer.archive.desk import desk_of
from issuer.cli.days import DAY, days
from issuer.cli.journal_proof import prove_command, stamp_command, verify_command
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import REFUSED_STATUS, now, run, settings_of
from issuer.errors import RefusedError
from issuer.records.journal_store import SegmentRow
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
            click.echo(f"prefca: {refusal}", err=True)
        if collected.refused:
            click.echo(
                "prefca: as long as this stands, nothing that comes later counts as complete: look into it; move files"
                " away that no process wrote; what is lost the auditor accepts (`prefca audit accept`)",
                err=True,
            )
    if collected.refused:
        context.exit(REFUSED_STATUS)


async def collect(settings: Settings, retired: str | None) -> tuple[Collected, int | None, dict[str, datetime]]:
    """Collect everything that is sealed, and sign a root over it; until when everything of each host is there."""
    async with desk_of(settings) as desk:
        journals, operations = desk.journals, desk.operations
        doubts = (await verification.check_connections(journals, desk.audits, desk.places)).findings
        collected = await collection.collect(journals, operations, desk.places, now(), doubts)
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
