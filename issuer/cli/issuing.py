"""`prefca issue`: certificates of residents from the notices of their municipalities."""

import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import click

from issuer.cli.output import json_option, print_json
from issuer.cli.pace import Pace
from issuer.cli.results import Done, Results, open_results
from issuer.cli.root import REFUSED_STATUS, now, run, settings_of
from issuer.errors import KeyReplacedError
from issuer.installation import ActiveKey, Installation, opened, secret_for
from issuer.profiles.notice_line import MAX_LINE_BYTES
from issuer.residents.clerks import Clerks, Employment, clerk_processes
from issuer.residents.registration import Issued, Refused, open_desk, register
from issuer.signing.key_use import UsedKey, used_key
from settings.load import Settings

BULK_LINES: Final = 1000  # more are worth the half second that processes take to start
READ_BYTES: Final = 1_048_576


@click.command()
@click.argument("notices", type=click.File("rb"))
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where each line's outcome is written, as JSON Lines.  [default: beside NOTICES, with .results.jsonl]",
)
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
    results = results or _beside(Path(notices.name))
    done = run(_issue(settings, notices, results, processes))
    if as_json:
        counts = {"issued": done.issued, "issued_before": done.issued_before, "refused": done.refused}
        print_json(counts | {"results": str(results)})
    else:
        click.echo(
            f"issued {done.issued}, issued before {done.issued_before}, refused {done.refused};"
            f" each line's outcome: {results}"
        )
    if done.refused:
        context.exit(REFUSED_STATUS)


def _beside(notices: Path) -> Path:
    """Where results go by default; notices of the same name in two directories have two. Those of a pipe are here."""
    return notices.with_name(f"{notices.name}.results.jsonl") if notices.is_file() else Path("notices.results.jsonl")


async def _issue(settings: Settings, notices: BinaryIO, file: Path, processes: int) -> Done:
    """Issue with the key that is active; if another one takes over meanwhile, the rest with that."""
    results: Results | None = None
    async with opened(settings) as installation:
        with ExitStack() as files:
            while True:
                secret = await secret_for(installation)
                async with used_key(installation, "certificates", now, secret) as key:
                    if results is None:  # only now: a run that cannot begin leaves what the last one wrote
                        ca = await _first_certificate(installation)
                        results = files.enter_context(open_results(file, notices, ca))
                    employment = _employment(installation, key, secret)
                    try:
                        await _issue_rest(installation, key, notices, results, (employment, processes))
                    except KeyReplacedError:
                        if not notices.seekable():  # what was read ahead is lost
                            raise
                    else:
                        return results.done
                click.echo("another key of the CA took over; the rest is issued with that", err=True)


async def _first_certificate(installation: Installation) -> bytes:
    """What a CA is known by, whichever of its keys signs: the self-signed certificate of its first one, DER."""
    first, *_ = await installation.generations.keys(installation.authority_id)
    return first.generation.certificate


async def _issue_rest(
    installation: Installation,
    key: UsedKey,
    notices: BinaryIO,
    results: Results,
    staff: tuple[Employment, int],
) -> None:
    done = results.done.line
    total = _count_lines(notices)
    lines = islice(_lines(notices), done, None)
    first = list(islice(lines, BULK_LINES + 1))
    async with _clerks(key, *staff, is_bulk=len(first) > BULK_LINES) as clerks:
        desk = await open_desk(installation, key, now, secrets.token_bytes, clerks)
        with Pace(total, done, time.monotonic) as pace:
            async for outcomes in register(desk, chain(first, lines), after=done):
                results.add(outcomes)
                for outcome in outcomes:
                    if isinstance(outcome, Refused):  # its message may quote personal data: only the results have it
                        pace.tell(f"line {outcome.line}: {outcome.code}")
                pace.advance(results.done.line, sum(isinstance(outcome, Issued) for outcome in outcomes))


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


def _count_lines(stream: BinaryIO) -> int | None:
    """How many lines a file has; None for a pipe."""
    if not stream.seekable():
        return None
    count, end = 0, b"\n"
    while block := stream.read(READ_BYTES):
        count, end = count + block.count(b"\n"), block[-1:]
    stream.seek(0)
    return count + (end != b"\n")


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines; of one that is too long its beginning, which is refused."""
    while line := stream.readline(MAX_LINE_BYTES + 1):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(READ_BYTES)
        yield line


COMMANDS = (issue,)
