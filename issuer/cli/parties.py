"""`prefca relying-party`: who may ask for residents' statuses and lists (R-1-3-1-2, R-4-4-4-3, R-4-4-4-5)."""

from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import click

from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import Records, records
from issuer.records.party_store import RelyingPartyRow
from pkix.validity import JST, Validity
from settings.load import Settings

AGREEMENT: Final = timedelta(days=365)
DATE = click.DateTime(["%Y-%m-%d"])
UNTIL: Final = "Day on which the agreement ends, at 0:00 UTC: 9:00 in Japan. Name the day after its last one."

_STATES: Final = {"suspend": "suspended", "resume": "active", "withdraw": "withdrawn"}


@click.group("relying-party")
def relying_party() -> None:
    """Manage 署名検証者 and 団体署名検証者: agreements, rights, credentials. A right that ends, ends at once."""


@relying_party.command()
@click.argument("name")
@click.option("--description", default="", help="Its name for people, such as ○○県税務課.")
@click.option(
    "--from", "agreed_from", type=DATE, help="Day of its first moment, 0:00 UTC: 9:00 in Japan.  [default: now]"
)
@click.option("--until", "agreed_until", type=DATE, help=f"{UNTIL}  [default: in 365 days]")
@click.option("--right", "rights", type=click.Choice(["ocsp", "crl"]), multiple=True, required=True, help="May repeat.")
@click.pass_context
def add(
    context: click.Context,
    name: str,
    description: str,
    agreed_from: datetime | None,
    agreed_until: datetime | None,
    rights: tuple[str, ...],
) -> None:
    """Register NAME, which has an agreement, with its rights; a name is letters, digits and . _ -."""
    begin = agreed_from.replace(tzinfo=UTC) if agreed_from else now()
    try:
        end = agreed_until.replace(tzinfo=UTC) if agreed_until else begin + AGREEMENT
    except OverflowError as e:
        raise RefusedError("the agreement would have no end; correct --from, or give --until") from e
    if end <= begin:
        raise RefusedError("the agreement ends before it begins; correct --from or --until")
    run(_add(settings_of(context), name, description, Validity(begin, end), frozenset(rights)))
    click.echo(f"{name} is registered; its LDAP bind name is {bind_name(name)}")
    click.echo(_ending(end))


async def _add(settings: Settings, name: str, description: str, agreed: Validity, rights: frozenset[str]) -> None:
    async with records(settings) as shared, shared.store.transaction():
        await register(shared, name, description, agreed, rights)


async def register(shared: Records, name: str, description: str, agreed: Validity, rights: frozenset[str]) -> int:
    """Record a party, in the caller's transaction; returns its number."""
    try:
        relying_party_id = await shared.parties.add_relying_party(
            name, description or name, agreed, may_ocsp="ocsp" in rights, may_crl="crl" in rights, now=now()
        )
    except asyncpg.UniqueViolationError as e:
        raise RefusedError(f"{name} is registered already; choose another name") from e
    except asyncpg.CheckViolationError as e:
        raise RefusedError(f"{name!r} cannot be a name; use up to 64 letters, digits and . _ -") from e
    await shared.store.record("relying_party_added", now(), name, {"rights": sorted(rights)})
    return relying_party_id


async def registered(shared: Records, name: str) -> RelyingPartyRow:
    """The party of that name.

    Raises:
        RefusedError: there is none of that name.
    """
    for party in await shared.parties.relying_parties():
        if party.name == name:
            return party
    raise RefusedError(f"{name} is not registered; `prefca relying-party list` shows who is")


@relying_party.command()
@click.argument("name")
@click.option("--description", help="Its name for people.")
@click.option("--until", "agreed_until", type=DATE, help=UNTIL)
@click.option(
    "--right", "rights", type=click.Choice(["ocsp", "crl"]), multiple=True, help="All it shall have; may repeat."
)
@click.pass_context
def change(
    context: click.Context,
    name: str,
    description: str | None,
    agreed_until: datetime | None,
    rights: tuple[str, ...],
) -> None:
    """Change what NAME agreed on: the end of the agreement, its rights. What is not given stays."""
    until = agreed_until.replace(tzinfo=UTC) if agreed_until else None
    run(_change_agreement(settings_of(context), name, description, until, frozenset(rights)))
    click.echo(f"{name} is changed; `prefca relying-party show {name}` shows it")
    if until is not None:
        click.echo(_ending(until))


def _ending(end: datetime) -> str:
    """When an agreement ends, as people in Japan read it."""
    return f"the agreement ends on {end.astimezone(JST):%Y-%m-%d at %H:%M} in Japan"


async def _change_agreement(
    settings: Settings, name: str, description: str | None, until: datetime | None, rights: frozenset[str]
) -> None:
    async with records(settings) as shared, shared.store.transaction():
        await registered(shared, name)
        try:
            changed = await shared.parties.change_relying_party(name, description, until, rights)
        except asyncpg.CheckViolationError as e:
            raise RefusedError("the agreement would end before it begins; correct --until") from e
        if not changed:
            raise RefusedError(f"{name} was withdrawn; register it under another name")
        given = {"description": description, "agreed_until": until and until.isoformat(), "rights": sorted(rights)}
        detail = {key: value for key, value in given.items() if value}
        await shared.store.record("relying_party_changed", now(), name, detail)


def _state_command(verb: str, state: str) -> click.Command:
    @relying_party.command(verb, help=f"Set NAME to {state}{', for good' * (verb == 'withdraw')}.")
    @click.argument("name")
    @click.pass_context
    def command(context: click.Context, name: str) -> None:
        run(_set_state(settings_of(context), name, state))
        click.echo(f"{name} is {state}")

    return command


for _verb, _state in _STATES.items():
    _state_command(_verb, _state)


async def _set_state(settings: Settings, name: str, state: str) -> None:
    async with records(settings) as shared, shared.store.transaction():
        if not await shared.parties.set_relying_party_state(name, state):
            raise RefusedError(f"{name} is not registered, or was withdrawn; `prefca relying-party list` shows which")
        await shared.store.record("relying_party_state", now(), name, {"state": state})


@relying_party.command("list")
@json_option
@click.pass_context
def list_command(context: click.Context, as_json: bool) -> None:
    """List the registered parties."""
    rows = [as_row(party) for party in run(_all(settings_of(context)))]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ["name", "description", "state", "agreed from", "until", "rights", "recognised by"],
            [[" ".join(cell) if isinstance(cell, list) else cell for cell in row.values()] for row in rows],
        )


async def _all(settings: Settings) -> list[RelyingPartyRow]:
    async with records(settings) as shared:
        return await shared.parties.relying_parties()


def as_row(party: RelyingPartyRow) -> dict[str, object]:
    """A party for people and scripts."""
    return {
        "name": party.name,
        "description": party.description,
        "state": party.state,
        "agreed_from": party.agreed_from,
        "agreed_until": party.agreed_until,
        "rights": ["ocsp"] * party.may_ocsp + ["crl"] * party.may_crl,
        "credentials": list(party.credentials),
    }


def bind_name(name: str) -> str:
    """The name with which a party binds to the repository."""
    return f"uid={name},ou=Relying Parties,o=JPKI,c=JP"
