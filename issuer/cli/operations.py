"""`prefca operation`: what several persons agree to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from issuer.cli.asking import means_for, print_facts, told
from issuer.cli.output import json_option, print_json, print_table, text
from issuer.cli.root import now, run, settings_of
from issuer.cli.secret_input import agreed, is_terminal, secret
from issuer.errors import RefusedError
from issuer.installation import opened
from issuer.lists import batch
from issuer.operations import agreement, consent
from issuer.operations.act import Facts
from issuer.operations.consent import Case
from issuer.operations.operation_audit import findings
from issuer.operations.operation_export import files
from issuer.operations.personal_key import Card, opened_key
from issuer.rules.operation import Role
from issuer.rules.person import Operator, spki
from issuer.rules.quorum import text as roles_text
from issuer.rules.request import escaped, words
from pkix.signing import sign
from settings.load import Settings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("operation")
def operation() -> None:
    """Agree to operations on a key of the CA, run them, and verify who agreed to what.

    A command that needs several persons asks for an operation and gives its number N. Each of them says
    `prefca operation approve N` with a key of their own; then one says `prefca operation run N`.
    """


@operation.command("list")
@click.option("--open", "is_open", is_flag=True, help="Only those that wait for somebody.")
@json_option
@click.pass_context
def list_command(context: click.Context, is_open: bool, as_json: bool) -> None:
    """Show the operations of a CA, the newest last."""
    rows = [_row(case) for case in run(_all(settings_of(context)))]
    ended = {consent.State.DONE.value, consent.State.WITHDRAWN.value, consent.State.EXPIRED.value}
    rows = [row for row in rows if not (is_open and row["state"] in ended)]
    if as_json:
        print_json(rows)
        return
    columns = ["number", "kind", "state", "asked for", "by", "agreed"]
    print_table(columns, [list(row.values()) for row in rows])


@operation.command()
@click.argument("number", type=click.IntRange(1))
@json_option
@click.pass_context
def show(context: click.Context, number: int, as_json: bool) -> None:
    """Show what is asked for, who agreed, who is still needed, and what came of it."""
    _print(run(_find(settings_of(context), number)), as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Signing:
    """How a person signs, by the options of `approve`: with a key file, with a card, or elsewhere."""

    key: Path | None
    passphrase_file: Path | None
    card: str | None
    module: Path | None
    card_key: str | None
    pin_file: Path | None
    signature: Path | None
    by: str | None

    def sign(self, case: Case) -> tuple[bytes, Operator]:
        """The signature, and whose it is."""
        match self:
            case _Signing(key=Path() as file, card=None, signature=None):
                typed = secret(self.passphrase_file, f"Passphrase of {file}", "--passphrase-file")
                return _signed(case, file, typed)
            case _Signing(
                key=None, card=str() as token, module=Path() as module, card_key=str() as label, signature=None
            ):
                typed = secret(self.pin_file, f"PIN of card {token}", "--pin-file")
                return _signed(case, Card(module, token, label), typed)
            case _Signing(key=None, card=None, signature=Path() as file, by=str() as name):
                return file.read_bytes(), _named(case, name)
            case _:
                pass
        raise click.UsageError(
            "sign with --key; or with --card, --card-key and --module; or bring a --signature, and say --by whom"
        )


@operation.command()
@click.argument("number", type=click.IntRange(1))
@click.option("--as", "role", type=click.Choice([role.value for role in Role]), help="In which of your roles.")
@click.option("--key", type=_FILE, help="Your key: PKCS#12, or encrypted PKCS#8 (PEM).")
@click.option("--passphrase-file", type=_FILE, help="Its passphrase; without it you are asked.")
@click.option("--card", help="The label of your card, instead of a key file.")
@click.option("--module", type=_FILE, help="The PKCS#11 library of the card.")
@click.option("--card-key", help="The label of the key on the card.")
@click.option("--pin-file", type=_FILE, help="Its PIN; without it you are asked.")
@click.option(
    "--signature", type=_FILE, help="A signature that you made elsewhere, over the content that `export` writes."
)
@click.option("--by", help="Whose signature that is.")
@click.option("--yes", is_flag=True, help="You have read what `prefca operation show` says, and agree.")
@json_option
@click.pass_context
def approve(context: click.Context, /, number: int, role: str | None, yes: bool, as_json: bool, **how: Any) -> None:  # noqa: ANN401 - the options of _Signing
    """Agree to operation NUMBER: sign exactly the content that is shown, with your own key."""
    settings = settings_of(context)
    case = run(_find(settings, number))
    if not as_json or (not yes and is_terminal()):
        for line in words(case.request):
            click.echo(line, err=as_json)
    if not agreed("Do you agree to this, as it stands above?", is_given=yes):
        raise RefusedError("nothing was signed")
    octets, who = _Signing(**how).sign(case)
    case = run(_approve(settings, number, octets, (who, Role(role) if role else None)))
    _print_approval(case, who, as_json=as_json)


def _signed(case: Case, place: Path | Card, typed: str) -> tuple[bytes, Operator]:
    with opened_key(place, typed) as signer:
        public_key = spki(signer.public_key)
        known = [one for one in case.operators.values() if one.key == public_key]
        if not known:
            raise RefusedError("no operator of this CA is registered with this key; use the key that you registered")
        return sign(signer, case.row.content), known[-1]


def _named(case: Case, name: str) -> Operator:
    known = [one for one in case.operators.values() if one.name == name]
    if not known:
        raise RefusedError(f"there is no operator {name}; `prefca operator list` shows those there are")
    return known[-1]


def _print_approval(case: Case, who: Operator, *, as_json: bool) -> None:
    lacks = consent.lacking(case, now())
    if as_json:
        print_json(told(case) | {"by": who.name, "lacks": {role.value: count for role, count in lacks.items()}})
        return
    number = case.request.number
    rest = (
        f"{roles_text(lacks)} still have to agree" if lacks else f"enough persons agreed: prefca operation run {number}"
    )
    click.echo(f"{who.name} ({who.full_name}) agreed to {case.name}; {rest}")


@operation.command("run")
@click.argument("number", type=click.IntRange(1))
@click.option(
    "--share", "share_files", type=_FILE, multiple=True, help="To activate the key: shares; else you are asked."
)
@json_option
@click.pass_context
def run_command(context: click.Context, number: int, share_files: tuple[Path, ...], as_json: bool) -> None:
    """Do what was agreed to, once. Everything is looked at again before."""
    print_facts(run(_run(settings_of(context), number, share_files)), as_json=as_json)


@operation.command()
@click.argument("number", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why, for whoever reads it later.")
@click.pass_context
def withdraw(context: click.Context, number: int, reason: str) -> None:
    """End an operation that was not done."""
    run(_withdraw(settings_of(context), number, reason))
    click.echo(f"operation {number} is withdrawn")


@operation.command("verify")
@click.argument("number", type=click.IntRange(1), required=False)
@click.option("--all", "is_all", is_flag=True, help="Every operation and every registration, and that none is missing.")
@json_option
@click.pass_context
def verify_command(context: click.Context, number: int | None, is_all: bool, as_json: bool) -> None:
    """Verify afterwards that what was done had been agreed to, and that nothing was changed. Exit status 3 if not."""
    if (number is None) != is_all:
        raise click.UsageError("name an operation, or say --all")
    found, count = run(_verify(settings_of(context), number))
    if as_json:
        print_json({"operations": count, "findings": found})
    for finding in found:
        click.echo(f"prefca: {finding}", err=True)
    if not (found or as_json):
        click.echo(f"verified {count}: whatever was done had been agreed to by those who must")
    context.exit(RefusedError.exit_status if found else 0)


@operation.command()
@click.argument("number", type=click.IntRange(1))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def export(context: click.Context, number: int, directory: Path) -> None:
    """Write content, signatures and keys of operation NUMBER, to be verified with other programs.

    For each person: openssl dgst -sha256 -verify NAME.key.pem -signature NAME.signature content.json
    """
    case = run(_find(settings_of(context), number))
    directory.mkdir(parents=True, exist_ok=True)
    for name, octets in files(case).items():
        (directory / name).write_bytes(octets)
    click.echo(f"wrote {directory}: {', '.join(sorted(files(case)))}")


def _row(case: Case) -> dict[str, object]:
    request = case.request
    who = ", ".join(case.operators[one.operator_id].name for one in case.row.approvals)
    return {
        "number": request.number,
        "kind": request.kind.value,
        "state": case.state(now()).value,
        "requested_at": request.requested_at,
        "requested_by": request.requested_by,
        "agreed": who if request.needs else "at once",
    }


def _print(case: Case, *, as_json: bool) -> None:
    request, lacks = case.request, consent.lacking(case, now())
    approvals = [
        {
            "by": case.operators[one.operator_id].name,
            "full_name": case.operators[one.operator_id].full_name,
            "role": one.role.value if one.role else None,
            "at": one.approved_at,
        }
        for one in case.row.approvals
    ]
    events = [{"event": e.event, "at": e.at, "by": e.origin, "detail": dict(e.detail)} for e in case.row.events]
    if as_json:
        print_json(
            _row(case)
            | {
                "parameters": dict(request.parameters),
                "expires_at": request.expires_at,
                "sha256": case.row.sha256.hex(),
            }
            | {"approvals": approvals, "lacks": {role.value: count for role, count in lacks.items()}, "events": events}
        )
        return
    for line in words(request):
        click.echo(line)
    for one in approvals:
        click.echo(f"agreed: {one['by']} ({one['full_name']}), {one['role'] or 'in any role'}, at {text(one['at'])}")
    for event in case.row.events:
        detail = ", ".join(f"{key} {value}" for key, value in event.detail.items())
        line = f"{event.event}: at {text(event.at)} by {event.origin}{': ' if detail else ''}{detail}"
        click.echo(escaped(line))
    lack = f"; lacks {roles_text(lacks)}" if lacks and not case.row.events else ""
    click.echo(f"state: {case.state(now())}{lack}")


async def _all(settings: Settings) -> list[Case]:
    async with opened(settings) as installation:
        return await agreement.cases(installation)


async def _find(settings: Settings, number: int) -> Case:
    async with opened(settings) as installation:
        return await agreement.find(installation, number)


async def _approve(settings: Settings, number: int, octets: bytes, by: tuple[Operator, Role | None]) -> Case:
    async with opened(settings) as installation:
        return await agreement.approve(installation, number, octets, by, now())


async def _run(settings: Settings, number: int, share_files: Sequence[Path]) -> Facts:
    async with opened(settings) as installation:
        case = await agreement.find(installation, number)
        consent.require_open(case, now())  # before anybody enters a share
        consent.require_agreed(case, now())
        await batch.require_right_clock(installation, now())
        return await agreement.run(installation, number, means_for(case.request.kind, share_files))


async def _withdraw(settings: Settings, number: int, reason: str) -> None:
    async with opened(settings) as installation:
        await agreement.withdraw(installation, number, reason, now())


async def _verify(settings: Settings, number: int | None) -> tuple[list[str], int]:
    async with opened(settings) as installation:
        if number is not None:
            await agreement.find(installation, number)
        rows = await installation.operations.operations(installation.authority_id)
        found = findings(rows, await agreement.operators(installation), number)
        return found, len(rows) if number is None else 1


COMMANDS = (operation,)
