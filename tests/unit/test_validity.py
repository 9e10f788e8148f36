"""Periods are counted in Japan Standard Time with the first day in, as in every real certificate."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkix.validity import JST, UpdateWindow, Validity, counting_first_day, whole_second

MOMENTS = st.timedeltas(timedelta(), timedelta(days=20_000)).map(lambda age: datetime(2003, 1, 1, tzinfo=UTC) + age)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.req("R-1-3-2-1", "R-7-1-1", "R-7-1-2", "R-7-1-3")
@pytest.mark.parametrize(
    ("start", "years", "not_after"),
    [
        pytest.param("2003-12-27T05:08:15", 10, "2013-12-26T14:59:59", id="bridge CA 2003"),
        pytest.param("2015-10-19T15:00:00", 10, "2025-10-19T14:59:59", id="2015, first second of the day"),
        pytest.param("2015-10-20T14:59:59", 10, "2025-10-19T14:59:59", id="2015, last second of the day"),
        pytest.param("2019-09-14T23:41:59", 10, "2029-09-14T14:59:59", id="2019, at 08:41 JST, previous day in UTC"),
        pytest.param("2023-07-15T15:00:00", 10, "2033-07-15T14:59:59", id="2023, first second of the day"),
        pytest.param("2023-07-16T14:59:59", 10, "2033-07-15T14:59:59", id="2023, last second of the day"),
        pytest.param("2026-03-31T23:00:00", 3, "2029-03-31T14:59:59", id="issued at 08:00 JST on 1 April"),
        pytest.param("2026-03-31T14:59:59", 3, "2029-03-30T14:59:59", id="issued in the last second of 31 March"),
        pytest.param("2026-01-01T03:00:00", 3, "2028-12-31T14:59:59", id="New Year's Day"),
        pytest.param("2024-02-29T03:00:00", 3, "2027-02-28T14:59:59", id="29 February, 3 years"),
        pytest.param("2024-02-29T03:00:00", 4, "2028-02-28T14:59:59", id="29 February, to a leap year"),
        pytest.param("2021-03-01T03:00:00", 3, "2024-02-29T14:59:59", id="1 March, to a leap year"),
        pytest.param("2024-02-28T15:00:00", 1, "2025-02-28T14:59:59", id="29 February in JST alone"),
    ],
)
def test_the_first_day_counts(start: str, years: int, not_after: str) -> None:
    """The period ends at 23:59:59 JST on the day before the anniversary of the day of issue in Japan."""
    assert counting_first_day(utc(start), years) == Validity(utc(start), utc(not_after))


@pytest.mark.req("R-1-3-2-1")
@given(start=MOMENTS, years=st.integers(1, 10))
def test_a_period_is_whole_days_in_japan(start: datetime, years: int) -> None:
    """Whenever it starts: it ends with a Japanese day, the next of which is the anniversary (or 1 March for none)."""
    period = counting_first_day(start, years)
    first, after = period.not_before.astimezone(JST), (period.not_after + timedelta(seconds=1)).astimezone(JST)
    assert period.not_before == whole_second(start)
    assert (after.hour, after.minute, after.second) == (0, 0, 0)
    assert after.year == first.year + years
    day = (first.month, first.day)
    assert (after.month, after.day) == (day if day != (2, 29) or after.year % 4 == 0 else (3, 1))


@pytest.mark.parametrize(
    ("seconds_after_end", "valid"),
    [pytest.param(0, True, id="last second"), pytest.param(1, False, id="second after")],
)
def test_both_ends_belong_to_a_period(seconds_after_end: int, valid: bool) -> None:
    """RFC 5280, section 4.1.2.5: from notBefore through notAfter, inclusive."""
    period = counting_first_day(utc("2026-04-01T00:00:00"), 3)
    after = timedelta(seconds=seconds_after_end)
    assert (period.not_after + after in period) is valid
    assert (period.not_before - after in period) is valid


@pytest.mark.req("R-4-4-9-1", "R-7-2-1")
def test_a_list_is_valid_for_three_days_and_followed_after_one() -> None:
    """From the moment it was made, without its fraction."""
    made = utc("2026-04-01T20:00:00.987654")
    window = UpdateWindow.starting(made, period=timedelta(hours=24), validity=timedelta(hours=72))
    assert window == UpdateWindow(utc("2026-04-01T20:00:00"), utc("2026-04-02T20:00:00"), utc("2026-04-04T20:00:00"))


@given(moment=MOMENTS)
def test_a_whole_second_is_the_same_second_in_utc(moment: datetime) -> None:
    """Nothing but the fraction and the zone changes."""
    whole = whole_second(moment.astimezone(JST))
    assert whole.tzinfo is UTC
    assert whole.microsecond == 0
    assert timedelta() <= moment - whole < timedelta(seconds=1)
