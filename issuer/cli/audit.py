"""`prefca audit`: the internal auditor's work with the audit log. Nobody else may, and nobody is told (R-4-11-7)."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

import click
import zstandard

from issuer.archive.collection import STREAM
from issuer.archive.desk import Desk, desk_of
from issuer.archive.review import Sources, sources
from issuer.archive.verification import check_connections
from issuer.cli.auditor import require_auditor
from issuer.cli.days import DAY, today
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import origin
from issuer.records.audit_store import Acceptance
from issuer.records.journal_store import SegmentRow
from issuer.rules import audit
from issuer.rules.audit import Event, Filter, Finding, Happened, Period, Retention, Rules, Tally
from issuer.rules.key_audit import KeySteps
from pkix.validity import JST
from settings.load import Settings

ROWS = 50  # of the table of counts
WEEK = timedelta(days=7)


@click.group("audit")
def audit_group() -> None:
    """The audit log, for the internal auditor alone (R-4-11-5-2): review it weekly, mark it, delete what is old.

    He also accepts what was found wrong about the journals, once it was looked into. He is the system account that
    `journal.auditor` names.
    """


# ---------------------------------------------------------------- review


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a review is to show; None: what the last one left."""

    begin: date | None
    end: date | None  # the last day
    wanted: Filter


@dataclass(frozen=True, slots=True)
class _Shown:
    period: Period
    counts: Counter[Event]
    findings: list[Finding]
    deleted: int


@audit_group.command("review")
@click.option("--from", "begin", type=DAY, help="First day, in Japan.  [default: where the last review ended]")
@click.option("--to", "end", type=DAY, help="Last day, in Japan.  [default: yesterday]")
@click.option("--party", help="Of this relying party only; '' is anonymous.")
@click.option("--kind", help="Of this kind only, such as ocsp_request.")
@click.option("--result", help="With this result only, such as unauthorized.")
@click.option("--origin", "source", help="From this address, or by this account@host, only.")
@click.option("--records", "shows_records", is_flag=True, help="Print the records themselves, as JSON Lines.")
@json_option
@click.pass_context
def review_command(
    context: click.Context,
    begin: datetime | None,
    end: datetime | None,
    party: str | None,
    kind: str | None,
    result: str | None,
    source: str | None,
    shows_records: bool,
    as_json: bool,
) -> None:
    """Show what happened and what is odd, since the last review or in the days asked for.

    Told are refusals, failed binds, unknown serial numbers, days with far more than usual, acts at night or by nobody
    of `journal.operators`, uses of the CA's key that did not end or belong to no operation, and streams of the journals
    that are new or were in no review yet.
    """
    asked = _Asked(begin and begin.date(), end and end.date(), Filter(kind, result, party, source))
    settings = settings_of(context)
    if shows_records:
        run(_print_records(settings, asked))
        return
    shown = run(_review(settings, asked))
    if as_json:
        print_json(_as_dict(shown))
    else:
        _print(shown)


async def _period(desk: Desk, asked: _Asked) -> Period:
    yesterday = today(now()) - timedelta(days=1)
    end = (asked.end or yesterday) + timedelta(days=1)
    reviewed = await desk.audits.reviewed_until()
    begin = asked.begin or (end - WEEK if reviewed is None else today(reviewed))
    if begin >= end:
        raise RefusedError(f"everything until {end - timedelta(days=1)} was reviewed; say which days, with --from")
    return Period(begin, end)


@contextlib.asynccontextmanager
async def _reviewing(settings: Settings, asked: _Asked) -> AsyncIterator[tuple[Desk, Period, Sources]]:
    """The records, for the auditor; that he looks at them is recorded."""
    async with desk_of(settings) as desk:
        await require_auditor(settings, desk, "review")
        period = await _period(desk, asked)
        async with desk.operations.transaction():
            await desk.operations.record("audit_review", now(), _named(period))
        async with sources(desk.journals, desk.audits, desk.operations, desk.places, period) as found:
            yield desk, period, found


