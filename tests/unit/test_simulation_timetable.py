"""The timetable of a simulation: what happens when, in the time of Japan."""

import random
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from pkix.validity import JST
from simulation.history import History
from simulation.plot import plot
from simulation.report import facts, lines
from simulation.timetable import (
    Compromise,
    MakeDelegates,
    Plan,
    PrepareKey,
    Publish,
    ReplaceKey,
    SwitchKey,
    plan_of_days,
    plan_of_years,
    timetable,
)

START = date(2026, 4, 1)


def entries_of(plan: Plan, seed: int = 1) -> list[object]:
    return [(entry.at, entry.event) for entry in timetable(plan, random.Random(seed))]


@pytest.mark.req("R-4-13-1")
def test_ten_years_have_two_new_keys_before_five_years_end() -> None:
    """Each is made, then its predecessor's delegates, then it takes over; five years are counted from its making."""
    plan = plan_of_years(START, 10, 45)
    made = {Plan: START}
    events = [entry for entry in timetable(plan, random.Random(1)) if isinstance(entry.event, PrepareKey | SwitchKey)]
    assert [type(entry.event) for entry in events] == [PrepareKey, SwitchKey] * 2
    prepared, switched, again, last = [entry.at.astimezone(JST).date() for entry in events]
    assert prepared < switched < made[Plan].replace(year=2031)
    assert again < last < prepared.replace(year=prepared.year + 5)


@pytest.mark.req("R-2-1-2-22")
def test_lists_are_published_every_day_at_midnight_in_japan() -> None:
    """Also on 29 February; the first ones when the CA is founded."""
    plan = Plan(date(2027, 12, 1), date(2028, 3, 10), 1)
    first, *later = [entry.at for entry in timetable(plan, random.Random(1)) if isinstance(entry.event, Publish)]
    assert first.astimezone(JST).date() == plan.start
    assert {moment.astimezone(JST).hour for moment in later} == {0}
    assert [b - a for a, b in pairwise(later)] == [timedelta(days=1)] * (len(later) - 1)
    assert later[-1].astimezone(JST).date() == plan.end - timedelta(days=1)


def test_the_same_seed_gives_the_same_days() -> None:
    """And another one others."""
    plan = plan_of_years(START, 1, 45)
    assert entries_of(plan) == entries_of(plan)
    assert entries_of(plan) != entries_of(plan, seed=2)


def test_entries_come_in_order() -> None:
    """Whatever they are."""
    moments = [entry.at for entry in timetable(plan_of_days(START, 60, 45), random.Random(1))]
    assert moments == sorted(moments)


def test_few_days_have_what_happens_once_in_years() -> None:
    """Two new keys, made long enough before their turn, and a compromise between them."""
    kinds = Counter(type(entry.event) for entry in timetable(plan_of_days(START, 30, 45), random.Random(1)))
    assert kinds[PrepareKey] == kinds[MakeDelegates] == kinds[SwitchKey] == 2
    assert kinds[Compromise] == kinds[ReplaceKey] == 1


def test_a_simulation_without_a_day_can_be_drawn_and_told() -> None:
    """Nothing was seen yet."""
    history = History(plan_of_days(START, 30, 45))
    ElementTree.fromstring(plot(history))
    assert facts(history)["keys"] == []
    assert "no invariant was broken" in list(lines(history))
