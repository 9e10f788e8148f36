"""`prefca revoke`, `list`: certificates of residents."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import click
from cryptography import x509

from issuer.cli.asking import means
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import REFUSED_STATUS, each, for_scripts, now, run, settings_of
from issuer.installation import Installation, opened
from issuer.operations import agreement
from issuer.operations.agreement import Order
from issuer.profiles.authority import Kind
from issuer.records.rows import CertificateRow
from issuer.residents.revocation import NotRevoked, RevocationOrder, RevokedNow, parse_reason, parse_serial, revoke
from issuer.rules.operation import OperationKind
from issuer.servers.server_revocation import not_residents, revocation_of
from issuer.which_ca import issuing_ca
from settings.load import Settings

MOMENT = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"])


@click.command("revoke")
@click.argument("serials", nargs=-1, required=True)
@click.option("--reason", required=True, help="1 keyCompromise … 5 cessationOfOperation, by number or name.")
@click.option("--received-at", type=MOMENT, help="When the reception of the request ended (UTC).  [default: now]")
@click.option("--invalidity-date", type=MOMENT, help="Since when the certificate should not be trusted (UTC).")
@json_option
@click.pass_context
def revoke_command(
    context: click.Context,
    serials: tuple[str, ...],
    reason: str,
    received_at: datetime | None,
    invalidity_date: datetime | None,
    as_json: bool,
) -> None:
    """Revoke the certificates with these SERIALS (hexadecimal), for good.

    OCSP answers "revoked" at once; the lists follow with the next batch. Exit status 3 if any was refused. Of several
    CAs each revokes what it issued.
    """
    order = RevocationOrder(
        tuple(dict.fromkeys(parse_serial(serial) for serial in serials)),
        parse_reason(reason),
        _utc(received_at) or now().replace(microsecond=0),
        _utc(invalidity_date),
    )
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
    status = f"revoked ({certificate.revoked.reason.label})" if certificate.revoked else "good"
    if certificate.not_after < now():
        status = f"expired, {status}"
    return {
        "serial": f"{certificate.serial:016X}",
        "status": status,
        "not_after": certificate.not_after,
        "subject": subject,
    }


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


COMMANDS = (revoke_command, list_command)
