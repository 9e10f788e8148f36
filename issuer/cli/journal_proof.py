"""`prefca journal verify`, `prove`, `stamp`: proof that the journals are whole, and since when."""

import json
from datetime import datetime

import click

from issuer.archive import proof, stamping, verification
from issuer.archive.desk import desk_of
from issuer.archive.verification import Verified
from issuer.cli.auditor import require_auditor
from issuer.cli.days import DAY, days
from issuer.cli.output import json_option, print_json
from issuer.cli.root import REFUSED_STATUS, now, run, settings_of
from issuer.errors import RefusedError
from issuer.records.journal_store import StampRow
from settings.load import Settings


@click.command("verify")
@click.option("--from", "begin", type=DAY, help="First day, in Japan.  [default: all]")
@click.option("--to", "end", type=DAY, help="Last day, in Japan.")
@json_option
@click.pass_context
def verify_command(context: click.Context, begin: datetime | None, end: datetime | None, as_json: bool) -> None:
    """Prove that no record was changed, removed, inserted or reordered; name the first bad place of each segment.

    Checked are chains, signatures, archive files, roots, their time stamps, and what waits to be collected, beside what
    its processes noted. Exit status 3 if anything is wrong. Told without that are a clock that was set back, which may
    have had to be, and what the auditor deleted.
    """
    settings = settings_of(context)

    async def work() -> Verified:
        async with desk_of(settings) as desk:
            trusted = stamping.trusted(settings)
            return await verification.verify(desk.journals, desk.audits, desk.places, days(begin, end), trusted)

    found = run(work())
    if as_json:
        print_json({"segments": found.segments, "findings": found.findings, "notes": found.notes})
    else:
        for said in (*found.findings, *found.notes):
            click.echo(f"prefca: {said}", err=True)
        told = f"{len(found.findings)} findings" if found.findings else "nothing is wrong"
        click.echo(f"{found.segments} segments checked: {told}")
    if found.findings:
        context.exit(REFUSED_STATUS)


@click.command("prove")
@click.argument("stream")
@click.argument("segment", type=click.IntRange(1))
@click.argument("record", type=click.IntRange(1))
@click.pass_context
def prove_command(context: click.Context, stream: str, segment: int, record: int) -> None:
    """Print a proof that the archive holds a RECORD (its number in the SEGMENT of the STREAM).

    For the internal auditor, because it shows the record. Anybody whom he gives it can check it, with nothing but
    scripts/check-journal-proof and the issuer's journal key.
    """

    async def work(settings: Settings) -> dict[str, object]:
        async with desk_of(settings) as desk:
            await require_auditor(settings, desk, "prove")
            if (stream, segment) in await desk.audits.deletions():
                raise RefusedError(f"segment {segment} of {stream} was deleted here; look for it on exported media")
            made = await proof.prove(desk.journals, desk.places.archive, stream, segment, record)
            async with desk.operations.transaction():  # before anybody sees it
                await desk.operations.record("audit_prove", now(), f"record {record} of segment {segment} of {stream}")
            return made

    click.echo(json.dumps(run(work(settings_of(context))), ensure_ascii=False, indent=1))


@click.command("stamp")
@json_option
@click.pass_context
def stamp_command(context: click.Context, as_json: bool) -> None:
    """Have the newest root stamped by the authority `archive.time_stamp_authority` (RFC 3161), if it is not yet.

    It proves all roots before it too. The scheduler does it after every collection, and tries again until it is done.
    """
    settings = settings_of(context)
    authority = stamping.authority(settings)

    async def work() -> StampRow | None:
        async with desk_of(settings) as desk:
            return await stamping.stamp_newest(desk.journals, desk.operations, authority, now)

    stamp = run(work())
    if as_json:
        print_json({"root": stamp and stamp.number, "stamped_at": stamp and stamp.stamped_at})
    elif stamp is None:
        click.echo("the newest root has its time stamp, or there is no root yet")
    else:
        click.echo(f"root {stamp.number} was stamped {stamp.stamped_at:%Y-%m-%dT%H:%M:%SZ}")
