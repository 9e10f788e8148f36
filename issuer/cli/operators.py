"""`prefca operator`: the persons who operate the CA."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from issuer.cli.asking import ask, means
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import run, settings_of
from issuer.errors import RefusedError
from issuer.installation import opened
from issuer.operations import agreement
from issuer.operations.agreement import Order
from issuer.operations.operators import ending, registration, roles_of
from issuer.rules.operation import OperationKind, Role
from issuer.rules.person import Operator, parse_roles, signing_key
from issuer.rules.quorum import text, unreachable
from settings.load import Settings

_TABLE = {"name", "full_name", "roles", "key"}


@click.group("operator")
def operator() -> None:
    """Register the persons who operate a CA (要員), with their roles and the keys that they sign with.

    Operations on a key of the CA need the agreement of several of them (`prefca operation`).
    """


@operator.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def first(context: click.Context, file: Path, as_json: bool) -> None:
    """Register the first operators of a CA, all of them at once, while nobody could agree to it.

    FILE is TOML: for each person a table [[operator]] with name, full_name, roles (a list) and key (a file with the
    certificate or public key, beside FILE). Afterwards, `prefca operator register` asks for one more.
    """
    orders = [Order(OperationKind.REGISTER_OPERATOR, one) for one in _persons(file)]
    everybody = {str(one.parameters["name"]): parse_roles(str(one.parameters["roles"]).split(",")) for one in orders}
    lacks = unreachable(everybody)
    if OperationKind.REGISTER_OPERATOR in lacks:
        raise RefusedError(
            "these persons could not register others, for that needs two senior-operators; add them to the file"
        )
    run(_first(settings_of(context), orders))
    if as_json:
        print_json(
            {"operators": sorted(everybody), "not_possible": {kind: text(roles) for kind, roles in lacks.items()}}
        )
        return
    click.echo(f"registered {len(everybody)}: {', '.join(sorted(everybody))}")
    for kind, roles in lacks.items():
        click.echo(f"they cannot agree to {kind}: it lacks {text(roles)}")


async def _first(settings: Settings, orders: list[Order]) -> None:
    async with opened(settings) as installation:
        await agreement.first_operators(installation, orders, means())


def _persons(file: Path) -> Iterable[dict[str, Any]]:
    try:
        tables = tomllib.loads(file.read_text())["operator"]
    except (ValueError, KeyError) as e:
        raise RefusedError(f"{file}: {e}; write a table [[operator]] for each person") from e
    for table in tables if isinstance(tables, list) else [tables]:
        if not isinstance(table, dict) or table.keys() != _TABLE or not isinstance(table["roles"], list):
            raise RefusedError(f"{file}: each [[operator]] has {', '.join(sorted(_TABLE))}, and nothing else")
        name = str(table["name"])
        roles = parse_roles([str(role) for role in table["roles"]])
        yield dict(registration(name, str(table["full_name"]), roles, _key(file.parent / str(table["key"]))))


def _key(file: Path) -> Any:  # noqa: ANN401
    try:
        return signing_key(file.read_bytes())
    except RefusedError as e:
        raise RefusedError(f"{file}: {e}") from e


@operator.command()
@click.argument("name")
@click.option("--full-name", required=True, help="As people write it.")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    required=True,
    help="Repeat it for several.",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The person's certificate or public key, PEM or DER.",
)
@json_option
@click.pass_context
def register(
    context: click.Context, name: str, full_name: str, roles: tuple[str, ...], key_file: Path, as_json: bool
) -> None:
    """Ask for the registration of a person as NAME. Another key or other roles: end the person, and register anew."""
    parameters = registration(name, full_name, parse_roles(roles), _key(key_file))
    ask(context, OperationKind.REGISTER_OPERATOR, parameters, as_json=as_json)


@operator.command()
@click.argument("name")
@click.option("--give-up", is_flag=True, help="Though the others cannot agree to some kinds of operations then.")
@json_option
@click.pass_context
def end(context: click.Context, name: str, give_up: bool, as_json: bool) -> None:
    """Ask for the end of a registration."""
    present = [one for one in run(_all(settings_of(context))) if one.ended_at is None]
    ask(context, OperationKind.END_OPERATOR, ending(name, present, give_up=give_up), as_json=as_json)


@operator.command("list")
@click.option("--all", "is_all", is_flag=True, help="Those too who were ended.")
@json_option
@click.pass_context
def list_command(context: click.Context, is_all: bool, as_json: bool) -> None:
    """Show who is registered, and which operations they cannot agree to."""
    everybody = run(_all(settings_of(context)))
    present = [one for one in everybody if one.ended_at is None]
    lacks = unreachable(roles_of(present)) if present else {}
    rows = [_row(one) for one in (everybody if is_all else present)]
    if as_json:
        print_json({"operators": rows, "not_possible": {kind: text(roles) for kind, roles in lacks.items()}})
        return
    columns = ["name", "full name", "roles", "registered", "ended", "key (SHA-256)"]
    print_table(columns, [["" if cell is None else cell for cell in row.values()] for row in rows])
    for kind, roles in lacks.items():
        click.echo(f"they cannot agree to {kind}: it lacks {text(roles)}")


@operator.command()
@click.argument("name")
@json_option
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show all registrations of a person."""
    found = [_row(one) | {"operation": one.operation} for one in run(_all(settings_of(context))) if one.name == name]
    if not found:
        raise RefusedError(f"there was never an operator {name}; `prefca operator list --all` shows all")
    if as_json:
        print_json(found)
        return
    for row in found:
        for key, value in row.items():
            click.echo(f"{key.replace('_', ' ')}: {'' if value is None else value}")


def _row(one: Operator) -> dict[str, object]:
    return {
        "name": one.name,
        "full_name": one.full_name,
        "roles": ", ".join(sorted(one.roles)),
        "registered_at": one.registered_at,
        "ended_at": one.ended_at,
        "key_sha256": one.fingerprint,
    }


async def _all(settings: Settings) -> list[Operator]:
    async with opened(settings) as installation:
        return await agreement.operators(installation)


COMMANDS = (operator,)
