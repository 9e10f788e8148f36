"""`prefca revoke`, `list`: certificates of residents."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click
from cryptography import x509

from issuer.cli.asking import means
from issuer.cli.bulk_revoking import revoke_file
from issuer.cli.notice_files import results_option
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import REFUSED_STATUS, each, for_scripts, now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import Installation, opened
from issuer.operations import agreement
from issuer.operations.agreement import Order
from issuer.profiles.authority import Kind
from issuer.records.rows import CertificateRow
from issuer.residents.revocation import (
    NotRevoked,
    RevocationOrder,
    RevokedNow,
    parse_moment,
    parse_reason,
    parse_serial,
    revoke,
)
from issuer.rules.operation import OperationKind
from issuer.servers.server_revocation import not_residents, revocation_of
from issuer.which_ca import issuing_ca
from settings.load import Settings


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:  # noqa: ARG001 - the signature is click's
    try:
        return None if value is None else parse_moment(value)
    except RefusedError as e:
        raise click.BadParameter(str(e)) from e


@click.command("revoke")
@click.argument("serials", nargs=-1)
@click.option("--reason", help="1 keyCompromise … 5 cessationOfOperation, by number or name.")
@click.option("--received-at", callback=_moment, help="When the reception of the request ended.  [default: now]")
@click.option("--invalidity-date", callback=_moment, help="Since when the certificate should not be trusted.")
@click.option("--file", "notices", type=click.File("rb"), help="Notices as JSON Lines, instead of all these.")
@results_option
@json_option
@click.pass_context
def revoke_command(
    context: click.Context,
    serials: tuple[str, ...],
    reason: str | None,
    received_at: datetime | None,
    invalidity_date: datetime | None,
    notices: BinaryIO | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Revoke the certificates with these SERIALS (hexadecimal), for good; or what the notices of a --file ask for.

    OCSP answers "revoked" at once; the lists follow with the next batch. Exit status 3 if any was refused. Of several
    CAs each revokes what it issued. A moment is like 2026-04-01T03:00:00Z, or a day of Japan like 2026-04-01.

    A line of a file is like {"serial": "5AF0…", "reason": 5}; docs/integrate.md tells all. Residents' certificates of
    one CA are revoked so; each line's outcome goes to the results file. Run again after an interruption: it goes on
    where it was, and what was revoked for the same notice stays so.
    """
    if notices is not None:
        if serials or reason or received_at or invalidity_date:
            raise click.UsageError("with --file all is in the file; leave SERIALS and what is said of them out")
        revoke_file(context, notices, results, as_json=as_json)
        return
    if not serials or reason is None or results is not None:
        raise click.UsageError(
            "name SERIALS and their --reason, or a --file of notices and, if you like, its --results"
        )
    order = RevocationOrder(
        tuple(dict.fromkeys(parse_serial(serial) for serial in serials)),
        parse_reason(reason),
        received_at or now().replace(microsecond=0),
        invalidity_date,
    )
    _revoke_serials(context, order, as_json=as_json)


def _revoke_serials(context: click.Context, order: RevocationOrder, *, as_json: bool) -> None:
    outcomes, status = run(_revoke(settings_of(context), order))
    if as_json:
        print_json([_revocation_as_dict(outcome) for outcome in outcomes])
    for outcome in outcomes:
        if isinstance(outcome, NotRevoked):
            click.echo(f"prefca: {outcome.serial:016X} {outcome.message}", err=True)
        elif as_json:
            continue
        elif isinstance(outcome, Asked):
            click.echo(f"{outcome.serial:016X} is no resident's: operation {outcome.operation} has to be agreed to")
        else:
            click.echo(f"{outcome.serial:016X} revoked: {outcome.status.reason.label}")
    is_refused = any(isinstance(outcome, NotRevoked) for outcome in outcomes)
    context.exit(max(status, REFUSED_STATUS if is_refused else 0))


@dataclass(frozen=True, slots=True)
class Asked:
    """It is no resident's: several persons have to agree."""

    serial: int
    operation: int


Outcome = RevokedNow | NotRevoked | Asked


async def _revoke(settings: Settings, order: RevocationOrder) -> tuple[list[Outcome], int]:
    """The outcomes, and the exit status of what could not even be tried."""
    cas = await issuing_ca(settings, order.serials)

    async def work(one: Settings) -> list[Outcome]:
        its = [serial for serial in order.serials if cas[serial] == one.ca.prefecture]
        if not its:
            return []
        async with opened(one) as installation:
            asked = await _asked(installation, replace(order, serials=its))
            rest = [serial for serial in its if serial not in {one.serial for one in asked}]
            return [*(await revoke(installation, replace(order, serials=rest), now()) if rest else []), *asked]

    done, status = await each(settings, work)
    return [outcome for outcomes in done.values() for outcome in outcomes], status


async def _asked(installation: Installation, order: RevocationOrder) -> list[Asked]:
    """Ask for the revocation of those that are no residents', where persons have to agree to it."""
    if not await agreement.needs_agreement(installation):
        return []
    serials = sorted(await not_residents(installation, order.serials))
    if not serials:
        return []
    whole = Order(OperationKind.REVOKE_CERTIFICATE, revocation_of(replace(order, serials=serials)))
    case = await agreement.request(installation, whole, means())
    return [Asked(serial, case.request.number) for serial in serials]


def _revocation_as_dict(outcome: Outcome) -> dict[str, object]:
    serial = f"{outcome.serial:016X}"
    if isinstance(outcome, Asked):
        return {"serial": serial, "result": "asked", "operation": outcome.operation}
    if isinstance(outcome, NotRevoked):
        return {"serial": serial, "result": "refused", "message": outcome.message}
    status = outcome.status
    return {"serial": serial, "result": "revoked", "reason": status.reason.label, "revoked_at": status.at}


@click.command("list")
@click.option(
    "--kind", type=click.Choice([kind.value for kind in Kind]), default=Kind.RESIDENT.value, show_default=True
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@json_option
@click.pass_context
def list_command(context: click.Context, kind: str, limit: int, as_json: bool) -> None:
    """List the newest certificates of each CA with their status."""
    print_certificates(context, Kind(kind), limit, as_json=as_json)


def print_certificates(context: click.Context, kind: Kind, limit: int, *, as_json: bool) -> None:
    """What `prefca list` prints of a kind; the context ends with the exit status."""
    settings = settings_of(context)

    async def newest(one: Settings) -> list[dict[str, object]]:
        async with opened(one) as installation:
            found = await installation.store.newest_certificates(installation.authority_id, kind, limit)
        return [_row(certificate) for certificate in found]

    rows, status = run(each(settings, newest))
    if as_json:
        print_json(for_scripts(settings, rows))
    else:
        print_table(
            ["serial", "status", "not after", "subject"],
            [list(row.values()) for its in rows.values() for row in its],
        )
    context.exit(status)


def _row(certificate: CertificateRow) -> dict[str, object]:
    subject = x509.load_der_x509_certificate(certificate.der).subject.rfc4514_string()
    return {
        "serial": f"{certificate.serial:016X}",
        "status": status_of(certificate),
        "not_after": certificate.not_after,
        "subject": subject,
    }


def status_of(certificate: CertificateRow) -> str:
    """What it is now, in words."""
    status = f"revoked ({certificate.revoked.reason.label})" if certificate.revoked else "good"
    return f"expired, {status}" if certificate.not_after < now() else status


COMMANDS = (revoke_command, list_command)
