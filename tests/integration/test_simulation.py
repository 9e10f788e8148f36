"""Weeks with what happens once in years, in a CA with its real parts; and that what goes wrong is told."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from issuer.profiles.authority import Kind
from pkix.revocation import CRLReason
from pkix.validity import JST
from simulation.history import History
from simulation.plot import plot
from simulation.running import NOT_DONE, simulate
from simulation.timetable import Entry, MakeDelegates, Plan, Publish, Tend, plan_of_days, timetable
from simulation.world import settings_for
from tests.support.command import ROOT, Prefca
from tests.support.database import fresh_database, reachable_directory

START = date(2028, 2, 20)  # before a leap day


async def simulated(
    postgres_instance: Path, plan: Plan, happens: Callable[[Entry], bool] = lambda _: True, seed: int = 7
) -> History:
    """What comes of those entries of the plan that happen."""
    choices = random.Random(seed)
    entries = filter(happens, timetable(plan, choices))
    with reachable_directory() as instance:
        async with fresh_database(postgres_instance) as database:
            return await simulate(plan, entries, settings_for(instance, database.dsn), choices)


@pytest.mark.req(
    "R-2-1-2-22", "R-4-4-2-4", "R-4-13-1", "R-4-13-2", "R-4-14-2", "R-4-4-9-2", "R-4-4-4-2-1", "R-1-3-2-1", "R-1-3-2-4"
)
async def test_new_keys_and_a_compromise_within_weeks_leave_everything_in_order(postgres_instance: Path) -> None:
    """Every day lists, answers and database say the same, and every key with certificates is answered for."""
    history = await simulated(postgres_instance, plan_of_days(START, 40, 20))
    assert history.broken == []
    assert [key.state for key in history.keys.values()] == ["retired", "compromised", "retired", "active"]
    kinds = Counter(one.kind for one in history.certificates.values())
    assert kinds[Kind.SELF_SIGNED] == 4
    assert kinds[Kind.LINK] == 2 * 2  # none from the compromised key
    assert kinds[Kind.CROSS] == 4  # each key has one with the bridge
    assert kinds[Kind.OCSP] > 2 * 3  # those of the years to come
    assert kinds[Kind.RESIDENT] > 20
    reasons = {one.revoked.reason for one in history.certificates.values() if one.revoked}
    assert CRLReason.CA_COMPROMISE in reasons
    assert len(reasons) > 1
    assert history.statuses > 40 * 3
    ElementTree.fromstring(plot(history))


@pytest.mark.req("R-2-1-2-22")
async def test_lists_that_do_not_come_for_four_days_leave_a_gap_that_is_told(postgres_instance: Path) -> None:
    """Their validity is three days."""
    plan = Plan(START, START + timedelta(days=8), 3)
    days = {plan.start + timedelta(days=day) for day in (2, 3, 4)}

    def happens(entry: Entry) -> bool:
        return not (isinstance(entry.event, Publish) and entry.at.astimezone(JST).date() in days)

    history = await simulated(postgres_instance, plan, happens)
    assert {one.invariant for one in history.broken} == {"lists have no gap"}


async def test_an_operation_that_is_refused_is_told(postgres_instance: Path) -> None:
    """A key cannot take over before its predecessor's delegates are made; the old one goes on."""
    plan = Plan(START, START + timedelta(days=14), 3, (START + timedelta(days=12),), timedelta(days=10))
    history = await simulated(postgres_instance, plan, lambda entry: not isinstance(entry.event, MakeDelegates))
    assert {one.invariant for one in history.broken} == {NOT_DONE}
    assert "ocsp-delegate create --ahead" in history.broken[0].what
    assert [key.state for key in history.keys.values()] == ["active", "planned"]


@pytest.mark.req("R-1-3-2-4")
async def test_the_day_after_the_last_delegate_ended_is_told(postgres_instance: Path) -> None:
    """Nobody looked at the alarm for a year; nothing else than looking is left out."""
    plan = Plan(START, START + timedelta(days=370), 2)
    last = {plan.end - timedelta(days=days) for days in range(1, 8)}

    def happens(entry: Entry) -> bool:
        day = entry.at.astimezone(JST).date()
        return not isinstance(entry.event, Tend) and (day in last or day <= plan.start)

    history = await simulated(postgres_instance, plan, happens)
    names = {one.invariant for one in history.broken}
    assert {"every key has a delegate", "answers are authorized"} <= names


def test_the_command_draws_and_tells_what_was_seen(prefca: Prefca, tmp_path: Path) -> None:
    """In a directory and database of its own: an instance is not needed."""
    picture = tmp_path / "life.svg"
    told = prefca("simulate", "--days", "30", "--seed", "3", "--plot", picture, "--json").json
    assert told["broken"] == []
    assert [key["state"] for key in told["keys"]] == ["retired", "compromised", "retired", "active"]
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_a_simulation_that_is_ended_leaves_nothing_behind() -> None:
    """Neither its directory nor its database."""
    with reachable_directory() as place:
        process = subprocess.Popen(
            [sys.executable, "-m", "issuer", "simulate", "--days", "400"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(place)},
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 60
        while not list(place.glob("*/database/data/postmaster.pid")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.terminate()
        _, stderr = process.communicate(timeout=60)
        assert b"interrupted" in stderr
        assert process.returncode == 130
        assert list(place.iterdir()) == []
