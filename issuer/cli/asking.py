"""Commands that ask for an operation on a key of the CA."""

import secrets

import click

from issuer.act import Act, Facts
from issuer.acts import PERFORMERS
from issuer.cli.output import print_json
from issuer.cli.root import now, run, settings_of
from issuer.installation import opened
from issuer.operation import OperationKind, Parameters
from settings.load import Settings


def ask(context: click.Context, kind: OperationKind, parameters: Parameters, *, as_json: bool = False) -> None:
    """Do it, and say what came of it."""
    facts = run(_perform(settings_of(context), kind, parameters))
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ')}: {value}")


async def _perform(settings: Settings, kind: OperationKind, parameters: Parameters) -> Facts:
    async with opened(settings) as installation:
        return await PERFORMERS[kind](Act(installation, parameters, now, secrets.token_bytes))
