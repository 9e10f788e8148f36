"""`prefca issue`, `revoke`, `list`: certificates of residents."""

import base64
import secrets
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TextIO

import click
from cryptography import x509

from issuer.authority import Kind
from issuer.cli.output import json_line, json_option, print_json, print_table, progress
from issuer.cli.root import REFUSED_STATUS, now, run, settings_of
from issuer.installation import active_key, opened
from issuer.registration import Issued, Outcome, open_desk, register
from issuer.revocation import NotRevoked, RevocationOrder, RevokedNow, parse_reason, parse_serial, revoke
from issuer.rows import CertificateRow
from settings.load import Settings

MOMENT = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"])


@click.command()
@click.argument("notices", type=click.File("rb"))
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where each line's outcome is written, as JSON Lines.  [default: NOTICES' name with .results.jsonl, here]",
)
@json_option
@click.pass_context
def issue(context: click.Context, notices: BinaryIO, results: Path | None, as_json: bool) -> None:
    """Issue what the lines of NOTICES ask for: JSON Lines with 基本4情報 and a public key, as docs/integrate.md tells.

    A line that cannot be issued is reported and stops no other. Run again after an interruption: a notice that was
    issued already gives the same certificate. Exit status 3 if any line was refused.
    """
    results = results or Path(f"{Path(notices.name).name if notices.name != '<stdin>' else 'notices'}.results.jsonl")
    results.touch(mode=0o600)  # certificates are personal data
    with results.open("a", encoding="utf-8") as stream:
        counts = run(_issue(settings_of(context), notices, stream))
    if as_json:
        print_json(counts | {"results": str(results)})
    else:
        click.echo(
            f"issued {counts['issued']}, issued before {counts['issued_before']}, refused {counts['refused']};"
            f" each line's outcome: {results}"
        )
    if counts["refused"]:
        context.exit(REFUSED_STATUS)


async def _issue(settings: Settings, notices: BinaryIO, results: TextIO) -> dict[str, int]:
    counts = {"issued": 0, "issued_before": 0, "refused": 0}
    async with opened(settings) as installation, active_key(installation) as key:
        desk = await open_desk(installation, key, now, secrets.token_bytes)
        results.truncate(0)  # only now: a run that cannot begin leaves what the last one wrote
        with ExitStack() as stack:
            bar = stack.enter_context(progress("lines"))
            task = bar.add_task("issuing", total=_count_lines(notices))
            async for outcomes in register(desk, notices):
                for outcome in outcomes:
                    counts[_result(outcome)] += 1
                    results.write(json_line(_outcome_as_dict(outcome)) + "\n")
                    if not isinstance(outcome, Issued):
                        bar.console.print(
                            f"line {outcome.line}: {outcome.code}: {outcome.message}", markup=False, soft_wrap=True
                        )
                results.flush()
                bar.update(task, completed=outcomes[-1].line)
    return counts


def _count_lines(stream: BinaryIO) -> int | None:
    """How many lines a file has; None for a pipe."""
    if not stream.seekable():
        return None
    count = sum(1 for _ in stream)
    stream.seek(0)
    return count


def _result(outcome: Outcome) -> str:
    if isinstance(outcome, Issued):
        return "issued_before" if outcome.again else "issued"
    return "refused"


def _outcome_as_dict(outcome: Outcome) -> dict[str, object]:
    common: dict[str, object] = {
        "line": outcome.line,
        "notice_number": outcome.notice_number,
        "result": _result(outcome),
    }
    if isinstance(outcome, Issued):
        certificate = base64.b64encode(outcome.certificate).decode()
        return common | {"serial": f"{outcome.serial:016X}", "certificate": certificate}
    return common | {"code": outcome.code, "message": outcome.message}


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

    OCSP answers "revoked" at once; the lists follow with the next batch. Exit status 3 if any was refused.
    """
    order = RevocationOrder(
        tuple(dict.fromkeys(parse_serial(serial) for serial in serials)),
        parse_reason(reason),
        _utc(received_at) or now().replace(microsecond=0),
        _utc(invalidity_date),
    )
    outcomes = run(_revoke(settings_of(context), order))
    if as_json:
        print_json([_revocation_as_dict(outcome) for outcome in outcomes])
    for outcome in outcomes:
        if isinstance(outcome, NotRevoked):
            click.echo(f"prefca: {outcome.serial:016X} {outcome.message}", err=True)
        elif not as_json:
            click.echo(f"{outcome.serial:016X} revoked: {outcome.status.reason.label}")
    if any(isinstance(outcome, NotRevoked) for outcome in outcomes):
        context.exit(REFUSED_STATUS)


async def _revoke(settings: Settings, order: RevocationOrder) -> list[RevokedNow | NotRevoked]:
    async with opened(settings) as installation:
        return await revoke(installation, order, now())


def _revocation_as_dict(outcome: RevokedNow | NotRevoked) -> dict[str, object]:
    serial = f"{outcome.serial:016X}"
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
    """List the newest certificates with their status."""
    rows = [_row(certificate) for certificate in run(_newest(settings_of(context), Kind(kind), limit))]
    if as_json:
        print_json(rows)
    else:
        print_table(["serial", "status", "not after", "subject"], [list(row.values()) for row in rows])


async def _newest(settings: Settings, kind: Kind, limit: int) -> list[CertificateRow]:
    async with opened(settings) as installation:
        return await installation.store.newest_certificates(installation.authority_id, kind, limit)


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


COMMANDS = (issue, revoke_command, list_command)
