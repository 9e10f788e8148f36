"""`prefca init`: from nothing to a CA with a first publication."""

import secrets
from pathlib import Path
from typing import Final

import click

from issuer import batch, founding, service_ca
from issuer.authority import Authority
from issuer.cli.output import json_option, print_json
from issuer.cli.root import each, for_scripts, now, run, settings_of, target_of
from issuer.configuration import Choices, add_ca, check_choices, write_configuration
from issuer.installation import configured_authority, connected, database, opened, origin
from issuer.key_use import used_key
from issuer.keys import open_keys
from issuer.migrate import migrate
from issuer.municipality import PREFECTURES
from issuer.schedule import Schedule
from issuer.store import Store
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
    dsn: str | None,
    as_json: bool,
) -> None:
    """Set up a CA: configuration, database, CA key and certificate, OCSP delegate, TLS certificates, first lists.

    Run again, it completes what is missing and changes nothing else. With another --prefecture it adds a second CA, to
    this configuration and this database; without --prefecture it completes all of them.
    """
    target = target_of(context)
    if prefecture and target.ca not in {None, prefecture}:
        raise click.UsageError("--ca and --prefecture name two prefectures; leave one out")
    choices = Choices(prefecture or target.ca, hierarchy, signer, module, token, pin_file, dsn)
    is_added = _configure(target.instance, choices)
    settings = settings_of(context)
    if choices.prefecture is not None:
        settings = settings.of(choices.prefecture)
    for one in settings.each():
        check_choices(choices, one)
    authorities, status = run(_set_up(settings))
    if as_json:
        told = {
            prefecture: {"instance": str(settings.instance), "authority": authority.name.rfc4514_string()}
            for prefecture, authority in authorities.items()
        }
        print_json(for_scripts(settings, told))
    else:
        for authority in authorities.values():
            click.echo(f"{authority.hierarchy} CA is set up: {authority.name.rfc4514_string()}")
        click.echo(f"instance: {settings.instance}")
        if is_added:
            click.echo("if it runs, start `prefca scheduler` or `prefca up` anew, so that it publishes for this CA too")
    context.exit(status)


def _configure(instance: Path, choices: Choices) -> bool:
    """Write the configuration, or add a CA to it; whether one was added."""
    file = instance / FILE_NAME
    if not file.exists():
        write_configuration(file, choices)
        return False
    is_added = choices.prefecture not in {None, *load(instance).prefectures}
    if is_added:
        add_ca(instance, choices)
    return is_added


async def _set_up(settings: Settings) -> tuple[dict[str, Authority], int]:
    async with database(settings):
        async with connected(settings, "owner") as connection:
            await migrate(connection, now())
        service_ca.ensure(settings.instance / "tls", ["localhost", "127.0.0.1", "::1"], now())
        return await each(settings, _found)


async def _found(settings: Settings) -> Authority:
    """Set up one CA."""
    authority = configured_authority(settings)
    _make_passphrase(settings)
    async with connected(settings) as connection:
        work = founding.Founding(settings, authority, Store(connection, origin()), now(), secrets.token_bytes)
        keys = open_keys(settings)
        try:
            await founding.found(work, keys)
        finally:
            keys.close()
    async with opened(settings) as installation:
        if await installation.store.publication_in_force(installation.authority_id) is None:
            async with used_key(installation, "lists", now) as key:
                moment = now()
                await batch.run(installation, key, moment, next_publish=Schedule.of(settings).next(moment))
    return authority


def _make_passphrase(settings: Settings) -> None:
    """A software key of the test hierarchy has its passphrase beside it, so that the batch runs unattended."""
    file = settings.signer.passphrase_file
    if settings.signer.kind == "software" and file is not None and not settings.path(file).exists():
        write_secret(settings.path(file), secrets.token_hex(PASSPHRASE_OCTETS).encode() + b"\n")


COMMANDS = (init,)
