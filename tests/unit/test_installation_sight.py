"""Somebody is told of daily work that was not done, as the database knows it, once for all CAs."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from issuer.rules.media import MediaSight
from issuer.watch.collector import NAMES
from issuer.watch.installation_sight import InstallationSight, alarms
from settings.load import Settings, parse

BEGAN = datetime(2026, 10, 15, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATE = BEGAN + 27 * HOUR
ALL = """
[archive]
backup_command = "true"
time_stamp_authority = "http://127.0.0.1:1/tsa"
time_stamp_roots = "tsa.pem"
"""
TWO = """
[signer]
kind = "pkcs11"
module = "/module.so"
token = "prefca"
pin_file = "pin"
[[ca]]
prefecture = "Tokyo-to"
hierarchy = "{}"
[[ca]]
prefecture = "Toyama-ken"
hierarchy = "{}"
"""


def sight(
    collected: datetime | None = None,
    unstamped: datetime | None = None,
    backup: datetime | None = None,
    began: datetime | None = BEGAN,
    unreviewed: datetime | None = None,
) -> InstallationSight:
    return InstallationSight(collected, unstamped, backup, MediaSight(began, (), {}), unreviewed)


def settings(text: str) -> Settings:
    return parse(text, Path("instance"), {})


def told(seen: InstallationSight, now: datetime, text: str = ALL) -> list[str]:
    names = [alarm.name for alarm in alarms(seen, settings(text), now)]
    assert set(names) <= set(NAMES)
    return names


@pytest.mark.req("R-4-11-6", "R-4-11-9", "R-4-12-2-5")
@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (sight(began=None), []),
        (sight(), ["journal_not_collected", "backup_late"]),
        (sight(BEGAN + HOUR, BEGAN + HOUR, BEGAN + HOUR), []),
        (sight(BEGAN, LATE, LATE), ["journal_not_collected"]),
        (sight(LATE, BEGAN, LATE), ["journal_not_stamped"]),
        (sight(LATE, LATE, BEGAN), ["backup_late"]),
    ],
    ids=["nothing there", "nothing done", "all done", "not collected", "not stamped", "not backed up"],
)
def test_what_was_not_done_for_26_hours_is_told(seen: InstallationSight, names: list[str]) -> None:
    """Of an installation that is younger nothing is."""
    assert told(seen, LATE) == names
    assert told(sight(), BEGAN + 26 * HOUR) == []


def test_only_what_is_configured_is_waited_for() -> None:
    """A backup and time stamps need not be."""
    assert told(sight(LATE, BEGAN, None), LATE, "") == []


@pytest.mark.req("R-4-11-6")
def test_the_message_says_since_when_and_what_to_do() -> None:
    """Or that it never was done."""
    never = [alarm.message for alarm in alarms(sight(), settings(ALL), LATE)]
    assert "(nothing ever was)" in never[0]
    assert "(none was ever made)" in never[1]
    seen = [alarm.message for alarm in alarms(sight(BEGAN, BEGAN, BEGAN), settings(ALL), LATE)]
    assert all("2026-10-15T03:00:00Z" in message and "run `prefca " in message for message in seen), seen


@pytest.mark.req("R-4-12-2-3", "R-4-12-2-4")
@pytest.mark.parametrize(
    ("hierarchies", "names"),
    [
        (("test", "test"), []),
        (("test", "production"), ["archive_not_exported"]),
        (("production", "production"), ["archive_not_exported"]),
    ],
)
def test_media_are_told_once_if_one_ca_is_of_production(hierarchies: tuple[str, str], names: list[str]) -> None:
    """They have the archive of all."""
    now = datetime.combine(date(2026, 12, 10), BEGAN.timetz())
    assert told(sight(now, None, now), now, TWO.format(*hierarchies)) == names


REVIEWED_BY = '[journal]\nauditor = "kansa"'


@pytest.mark.req("R-4-11-3")
@pytest.mark.parametrize(
    ("unreviewed", "days", "text", "names"),
    [
        (BEGAN, 7, REVIEWED_BY, []),
        (BEGAN, 8, REVIEWED_BY, ["audit_review_late"]),
        (BEGAN, 8, "", []),
        (None, 8, REVIEWED_BY, []),
    ],
    ids=["a week", "a day more", "without an auditor", "nothing to review"],
)
def test_the_auditor_is_reminded_of_his_weekly_review(
    unreviewed: datetime | None, days: int, text: str, names: list[str]
) -> None:
    """When the last day in a review is more than eight days ago; a week's review may come a day later."""
    now = BEGAN + timedelta(days=days)
    assert told(sight(now, None, now, unreviewed=unreviewed), now, text) == names
