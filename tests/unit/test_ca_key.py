"""The CA's key issues for five years, and people know half a year before that it ends."""

from datetime import UTC, datetime, timedelta

import pytest

from issuer import ca_key
from issuer.alarm import NAMES
from issuer.errors import RefusedError
from issuer.rows import Generation

pytestmark = pytest.mark.req("R-4-13-1", "R-6-3-1-2")

END = datetime(2031, 3, 31, 14, 59, 59, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEY = Generation(1, 1, 1, "key", b"", END)


@pytest.mark.parametrize(
    ("now", "names"),
    [
        (END - ca_key.TELL_BEFORE, []),
        (END - ca_key.TELL_BEFORE + SECOND, ["ca_key_ending"]),
        (END, ["ca_key_ending"]),
        (END + SECOND, ["ca_key_ended"]),
    ],
    ids=["long before", "half a year before", "its last second", "afterwards"],
)
def test_operators_are_told_before_the_key_ends(now: datetime, names: list[str]) -> None:
    """With the moment, in time for a ceremony."""
    found = ca_key.alarms(KEY, now)
    assert [alarm.name for alarm in found] == names
    assert all("2031-03-31T14:59:59Z" in alarm.message for alarm in found)
    assert set(names) <= set(NAMES)


def test_a_ca_without_an_active_key_has_no_alarm_of_its_end() -> None:
    """There is nothing that could end."""
    assert ca_key.alarms(None, END) == []


def test_after_its_time_a_key_issues_nothing() -> None:
    """In its last second it still does."""
    ca_key.require_in_use(KEY, END)
    with pytest.raises(RefusedError, match="the CA needs a new key"):
        ca_key.require_in_use(KEY, END + SECOND)
