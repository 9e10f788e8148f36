"""`prefca init`: from nothing to a CA with a first publication."""

import contextlib
import secrets
from functools import partial
from pathlib import Path
from typing import Final

import click

from issuer.cli.asking import ask
from issuer.cli.output import json_option, print_json
from issuer.cli.root import each, for_scripts, now, run, settings_of, target_of
from issuer.configuration import Choices, add_ca, check_choices, write_configuration
from issuer.errors import RefusedError
from issuer.generations import founding
from issuer.generations.first_key import foundation
from issuer.installation import configured_authority, connected, database, opened, origin
from issuer.keys import open_keys
from issuer.lists import batch
from issuer.profiles.authority import Authority
from issuer.profiles.municipality import PREFECTURES
from issuer.records.migrate import migrate
from issuer.records.store import Store
from issuer.rules.operation import OperationKind, Parameters
from issuer.schedule import Schedule
from issuer.servers import service_ca
from issuer.signing.key_use import used_key
from pkix.software import write_secret
from settings.load import FILE_NAME, Settings, load

PASSPHRASE_OCTETS: Final = 24


@click.command()
@click.option("--prefecture", type=click.Choice(sorted(PREFECTURES)), help="Whose CA.  [default: Tokyo-to]")
@click.option("--hierarchy", type=click.Choice(["test", "production"]), help="Which policies.  [default: test]")
@click.option(
    "--signer", type=click.Choice(["software", "pkcs11"]), help="Where the CA key lives.  [default: software]"
)
@click.option("--module", type=click.Path(path_type=Path), help="The PKCS#11 library of the token.")
@click.option("--token", help="The label of the token.")
@click.option("--pin-file", type=click.Path(path_type=Path), help="A file with the PIN; without it you are asked.")
@click.option(
    "--activation-file",
    type=click.Path(path_type=Path),
    help="Where the PIN lies while the key is activated.",
)
@click.option("--without-key", is_flag=True, help="Register the CA only, as of a production CA: operators found it.")
@click.option("--dsn", help="An existing PostgreSQL (15 or later) instead of the embedded one.")
@json_option
@click.pass_context
def init(
    context: click.Context,
    prefecture: str | None,
    hierarchy: str | None,
    signer: str | None,
    module: Path | None,
    token: str | None,
    pin_file: Path | None,
    activation_file: Path | None,
    without_key: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Set up a CA: configuration, database, CA key and certificate, OCSP delegate, TLS certificates, first lists.

    Run again, it completes what is missing and changes nothing else. With another --prefecture it adds a second CA, to
    this configuration and this database; without --prefecture it completes all of them.

    A production CA gets everything but its key: its operators make that together (`prefca operator first`, then
    `prefca found`).
    """
    target = target_of(context)
    if prefecture and target.ca not in {None, prefecture}:
        raise click.UsageError("--ca and --prefecture name two prefectures; leave one out")
    choices = Choices(prefecture or target.ca, hierarchy, signer, module, token, pin_file, dsn, activation_file)
    is_added = _configure(target.instance, choices)
    settings = settings_of(context)
    if choices.prefecture is not None:
        settings = settings.of(choices.prefecture)
    for one in settings.each():
        check_choices(choices, one)
    done, status = run(_set_up(settings, without_key=without_key))
    authorities = {prefecture: authority for prefecture, (authority, _) in done.items()}
    if as_json:
        told = {
            prefecture: {"instance": str(settings.instance), "authority": authority.name.rfc4514_string()}
            for prefecture, authority in authorities.items()
        }
        print_json(for_scripts(settings, told))
    else:
        for authority, is_founded in done.values():
            click.echo(f"{authority.hierarchy} CA is set up: {authority.name.rfc4514_string()}")
            if not is_founded:
                click.echo(
                    "it has no key yet: `prefca operator first`, then `prefca found`, agreed to by its operators"
                )
        click.echo(f"instance: {settings.instance}")
        if is_added:
            click.echo("if it runs, start `prefca scheduler` or `prefca up` anew, so that it publishes for this CA too")
    context.exit(status)


def _configure(instance: Path, choices: Choices) -> bool:
    """Write the configuration, or add a CA to it; whether one was added."""
    file = instance / FILE_NAME
    if not file.exists():
        with contextlib.suppress(FileExistsError):  # another `init` has just written it; `check_choices` compares
            write_configuration(file, choices)
        return False
    is_added = choices.prefecture not in {None, *load(instance).prefectures}
    if is_added:
        add_ca(instance, choices)
    return is_added


async def _set_up(settings: Settings, *, without_key: bool) -> tuple[dict[str, tuple[Authority, bool]], int]:
    async with database(settings):
        async with connected(settings, "owner") as connection:
            await migrate(connection, now())
            async with founding.making(Store(connection, origin())):
                service_ca.ensure(settings.instance / "tls", ["localhost", "127.0.0.1", "::1"], now())
        return await each(settings, partial(_found, without_key=without_key))


async def _found(settings: Settings, *, without_key: bool) -> tuple[Authority, bool]:
    """Set up one CA; whether it has a key."""
    authority = configured_authority(settings)
    async with connected(settings) as connection:
        store = Store(connection, origin())
        async with founding.making(store):
            _make_passphrase(settings)
            if await store.authority_id(authority) is None:
                await _begin(settings, authority, store, without_key=without_key or authority.hierarchy != "test")
        known = await store.authority_id(authority)
        if known is None or not await store.has_key(known):
            return authority, False  # also a test CA that was registered without a key: its operators found it
    async with opened(settings) as installation:
        if await installation.store.publication_in_force(installation.authority_id) is None:
            await batch.require_right_clock(installation, now())
            async with used_key(installation, "lists", now) as key:
                moment = now()
                await batch.run(installation, key, moment, next_publish=Schedule.of(settings).next(moment))
    return authority, True


@click.command("found")
@json_option
@click.pass_context
def found_command(context: click.Context, as_json: bool) -> None:
    """Make the first key of a CA, with its certificate and first lists: agreed to by its operators."""
    ask(context, OperationKind.FOUND, run(_foundation(settings_of(context))), as_json=as_json)


async def _foundation(settings: Settings) -> Parameters:
    async with opened(settings) as installation:
        if await installation.store.has_key(installation.authority_id):
            raise RefusedError("this CA was founded; `prefca key list` shows its keys")
        return foundation(installation)


async def _begin(settings: Settings, authority: Authority, store: Store, *, without_key: bool) -> None:
    """The first step: with the key of a test CA, which is one person's; without that of any other."""
    if without_key:
        async with store.transaction():
            await store.add_authority(authority, now())
        return
    keys = open_keys(settings)
    try:
        await founding.found(founding.Founding(settings, authority, store, now(), secrets.token_bytes), keys)
    finally:
        keys.close()


def _make_passphrase(settings: Settings) -> None:
    """A software key of the test hierarchy has its passphrase beside it, so that the batch runs unattended."""
    file = settings.signer.passphrase_file
    if settings.signer.kind == "software" and file is not None and not settings.path(file).exists():
        write_secret(settings.path(file), secrets.token_hex(PASSPHRASE_OCTETS).encode() + b"\n")


COMMANDS = (init, found_command)
