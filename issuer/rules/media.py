"""External media with the archive: monthly (R-4-12-2-3, R-4-12-2-4), and read again every year (R-4-12-2-6)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from issuer.rules.provision_report import month_after
from pkix.validity import JST

SETTLED: Final = timedelta(days=1)  # after the end of a month nothing of it comes into being any more
LATE: Final = timedelta(days=31)  # and then media are to be made, monthly
READ_AGAIN: Final = timedelta(days=366)
RESIDENTS: Final = timedelta(days=4749)  # thirteen years: nothing has to be kept for longer (R-4-12-2-2)


@dataclass(frozen=True, slots=True)
class Export:
    """A medium was written to."""

    medium: str
    at: datetime
    directory: str
    first: date | None  # month that is there as a whole; None: there is none
    last: date | None

    def holds(self, month: date) -> bool:
        """Is a month there?"""
        return self.first is not None and self.last is not None and self.first <= month <= self.last


@dataclass(frozen=True, slots=True)
class Reading:
    """A medium was read again."""

    at: datetime
    stated_at: datetime | None  # when its statement was made; None: it cannot be read
    findings: int


@dataclass(frozen=True, slots=True)
class MediaSight:
    """What is known of all media."""

    began: datetime | None  # the archive; None: there is nothing in it
    exports: tuple[Export, ...]  # in their order
    readings: Mapping[str, Reading]  # the newest of each medium


def begin_of(month: date) -> datetime:
    """The moment."""
    return datetime(month.year, month.month, 1, tzinfo=JST)


def months(first: datetime, now: datetime) -> Iterator[date]:
    """The months of Japan from that of `first` on that are over and settled."""
    month = first.astimezone(JST).date().replace(day=1)
    while begin_of(month_after(month)) + SETTLED <= now:
        yield month
        month = month_after(month)


def not_exported(sight: MediaSight, now: datetime) -> date | None:
    """The oldest month that should long be on media and is on none."""
    if sight.began is None:
        return None
    late = months(sight.began, now - LATE)
    return next((month for month in late if not any(one.holds(month) for one in sight.exports)), None)


@dataclass(frozen=True, slots=True)
class Unread:
    """A month that no medium is known to hold any more."""

    month: date
    export: Export  # the newest that holds it
    is_damaged: bool  # as the newest reading said


def not_read(sight: MediaSight, now: datetime) -> Unread | None:
    """The oldest month that has to be kept, and of which no medium was made or read within a year."""
    good_at = _good(sight)
    exported = sorted({month for one in sight.exports for month in _months_of(one)})
    for month in (month for month in exported if now - begin_of(month_after(month)) < RESIDENTS):
        holding = [one for one in sight.exports if one.holds(month)]
        known = [good_at[one.medium] for one in holding if one.medium in good_at]
        if not known or now - max(known) > READ_AGAIN:
            return Unread(month, holding[-1], not known)
    return None


def _good(sight: MediaSight) -> dict[str, datetime]:
    """When each medium was last known to be good: read, or, before it ever was, made."""
    good_at: dict[str, datetime] = {}
    for one in sight.exports:
        good_at.setdefault(one.medium, one.at)
    for medium, reading in sight.readings.items():
        if reading.findings:
            good_at.pop(medium, None)
        else:
            good_at[medium] = reading.at
    return good_at


def _months_of(export: Export) -> Iterator[date]:
    month = export.first
    while month is not None and export.holds(month):
        yield month
        month = month_after(month)