async def _review(settings: Settings, asked: _Asked) -> _Shown:
    section = settings.journal
    rules = Rules(section.operators, section.night_from, section.night_until)
    async with _reviewing(settings, asked) as (desk, period, found):
        steps = KeySteps(period, asked.wanted)
        happened = await asyncio.to_thread(_happened, Tally(period, asked.wanted), steps, found)
        usage = await desk.journals.usage(period.begin - timedelta(days=audit.USUAL_DAYS), period.end)
        rates = [one for one in audit.high_rates(usage, period) if asked.wanted.party in {None, one.who}]
        odd = [*audit.findings(happened, rules), *steps.findings(), *rates, *await _new_streams(desk, period, asked)]
        return _Shown(period, audit.counts(happened), odd, found.deleted)


async def _new_streams(desk: Desk, period: Period, asked: _Asked) -> list[Finding]:
    """Those of a review of everything: they belong to no party, kind or result."""
    if asked.wanted != Filter():
        return []
    reviewed_until = await desk.audits.reviewed_until()
    return list(audit.new_streams(await desk.journals.first_sights(), period, reviewed_until))


async def _print_records(settings: Settings, asked: _Asked) -> None:
    async with _reviewing(settings, asked) as (_, period, found):
        with _telling_of_damage():
            for line in filter(Tally(period, asked.wanted).takes, found.records()):
                click.echo(line, nl=False)


def _happened(tally: Tally, steps: KeySteps, found: Sources) -> list[Happened]:
    with _telling_of_damage():
        for line in found.records():
            tally.add(line)
            steps.add(line)
        return list(tally.happened())


@contextlib.contextmanager
def _telling_of_damage() -> Iterator[None]:
    """Whatever reading what somebody else wrote leads to, in a sentence."""
    try:
        yield
    except (ValueError, LookupError, TypeError, zstandard.ZstdError) as e:
        raise RefusedError("the journals hold what no process wrote; `prefca journal verify` names the place") from e


def _named(period: Period) -> str:
    return f"{period.begin} to {period.end - timedelta(days=1)}"


def _as_dict(shown: _Shown) -> dict[str, object]:
    return {
        "from": str(shown.period.begin),
        "to": str(shown.period.end - timedelta(days=1)),
        "findings": [asdict(one) for one in shown.findings],
        "counts": [asdict(event) | {"number": number} for event, number in shown.counts.most_common()],
        "deleted_segments": shown.deleted,
    }


def _print(shown: _Shown) -> None:
    rows = [
        (event.kind, event.result, event.party, event.origin, f"{number:,}")
        for event, number in shown.counts.most_common(ROWS)
    ]
    print_table(["kind", "result", "party", "origin", "number"], rows)
    if len(shown.counts) > ROWS:
        click.echo(f"… and {len(shown.counts) - ROWS} rows more: filter, or take --json")
    if shown.deleted:
        click.echo(f"{shown.deleted} segments of these days were deleted")
    click.echo(f"\n{len(shown.findings)} findings, {_named(shown.period)}")
    if shown.findings:
        print_table(["finding", "who", "number", "what"], [tuple(asdict(one).values()) for one in shown.findings])


# ---------------------------------------------------------------- mark


@audit_group.command("mark-reviewed")
@click.option("--to", "end", type=DAY, required=True, help="Last day that was reviewed, in Japan.")
@click.option("--note", default="", help="What came of it.")
@click.pass_context
def mark_command(context: click.Context, end: datetime, note: str) -> None:
    """Record that everything from the last review to the end of a day was reviewed (R-4-11-3). It is final."""
    run(_mark(settings_of(context), end.date(), note))
    click.echo(f"reviewed, to the end of {end.date()}")


async def _mark(settings: Settings, last: date, note: str) -> None:
    until = _midnight(last + timedelta(days=1))
    async with desk_of(settings) as desk:
        await require_auditor(settings, desk, "mark_reviewed")
        async with desk.operations.transaction():
            reviewed, complete = await desk.audits.reviewed_until(), await desk.journals.complete_until()
            if reviewed is not None and until <= reviewed:
                raise RefusedError(f"that is reviewed already, to the end of {today(reviewed) - timedelta(days=1)}")
            if until > now():
                raise RefusedError(f"{last} is not over in Japan; take an earlier day")
            if complete is None or complete < until:
                raise RefusedError(f"not all of {last} is collected; run `prefca journal collect`, then review it")
            await desk.audits.add_review(until, origin(), note, now())
            await desk.operations.record("audit_mark_reviewed", now(), f"to {last}", {"note": note})


