"""Periods of certificates and lists. All of them are counted in Japan Standard Time and kept in UTC, whole seconds."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

JST: Final = timezone(timedelta(hours=9), "JST")


@dataclass(frozen=True, slots=True)
class Validity:
    """Validity (RFC 5280, section 4.1.2.5): both ends belong to the period."""

    not_before: datetime
    not_after: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.not_before <= moment <= self.not_after


@dataclass(frozen=True, slots=True)
class UpdateWindow:
    """The dates of a list (R-7-2-1): made, next one expected, end of validity (nextUpdate)."""

    this_update: datetime
    next_publish: datetime
    next_update: datetime

    @classmethod
    def starting(cls, this_update: datetime, *, period: timedelta, validity: timedelta) -> "UpdateWindow":
        """A window from `this_update` on: 24 h to the next list, 72 h of validity in the rule (R-4-4-9-1)."""
        this_update = whole_second(this_update)
        return cls(this_update, this_update + period, this_update + validity)


def day_in_japan(moment: datetime) -> date:
    """The day on which something is counted."""
    return moment.astimezone(JST).date()


def whole_second(moment: datetime) -> datetime:
    """`moment` in UTC without its fraction: certificates and lists have none (RFC 5280, section 4.1.2.5)."""
    return moment.astimezone(UTC).replace(microsecond=0)


def zulu(moment: datetime) -> str:
    """`moment` as messages, papers and files tell it: 2026-10-15T03:00:00Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def counting_first_day(start: datetime, years: int) -> Validity:
    """`years` years with the first day counted in: the last second, in JST, of the day before the anniversary.

    Every real JPKI certificate counts so: issued on 2003-12-27 for 10 years, it ends on 2013-12-26 23:59:59 JST. From
    29 February it ends on 28 February (民法143条2項), and from 1 March on the last day of February.
    """
    first_day = start.astimezone(JST).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        anniversary = first_day.replace(year=first_day.year + years)
    except ValueError:  # 29 February of a year without one: the month simply ends, no day before it
        anniversary = first_day.replace(year=first_day.year + years, month=3, day=1)
    return Validity(whole_second(start), (anniversary - timedelta(seconds=1)).astimezone(UTC))
