"""`prefca simulate`: years of a CA's life, checked day by day."""

import contextlib
import logging
import random
import signal
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Final

import click
import uvloop

from issuer.cli.output import json_option, print_json, progress
from issuer.cli.root import REFUSED_STATUS
from simulation.history import History
from simulation.plot import plot
from simulation.report import facts, lines
from simulation.running import simulate
from simulation.timetable import Plan, plan_of_days, plan_of_years, timetable
from simulation.world import settings_for

START: Final = date(2026, 4, 1)  # the beginning of a fiscal year
RESIDENTS: Final = 45  # on the first day
PASSABLE: Final = 0o711  # for the account of PostgreSQL, where root runs it


@click.command("simulate")
@click.option("--years", type=click.IntRange(1, 30), default=10, show_default=True, help="How long.")
@click.option("--days", type=click.IntRange(30, 400), help="Instead: what happens once in years, in so many days.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same choices again for the same number.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help=f"The first day, in Japan.  [default: {START}]")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw keys and certificates.")
@json_option
@click.pass_context
def simulate_command(
    context: click.Context,
    years: int,
    days: int | None,
    seed: int,
    start: datetime | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Let a test CA live for years in minutes, and check every day that nothing is out of order.

    It founds a CA of Toyama in a temporary directory, with a database of its own, and does what is done in these years,
    with a clock that is set: daily lists, issuing, renewals, revocations, delegates. No instance is touched.

    Exit status 3: an invariant was broken.
    """
    first = start.date() if start else START
    plan = plan_of_days(first, days, RESIDENTS) if days else plan_of_years(first, years, RESIDENTS)
    history = _run(plan, seed)
    if picture is not None:
        picture.write_text(plot(history))
    if as_json:
        print_json(facts(history))
    else:
        for line in lines(history):
            click.echo(line)
    context.exit(REFUSED_STATUS if history.broken else 0)


def _run(plan: Plan, seed: int) -> History:
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: database and directory go
    days = (plan.end - plan.start).days
    with _directory() as instance, progress("days") as bar:
        task = bar.add_task("simulating", total=days)

        def tell(moment: datetime) -> None:
            bar.update(task, completed=(moment.date() - plan.start).days)

        choices = random.Random(seed)  # noqa: S311 - so that a run can be repeated; nothing of it lasts
        return uvloop.run(simulate(plan, timetable(plan, choices), settings_for(instance), choices, tell))


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="prefca-simulation-") as name:
        directory = Path(name)
        directory.chmod(PASSABLE)
        yield directory


COMMANDS = (simulate_command,)
