"""How commands print: a table for people, JSON for scripts, progress on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS: Final = 240

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """One JSON value, indented; times as RFC 3339, Japanese as it is."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def json_line(value: dict[str, Any]) -> str:
    """One line of a JSON Lines file."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def text(value: object) -> str:
    """One value for people; times as RFC 3339."""
    return str(_plain(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; a script that reads it through a pipe should ask for JSON instead."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text(cell)) for cell in row))  # else brackets in a name would be rich's markup
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_COLUMNS  # a pipe has no width: do not fold at 80
    console.print(table)


def progress(unit: str) -> Progress:
    """A bar with the rest of the time, on standard error and only on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _plain(value: object) -> object:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
