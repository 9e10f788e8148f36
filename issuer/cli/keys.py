"""`prefca key`: the keys of the CA over their generations."""

from datetime import timedelta

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.cli import key_end
from issuer.cli.asking import ask
from issuer.cli.output import json_option, print_json, print_table, text
from issuer.cli.root import each, for_scripts, now, run, settings_of
from issuer.generations.renewal import next_key, obstacles, turn
from issuer.installation import opened
from issuer.records.rows import KeyRow
from issuer.rules.operation import OperationKind, Parameters
from issuer.signing.ca_key import KeySight
from issuer.signing.key_sight import key_sight
from settings.load import Settings


@click.group()
def key() -> None:
    """Renew the CA's key every five years (鍵更新): prepare the next one, then switch when everybody can have it.

    And see whether the key can be used, copy it, destroy one that was replaced.
    """


@key.command()
@json_option
@click.pass_context
def prepare(context: click.Context, as_json: bool) -> None:
    """Make the next key, its self-signed certificate, and the link certificates (OldWithNew, NewWithOld).

    The next lists bring the certificates to the directory; `prefca batch --now` does so at once. Run it again after an
    interruption.
    """
    ask(context, OperationKind.PREPARE_KEY, run(_next(settings_of(context))), as_json=as_json)


async def _next(settings: Settings) -> Parameters:
    async with opened(settings) as installation:
        return await next_key(installation)


@key.command()
@click.option(
    "--without-delegates", is_flag=True, help="Although OCSP will end for certificates of the key that signs now."
)
@json_option
@click.pass_context
def switch(context: click.Context, without_delegates: bool, as_json: bool) -> None:
    """Let the prepared key take over: it signs certificates and lists from now on.

    Not before its certificates have been in the directory for `ca.link_lead_h`, and the old key's OCSP delegates were
    made in advance. A `prefca issue` that runs goes on with the new key.
    """
    parameters = run(_turn(settings_of(context), without_delegates=without_delegates))
    ask(context, OperationKind.SWITCH_KEY, parameters, as_json=as_json)


async def _turn(settings: Settings, *, without_delegates: bool) -> Parameters:
    async with opened(settings) as installation:
        return await turn(installation, without_delegates=without_delegates)


@key.command("list")
@json_option
@click.pass_context
def list_command(context: click.Context, as_json: bool) -> None:
    """Show all keys of the CA with their states, dates and certificates, and what a prepared one waits for."""
    settings = settings_of(context)
    found, status = run(each(settings, _keys))
    if as_json:
        told = {
            ca: {"keys": [_row(one) for one in sight.keys], "waits_for": waits} for ca, (sight, waits) in found.items()
        }
        print_json(for_scripts(settings, told))
    else:
        for sight, waits in found.values():
            columns = ["key", "state", "made", "signs until", "certificates until", "self-signed until", "SHA-256"]
            print_table(columns, [_cells(one) for one in sight.keys])
            for each_wait in waits:
                click.echo(f"`prefca key switch` waits: {each_wait}")
    context.exit(status)


async def _keys(settings: Settings) -> tuple[KeySight, list[str]]:
    async with opened(settings) as installation:
        sight = await key_sight(installation)
        delegates = await installation.store.delegates(installation.authority_id)
    lead = timedelta(hours=settings.ca.link_lead_h)
    return sight, [what for _, what in obstacles(sight, delegates, lead, now())]


def _row(one: KeyRow) -> dict[str, object]:
    certificate = x509.load_der_x509_certificate(one.generation.certificate)
    return {
        "generation": one.generation.number,
        "state": one.state,
        "key": one.generation.key_reference,
        "made_at": one.signs_from,
        "signs_until": one.generation.signs_until,
        "certificates_until": one.residents_until,
        "not_after": one.not_after,
        "serial": f"{certificate.serial_number:016X}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _cells(one: KeyRow) -> list[object]:
    row = _row(one)
    shown = ("key", "state", "made_at", "signs_until", "certificates_until", "not_after", "sha256")
    return ["" if row[name] is None else text(row[name]) for name in shown]


for command in (key_end.check, key_end.back_up, key_end.destroy):
    key.add_command(command)

COMMANDS = (key,)
