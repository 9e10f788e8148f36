"""`prefca issue`: certificates of residents from the notices of their municipalities."""

import os
import secrets
from binascii import b2a_base64
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import click

from issuer.cli.notice_files import (
    Task,
    count_lines,
    first_certificate,
    lines,
    print_done,
    results_beside,
    results_option,
    work_through,
)
from issuer.cli.output import json_option
from issuer.cli.results import Done, Results, Written, open_results, written
from issuer.cli.root import now, run, settings_of
from issuer.errors import KeyReplacedError
from issuer.installation import ActiveKey, Installation, opened, secret_for
from issuer.residents.clerks import Clerks, Employment, clerk_processes
from issuer.residents.registration import Issued, open_desk, register
from issuer.signing.key_use import UsedKey, used_key
from settings.load import Settings

BULK_LINES: Final = 1000  # more are worth the half second that processes take to start


def _outcome(issued: Issued) -> Written:
    return written(
        issued.line,
        issued.notice_number,
        "issued_before" if issued.again else "issued",
        serial=f"{issued.serial:016X}",
        certificate=b2a_base64(issued.certificate, newline=False).decode(),
    )


TASK: Final = Task("issuing", "issued", _outcome)


@click.command()
@click.argument("notices", type=click.File("rb"))
@results_option
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="How many processes work on a long file; more for a token that signs several at once.  [default: one a core]",
)
@json_option
@click.pass_context
def issue(context: click.Context, notices: BinaryIO, results: Path | None, processes: int, as_json: bool) -> None:
    """Issue what the lines of NOTICES ask for: JSON Lines with 基本4情報 and a public key, as docs/integrate.md tells.

    A line that cannot be issued is reported and stops no other. Run again after an interruption: it goes on where it
    was, and a notice that was issued already gives the same certificate, while that is valid. If another key of the CA
    takes over meanwhile, the rest is issued with that. Exit status 3 if any line was refused.
    """
    settings = settings_of(context)
    results = results or results_beside(notices)
    done = run(_issue(settings, notices, results, processes))
    print_done(context, TASK, done, results, as_json=as_json)


async def _issue(settings: Settings, notices: BinaryIO, file: Path, processes: int) -> Done:
    """Issue with the key that is active; if another one takes over meanwhile, the rest with that."""
    results: Results | None = None
    async with opened(settings) as installation:
        with ExitStack() as files:
            while True:
                secret = await secret_for(installation)
                async with used_key(installation, "certificates", now, secret) as key:
                    if results is None:  # only now: a run that cannot begin leaves what the last one wrote
                        ca = await first_certificate(installation)
                        results = files.enter_context(open_results(file, notices, TASK.doing, ca))
                    employment = _employment(installation, key, secret)
                    try:
                        await _issue_rest(installation, key, notices, results, (employment, processes))
                    except KeyReplacedError:
                        if not notices.seekable():  # what was read ahead is lost
                            raise
                    else:
                        return results.done
                click.echo("another key of the CA took over; the rest is issued with that", err=True)


async def _issue_rest(
    installation: Installation,
    key: UsedKey,
    notices: BinaryIO,
    results: Results,
    staff: tuple[Employment, int],
) -> None:
    total, after = count_lines(notices), results.done.line
    rest = lines(notices, after)
    first = list(islice(rest, BULK_LINES + 1))
    async with _clerks(key, *staff, is_bulk=len(first) > BULK_LINES) as clerks:
        desk = await open_desk(installation, key, now, secrets.token_bytes, clerks)
        await work_through(TASK, results, total, register(desk, chain(first, rest), after=after))


def _employment(installation: Installation, key: ActiveKey, secret: str) -> Employment:
    return Employment(
        installation.settings, secret, key.generation.key_reference, installation.authority, key.generation.certificate
    )


@asynccontextmanager
async def _clerks(
    key: UsedKey, employment: Employment, processes: int, *, is_bulk: bool
) -> AsyncIterator[Clerks | None]:
    if not is_bulk:
        yield None
        return
    async with clerk_processes(employment, processes) as clerks:
        try:
            yield clerks
        finally:
            key.signer.signatures += clerks.signatures


COMMANDS = (issue,)
