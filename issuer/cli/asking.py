"""Commands that ask for an operation on a key of the CA."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from issuer.acts import PERFORMERS
from issuer.cli.output import print_json, text
from issuer.cli.root import now, run, settings_of
from issuer.cli.secret_input import entered_shares
from issuer.errors import RefusedError
from issuer.installation import opened
from issuer.lists import batch
from issuer.operations import agreement
from issuer.operations.act import Facts
from issuer.operations.agreement import Means, Order
from issuer.operations.consent import Case
from issuer.rules.operation import OperationKind, Parameters
from issuer.rules.quorum import text as roles_text
from issuer.rules.request import words
from settings.load import Settings


def ask(
    context: click.Context,
    kind: OperationKind,
    parameters: Parameters,
    *,
    as_json: bool = False,
    share_files: Sequence[Path] = (),
) -> None:
    """Do it, and say what came of it; or, where several persons have to agree to it, say who.

    They have to for every CA but a test CA without operators.
    """
    answer = run(_ask(settings_of(context), Order(kind, parameters), share_files))
    if isinstance(answer, Case):
        _print_request(answer, as_json=as_json)
    else:
        print_facts(answer, as_json=as_json)


def means(*typed: str) -> Means:
    """What operations are done with; what people typed in for it."""
    return Means(PERFORMERS, now, secrets.token_bytes, typed)


def print_facts(facts: Facts, *, as_json: bool) -> None:
    """What came of an operation."""
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ')}: {text(value)}")


def told(case: Case) -> dict[str, object]:
    """An operation as JSON, short."""
    request = case.request
    return {"operation": request.number, "kind": request.kind.value, "state": case.state(now()).value}


async def _ask(settings: Settings, order: Order, share_files: Sequence[Path]) -> Facts | Case:
    async with opened(settings) as installation:
        if await agreement.needs_agreement(installation):
            if share_files:
                raise RefusedError("shares are entered when the operation is run; leave --share out")
            return await agreement.request(installation, order, means())
        await batch.require_right_clock(installation, now())
        return await agreement.perform_at_once(installation, order, means_for(order.kind, share_files))


def means_for(kind: OperationKind, share_files: Sequence[Path]) -> Means:
    """What an operation of a kind is done with; whoever activates the key enters a share.

    Raises:
        RefusedError: there are shares, and the operation takes none; or a share is none.
    """
    if kind is OperationKind.ACTIVATE:
        return means(*entered_shares(share_files))
    if share_files:
        raise RefusedError(f"{kind} takes no shares; leave --share out")
    return means()


def _print_request(case: Case, *, as_json: bool) -> None:
    request, needed = case.request, case.request.needs
    if as_json:
        roles: Mapping[str, int] = {role.value: count for role, count in needed.items()}
        print_json(told(case) | {"needs": roles, "expires_at": request.expires_at})
        return
    for line in words(request):
        click.echo(line)
    number = request.number
    click.echo(f"nothing is done yet: {roles_text(needed)} have to agree, each a person of their own")
    click.echo(f"each of them: prefca operation approve {number} --key FILE; then: prefca operation run {number}")
