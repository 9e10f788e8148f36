"""What the commands share that work through a notice file: its lines, progress, and the outcome of each line."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, Generic, TypeVar

import click

from issuer.cli.output import print_json
from issuer.cli.pace import Pace
from issuer.cli.results import Done, Results, Written, written
from issuer.cli.root import REFUSED_STATUS
from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.profiles.notice_line import MAX_LINE_BYTES
from issuer.residents.lines import Refused

T = TypeVar("T")

READ_BYTES: Final = 1_048_576
REFUSED: Final = "refused"  # a result, whatever the task

results_option = click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where each line's outcome is written, as JSON Lines.  [default: beside the file, with .results.jsonl]",
)


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """What is done with certificates for notices."""

    doing: str  # such as "issuing"
    done: str  # the result of a line for which it was done, such as "issued"
    outcome: Callable[[T], Written]  # of such a line, as the results file has it


def results_beside(notices: BinaryIO) -> Path:
    """Where results go by default; notices of the same name in two directories have two. Those of a pipe are here."""
    file = Path(notices.name)
    return file.with_name(f"{file.name}.results.jsonl") if file.is_file() else Path("notices.results.jsonl")


async def first_certificate(installation: Installation) -> bytes:
    """What a CA is known by, whichever of its keys signs: the self-signed certificate of its first one, DER.

    Raises:
        RefusedError: it has none yet.
    """
    keys = await installation.generations.keys(installation.authority_id)
    if not keys:
        raise RefusedError("this CA has no key yet, and has issued nothing; `prefca status` tells more")
    return keys[0].generation.certificate


def count_lines(notices: BinaryIO) -> int | None:
    """How many lines a file has, which is at its beginning then; None for a pipe."""
    if not notices.seekable():
        return None
    notices.seek(0)
    count, end = 0, b"\n"
    while block := notices.read(READ_BYTES):
        count, end = count + block.count(b"\n"), block[-1:]
    notices.seek(0)
    return count + (end != b"\n")


def lines(notices: BinaryIO, after: int) -> Iterator[bytes]:
    """The lines that come after so many; of one that is too long its beginning, which is refused."""
    return islice(_lines(notices), after, None)


async def work_through(
    task: Task[T], results: Results, total: int | None, batches: AsyncIterator[Sequence[T | Refused]]
) -> None:
    """Write the outcomes of each batch as it comes, and tell how far it is.

    Args:
        task: what is done.
        results: of the notices.
        total: lines that they have; None if nobody knows.
        batches: what becomes of the `lines`.
    """
    with Pace(task.doing, total, results.done.line, time.monotonic) as pace:
        async for outcomes in batches:
            told = [_refused(one) if isinstance(one, Refused) else task.outcome(one) for one in outcomes]
            results.add(told)
            for one in outcomes:
                if isinstance(one, Refused):  # its message may quote personal data: only the results have it
                    pace.tell(f"line {one.line}: {one.code}")
            pace.advance(results.done.line, sum(one.result == task.done for one in told))


def print_done(context: click.Context, task: Task[T], done: Done, results: Path, *, as_json: bool) -> None:
    """Print how many lines have which result; the context ends with the exit status."""
    counts = {word: done.results.get(word, 0) for word in (task.done, f"{task.done}_before", REFUSED)}
    if as_json:
        print_json(counts | {"results": str(results)})
    else:
        told = ", ".join(f"{word.replace('_', ' ')} {count}" for word, count in counts.items())
        click.echo(f"{told}; each line's outcome: {results}")
    context.exit(REFUSED_STATUS if counts[REFUSED] else 0)


def _refused(one: Refused) -> Written:
    return written(one.line, one.notice_number, REFUSED, code=one.code, message=one.message)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(MAX_LINE_BYTES + 1):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(READ_BYTES)
        yield line
