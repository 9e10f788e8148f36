"""The CA's key issues for five years, and people know half a year before that it ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from issuer.alarm import NAMES
from issuer.errors import RefusedError
from issuer.profiles.generation import State
from issuer.records.rows import Generation, KeyRow
from issuer.signing import ca_key
from issuer.signing.ca_key import KeySight

pytestmark = pytest.mark.req("R-4-13-1", "R-6-3-1-2")

END = datetime(2031, 3, 31, 14, 59, 59, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEY = Generation(1, 1, 1, "key", b"", END)
MADE, LONG = END - timedelta(days=5 * 365), END + timedelta(days=5 * 365)


def row(state: State, number: int = 1, **changes: Any) -> KeyRow:
    """A key of the CA, made five years before END; the second one is made at END."""
    return replace(KeyRow(replace(KEY, number=number), state, MADE, LONG, None), **changes)


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
    found = ca_key.alarms(KeySight((row(State.ACTIVE),)), now)
    assert [alarm.name for alarm in found] == names
    assert all("2031-03-31T14:59:59Z" in alarm.message for alarm in found)
    assert set(names) <= set(NAMES)


def test_a_ca_without_an_active_key_has_no_alarm_of_its_end() -> None:
    """There is nothing that could end."""
    assert ca_key.alarms(KeySight((row(State.COMPROMISED),)), END) == []


@pytest.mark.parametrize(
    ("now", "name"),
    [
        (END - ca_key.TELL_BEFORE + SECOND, None),
        (END - ca_key.SWITCH_BEFORE, None),
        (END - ca_key.SWITCH_BEFORE + SECOND, "ca_key_switch_due"),
        (END + SECOND, "ca_key_ended"),
    ],
    ids=["half a year before", "long before", "two months before", "afterwards"],
)
def test_a_prepared_key_is_to_take_over_in_time(now: datetime, name: str | None) -> None:
    """The reminder to prepare one ends, and another one begins when time runs short."""
    planned = row(State.PLANNED, 2, signs_from=MADE)
    found = ca_key.alarms(KeySight((row(State.ACTIVE), planned), shown_since=MADE), now)
    assert [alarm.name for alarm in found] == ([] if name is None else [name])


@pytest.mark.parametrize(
    ("after", "shown", "names"),
    [
        (ca_key.PUBLISH_WITHIN, False, []),
        (ca_key.PUBLISH_WITHIN + SECOND, False, ["ca_key_unpublished"]),
        (ca_key.PUBLISH_WITHIN + SECOND, True, []),
    ],
    ids=["the next lists may have it", "they have not", "they have"],
)
def test_a_prepared_key_is_to_be_in_the_directory(after: timedelta, shown: bool, names: list[str]) -> None:
    """Its certificates have to be there before it is used (RFC 4210, section 4.4.2.5)."""
    planned = row(State.PLANNED, 2, signs_from=MADE)
    sight = KeySight((row(State.ACTIVE), planned), shown_since=MADE if shown else None)
    assert [alarm.name for alarm in ca_key.alarms(sight, MADE + after)] == names


@pytest.mark.parametrize(
    ("state", "residents_until", "is_told"),
    [
        (State.ACTIVE, None, True),
        (State.RETIRED, END, True),
        (State.RETIRED, END - ca_key.TELL_BEFORE, False),
        (State.RETIRED, None, False),
        (State.COMPROMISED, END, False),
    ],
)
def test_people_are_told_before_a_certificate_that_is_needed_ends(
    state: State, residents_until: datetime | None, is_told: bool
) -> None:
    """Half a year before, of the key that signs, and of those whose certificates live."""
    key = row(state, not_after=END, residents_until=residents_until)
    key = replace(key, generation=replace(KEY, signs_until=LONG))
    for now, told in ((END - ca_key.TELL_BEFORE, False), (END - ca_key.TELL_BEFORE + SECOND, is_told)):
        names = [alarm.name for alarm in ca_key.alarms(KeySight((key,)), now)]
        assert names == (["ca_certificate_ending"] if told else [])


def test_after_its_time_a_key_issues_nothing() -> None:
    """In its last second it still does."""
    ca_key.require_in_use(KEY, END)
    with pytest.raises(RefusedError, match="the CA needs a new key"):
        ca_key.require_in_use(KEY, END + SECOND)
