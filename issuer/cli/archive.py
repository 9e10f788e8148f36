"""`prefca archive`: what is kept for ten years and longer (R-4-12-2), its copies, and the daily backup."""

import asyncio
import base64
import secrets
import shlex
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path

import click

from issuer import children
from issuer.archive import archive_export, archive_media, stamping
from issuer.archive.collection import STREAM
from issuer.archive.desk import desk_of
from issuer.cli.days import MONTH
from issuer.cli.output import json_option, print_json
from issuer.cli.root import now, run, settings_of
from issuer.errors import NotNowError, RefusedError
from issuer.installation import connected, database, origin, require_database
from issuer.records.backup_store import BackupStore
from issuer.records.store import Store
from issuer.rules.media import Reading
from settings.load import ConfigurationError, Settings

_NAME_OCTETS = 4  # of a medium


@click.group()
def archive() -> None:
    """The archive (R-4-12-2): everything that is kept for ten years and longer."""


@archive.command("export")
@click.argument("directory", type=click.Path(file_okay=False, resolve_path=True, path_type=Path))
@click.option("--from", "begin", type=MONTH, help="First month, in Japan.  [default: all]")
@click.option("--to", "end", type=MONTH, help="Last month, in Japan.")
@json_option
@click.pass_context
def export_command(
    context: click.Context, directory: Path, begin: datetime | None, end: datetime | None, as_json: bool
) -> None:
    """Copy the archive to external media, monthly (R-4-11-6, R-4-12-2-4); `check` reads it years later.

    Everything of R-4-12-2-1: certificates, revocations, lists and acts of each month that is over, and all segments of
    the journals that are collected. It adds to what is there, and makes damaged copies again. Of what is there it
    believes only what this instance signed; media with anything that the database does not have are refused.
    """
    settings = settings_of(context)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    months, name = (_day(begin), _day(end)), secrets.token_hex(_NAME_OCTETS)
    exported, complaints = run(archive_export.export(settings, directory, months, name, now))
    for complaint in complaints:
        click.echo(f"prefca: {complaint}", err=True)
    if as_json:
        print_json(asdict(exported))
    else:
        click.echo(
            f"{exported.files} files of months and {exported.segments} segments are in {directory}, named in"
            f" {archive_media.MANIFEST}; {exported.new} are new; label it medium {exported.medium}"
        )


def _day(month: datetime | None) -> date | None:
    return None if month is None else month.date()


@archive.command("check")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path))
@click.option("--key", help="What `prefca journal key` printed: who must have signed.  [default: whoever did]")
@click.option(
    "--time-stamp-roots",
    "roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: who must have certified the authority for time stamps.  [default: they are not checked]",
)
@click.option(
    "--record",
    "is_recorded",
    is_flag=True,
    help="Record in the instance that these media were read; it must have signed.",
)
@click.pass_context
def check_command(
    context: click.Context, directory: Path, key: str | None, roots: Path | None, is_recorded: bool
) -> None:
    """Read exported media again, every year (R-4-12-2-6); nothing but the media is needed.

    Exit status 3 if a file is missing, cannot be read, or is not what was written. It says when nothing there has to be
    kept any more.
    """
    try:
        octets = None if key is None else base64.b64decode(key, validate=True)
    except ValueError as e:
        raise click.UsageError("--key is no base64; give it what `prefca journal key` printed.") from e
    if is_recorded and octets is None:
        octets = run(_own_key(settings_of(context)))
    trust = archive_media.Trust(octets, () if roots is None else stamping.certificates(roots))
    findings = list(archive_media.check(directory, trust))
    if is_recorded and not run(_record_check(settings_of(context), directory, len(findings))):
        findings.append("nobody can tell which media these are; `prefca archive export` gives them a name")
    for finding in findings:
        click.echo(f"prefca: {finding}", err=True)
    if findings:
        raise RefusedError(
            f"{len(findings)} findings in {directory}; `prefca archive export` makes the media again from the database,"
            " or says why it cannot"
        )
    click.echo("everything can be read, and is what was written")
    click.echo(f"nothing here has to be kept after {archive_media.last_day(directory)}")


async def _own_key(settings: Settings) -> bytes | None:
    async with desk_of(settings) as desk:
        return (await desk.journals.streams()).get(STREAM)


async def _record_check(settings: Settings, directory: Path, findings: int) -> bool:
    """Record that media were read; False: nobody can tell which."""
    async with desk_of(settings) as desk, desk.operations.transaction():
        await desk.operations.record("archive_checked", now(), str(directory), {"findings": findings})
        medium, stated_at = archive_media.named(directory)
        medium = medium or await desk.media.medium_in(str(directory))
        if medium is not None:
            await desk.media.add_reading(medium, Reading(now(), stated_at, findings), origin())
        return medium is not None


@archive.command("backup")
@json_option
@click.pass_context
def backup_command(context: click.Context, as_json: bool) -> None:
    """Run the daily backup, `archive.backup_command`, now (R-4-11-6, R-4-12-2-4), and record that it succeeded.

    The scheduler does it every day after it has collected the journals, and tells when it fails or is late. What the
    command prints last is told if it fails.
    """
    done_at = run(_back_up(settings_of(context)))
    if as_json:
        print_json({"done_at": done_at})
    else:
        click.echo(f"the backup was done {done_at:%Y-%m-%dT%H:%M:%SZ}")


async def _back_up(settings: Settings) -> datetime:
    words = settings.archive.backup_command
    if not words:
        raise ConfigurationError("there is no backup to run; set `archive.backup_command`")
    require_database(settings)
    async with database(settings):
        failure = await _failure(words, settings)
        async with connected(settings) as connection:
            store, ended = Store(connection, origin()), now()
            async with store.transaction():
                if failure is not None:
                    await store.record_failure("backup", ended, shlex.join(words))
                else:
                    await BackupStore(connection).add(ended, origin(), shlex.join(words))
                    await store.record("backup", ended, shlex.join(words))
    if failure is not None:
        raise NotNowError(f"the backup failed: {failure}; mend it, and run `prefca archive backup`")
    return ended


async def _failure(words: tuple[str, ...], settings: Settings) -> str | None:
    """Run a command in the instance directory; why it failed, None if it did not."""
    timeout_s = settings.archive.backup_timeout_min * 60
    try:
        process = await asyncio.create_subprocess_exec(
            *words, cwd=settings.instance, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
    except OSError as e:
        return f"{words[0]}: {e.strerror}"
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await process.communicate()
    except TimeoutError:
        return f"it did not end within {settings.archive.backup_timeout_min} min and was stopped"
    finally:
        await children.stop(process)
    if process.returncode == 0:
        return None
    last = said.decode(errors="replace").rstrip().rpartition("\n")[2]
    return f"{words[0]} ended with status {process.returncode}" + (f": {last}" if last else "")


COMMANDS = (archive,)
