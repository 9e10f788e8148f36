"""`prefca relying-party`: who may ask for residents' statuses and lists (R-1-3-1-2, R-4-4-4-3, R-4-4-4-5)."""

import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

import argon2
import asyncpg
import click

from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import Installation, opened
from issuer.store import RelyingPartyRow
from pkix.validity import Validity
from settings.load import Settings

AGREEMENT: Final = timedelta(days=365)
MIN_PASSWORD_CHARACTERS: Final = 12
DATE = click.DateTime(["%Y-%m-%d"])

_STATES: Final = {"suspend": "suspended", "resume": "active", "withdraw": "withdrawn"}


@click.group("relying-party")
def relying_party() -> None:
    """Manage 署名検証者 and 団体署名検証者: agreements, rights, credentials. A right that ends, ends at once."""


@relying_party.command()
@click.argument("name")
@click.option("--description", default="", help="Its name for people, such as ○○県税務課.")
@click.option("--from", "agreed_from", type=DATE, help="First day of the agreement (UTC).  [default: now]")
@click.option("--until", "agreed_until", type=DATE, help="Day on which it has ended (UTC).  [default: in 365 days]")
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
    """Register NAME (letters, digits and . _ -), which has an agreement, with its rights."""
    begin = agreed_from.replace(tzinfo=UTC) if agreed_from else now()
    end = agreed_until.replace(tzinfo=UTC) if agreed_until else begin + AGREEMENT
    if end <= begin:
        raise RefusedError("the agreement ends before it begins; correct --from or --until")
    run(_add(settings_of(context), name, description, Validity(begin, end), frozenset(rights)))
    click.echo(f"{name} is registered; its LDAP bind name is {bind_name(name)}")


async def _add(settings: Settings, name: str, description: str, agreed: Validity, rights: frozenset[str]) -> None:
    async with opened(settings) as installation, installation.store.transaction():
        await register(installation, name, description, agreed, rights)


async def register(
    installation: Installation, name: str, description: str, agreed: Validity, rights: frozenset[str]
) -> int:
    """Record a party, in the caller's transaction; returns its number."""
    try:
        relying_party_id = await installation.store.add_relying_party(
            name, description or name, agreed, may_ocsp="ocsp" in rights, may_crl="crl" in rights, now=now()
        )
    except asyncpg.UniqueViolationError as e:
        raise RefusedError(f"{name} is registered already; choose another name") from e
    except asyncpg.CheckViolationError as e:
        raise RefusedError(f"{name!r} cannot be a name; use up to 64 letters, digits and . _ -") from e
    await installation.store.record("relying_party_added", now(), name, {"rights": sorted(rights)})
    return relying_party_id


@relying_party.command()
@click.argument("name")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its first line.")
@click.pass_context
def password(context: click.Context, name: str, password_file: Path | None) -> None:
    """Set the password with which NAME binds to the repository; without a file you are asked for it."""
    if password_file is not None:
        try:
            secret = password_file.read_text(encoding="utf-8").partition("\n")[0]
        except UnicodeDecodeError as e:
            raise RefusedError(f"{password_file} is not UTF-8 text; write the password there as text") from e
    elif sys.stdin.isatty():
        secret = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        raise click.UsageError("give --password-file, or run the command on a terminal to be asked")
    if len(secret) < MIN_PASSWORD_CHARACTERS:
        raise RefusedError(f"the password is too short; use at least {MIN_PASSWORD_CHARACTERS} characters")
    run(_change(settings_of(context), name, secret=secret))
    click.echo(f"{name} binds as {bind_name(name)} with that password")


@relying_party.command()
@click.argument("name")
@click.argument("network")
@click.pass_context
def network(context: click.Context, name: str, network: str) -> None:
    """Recognise NAME by asking from NETWORK, such as 192.0.2.0/24: for closed networks."""
    try:
        parsed = ip_network(network)
    except ValueError as e:
        raise RefusedError(f"{e}; write a network such as 192.0.2.0/24") from e
    run(_change(settings_of(context), name, source=parsed))
    click.echo(f"{name} is recognised when it asks from {parsed}")


async def _change(
    settings: Settings, name: str, *, secret: str | None = None, source: IPv4Network | IPv6Network | None = None
) -> None:
    async with opened(settings) as installation, installation.store.transaction():
        parties = {party.name: party.relying_party_id for party in await installation.store.relying_parties()}
        if name not in parties:
            raise RefusedError(f"{name} is not registered; `prefca relying-party list` shows who is")
        if secret is not None:
            await give_password(installation, parties[name], name, secret)
        if source is not None:
            await give_network(installation, parties[name], name, source)


async def give_password(installation: Installation, relying_party_id: int, name: str, secret: str) -> None:
    """Let a party bind with a password, kept as an Argon2id hash."""
    await installation.store.add_password(relying_party_id, argon2.PasswordHasher().hash(secret), now())
    await installation.store.record("credential_added", now(), name, {"kind": "password"})


async def give_network(
    installation: Installation, relying_party_id: int, name: str, source: IPv4Network | IPv6Network
) -> None:
    """Let a party be recognised by where it asks from."""
    await installation.store.add_network(relying_party_id, source, now())
    await installation.store.record("credential_added", now(), name, {"kind": "network", "network": str(source)})


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
    async with opened(settings) as installation, installation.store.transaction():
        if not await installation.store.set_relying_party_state(name, state):
            raise RefusedError(f"{name} is not registered, or was withdrawn; `prefca relying-party list` shows which")
        await installation.store.record("relying_party_state", now(), name, {"state": state})


@relying_party.command("list")
@json_option
@click.pass_context
def list_command(context: click.Context, as_json: bool) -> None:
    """List the registered parties."""
    rows = [_row(party) for party in run(_all(settings_of(context)))]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ["name", "description", "state", "agreed from", "until", "rights", "recognised by"],
            [[" ".join(cell) if isinstance(cell, list) else cell for cell in row.values()] for row in rows],
        )


async def _all(settings: Settings) -> list[RelyingPartyRow]:
    async with opened(settings) as installation:
        return await installation.store.relying_parties()


def _row(party: RelyingPartyRow) -> dict[str, object]:
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


COMMANDS = (relying_party,)
