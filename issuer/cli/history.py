"""`prefca history`: what became of a certificate, and of the others of its holder."""

import click

from issuer.cli.certificates import status_of
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import each, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import opened
from issuer.profiles.profile import MAX_SERIAL
from issuer.records.rows import HistoryRow
from issuer.residents.revocation import parse_serial
from settings.load import Settings


@click.command()
@click.argument("serial", required=False)
@click.option("--notice-number", help="Of the notice that a certificate was issued for, instead of SERIAL.")
@json_option
@click.pass_context
def history(context: click.Context, serial: str | None, notice_number: str | None, as_json: bool) -> None:
    """Show what became of a certificate, and of all others of the same person, the oldest first.

    A notice number is looked for in all certificates: of millions that takes some seconds. Two municipalities may
    have used the same one.
    """
    if (serial is None) == (notice_number is None):
        raise click.UsageError("name the SERIAL of a certificate, or the --notice-number of a notice")
    if notice_number is not None and not notice_number.isprintable():  # octets that are no text, for example
        raise click.UsageError("a notice number has printable characters only")
    settings, number = settings_of(context), None if serial is None else parse_serial(serial)

    async def found(one: Settings) -> list[HistoryRow]:
        async with opened(one) as installation:
            store = installation.store
            serials = [number] if number is not None else await store.serials_of_notice(notice_number or "")
            return await store.history(installation.authority_id, [one for one in serials if one <= MAX_SERIAL])

    by_ca, status = run(each(settings, found))
    rows = [_row(row) for its in by_ca.values() for row in its]
    if not rows and not status:
        sought = f"a notice {notice_number!r}" if number is None else f"{number:016X}"
        raise RefusedError(f"no certificate was issued that belongs to {sought}; check the number")
    if as_json:
        print_json(rows)
    elif rows:
        columns = [name.replace("_", " ") for name in rows[0]]
        print_table(columns, [["" if cell is None else cell for cell in row.values()] for row in rows])
    context.exit(status)


def _row(row: HistoryRow) -> dict[str, object]:
    revoked = row.certificate.revoked
    return {
        "serial": f"{row.certificate.serial:016X}",
        "status": status_of(row.certificate),
        "municipality": row.municipality,
        "notice_number": row.notice_number,
        "issued_at": row.issued_at,
        "not_after": row.certificate.not_after,
        "received_at": row.received_at,
        "revoked_at": revoked.at if revoked else None,
        "invalidity_date": revoked.invalidity_date if revoked else None,
    }


COMMANDS = (history,)
