"""What a standby proves of itself."""

from datetime import UTC, datetime, timedelta

import pytest

from settings.replica import Completeness, Replication

NOW = datetime(2026, 4, 1, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


def standby(replayed: int | None, primary_end: int | None, told_at: int | None) -> Replication:
    return Replication(True, replayed, primary_end, None if told_at is None else at(told_at))


PRIMARY = Replication(False, None, None, None)

HISTORIES = {
    "a primary is complete now": ([PRIMARY], at(0)),
    "all replayed": ([standby(10, 10, -1)], at(-1)),
    "more replayed than was told": ([standby(20, 10, -1)], at(-1)),
    "some is missing": ([standby(9, 10, -1)], None),
    "what was missing came": ([standby(9, 10, -9), standby(10, 10, -9)], at(-9)),
    "it comes while the primary goes on": ([standby(9, 10, -9), standby(15, 20, -5), standby(21, 30, -1)], at(-5)),
    "it comes never": ([standby(9, 10, -9), standby(9, 20, -5), standby(9, 30, -1)], None),
    "an idle primary answers": ([standby(10, 10, -30), standby(10, 10, -1)], at(-1)),
    "cut off": ([standby(10, 10, -30), standby(10, None, None), standby(10, None, None)], at(-30)),
    "never connected": ([standby(10, None, None)], None),
    "nothing replayed yet": ([standby(None, 10, -1)], None),
    "promoted": ([standby(9, 10, -30), PRIMARY], at(0)),
}


@pytest.mark.parametrize(("states", "complete_until"), HISTORIES.values(), ids=HISTORIES)
def test_a_standby_is_complete_up_to_what_it_was_told_and_has_replayed(
    states: list[Replication], complete_until: datetime | None
) -> None:
    """In the order in which it was looked at."""
    completeness = Completeness()
    *_, found = [completeness.until(state, NOW) for state in states]
    assert found == complete_until
