"""Which lists a command is about: options, and what they choose."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from issuer.cli.root import now
from issuer.errors import RefusedError
from issuer.installation import Installation, opened
from issuer.profiles.municipality import municipalities_of, municipality
from issuer.records.list_store import KeptList, Selection
from issuer.records.rows import Publication
from pkix.validity import JST, zulu
from settings.load import Settings

F = TypeVar("F", bound=Callable[..., Any])

_SHOWS_ALL: Final = "`prefca crl list` shows what was published"
NO_SUCH_LIST: Final = f"there is no such list; {_SHOWS_ALL}"

_TICK: Final = timedelta.resolution
_DATES: Final = "2026-04-01, a day in Japan, or 2026-04-01T03:00:00Z"
_OF_THE_CA: Final = {"ca": "ARL", "operations": "CRL"}


@dataclass(frozen=True, slots=True)
class Period:
    """A day in Japan, or one second: both ends belong to it."""

    begin: datetime
    end: datetime


class _PeriodType(click.ParamType[Period]):
    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Period:  # noqa: ANN401 - click's
        """Read 2026-04-01, a day in Japan, or 2026-04-01T03:00:00Z.

        Raises:
            BadParameter: it is neither.
        """
        with contextlib.suppress(ValueError, OverflowError):  # the second at the ends of what a datetime holds
            day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=JST).astimezone(UTC)
            return Period(day, day + timedelta(days=1) - _TICK)
        with contextlib.suppress(ValueError, OverflowError):
            moment = datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            return Period(moment, moment + timedelta(seconds=1) - _TICK)
        raise click.BadParameter(f"{value!r} is no date; write {_DATES}", ctx, param)


PERIOD: Final = _PeriodType()
COUNT: Final = click.IntRange(1, 2**63 - 1)  # a bigint of PostgreSQL
_KEY: Final = click.IntRange(1, 2**15 - 1)  # a smallint

municipality_option = click.option(
    "-m", "--municipality", help="Its code or name; `ca` is the ARL, `operations` the CRL of the servers."
)
number_option = click.option("--number", type=COUNT, help="The CRLNumber.")
key_option = click.option("--key", type=_KEY, help="Signed by the CA's key of that number.  [default: the newest]")
date_option = click.option("--date", type=PERIOD, help="In force at that moment, or at the end of that day in Japan.")
_from_option = click.option(
    "--from", "since", type=PERIOD, help="Made on that day in Japan, or at that moment, or later."
)
_to_option = click.option("--to", "until", type=PERIOD, help="Made then or earlier.")
_all_option = click.option("--all", "is_all", is_flag=True, help="All that were published.  [default: those in force]")


def period_options(command: F) -> F:
    """Add --municipality, --from and --to."""
    return municipality_option(_from_option(_to_option(command)))


def selection_options(command: F) -> F:
    """Add every option that chooses lists."""
    return period_options(number_option(date_option(_all_option(command))))


@dataclass(frozen=True, slots=True)
class Choice:
    """What the options of a command say."""

    municipality: str | None = None
    number: int | None = None
    date: Period | None = None
    since: Period | None = None
    until: Period | None = None
    is_all: bool = False
    key: int | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.is_all and self.date:
            raise click.UsageError("--date is of one moment, --all of all; leave one out")
        if self.since and self.until and self.until.end < self.since.begin:
            raise RefusedError("--from is after --to; no list can be of such a time")


def choice_of(which: str, value: str) -> Choice:
    """A list by its CRLNumber or a date.

    Raises:
        BadParameter: `value` is neither.
    """
    if value.isdecimal():
        return Choice(which, number=COUNT(value))
    try:
        return Choice(which, date=PERIOD.convert(value, None, None))
    except click.BadParameter as e:
        raise click.BadParameter(f"{value!r} is no CRLNumber and no date; write 42, {_DATES}") from e


@contextlib.asynccontextmanager
async def chosen(settings: Settings, choice: Choice) -> AsyncIterator[tuple[Installation, Selection]]:
    """An installation, seen at one moment, and what of its lists is chosen; if nothing says when, those in force.

    Raises:
        RefusedError: there is no such municipality, or nothing was in force then.
    """
    async with opened(settings) as installation, installation.store.snapshot():
        yield installation, await _selection(installation, choice)


async def found(installation: Installation, choice: Choice) -> KeptList:
    """The one list that is chosen.

    Raises:
        RefusedError: there is none.
    """
    lists = await installation.lists.newest(installation.authority_id, await _selection(installation, choice), 1)
    if not lists:
        raise RefusedError(NO_SUCH_LIST)
    return lists[0]


def name_of(label: str) -> str:
    """A list's name for people: that of its municipality."""
    return _OF_THE_CA.get(label) or municipality(label).name_ja


def is_public(label: str) -> bool:
    """Whether everybody may have the list: that of the CA or of its servers, not of residents (R-2-6-3-1)."""
    return label in _OF_THE_CA


async def _selection(installation: Installation, choice: Choice) -> Selection:
    selection = Selection(
        None if choice.municipality is None else label_of(choice.municipality, installation.settings),
        choice.number,
        since=None if choice.since is None else choice.since.begin,
        until=None if choice.until is None else choice.until.end,
        generation=choice.key,
    )
    is_dated = selection != Selection(selection.label, generation=choice.key)
    if choice.is_all or (is_dated and choice.date is None):
        return selection
    publication = await _publication(installation, choice.date)
    return replace(selection, publication_id=publication.publication_id)


async def _publication(installation: Installation, date: Period | None) -> Publication:
    """What is in force now, or was at the end of a period: today's is now.

    That is the newest, as it is served, although a clock that was ahead may have dated it later than now.

    Raises:
        RefusedError: nothing was in force then, or nobody knows yet.
    """
    moment, authority_id = now(), installation.authority_id
    if date is not None and date.begin > moment:
        raise RefusedError(f"{zulu(date.begin)} is yet to come; what will be in force then nobody knows")
    if date is None or date.end >= moment:
        publication = await installation.store.publication_in_force(authority_id)
    else:
        moment = date.end
        publication = await installation.lists.publication_at(authority_id, moment)
    if publication is None:
        raise RefusedError(f"no list was in force then; {_SHOWS_ALL}")
    ended = publication.window.next_update
    if date is not None and ended < moment:
        raise RefusedError(f"no list was in force then: it had ended at {zulu(ended)}, and none had come; {_SHOWS_ALL}")
    return publication


def label_of(named: str, settings: Settings) -> str:
    """The label of a list: of a municipality of the CA by its code or name, or of the CA.

    Raises:
        RefusedError: there is none.
    """
    if named in _OF_THE_CA:
        return named
    for one in municipalities_of(settings.ca.prefecture):
        if named in {one.code, one.name_ja, one.name_romaji}:
            return one.code
    raise RefusedError(f"{named!r} has no list here; write a municipality's code or name, `ca`, or `operations`")
