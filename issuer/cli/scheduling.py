"""`prefca batch`: publish the lists."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import click

from issuer.cli.list_choice import label_of
from issuer.cli.output import json_option, print_json, print_table, text
from issuer.cli.publishing import dates, list_row
from issuer.cli.root import each, for_scripts, now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import Installation, opened
from issuer.lists import batch
from issuer.records.rows import Publication
from issuer.schedule import Schedule, is_of_the_future
from issuer.signing.key_use import used_list_key
from issuer.which_ca import with_list
from settings.load import Settings

ALL_OR_NONE: Final = (
    "a batch publishes all lists together or none (R-4-4-3-1), so that everybody sees one state;"
    " leave --only out, or add --dry-run to look at this list"
)


@dataclass(frozen=True, slots=True)
class NothingDue:
    """Why a batch had nothing to do."""

    in_force: Publication
    next_at: datetime


@dataclass(frozen=True, slots=True)
class _Due:
    """What a batch has to do."""

    at: datetime
    cut_off: datetime | None
    next_at: datetime


@click.command("batch")
@click.option("--now", "is_at_once", is_flag=True, help="Outside the schedule, with everything received until now.")
@click.option(
    "--clock-was-ahead",
    "clock_was_ahead",
    is_flag=True,
    help="With --now: replace lists in force that are dated later than now.",
)
@click.option("--dry-run", "is_rehearsal", is_flag=True, help="Show what would be published, and publish nothing.")
@click.option(
    "--only", metavar="LIST", help="A municipality's code or name, ca or operations: one list, with --dry-run."
)
@json_option
@click.pass_context
def batch_command(
    context: click.Context,
    is_at_once: bool,
    clock_was_ahead: bool,
    is_rehearsal: bool,
    only: str | None,
    as_json: bool,
) -> None:
    """Publish the regular lists if they are due: all CRLs and the ARL together, as the schedule says.

    With --now lists are published in any case, as after the compromise of a key; the schedule stays as it is. Killed at
    any point, the publication before stays in force; run it again.

    While the lists in force are dated later than now, none can follow them. Set the clock of this machine; if the one
    that dated them was ahead, --clock-was-ahead replaces them by lists of now.
    """
    settings = settings_of(context)
    if clock_was_ahead and (is_rehearsal or not is_at_once):
        raise click.UsageError("--clock-was-ahead goes with --now, and without --dry-run")
    if is_rehearsal:
        _rehearse(context, settings, _Asked(is_at_once, only, as_json))
        return
    if only is not None:
        raise RefusedError(ALL_OR_NONE)
    results, status = run(
        each(settings, lambda one: _publish(one, is_at_once=is_at_once, clock_was_ahead=clock_was_ahead))
    )
    if as_json:
        print_json(for_scripts(settings, {prefecture: _for_script(result) for prefecture, result in results.items()}))
    else:
        for line in _with_names(settings, {prefecture: _sentence(result) for prefecture, result in results.items()}):
            click.echo(line)
    context.exit(status)


async def _publish(settings: Settings, *, is_at_once: bool, clock_was_ahead: bool) -> batch.Published | NothingDue:
    async with opened(settings) as installation:
        await batch.require_right_clock(installation, now())
        decision = await _decide(installation, is_at_once=is_at_once)
        if isinstance(decision, NothingDue):
            return decision
        async with used_list_key(installation, "lists", now) as key, batch.alone(installation):
            decision = await _decide(installation, is_at_once=is_at_once)  # anew: another batch may have just ended
            if isinstance(decision, NothingDue):
                return decision
            moment, next_publish = decision.at, decision.next_at
            return await batch.run(
                installation,
                key,
                moment,
                cut_off=decision.cut_off,
                next_publish=next_publish,
                clock_was_ahead=clock_was_ahead,
            )


async def _decide(installation: Installation, *, is_at_once: bool) -> _Due | NothingDue:
    moment = now()
    schedule = Schedule.of(installation.settings)
    next_at = schedule.next(moment)
    in_force = await installation.store.publication_in_force(installation.authority_id)
    cut_off = moment if is_at_once else schedule.due(in_force, moment)
    if in_force is not None and cut_off is None and not is_of_the_future(in_force, moment):
        return NothingDue(in_force, next_at)
    return _Due(moment, cut_off, next_at)  # lists of the future: the batch says what is wrong


def _for_script(result: batch.Published | NothingDue) -> dict[str, object]:
    if isinstance(result, NothingDue):
        return {"publication": None, "in_force": result.in_force.publication_id, "next_at": result.next_at}
    return {
        "publication": result.publication_id,
        "lists": result.lists,
        "entries": result.entries,
        "size": result.size,
        "cut_off": result.cut_off,
        **dates(result.window),
    }


def _sentence(result: batch.Published | NothingDue) -> str:
    if isinstance(result, NothingDue):
        return (
            f"nothing is due before {text(result.next_at)}: publication {result.in_force.publication_id} is in force;"
            " `prefca batch --now` publishes all the same"
        )
    return (
        f"publication {result.publication_id} is in force: {result.lists} lists with"
        f" {result.entries} entries, {result.size} octets; nextUpdate {text(result.window.next_update)}"
    )


def _with_names(settings: Settings, lines: Mapping[str, str]) -> list[str]:
    """Each with its prefecture, if there are several."""
    return [f"{name}: {line}" if len(settings.cas) > 1 else line for name, line in lines.items()]


@dataclass(frozen=True, slots=True)
class _Asked:
    """How a dry run was asked for."""

    is_at_once: bool
    only: str | None
    as_json: bool


def _rehearse(context: click.Context, settings: Settings, asked: _Asked) -> None:
    settings = with_list(settings, asked.only)
    rehearsals, status = run(each(settings, lambda one: _rehearsal(one, asked)))
    if asked.as_json:
        told = {
            ca: {"cut_off": made.cut_off, **dates(made.window), "lists": [list_row(one) for one in made.lists]}
            for ca, made in rehearsals.items()
        }
        print_json(for_scripts(settings, told))
    else:
        for ca, made in rehearsals.items():
            columns = ["list", "name", "CRLNumber", "entries", "octets", "key"]
            print_table(columns, [list(list_row(one).values()) for one in made.lists])
            click.echo(f"{ca}: nothing was published; received until {text(made.cut_off)}")
    context.exit(status)


async def _rehearsal(settings: Settings, asked: _Asked) -> batch.Rehearsal:
    moment = now()
    schedule = Schedule.of(settings)
    label = None if asked.only is None else label_of(asked.only, settings)
    async with opened(settings) as installation, used_list_key(installation, "rehearsal", now) as key:
        in_force = await installation.store.publication_in_force(installation.authority_id)
        cut_off = None if asked.is_at_once else schedule.due(in_force, moment)
        made = await batch.rehearse(installation, key, moment, cut_off=cut_off, next_publish=schedule.next(moment))
    return replace(made, lists=tuple(one for one in made.lists if label in {None, one.code or one.kind}))


COMMANDS = (batch_command,)
