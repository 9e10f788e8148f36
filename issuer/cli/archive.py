"""`prefca archive`: what is kept for ten years and longer (R-4-12-2), its copies, and the daily backup."""

import asyncio
import shlex
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from datetime import datetime

import click

from issuer import children
from issuer.backup_store import BackupStore
from issuer.cli.output import json_option, print_json
from issuer.cli.root import now, run, settings_of
from issuer.errors import NotNowError
from issuer.installation import connected, database, origin, require_database
from issuer.store import Store
from settings.load import ConfigurationError, Settings


@click.group()
def archive() -> None:
    """The archive (R-4-12-2): everything that is kept for ten years and longer."""


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
                    await store.record_refusal("backup", ended, shlex.join(words))
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
        said, _ = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        return f"it did not end within {settings.archive.backup_timeout_min} min and was stopped"
    finally:
        await children.stop(process)
    if process.returncode == 0:
        return None
    last = said.decode(errors="replace").rstrip().rpartition("\n")[2]
    return f"{words[0]} ended with status {process.returncode}" + (f": {last}" if last else "")


COMMANDS = (archive,)
