"""`prefca cross`: cross-certification with the bridge (個人認証BCA)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from issuer.cli.asking import ask
from issuer.cli.cross_shown import SHOWING, case_facts
from issuer.cli.output import json_option, print_json
from issuer.cli.reading import file_argument, read
from issuer.cli.root import now, run, settings_of
from issuer.cross import cross_certification, cross_operation
from issuer.cross.cross_register import By, find
from issuer.installation import Installation, opened
from issuer.profiles.certification_request import MAX_REQUEST_OCTETS
from issuer.residents.revocation import parse_reason
from issuer.rules.cross_case import Application, Case, Step, Trigger, moved
from issuer.rules.cross_pair import MAX_CERTIFICATE_OCTETS
from issuer.rules.operation import OperationKind, Parameters
from settings.load import Settings

by_option = click.option("--by", "person", required=True, help="The person who does it.")
note_option = click.option("--note", required=True, help="What was found, in words; it stays on record.")
case_argument = click.argument("case_id", metavar="CASE", type=click.IntRange(1))


@click.group()
def cross() -> None:
    """Cross-certify with the bridge (個人認証BCA): a case from its request to the pair in the repository.

    \b
    receive, examine, approve    its request: 受付, 審査, 承認, each by another person
    test, issue                  接続テスト, and our certificate for its key
    request, accept              our request for the bridge, and its certificate for us
    give-receipt, take-receipt   受領書 both ways: then the next batch publishes the pair
    receive --renews, revoke     renewal (4-9) and the end (4-10)
    """  # noqa: D301 - \b is click's


for command in SHOWING:
    cross.add_command(command)


@cross.command()
@json_option
@click.pass_context
def request(context: click.Context, as_json: bool) -> None:
    """Make a request for the CA's own key, for the bridge; `prefca cross export request` writes it to a file."""
    ask(context, OperationKind.CROSS_REQUEST, run(_request_parameters(settings_of(context))), as_json=as_json)


async def _request_parameters(settings: Settings) -> Parameters:
    async with opened(settings) as installation:
        return await cross_operation.request_parameters(installation)


@cross.command()
@click.option("--csr", type=file_argument, required=True, help="Its PKCS #10 request.")
@click.option("--partner", required=True, help="Its name, as people and the web are to read it.")
@click.option("--policy", help="Its own policy that is equivalent to ours.  [default: it uses ours]")
@click.option("--renews", type=click.IntRange(1), help="The case whose pair is to be replaced.")
@click.option("--because", type=click.Choice([each.value for each in Trigger]), help="Why that is renewed.")
@by_option
@json_option
@click.pass_context
def receive(
    context: click.Context,
    csr: Path,
    partner: str,
    policy: str | None,
    renews: int | None,
    because: str | None,
    person: str,
    as_json: bool,
) -> None:
    """Open a case with the bridge's request (受付)."""
    if (renews is None) != (because is None):
        raise click.UsageError("--renews and --because go together: which case is renewed, and why")
    trigger = None if because is None else Trigger(because)
    application = Application(partner.strip(), read(csr, MAX_REQUEST_OCTETS), policy, renews, trigger)

    async def work(installation: Installation) -> Case:
        return await cross_certification.receive(installation, application, person, now())

    _act(context, work, as_json=as_json)


@cross.command()
@case_argument
@click.option("--key-sha256", required=True, help="SHA-256 of its key, as it told by another way than the request.")
@click.option("--evidence", required=True, help="How its operator and that fingerprint were found to be genuine.")
@by_option
@json_option
@click.pass_context
def examine(context: click.Context, case_id: int, key_sha256: str, evidence: str, person: str, as_json: bool) -> None:
    """Record that operator and key of the bridge are genuine (審査)."""

    async def work(installation: Installation) -> Case:
        return await cross_certification.examine(installation, By(case_id, person, now()), key_sha256, evidence)

    _act(context, work, as_json=as_json)


@cross.command()
@case_argument
@note_option
@by_option
@json_option
@click.pass_context
def approve(context: click.Context, case_id: int, note: str, person: str, as_json: bool) -> None:
    """Approve what was examined (承認)."""
    _note(context, By(case_id, person, now()), Step.APPROVE, note, as_json=as_json)


@cross.command()
@case_argument
@note_option
@by_option
@json_option
@click.pass_context
def reject(context: click.Context, case_id: int, note: str, person: str, as_json: bool) -> None:
    """Reject the request, for good: as the examiner of a received one, later as the approver."""
    _note(context, By(case_id, person, now()), Step.REJECT, note, as_json=as_json)


