"""How far a long run is and how long it will take: a bar on a terminal, else now and then a line."""

import sys
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

PLAIN_LINE_EVERY_S: Final = 10


class Pace:
    """Progress through a notice file on standard error. `clock` counts seconds.

    Args:
        task: what is done with certificates, such as "issuing".
        total: lines there are; None if nobody knows.
        done: lines that an earlier run did.
    """

    def __init__(self, task: str, total: int | None, done: int, clock: Callable[[], float]) -> None:
        self._total = total
        self._first = done
        self._clock = clock
        self._begin_s = self._said_s = clock()
        self._certificates = 0
        self._bar = Progress(
            TextColumn(task),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("lines, {task.fields[pace]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", total=total, completed=done, pace="…")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, line: int, certificates: int) -> None:
        """All lines up to `line` are done; so many certificates came out since the last call."""
        self._certificates += certificates
        now_s = self._clock()
        pace = self._pace(line, max(now_s - self._begin_s, 1e-3))
        self._bar.update(self._task, completed=line, pace=pace)
        if self._bar.disable and now_s - self._said_s >= PLAIN_LINE_EVERY_S:
            self._said_s = now_s
            click.echo(f"{line:,}{'' if self._total is None else f' of {self._total:,}'} lines, {pace}", err=True)

    def tell(self, message: str) -> None:
        """Print a line without harm to the bar."""
        self._bar.console.print(message, markup=False, soft_wrap=True)

    def _pace(self, line: int, passed_s: float) -> str:
        pace = f"{self._certificates / passed_s:,.0f} certificates/s"
        if self._total is None or line <= self._first:
            return pace
        left_s = (self._total - line) * passed_s / (line - self._first)
        return f"{pace}, {timedelta(seconds=round(left_s))} left"
