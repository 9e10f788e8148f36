"""`prefca report`: what is made from the journals for others."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import BinaryIO

import click

from issuer.archive.desk import desk_of
from issuer.cli.days import MONTH
from issuer.cli.root import now, run, settings_of
from issuer.profiles.municipality import PREFECTURES
from issuer.rules.provision_report import ProvisionReport, as_csv, as_html, as_json, month_after, provisions
from pkix.validity import zulu
from settings.load import Settings


@click.group()
def report() -> None:
    """Reports that the rule asks for."""


@report.command("provision")
@click.option("--month", type=MONTH, required=True, help="Year and month in Japan, such as 2026-10.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json", "html", "pdf"]),
    default="csv",
    show_default=True,
    help="The form.",
)
@click.option("-o", "--output", type=click.File("wb"), default="-", help="A file.")
@click.pass_context
def provision_command(context: click.Context, month: datetime, form: str, output: BinaryIO) -> None:
    """提供状況報告書: how many items each relying party was given in a month, and how (R-4-5-1).

    Counted is what `prefca journal collect` has collected; the report says whether that is all of the month.
    """
    made, hosts = run(_provision(settings_of(context), month.date()))
    if form == "pdf":
        from issuer.archive.provision_pdf import as_pdf  # slow: no other command should pay for it

        output.write(as_pdf(made))
    else:
        output.write({"csv": as_csv, "json": as_json, "html": as_html}[form](made).encode())
    if not made.is_complete:
        click.echo(f"prefca: {_missing(made, hosts)}", err=True)


def _missing(made: ProvisionReport, hosts: Mapping[str, datetime]) -> str:
    """Why the report is not all of the month, and what to do.

    Args:
        made: the report.
        hosts: until when everything of each is collected.
    """
    if made.made_at < made.end:
        return f"the month is not over: it ends at {zulu(made.end)}"
    behind = [f"of {host or 'this host'} until {zulu(until)}" for host, until in hosts.items() if until < made.end]
    collected = ", ".join(behind) or "nothing yet"
    return (
        f"not everything of the month is collected: {collected}; bring the segments of those hosts here,"
        " and run `prefca journal collect`"
    )


async def _provision(settings: Settings, month: date) -> tuple[ProvisionReport, Mapping[str, datetime]]:
    """The report, and until when everything of each host is collected."""
    async with desk_of(settings) as desk:
        usage = await desk.journals.usage(month, month_after(month))
        parties = await desk.parties.relying_parties()
        made = ProvisionReport(
            prefectures=tuple(PREFECTURES[one.prefecture].name_ja for one in settings.cas),
            month=month,
            made_at=now(),
            complete_until=await desk.journals.complete_until(),
            provisions=provisions(usage, {party.name: party.description for party in parties}),
        )
        return made, await desk.journals.complete_hosts()


COMMANDS = (report,)
