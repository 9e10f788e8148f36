"""Somebody is told of media that were not made, or not read again."""

from datetime import date, datetime, timedelta

import pytest

from issuer.archive.media_alarm import alarms
from issuer.rules.media import Export, MediaSight, Reading
from issuer.watch.collector import NAMES
from pkix.validity import JST

BEGAN = datetime(2026, 10, 15, tzinfo=JST)
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
MADE = datetime(2026, 11, 3, tzinfo=JST)
DAY = timedelta(days=1)


def told(sight: MediaSight, now: datetime, *, is_required: bool = True) -> list[tuple[str, str]]:
    standing = alarms(sight, now, is_required=is_required)
    assert {alarm.name for alarm in standing} <= set(NAMES)
    return [(alarm.name, alarm.message) for alarm in standing]


def names(sight: MediaSight, now: datetime) -> list[str]:
    return [name for name, _ in told(sight, now)]


def medium(name: str, at: datetime, first: date | None = OCTOBER, last: date | None = OCTOBER) -> Export:
    return Export(name, at, f"/media/{name}", first, last)


@pytest.mark.req("R-4-12-2-3", "R-4-12-2-4")
@pytest.mark.parametrize(
    ("at", "is_told"),
    [(BEGAN, False), (datetime(2026, 12, 2, tzinfo=JST), False), (datetime(2026, 12, 3, tzinfo=JST), True)],
)
def test_a_month_that_is_on_no_media_a_month_after_it_ended_is_told(at: datetime, is_told: bool) -> None:
    """Where media have to be made; a test CA that never made any is left alone."""
    sight = MediaSight(BEGAN, (), {})
    message = "2026-10 of the archive is on no external medium; run `prefca archive export`"
    assert told(sight, at) == ([("archive_not_exported", message)] if is_told else [])
    assert told(sight, at, is_required=False) == []
    assert told(MediaSight(None, (), {}), at) == []


@pytest.mark.req("R-4-12-2-3", "R-4-12-2-4")
def test_whoever_began_to_make_media_is_told_of_each_month_left_out() -> None:
    """The oldest one first; media that were made before a month was over do not have it."""
    early, late = medium("a", BEGAN, None, None), medium("b", MADE + 40 * DAY, NOVEMBER, NOVEMBER)
    sight = MediaSight(BEGAN, (early, late), {})
    assert [name for name, _ in told(sight, MADE + 60 * DAY, is_required=False)] == ["archive_not_exported"]
    assert "2026-10 " in told(sight, MADE + 60 * DAY)[0][1]
    whole = MediaSight(BEGAN, (early, late, medium("a", MADE)), {})
    assert told(whole, MADE + 60 * DAY) == []
    assert "2026-12 " in told(whole, MADE + 120 * DAY)[0][1]


def read(days: int, findings: int = 0) -> Reading:
    return Reading(MADE + days * DAY, MADE, findings)


@pytest.mark.req("R-4-12-2-6")
@pytest.mark.parametrize(
    ("readings", "days", "expected"),
    [
        ({}, 366, None),
        ({}, 367, "nobody has read 2026-10 on external media for a year"),
        ({"a": read(300)}, 600, None),
        ({"a": read(300)}, 667, "nobody has read 2026-10 on external media for a year"),
        ({"b": read(300)}, 600, None),
        ({"a": read(300, 1), "b": read(300)}, 600, None),
        ({"a": read(20, 1)}, 21, None),
        ({"a": read(20, 1)}, 367, "nobody has read"),
        ({"a": read(20, 1), "b": read(20, 2)}, 21, "medium b, last in /media/b, was found damaged"),
        ({}, 13 * 366, None),
    ],
)
def test_a_month_that_nobody_has_read_for_a_year_is_told(
    readings: dict[str, Reading], days: int, expected: str | None
) -> None:
    """One good medium is enough; after thirteen years none is needed."""
    thirteen_years = (OCTOBER, date(2039, 12, 1))  # so that nothing is missing
    sight = MediaSight(BEGAN, tuple(medium(name, MADE, *thirteen_years) for name in ("a", "b")), readings)
    found = told(sight, MADE + days * DAY)
    if days == 13 * 366:
        assert "2026-10" not in str(found)
    elif expected is None:
        assert found == []
    else:
        assert [(name, expected in message) for name, message in found] == [("archive_media_not_read", True)]