@cross.command()
@case_argument
@click.option("--passed/--failed", required=True, default=None, help="What came of it.")
@note_option
@by_option
@json_option
@click.pass_context
def test(context: click.Context, case_id: int, passed: bool, note: str, person: str, as_json: bool) -> None:
    """Record a connection test (接続テスト); one that failed may be repeated."""
    step = Step.TEST if passed else Step.FAIL_TEST
    _note(context, By(case_id, person, now()), step, note, as_json=as_json)


@cross.command()
@case_argument
@click.option("--valid-from", type=click.DateTime(["%Y-%m-%d"]), help="The day, in Japan.  [default: when signed]")
@by_option
@json_option
@click.pass_context
def issue(context: click.Context, case_id: int, valid_from: datetime | None, person: str, as_json: bool) -> None:
    """Certify the bridge's key, for five years."""
    case = run(_find(settings_of(context), case_id))
    moved(case, Step.ISSUE, person)  # before people are asked
    parameters = cross_operation.issue_parameters(case, person, None if valid_from is None else valid_from.date())
    ask(context, OperationKind.CROSS_CERTIFICATE, parameters, as_json=as_json)


@cross.command()
@case_argument
@click.argument("certificate", type=file_argument)
@by_option
@json_option
@click.pass_context
def accept(context: click.Context, case_id: int, certificate: Path, person: str, as_json: bool) -> None:
    """Accept the CERTIFICATE that the bridge issued to us: name, key, signature, period, extensions are checked."""

    async def work(installation: Installation) -> Case:
        octets = read(certificate, MAX_CERTIFICATE_OCTETS)
        return await cross_certification.accept(installation, By(case_id, person, now()), octets)

    _act(context, work, as_json=as_json)


@cross.command("give-receipt")
@case_argument
@by_option
@json_option
@click.pass_context
def give_receipt(context: click.Context, case_id: int, person: str, as_json: bool) -> None:
    """Make our receipt (受領書) for the certificate that was accepted; `prefca cross export receipt` writes the PDF."""

    async def work(installation: Installation) -> Case:
        return await cross_certification.give_receipt(installation, By(case_id, person, now()))

    _act(context, work, as_json=as_json)


@cross.command("take-receipt")
@case_argument
@click.argument("receipt", type=file_argument)
@by_option
@json_option
@click.pass_context
def take_receipt(context: click.Context, case_id: int, receipt: Path, person: str, as_json: bool) -> None:
    """Record the bridge's RECEIPT (受領書) for our certificate, whatever its form."""

    async def work(installation: Installation) -> Case:
        paper = read(receipt, cross_certification.MAX_RECEIPT_OCTETS)
        return await cross_certification.take_receipt(installation, By(case_id, person, now()), paper)

    _act(context, work, as_json=as_json)


@cross.command()
@case_argument
@click.option("--reason", required=True, help="cACompromise (2), superseded (4) or cessationOfOperation (5).")
@click.option("--requested-by", type=click.Choice(cross_operation.REQUESTERS), required=True, help="Whose request.")
@by_option
@json_option
@click.pass_context
def revoke(context: click.Context, case_id: int, reason: str, requested_by: str, person: str, as_json: bool) -> None:
    """Revoke our certificate for the bridge, for good: on the next ARL it is, and the pair is gone."""
    case = run(_find(settings_of(context), case_id))
    moved(case, Step.REVOKE, person)  # before people are asked
    parameters = cross_operation.revoke_parameters(case, person, parse_reason(reason), requested_by)
    ask(context, OperationKind.CROSS_REVOCATION, parameters, as_json=as_json)


async def _find(settings: Settings, case_id: int) -> Case:
    async with opened(settings) as installation:
        return await find(installation, case_id)


def _note(context: click.Context, by: By, step: Step, words: str, *, as_json: bool) -> None:
    async def work(installation: Installation) -> Case:
        return await cross_certification.note(installation, by, step, words)

    _act(context, work, as_json=as_json)


def _act(context: click.Context, work: Callable[[Installation], Awaitable[Case]], *, as_json: bool) -> None:
    """Do a step, and say where the case is now."""

    async def done(settings: Settings) -> Case:
        async with opened(settings) as installation:
            return await work(installation)

    case = run(done(settings_of(context)))
    facts: dict[str, Any] = case_facts(case)
    if as_json:
        print_json(facts)
        return
    click.echo(f"case {case.case_id} is {facts['state']}; next: {facts['next'] or 'nothing'}")


COMMANDS = (cross,)
