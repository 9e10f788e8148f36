"""People are told of late lists long before relying parties reject them, once and then each hour."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from issuer.alarm import NAMES, Alarm, Channel, NotToldError, Sight, alarms
from issuer.records.rows import Publication
from issuer.schedule import Schedule
from pkix.validity import JST, UpdateWindow
from settings.load import Settings

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
DAY = 24 * HOUR
MIDNIGHT = datetime(2026, 4, 1, tzinfo=JST)
SCHEDULE = Schedule.of(Settings(instance=Path("/nowhere")))
IN_FORCE = Publication(7, MIDNIGHT, UpdateWindow.starting(MIDNIGHT, period=DAY, validity=3 * DAY))


def names(sight: Sight, now: datetime) -> list[str]:
    return [alarm.name for alarm in alarms(SCHEDULE, sight, now)]


@pytest.mark.req("R-4-4-9-1", "R-4-4-10", "R-2-1-2-21")
@pytest.mark.parametrize(
    ("after", "standing"),
    [
        (timedelta(), []),
        (DAY + 29 * MINUTE, []),
        (DAY + 30 * MINUTE, ["late"]),
        (2 * DAY - SECOND, ["late"]),
        (2 * DAY, ["late", "expiring"]),
        (3 * DAY, ["late", "expiring", "expired"]),
        (-HOUR, ["clock_behind"]),
        (-30 * SECOND, []),
    ],
    ids=["new", "a little late", "late", "before +48 h", "at +48 h", "at +72 h", "of the future", "clocks differ"],
)
def test_alarms_rise_with_the_age_of_the_lists(after: timedelta, standing: list[str]) -> None:
    """Late after the day and a margin; worse in the middle of what remains; the end."""
    assert names(Sight(MIDNIGHT + after, in_force=IN_FORCE), MIDNIGHT + after) == standing
    assert set(standing) <= set(NAMES)


def test_an_emergency_list_does_not_put_an_alarm_off() -> None:
    """The regular ones are late all the same."""
    window = UpdateWindow.starting(MIDNIGHT + 20 * HOUR, period=DAY, validity=3 * DAY)
    emergency = Sight(MIDNIGHT, in_force=Publication(8, MIDNIGHT + 20 * HOUR, window))
    assert "late" in names(emergency, MIDNIGHT + DAY + 30 * MINUTE)


@pytest.mark.parametrize(
    ("sight", "standing"),
    [
        (Sight(MIDNIGHT - 29 * MINUTE, has_answered=False), []),
        (Sight(MIDNIGHT - 31 * MINUTE, has_answered=False), ["database_away"]),
        (Sight(MIDNIGHT - 31 * MINUTE, in_force=IN_FORCE), ["database_away"]),
        (Sight(MIDNIGHT), ["late"]),
    ],
    ids=["not yet asked", "never answered", "away", "nothing was ever published"],
)
def test_what_cannot_be_seen_is_an_alarm_too(sight: Sight, standing: list[str]) -> None:
    """After the same margin."""
    assert names(sight, MIDNIGHT) == standing


def test_what_keeps_the_database_away_is_told() -> None:
    """It may be a password as well as a cable."""
    sight = Sight(MIDNIGHT - HOUR, in_force=IN_FORCE, obstacle="PostgreSQL refuses us")
    (alarm,) = alarms(SCHEDULE, sight, MIDNIGHT)
    assert alarm.message == "PostgreSQL has told nothing since 2026-03-31T14:00:00Z; PostgreSQL refuses us"


def test_lists_grow_late_while_the_database_is_away() -> None:
    """What was seen last is enough to know."""
    assert names(Sight(MIDNIGHT + HOUR, in_force=IN_FORCE), MIDNIGHT + 2 * DAY) == ["database_away", "late", "expiring"]


def test_an_alarm_says_why_and_what_to_do() -> None:
    """The reason of the last failure, if there was one."""
    sight = Sight(MIDNIGHT + 2 * DAY, in_force=IN_FORCE)
    (late, _) = alarms(SCHEDULE, sight, MIDNIGHT + 2 * DAY)
    assert late.message == (
        "new lists were due at 2026-04-01T15:00:00Z; see that `prefca scheduler` runs, or run `prefca batch --now`"
    )
    (late, _) = alarms(SCHEDULE, replace(sight, failure="connect the token"), MIDNIGHT + 2 * DAY)
    assert late.message == "new lists were due at 2026-04-01T15:00:00Z; the last batch failed: connect the token"


class Listener:
    """Who is told, and sometimes cannot be reached."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.is_away = False

    async def send(self, standing: Sequence[Alarm]) -> None:
        """What a channel calls."""
        if self.is_away:
            raise NotToldError("nobody there")
        self.heard.append(" ".join(alarm.name for alarm in standing))


LATE, EXPIRING = Alarm("late", "…"), Alarm("expiring", "…")


async def test_people_are_told_of_changes_and_reminded_each_hour() -> None:
    """And told when all is well again, once."""
    listener = Listener()
    channel = Channel(listener.send)
    for after, standing in (
        (0, []),
        (1, [LATE]),
        (2, [LATE]),
        (60, [LATE]),
        (61, [LATE]),
        (62, [LATE, EXPIRING]),
        (63, []),
        (300, []),
    ):
        await channel.tell(standing, MIDNIGHT + after * MINUTE)
    assert listener.heard == ["late", "late", "late expiring", ""]


async def test_who_was_away_is_told_later() -> None:
    """Until it is heard."""
    listener = Listener()
    channel = Channel(listener.send)
    listener.is_away = True
    for after in (0, 1):
        with pytest.raises(NotToldError):
            await channel.tell([LATE], MIDNIGHT + after * MINUTE)
    listener.is_away = False
    await channel.tell([LATE], MIDNIGHT + 2 * MINUTE)
    await channel.tell([LATE], MIDNIGHT + 3 * MINUTE)
    assert listener.heard == ["late"]


async def test_a_clock_that_was_set_back_does_not_silence_reminders() -> None:
    """The time since the last one counts, in either direction."""
    listener = Listener()
    channel = Channel(listener.send)
    await channel.tell([LATE], MIDNIGHT)
    await channel.tell([LATE], MIDNIGHT - DAY)
    assert listener.heard == ["late", "late"]
