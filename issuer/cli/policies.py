"""`prefca policy`: what relying parties see of the CA is decided by several persons."""

import click

from issuer.cli.asking import ask
from issuer.cli.output import json_option, print_json, text
from issuer.cli.root import REFUSED_STATUS, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import opened
from issuer.operations import agreement, policy
from issuer.operations.consent import Case
from issuer.rules.operation import OperationKind
from settings.load import Settings


@click.group("policy")
def policy_group() -> None:
    """Decide on the policy of certificates (証明書等ポリシー): the settings that relying parties see."""


@policy_group.command()
@click.argument("reason")
@json_option
@click.pass_context
def change(context: click.Context, reason: str, as_json: bool) -> None:
    """Ask for the agreement to the settings as they are now; REASON says what is changed, and why."""
    ask(context, OperationKind.CHANGE_POLICY, policy.change(settings_of(context), reason), as_json=as_json)


@policy_group.command()
@json_option
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    """Are the settings those that were agreed to last? Exit status 3 if not."""
    settings = settings_of(context)
    last = run(_last(settings))
    if last is None:
        raise RefusedError("nothing was agreed to yet; `prefca policy change` asks for it")
    is_same = last.request.parameters["settings_sha256"] == policy.digest(settings)
    told = {"operation": last.request.number, "at": last.row.events[-1].at, "as_agreed": is_same}
    if as_json:
        print_json(told | {"settings": policy.seen_settings(settings)})
    else:
        answer = "are as agreed" if is_same else "are NOT as agreed"
        click.echo(f"the settings {answer} by operation {told['operation']} at {text(told['at'])}")
    context.exit(0 if is_same else REFUSED_STATUS)


async def _last(settings: Settings) -> Case | None:
    async with opened(settings) as installation:
        return policy.agreed(await agreement.cases(installation))


COMMANDS = (policy_group,)
