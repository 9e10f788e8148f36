"""`prefca compromise`: when a key of the CA is out of control (秘密鍵の危殆化)."""

import click

from issuer.cli.asking import ask, print_facts
from issuer.cli.output import json_option
from issuer.cli.root import now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import opened
from issuer.lists import batch
from issuer.operations.act import Facts
from issuer.profiles.generation import State
from issuer.records.rows import KeyRow
from issuer.recovery import compromise
from issuer.recovery.compromise import CompromiseOrder
from issuer.rules.operation import OperationKind
from settings.load import Settings


@click.command("compromise")
@click.option("--key", "number", type=click.IntRange(1), help="The number of the key.  [default: the active one]")
@click.option("--key-lost", "is_lost", is_flag=True, help="The key cannot be used any more, lists neither.")
@click.option("--circumstances", default="", metavar="TEXT", help="What happened, in Japanese, for the notices.")
@click.option("--name", help="The CA's name, in place of typing it.")
@click.option("--fingerprint", help="SHA-256 of the key's certificate, in place of typing it.")
@click.option("--resume", "is_resumed", is_flag=True, help="Go on with what was begun: publish, write the notices.")
@json_option
@click.pass_context
def compromise_command(
    context: click.Context,
    number: int | None,
    is_lost: bool,
    circumstances: str,
    name: str | None,
    fingerprint: str | None,
    is_resumed: bool,
    as_json: bool,
) -> None:
    """End a key of the CA that is out of control: stop issuing, revoke ALL that it signed, publish, write the notices.

    Nothing undoes it. The CA's name and the fingerprint of the key's certificate have to be typed. Killed at any point,
    go on with --resume. Notices for the web and for the bridge CA are in <instance>/compromise/.
    """
    settings = settings_of(context)
    if is_resumed:
        for facts in run(_resume(settings)):
            print_facts(facts, as_json=as_json)
        return
    key = run(_key(settings, number))
    if name is None or fingerprint is None:
        click.echo(f"Everything that key {key.generation.key_reference} signed will be revoked, for good.", err=True)
    order = CompromiseOrder(
        name or click.prompt("The name of the CA, as `prefca status` shows it", err=True),
        key.generation.number,
        (fingerprint or click.prompt("SHA-256 of the key's certificate", err=True)).replace(":", "").lower(),
        is_lost,
        circumstances,
    )
    run(_check(settings, order))
    ask(context, OperationKind.COMPROMISE, order.parameters, as_json=as_json)


async def _key(settings: Settings, number: int | None) -> KeyRow:
    """The key of that number; the active one, or the one whose compromise was the last.

    Raises:
        RefusedError: there is none.
    """
    async with opened(settings) as installation:
        keys = await installation.generations.keys(installation.authority_id)
    wanted = [one for one in keys if (one.state is State.ACTIVE if number is None else one.generation.number == number)]
    if not wanted:
        raise RefusedError(
            f"there is no key number {number}" if number else "no key is active; name one with --key, or --resume"
        )
    return wanted[0]


async def _check(settings: Settings, order: CompromiseOrder) -> None:
    """Refuse before anybody is asked."""
    async with opened(settings) as installation:
        await compromise.key_of(installation, order)


async def _resume(settings: Settings) -> list[Facts]:
    async with opened(settings) as installation:
        await batch.require_right_clock(installation, now())
        recovery, authority_id = installation.recovery, installation.authority_id
        unfinished = {one.generation_id for one in await recovery.compromises(authority_id) if one.finished_at is None}
        keys = [
            one
            for one in await installation.generations.keys(authority_id)
            if one.generation.generation_id in unfinished
        ]
        if not keys:
            raise RefusedError("no compromise waits to be gone on with")
        return [await compromise.follow(installation, key.generation, now) for key in keys]


COMMANDS = (compromise_command,)
