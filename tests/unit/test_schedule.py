"""When regular lists are due, whatever happens to clocks and machines."""

from datetime import datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.records.rows import Publication
from issuer.schedule import Schedule, is_of_the_future
from pkix.validity import JST, UpdateWindow
from settings.load import Settings
from settings.sections import CRLSection, ScheduleSection

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
DAY = 24 * HOUR
MIDNIGHT = datetime(2026, 4, 1, tzinfo=JST)


def schedule(daily_at: time = time(), cut_off: time | None = None, period_h: int = 24) -> Schedule:
    section = ScheduleSection(daily_at=daily_at, cut_off=cut_off)
    validity_h = 3 * period_h
    return Schedule.of(
        Settings.model_validate(
            {"instance": "/nowhere", "schedule": section, "crl": CRLSection(period_h=period_h, validity_h=validity_h)}
        )
    )


def publication(at: datetime, cut_off: datetime | None = None) -> Publication:
    window = UpdateWindow.starting(at, period=DAY, validity=3 * DAY)
    return Publication(7, cut_off or at, window)


@pytest.mark.req("R-4-4-9-1", "R-4-4-3-1")
@pytest.mark.parametrize(
    ("daily_at", "now", "last"),
    [
        (time(), MIDNIGHT, MIDNIGHT),
        (time(), MIDNIGHT - SECOND, MIDNIGHT - DAY),
        (time(), MIDNIGHT + 23 * HOUR, MIDNIGHT),
        (time(3, 30), MIDNIGHT, MIDNIGHT - 20.5 * HOUR),
        (time(23, 59, 59), MIDNIGHT, MIDNIGHT - SECOND),
    ],
    ids=["at the moment", "just before", "late in the day", "at night", "last second of the day"],
)
def test_moments_are_once_a_day_by_the_clock_of_japan(daily_at: time, now: datetime, last: datetime) -> None:
    """A day is 24 hours there: the next one follows after as many."""
    assert schedule(daily_at).last(now) == last
    assert schedule(daily_at).next(now) == last + DAY


@pytest.mark.parametrize("period_h", [1, 6, 12])
def test_a_shorter_period_has_moments_in_between(period_h: int) -> None:
    """One of them is the daily one."""
    its = schedule(time(3, 30), period_h=period_h)
    moments = [its.next(MIDNIGHT)]
    while moments[-1] < MIDNIGHT + DAY:
        moments.append(its.next(moments[-1]))
    assert MIDNIGHT + 3.5 * HOUR in moments
    assert {after - before for before, after in pairwise(moments)} == {period_h * HOUR}


@pytest.mark.req("R-4-4-3-1")
@pytest.mark.parametrize(
    ("in_force", "now", "cut_off"),
    [
        (publication(MIDNIGHT), MIDNIGHT + 23 * HOUR, None),
        (publication(MIDNIGHT), MIDNIGHT + DAY - SECOND, None),
        (publication(MIDNIGHT), MIDNIGHT + DAY, MIDNIGHT + DAY),
        (publication(MIDNIGHT), MIDNIGHT + 9.5 * DAY, MIDNIGHT + 9 * DAY),
        (publication(MIDNIGHT + 20 * HOUR), MIDNIGHT + DAY, MIDNIGHT + DAY),
        (publication(MIDNIGHT + DAY + SECOND), MIDNIGHT + DAY + 2 * SECOND, None),
        (publication(MIDNIGHT), MIDNIGHT - DAY, None),
        (publication(MIDNIGHT + HOUR, MIDNIGHT - HOUR), MIDNIGHT + 2 * HOUR, MIDNIGHT),
        (None, MIDNIGHT + HOUR, MIDNIGHT),
    ],
    ids=[
        "later on the day",
        "just before the next",
        "at the next",
        "nine days without anybody",
        "an emergency list moves nothing",
        "an emergency list just after the moment does for it",
        "a clock that was set back",
        "a cut-off that was moved",
        "never anything",
    ],
)
def test_lists_are_due_from_the_moment_until_they_are_there(
    in_force: Publication | None, now: datetime, cut_off: datetime | None
) -> None:
    """With everything received until the cut-off of the last moment."""
    assert schedule().due(in_force, now) == cut_off


@pytest.mark.req("R-4-4-3-1")
def test_the_cut_off_may_lie_before_the_moment() -> None:
    """Half an hour here, also on the day before."""
    its = schedule(time(), time(23, 30))
    assert its.due(publication(MIDNIGHT, MIDNIGHT - HOUR / 2), MIDNIGHT + DAY) == MIDNIGHT + DAY - HOUR / 2
    assert its.due(publication(MIDNIGHT, MIDNIGHT - HOUR / 2), MIDNIGHT + DAY - SECOND) is None


@pytest.mark.req("R-4-4-9-2", "R-4-4-2-4")
def test_what_was_on_an_emergency_list_is_on_the_next_regular_one() -> None:
    """Although its cut-off was later than that of the schedule."""
    emergency = publication(MIDNIGHT + DAY - 10 * MINUTE)
    its = schedule(time(), time(23, 30))
    assert its.due(emergency, MIDNIGHT + DAY) == MIDNIGHT + DAY - 10 * MINUTE


MOMENTS = st.timedeltas(-10_000 * DAY, 10_000 * DAY).map(lambda offset: MIDNIGHT + offset)
TIMES = st.times().map(lambda of_day: of_day.replace(microsecond=0))


@given(TIMES, st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]), MOMENTS, MOMENTS)
def test_whoever_publishes_what_is_due_has_done_so_until_the_next_moment(
    daily_at: time, period_h: int, before: datetime, now: datetime
) -> None:
    """At any moment of any year, after any downtime or change of the clock; and the list tells that next moment."""
    its = schedule(daily_at, period_h=period_h)
    cut_off = its.due(publication(before), now)
    assert (cut_off is None) == (before.replace(microsecond=0) >= its.last(now))
    made = publication(now, cut_off if cut_off and cut_off <= now else now)
    end = its.next(now)
    assert now < end <= now.replace(microsecond=0) + period_h * HOUR
    assert its.due(made, now) is None
    assert its.due(made, end - SECOND) is None
    assert its.due(made, end) == end
    assert its.overdue_since(made) == end


@pytest.mark.parametrize(("ahead", "expected"), [(MINUTE, False), (MINUTE + SECOND, True), (-DAY, False)])
def test_lists_of_the_future_are_told_from_clocks_that_differ_a_little(ahead: timedelta, expected: bool) -> None:
    """A minute is nothing."""
    assert is_of_the_future(publication(MIDNIGHT + ahead), MIDNIGHT) is expected


def test_each_ca_may_have_a_schedule_of_its_own() -> None:
    """What is not its own is the installation's."""
    settings = Settings.model_validate(
        {
            "instance": "/nowhere",
            "schedule": {"daily_at": "01:00"},
            "ca": [{"prefecture": "Tokyo-to"}, {"prefecture": "Toyama-ken", "schedule": {"daily_at": "02:00"}}],
        }
    )
    next_ones = [Schedule.of(one).next(MIDNIGHT) for one in settings.each()]
    assert next_ones == [MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR]
