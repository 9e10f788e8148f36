"""`prefca cross list|show|export|names`: what is on record of cross-certification."""

from typing import Any, BinaryIO, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.cli.output import json_option, print_json, print_table, text
from issuer.cli.publishing import pem
from issuer.cli.root import now, run, settings_of
from issuer.cross import cross_papers
from issuer.cross.cross_register import find, fingerprint, request_of
from issuer.errors import RefusedError
from issuer.installation import Installation, opened
from issuer.profiles.certification_request import cross_request
from issuer.rules.cross_case import NEXT_STATE, Case, Step, in_force
from issuer.rules.cross_pair import certificate_pair
from settings.load import Settings

_LABELS: Final = {
    "request": "CERTIFICATE REQUEST",
    "csr": "CERTIFICATE REQUEST",
    "ours": "CERTIFICATE",
    "theirs": "CERTIFICATE",
}
_RECEIPTS: Final = {"receipt": Step.GIVE_RECEIPT, "their-receipt": Step.TAKE_RECEIPT}


def case_facts(case: Case) -> dict[str, Any]:
    """A case in one row."""
    revoked = case.revoked
    return {
        "case": case.case_id,
        "partner": case.application.partner,
        "state": str(case.state),
        "renews": case.application.renews,
        "because": case.application.trigger,
        "key_sha256": fingerprint(request_of(case).key),
        "ours": _certificate(case.ours),
        "theirs": _certificate(case.theirs),
        "revoked": None if revoked is None else f"{revoked.reason.label} {text(revoked.at)}",
        "next": ", ".join(step for state, step in NEXT_STATE if state is case.state),
    }


def _certificate(der: bytes | None) -> dict[str, object] | None:
    if der is None:
        return None
    certificate = x509.load_der_x509_certificate(der)
    return {
        "serial": f"{certificate.serial_number:X}",
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


@click.command("list")
@json_option
@click.pass_context
def list_command(context: click.Context, as_json: bool) -> None:
    """Show all cases: how far each is, and which pairs are in force."""

    async def work(settings: Settings) -> dict[int, Case]:
        async with opened(settings) as installation:
            return await installation.cross.cases(installation.authority_id)

    cases = run(work(settings_of(context)))
    shown = {case.case_id for case in in_force(cases, now())}
    rows = [{**case_facts(case), "in_force": case.case_id in shown} for case in cases.values()]
    if as_json:
        print_json(rows)
        return
    columns = ["case", "partner", "state", "in force", "ours ends", "theirs ends", "revoked", "next"]
    print_table(
        columns,
        [
            [
                *(row["case"], row["partner"], row["state"], "yes" if row["in_force"] else "no"),
                *(row[half]["not_after"] if row[half] else "" for half in ("ours", "theirs")),
                *(row["revoked"] or "", row["next"]),
            ]
            for row in rows
        ],
    )


@click.command()
@click.argument("case_id", metavar="CASE", type=click.IntRange(1))
@json_option
@click.pass_context
def show(context: click.Context, case_id: int, as_json: bool) -> None:
    """Show a case with everything that was done in it, when and by whom."""
    case = run(_find(settings_of(context), case_id))
    steps = [
        {"step": each.step, "state": each.state, "at": each.at, "by": each.person, "role": each.role, **each.detail}
        for each in case.done
    ]
    if as_json:
        print_json({**case_facts(case), "subject": request_of(case).name.rfc4514_string(), "steps": steps})
        return
    for name, value in case_facts(case).items():
        if value is not None and value != "":
            told = ", ".join(f"{k} {text(v)}" for k, v in value.items()) if isinstance(value, dict) else value
            click.echo(f"{name.replace('_', ' ')}: {told}")
    for step in steps:
        click.echo("  ".join(f"{name} {text(value)}" for name, value in step.items()))


async def _find(settings: Settings, case_id: int) -> Case:
    async with opened(settings) as installation:
        return await find(installation, case_id)


@click.command()
@click.argument(
    "what", metavar="WHAT", type=click.Choice(["request", "csr", "ours", "theirs", "pair", "receipt", "their-receipt"])
)
@click.argument("case_id", metavar="CASE", required=False, type=click.IntRange(1))
@click.option("--der", is_flag=True, help="DER instead of PEM; a pair is always DER, a receipt as it is.")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="A file.  [default: standard output]")
@click.pass_context
def export(context: click.Context, what: str, case_id: int | None, der: bool, output: BinaryIO) -> None:
    """Write WHAT there is to a file.

    \b
    request        our newest request for the bridge; without CASE
    csr            the bridge's request
    ours, theirs   our certificate for the bridge, the bridge's for us
    pair           both, as crossCertificatePair
    receipt        our receipt; their-receipt: the bridge's
    """  # noqa: D301 - \b is click's
    if (what == "request") != (case_id is None):
        raise click.UsageError("`request` takes no case, everything else does")

    async def work(settings: Settings) -> bytes | None:
        async with opened(settings) as installation:
            if case_id is None:
                return await installation.cross.newest_request(installation.authority_id)
            return await _of_case(installation, what, await find(installation, case_id))

    octets = run(work(settings_of(context)))
    if octets is None:
        raise RefusedError(f"there is no {what} yet; `prefca cross list` shows how far each case is")
    output.write(octets if der or what not in _LABELS else pem(octets, _LABELS[what]))


async def _of_case(installation: Installation, what: str, case: Case) -> bytes | None:
    if what in _RECEIPTS:
        return await installation.cross.document(case.case_id, _RECEIPTS[what])
    if what == "pair":
        return certificate_pair(case.theirs, case.ours) if case.theirs and case.ours else None
    return {"csr": cross_request(case.application.request).der, "ours": case.ours, "theirs": case.theirs}[what]


@click.command()
@click.option("--format", "form", type=click.Choice(["html", "json"]), default="html", show_default=True)
@click.option("-o", "--output", type=click.File("w", encoding="utf-8"), default="-", help="A file.")
@click.pass_context
def names(context: click.Context, form: str, output: Any) -> None:  # noqa: ANN401 - what click opened
    """Write the names of CAs that are, and that were, cross-certified, for the web (2-6-1)."""

    async def work(settings: Settings) -> str:
        async with opened(settings) as installation:
            moment = now()
            found = cross_papers.named(await installation.cross.cases(installation.authority_id), moment)
            writer = {"html": cross_papers.as_html, "json": cross_papers.as_json}[form]
            return writer(installation.authority, found, moment)

    output.write(run(work(settings_of(context))))


SHOWING = (list_command, show, export, names)
