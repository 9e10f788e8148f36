"""`prefca usage`: how many items each relying party was given, also those that are not collected yet."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from issuer.archive.collection import known_keys, waiting, with_its_key
from issuer.archive.desk import desk_of
from issuer.archive.live_usage import UsageFollower
from issuer.cli.days import DAY, MONTH, today
from issuer.cli.output import json_line, json_option, print_json, print_table
from issuer.cli.root import now, run, settings_of
from issuer.rules.provision_report import ANONYMOUS, Provision, month_after, provisions
from issuer.rules.usage import Amount, Use, count
from settings.load import Settings

REFRESH_S: Final = 1.0
Rates = dict[tuple[str, str], float]  # by kind of record and party, items each second


@click.command("usage")
@click.option("--month", type=MONTH, help="A month in Japan, such as 2026-10.  [default: this one]")
@click.option("--day", type=DAY, help="A day in Japan.")
@click.option("--live", "is_live", is_flag=True, help="Show each second what servers of this machine do, until Ctrl-C.")
@click.option(
    "--prometheus",
    "for_prometheus",
    is_flag=True,
    help="Print counters since the beginning, in its text format, for the textfile collector of node_exporter.",
)
@json_option
@click.pass_context
def usage_command(
    context: click.Context,
    month: datetime | None,
    day: datetime | None,
    is_live: bool,
    for_prometheus: bool,
    as_json: bool,
) -> None:
    """Show how many items each relying party was given, and how: the same numbers as `report provision`, up to now.

    An item is the status of one certificate, or one list. Counted is what is collected, and what this machine has
    written since. With --live, everything that is recorded is shown, refusals and binds too; with --json a line a
    second.
    """
    settings = settings_of(context)
    if sum([month is not None, day is not None, is_live, for_prometheus]) > 1:
        raise click.UsageError("--month, --day, --live and --prometheus go without each other.")
    if for_prometheus:
        click.echo(_exposition(run(_provided(settings, date.min, date.max))), nl=False)
        return
    if is_live:
        _follow(settings.path(settings.journal.directory), as_json=as_json)
        return
    begin, end = _period(month, day)
    provided = run(_provided(settings, begin, end))
    if as_json:
        print_json({"from": str(begin), "to": str(end - timedelta(days=1)), "items": [asdict(one) for one in provided]})
    else:
        rows = [
            (one.recipient or ANONYMOUS, one.description, one.method, f"{one.items:,}", f"{one.octets:,}")
            for one in provided
        ]
        print_table(["party", "description", "method", "items", "octets"], rows)


def _period(month: datetime | None, day: datetime | None) -> tuple[date, date]:
    if day is not None:
        return day.date(), day.date() + timedelta(days=1)
    begin = (month.date() if month else today(now())).replace(day=1)
    return begin, month_after(begin)


def _exposition(provided: Iterable[Provision]) -> str:
    """Counters for Prometheus (text format 0.0.4); names of parties need no escapes."""
    provided = list(provided)
    lines = []
    for name, what in (("items", "Statuses and lists given to a relying party."), ("octets", "Octets of them.")):
        lines += [f"# HELP prefca_usage_{name}_total {what}", f"# TYPE prefca_usage_{name}_total counter"]
        lines += [
            f'prefca_usage_{name}_total{{party="{one.recipient}",method="{one.method}"}} {getattr(one, name)}'
            for one in provided
        ]
    return "\n".join(lines) + "\n"


async def _provided(settings: Settings, begin: date, end: date) -> tuple[Provision, ...]:
    async with desk_of(settings) as desk:
        places = desk.places
        with waiting(places.segments) as segments:
            keys = known_keys(places.keys, await desk.journals.streams())
            counted = await asyncio.to_thread(
                lambda: [(one, count(one.records())) for one in segments if with_its_key(one, keys, places.host)]
            )
        async with desk.operations.snapshot():
            usage = await desk.journals.usage(begin, end)
            for segment, its in counted:
                if await desk.journals.segment(segment.stream, segment.number) is None:
                    _add(usage, {use: amount for use, amount in its.items() if begin <= use.day < end})
        parties = await desk.parties.relying_parties()
        return provisions(usage, {party.name: party.description for party in parties})


def _add(usage: dict[Use, Amount], more: dict[Use, Amount]) -> None:
    for use, amount in more.items():
        total = usage.setdefault(use, Amount())
        total.items += amount.items
        total.octets += amount.octets


# ---------------------------------------------------------------- live


def _follow(directory: Path, *, as_json: bool) -> None:
    if as_json:
        for rates in _rates(directory):
            each = [{"kind": kind, "party": party, "per_s": rate} for (kind, party), rate in sorted(rates.items())]
            click.echo(json_line({"at": now(), "rates": each}))
        return
    with Live(_table({}), console=Console(), auto_refresh=False) as live:
        for rates in _rates(directory):
            live.update(_table(rates), refresh=True)


def _rates(directory: Path) -> Iterator[Rates]:
    """Without end; parties that were there once stay, with 0 if they do nothing."""
    follower, begin_s = UsageFollower(directory), time.monotonic()
    rates: Rates = {}
    while True:
        time.sleep(REFRESH_S)
        read, end_s = follower.read(), time.monotonic()
        rates = dict.fromkeys(rates, 0.0)
        for use, amount in read.items():
            key = (use.kind, use.party)
            rates[key] = rates.get(key, 0.0) + amount.items / (end_s - begin_s)
        begin_s = end_s
        yield rates


def _table(rates: Rates) -> Table:
    table = Table("kind", "party", box=None, header_style="bold", title="each second", caption="Ctrl-C ends")
    table.add_column("number", justify="right")
    for (kind, party), rate in sorted(rates.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(kind, party or ANONYMOUS, f"{rate:,.1f}")
    return table


COMMANDS = (usage_command,)
