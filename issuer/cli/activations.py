"""`prefca activation`: several persons let the CA's key be used, for a time."""

import secrets
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click

from issuer.cli.asking import ask
from issuer.cli.output import json_option, print_json, text
from issuer.cli.root import now, run, settings_of
from issuer.cli.secret_input import entered_shares, is_terminal, secret
from issuer.errors import RefusedError
from issuer.installation import Installation, opened
from issuer.keys import check_secret
from issuer.operations import activation
from issuer.records.activation_store import Activation, SealedData
from issuer.rules import shares
from issuer.rules.operation import OperationKind
from issuer.rules.shares import Share
from pkix.software import write_secret
from pkix.validity import whole_second
from settings.load import Settings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PIN_OCTETS = 16


@click.group("activation")
def activation_group() -> None:
    """Split the PIN of the CA's key among key managers (秘密鍵管理者), who then activate it together, for a time.

    Meanwhile the scheduler and `issue` use it by themselves. It needs `signer.activation_file`.
    """


@activation_group.command()
@click.option("--needed", type=click.IntRange(2), required=True, help="How many shares activate the key.")
@click.option("--shares", "count", type=click.IntRange(2), required=True, help="How many there are.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write a file for each person there.")
@click.option("--new-pin", is_flag=True, help="Give the token a new PIN, that nobody knows.")
@click.option("--pin-file", type=_FILE, help="The present PIN or passphrase; without it you are asked.")
@click.option("--share", "share_files", type=_FILE, multiple=True, help="Shares of the split before, in files.")
@click.option("--shares-lost", is_flag=True, help="Too few shares of before are left; the auditor is told.")
@click.pass_context
def split(
    context: click.Context,
    needed: int,
    count: int,
    out: Path | None,
    new_pin: bool,
    pin_file: Path | None,
    share_files: tuple[Path, ...],
    shares_lost: bool,
) -> None:
    """Split the PIN (or the passphrase of a key file): --needed of --shares open it, fewer learn nothing.

    Without --out each share is shown alone, to be written down by its person. Files: hand them over, one to each, and
    keep none. A split after the first takes shares of the one before, which open nothing from then on.
    """
    settings = settings_of(context)
    if new_pin and settings.signer.kind != "pkcs11":
        raise RefusedError("only a token has a PIN that can be renewed; leave --new-pin out")
    if new_pin and settings.signer.activation_file is None:
        raise RefusedError(
            "set `signer.activation_file` instead of `signer.pin_file` first: a token that is sent a PIN of before"
            " locks itself"
        )
    if out is None and not (is_terminal() and sys.stdout.isatty()):
        raise RefusedError("each share is shown to its person alone, on a terminal; run this on one, or add --out")
    run(_split(settings, (needed, count), _Ways(out, pin_file, share_files, new_pin, shares_lost)))


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a split is done."""

    out: Path | None
    pin_file: Path | None
    share_files: tuple[Path, ...]
    new_pin: bool
    shares_lost: bool


async def _split(settings: Settings, counts: tuple[int, int], ways: _Ways) -> None:
    async with opened(settings) as installation:
        present = await _present(installation, ways)
        check_secret(settings, present)
        kept = secrets.token_hex(_PIN_OCTETS) if ways.new_pin else present
        sealed, made = shares.split(kept, *counts, secrets.token_bytes)
        # First the shares are in people's hands, then they count, then the PIN is theirs: stopped in between, shares
        # of the one before still do for another split.
        for one in made:
            _hand_over(installation, one, counts[1], ways.out)
        await activation.keep(
            installation, SealedData(*counts, sealed, whole_second(now())), shares_lost=ways.shares_lost
        )
        if ways.new_pin:
            await activation.renew_pin(installation, present, kept)


async def _present(installation: Installation, ways: _Ways) -> str:
    """The secret that is split.

    Raises:
        RefusedError: it was split before, and is brought by one person.
    """
    if ways.share_files:
        return await activation.joined_before(installation, entered_shares(ways.share_files))
    if not ways.shares_lost and await installation.activations.data(installation.authority_id) is not None:
        raise RefusedError(
            "it is split already: another split takes shares of before (--share); if too few are left, --shares-lost"
        )
    return secret(ways.pin_file, "PIN or passphrase of the CA's key", "--pin-file")


def _hand_over(installation: Installation, share: Share, count: int, out: Path | None) -> None:
    authority = installation.authority
    page = (
        f"prefca: share {share.number} of {count} of the key of the {authority.hierarchy} CA of"
        f" {authority.prefecture.name_romaji}; {share.needed} of them activate it.\n"
        f"秘密鍵の活性化データ（分散片 {share.number}／{count}、必要数 {share.needed}）\n\n{share}\n"
    )
    if out is None:
        click.echo(page)
        click.pause("When it is written down, press a key; the next person comes.")
        click.clear()
        click.echo("\x1b[3J", nl=False)  # nor by scrolling back
        return
    write_secret(out / f"share-{share.number}.txt", page.encode())
    click.echo(f"share {share.number}: {out / f'share-{share.number}.txt'}")


@activation_group.command()
@click.option("--days", type=click.FloatRange(0, activation.MAX_DAYS, min_open=True), default=31.0, show_default=True)
@click.option("--share", "share_files", type=_FILE, multiple=True, help="Where nobody has to agree: shares, in files.")
@json_option
@click.pass_context
def start(context: click.Context, days: float, share_files: tuple[Path, ...], as_json: bool) -> None:
    """Ask for the activation of the key, for so many days from now.

    The key managers enter their shares when it is run: `prefca operation run N`.
    """
    until = whole_second(now() + timedelta(days=days))
    parameters = activation.beginning(settings_of(context), until)
    ask(context, OperationKind.ACTIVATE, parameters, as_json=as_json, share_files=share_files)


@activation_group.command()
@json_option
@click.pass_context
def end(context: click.Context, as_json: bool) -> None:
    """Ask for the end of the activation, before its time."""
    ask(context, OperationKind.DEACTIVATE, {}, as_json=as_json)


@activation_group.command()
@json_option
@click.pass_context
def show(context: click.Context, as_json: bool) -> None:
    """Show whether the key is active, until when, and how many shares activate it."""
    settings = settings_of(context)
    newest, data, is_active = run(_state(settings))
    told = {
        "active": is_active,
        "until": newest.ends_at if is_active and newest else None,
        "needed": data.needed if data else None,
        "shares": data.shares if data else None,
        "split_at": data.made_at if data else None,
    }
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        click.echo(f"{name.replace('_', ' ')}: {'' if value is None else text(value)}")


async def _state(settings: Settings) -> tuple[Activation | None, SealedData | None, bool]:
    async with opened(settings) as installation:
        activations, authority_id = installation.activations, installation.authority_id
        newest, data = await activations.newest(authority_id), await activations.data(authority_id)
        return newest, data, await activations.is_active(authority_id)


COMMANDS = (activation_group,)