# ---------------------------------------------------------------- accept


@audit_group.command("accept")
@click.argument("finding")
@click.option("--note", required=True, help="What came of looking into it.")
@click.pass_context
def accept_command(context: click.Context, finding: str, note: str) -> None:
    """Record that a FINDING about missing or foreign segments was looked into, as `prefca journal verify` tells it.

    From then on it is told without status 3, and what was collected since counts as complete. It is final.
    """
    run(_accept(settings_of(context), finding.removeprefix("prefca: "), note))
    click.echo(f"looked into: {finding}")


async def _accept(settings: Settings, finding: str, note: str) -> None:
    async with desk_of(settings) as desk:
        await require_auditor(settings, desk, "accept")
        if finding not in (await check_connections(desk.journals, desk.audits, desk.places)).findings:
            raise RefusedError("that is not found, or accepted already; copy a line of `prefca journal verify`")
        async with desk.operations.transaction():
            await desk.audits.accept(finding, Acceptance(now(), origin(), note))
            await desk.operations.record("audit_accept", now(), finding, {"note": note})


# ---------------------------------------------------------------- delete


@dataclass(frozen=True, slots=True)
class _Deleted:
    """What was deleted, and of how many segments the files stay, by the reason."""

    segments: list[SegmentRow]
    kept: Counter[str]


@audit_group.command("delete")
@click.option("--before", "before", type=DAY, required=True, help="First day that stays, in Japan.")
@json_option
@click.pass_context
def delete_command(context: click.Context, before: datetime, as_json: bool) -> None:
    """Delete the archive's files of old segments that are reviewed and on good media; proofs and hashes stay.

    Media are good if their newest reading that was recorded (`prefca archive check --record`) found nothing wrong.

    Acts of the issuer must be older than a year (R-4-11-4), all other segments, which are usage history, than ten
    (R-4-12-2-2).
    """
    deleted = run(_delete(settings_of(context), before.date()))
    if as_json:
        segments = [{"stream": one.stream, "segment": one.number, "file": one.file} for one in deleted.segments]
        print_json({"deleted": segments, "kept": deleted.kept})
        return
    click.echo(f"{len(deleted.segments)} segments deleted")
    for why, number in deleted.kept.most_common():
        click.echo(f"{number} stay: {why}")


async def _delete(settings: Settings, before: date) -> _Deleted:
    async with desk_of(settings) as desk:
        await require_auditor(settings, desk, "delete")
        earlier, exported = await desk.audits.deletions(), await desk.media.segments()
        retention = Retention(now(), _midnight(before), await desk.audits.reviewed_until())
        deleted, gone = _Deleted([], Counter()), []
        for one in await desk.journals.segments(None, _midnight(before)):
            key = (one.stream, one.number)
            if key in earlier:
                gone.append(one)  # its file may still be there, if that deletion was killed
                continue
            why_kept = retention.why_kept(
                one.sealed_at, is_of_acts=one.stream == STREAM, is_good_copy=exported.get(key)
            )
            if why_kept is None:
                deleted.segments.append(one)
            else:
                deleted.kept[why_kept] += 1
        await _record_deletion(desk, deleted, before)  # before anything is gone
        for one in (*gone, *deleted.segments):
            (desk.places.archive / one.file).unlink(missing_ok=True)
        return deleted


async def _record_deletion(desk: Desk, deleted: _Deleted, before: date) -> None:
    if deleted.segments:
        async with desk.operations.transaction():
            await desk.audits.add_deletions(deleted.segments, origin(), now())
            about = f"before {before}: {len(deleted.segments)} segments"
            await desk.operations.record("audit_delete", now(), about)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=JST)


COMMANDS = (audit_group,)
