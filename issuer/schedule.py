"""When regular lists are due: the moments of a schedule, and what is missing now. No clock is read here.

Moments are counted in Japan Standard Time, which has no summer time: from `daily_at` on, one in every period, for ever.
So neither a late list nor an emergency list in between moves the next one (R-4-4-9-1, R-4-4-9-2), and whoever looks,
after whatever downtime, finds the same moments.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Self

from issuer.records.rows import Publication
from pkix.validity import JST, whole_second
from settings.load import Settings

MAX_SKEW: Final = timedelta(minutes=1)  # between the clocks of two machines, or before and after a small correction
_ANY_DAY: Final = date(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The regular moments of one CA."""

    first: datetime  # any moment of the schedule: the others are whole periods away
    period: timedelta
    lead: timedelta  # from the cut-off to the moment
    alarm_after: timedelta  # how late a list may be

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The schedule of the one CA of these settings."""
        section = settings.schedule
        first = datetime.combine(_ANY_DAY, section.daily_at, JST)
        cut_off = datetime.combine(_ANY_DAY, section.cut_off or section.daily_at, JST)
        return cls(
            first.astimezone(UTC),
            timedelta(hours=settings.crl.period_h),
            (first - cut_off) % timedelta(days=1),
            timedelta(minutes=section.alarm_after_min),
        )

    def last(self, now: datetime) -> datetime:
        """The moment that is now, or was last."""
        return self.first + (now - self.first) // self.period * self.period

    def next(self, now: datetime) -> datetime:
        """The first moment after that second of `now` which a list has as its thisUpdate."""
        return self.last(whole_second(now)) + self.period

    def due(self, in_force: Publication | None, now: datetime) -> datetime | None:
        """The cut-off of the regular lists that are missing now (R-4-4-3-1); None: nothing is.

        After a downtime of several periods only the last moment counts. Lists that were made since it and cover its
        cut-off, regular or not, do for regular ones.
        """
        moment = self.last(now)
        cut_off = moment - self.lead
        if in_force is None:
            return cut_off
        if moment <= in_force.window.this_update and cut_off <= in_force.cut_off:
            return None
        return max(cut_off, in_force.cut_off)  # what was on a list stays there

    def overdue_since(self, in_force: Publication) -> datetime:
        """When these lists should have been replaced."""
        return self.next(in_force.window.this_update)


def is_of_the_future(in_force: Publication, now: datetime) -> bool:
    """Whether a clock was ahead when these lists were made, or is behind now. None can be made until it gets there."""
    return in_force.window.this_update - now > MAX_SKEW
