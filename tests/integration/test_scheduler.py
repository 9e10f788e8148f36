"""The scheduler: lists are never late, whatever happens to batches, clocks, databases and machines."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from issuer.alarm import Alarm, Channel
from issuer.lists import batch
from issuer.records.store import Store
from issuer.schedule import Schedule
from issuer.watch import keeper, scheduler
from issuer.watch.admin import administering
from issuer.watch.collector import Collector
from issuer.watch.current import CurrentSettings
from issuer.watch.keeper import BatchFailedError, Keeper
from issuer.watch.webhook import post
from settings.load import Settings
from tests.support.ca import NOW, FoundedCA

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
DAY = 24 * HOUR
MIDNIGHT = NOW + 12 * HOUR  # the first one in Japan after the CA was founded
DEADLINE_S = 20


class Machine:
    """One that runs a scheduler for the CA, with a clock that the test sets and batches that the test lets fail."""

    def __init__(self, ca: FoundedCA, *channels: Channel, now: datetime = NOW) -> None:
        self.now = now
        self.batches: list[tuple[str, ...]] = []
        self.failures: list[BatchFailedError] = []
        self._times_asked = 0
        self._ca = ca
        fast = {"look_every_s": 0.01, "retry_s": 0, "retry_max_s": 0}
        section = ca.settings.scheduler.model_copy(update=fast)
        settings = ca.settings.model_copy(update={"scheduler": section})
        self.keeper = Keeper(settings, self._clock, channels, self._batch)

    def _clock(self) -> datetime:
        self._times_asked += 1
        return self.now

    async def _batch(self, settings: Settings, *options: str) -> dict[str, Any]:
        """What `prefca batch` does."""
        self.batches.append(options)
        if self.failures:
            raise self.failures.pop(0)
        async with self._ca.another_process() as other:
            store, authority_id = other.installation.store, other.installation.authority_id
            schedule = Schedule.of(settings)
            cut_off = self.now if options else schedule.due(await store.publication_in_force(authority_id), self.now)
            made = await batch.run(
                other.installation, other.key, self.now, cut_off=cut_off, next_publish=schedule.next(self.now)
            )
        return {"publication": made.publication_id}

    async def sees(self, condition: Callable[[], bool]) -> None:
        """Wait until it does."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - the scheduler has no event for tests
                await asyncio.sleep(0.005)

    async def looks(self) -> None:
        """Let it look at the clock that the test has set, act, and look again."""
        enough = self._times_asked + 10  # it asks three times in a round, and not while a batch runs
        await self.sees(lambda: self._times_asked > enough)


@asynccontextmanager
async def at_work(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Tasks that end with the context."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_force(ca: FoundedCA) -> tuple[datetime, datetime, datetime]:
    """ThisUpdate, cut-off and next publication of the lists in force."""
    publication = await ca.installation.store.publication_in_force(ca.installation.authority_id)
    assert publication is not None
    return publication.window.this_update, publication.cut_off, publication.window.next_publish


@pytest.mark.req("R-4-4-3-1", "R-4-4-9-1", "R-2-6-2-1", "R-2-1-2-22")
async def test_lists_are_published_each_day_at_the_moment(ca: FoundedCA) -> None:
    """Once, with what was received until then."""
    await ca.publish(NOW)
    machine = Machine(ca)
    async with at_work(machine.keeper.keep()):
        for day in range(3):
            machine.now = MIDNIGHT + day * DAY - SECOND
            await machine.looks()
            assert machine.keeper.publications == day
            machine.now = MIDNIGHT + day * DAY + 2 * SECOND
            await machine.looks()
            assert await in_force(ca) == (machine.now, MIDNIGHT + day * DAY, MIDNIGHT + (day + 1) * DAY)
    assert machine.batches == [(), (), ()]


@pytest.mark.req("R-4-4-9-2")
async def test_an_emergency_list_does_not_move_the_schedule(ca: FoundedCA) -> None:
    """The next regular one comes at its moment all the same."""
    await ca.publish(MIDNIGHT - HOUR)
    machine = Machine(ca)
    async with at_work(machine.keeper.keep()):
        machine.now = MIDNIGHT
        await machine.looks()
    assert await in_force(ca) == (MIDNIGHT, MIDNIGHT, MIDNIGHT + DAY)


@pytest.mark.req("R-4-4-10")
async def test_after_days_without_anybody_lists_come_at_once(ca: FoundedCA) -> None:
    """One publication, of the last moment."""
    await ca.publish(NOW)
    machine = Machine(ca)
    machine.now = MIDNIGHT + 5 * DAY + HOUR
    async with at_work(machine.keeper.keep()):
        await machine.looks()
    assert machine.batches == [()]
    assert await in_force(ca) == (machine.now, MIDNIGHT + 5 * DAY, MIDNIGHT + 6 * DAY)


@pytest.mark.req("R-4-4-10")
async def test_a_look_at_certificates_that_takes_too_long_delays_no_list(
    ca: FoundedCA, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is for alarms only."""
    await ca.publish(NOW)
    monkeypatch.setattr(keeper, "SIGHT_TIMEOUT_S", 0.01)
    monkeypatch.setattr(Store, "delegates", lambda *_: asyncio.sleep(60))
    machine = Machine(ca, now=MIDNIGHT)
    async with at_work(machine.keeper.keep()):
        await machine.sees(lambda: machine.keeper.publications == 1 and "cannot_look_at_keys" in caplog.messages)
        machine.now = MIDNIGHT + DAY
        await machine.sees(lambda: machine.keeper.publications == 2)
    assert "cannot_look" not in caplog.messages


@pytest.mark.req("R-4-4-10")
async def test_a_batch_that_fails_is_tried_again(ca: FoundedCA) -> None:
    """Until it works; meanwhile people see why it does not."""
    await ca.publish(NOW)
    machine = Machine(ca, now=MIDNIGHT + HOUR)
    machine.failures = [BatchFailedError("connect the token", 4)] * 1000
    async with at_work(machine.keeper.keep()):
        await machine.sees(lambda: machine.keeper.failures > 1)
        (alarm,) = machine.keeper.alarms()
        assert str(alarm).startswith("late: ")
        assert str(alarm).endswith("; the last batch failed: connect the token")
        machine.failures.clear()
        await machine.sees(lambda: machine.keeper.alarms() == [])
    assert len(machine.batches) == machine.keeper.failures + 1


async def test_what_a_person_has_to_mend_first_is_not_tried_again(ca: FoundedCA) -> None:
    """A PIN that was refused would lock the token; when the file has changed it goes on."""
    await ca.publish(NOW)
    machine = Machine(ca)
    machine.failures = [BatchFailedError("wrong PIN", 2)]
    machine.now = MIDNIGHT
    file = ca.settings.path(Path("prefca.toml"))
    async with at_work(machine.keeper.keep()):
        await machine.sees(lambda: machine.keeper.failures == 1)
        await asyncio.sleep(0.1)
        assert len(machine.batches) == 1
        file.touch()
        try:
            await machine.sees(lambda: machine.keeper.publications == 1)
        finally:
            file.unlink()


@pytest.mark.req("R-7-2-1")
async def test_a_clock_that_was_ahead_costs_no_list(ca: FoundedCA) -> None:
    """Its list is dated later than now: none can follow before that date, and then one does at once."""
    await ca.publish(NOW)
    machine = Machine(ca)
    async with at_work(machine.keeper.keep()):
        machine.now = MIDNIGHT + HOUR
        await machine.looks()
        assert machine.batches == [()]
        machine.now = MIDNIGHT - HOUR
        await machine.looks()
        assert [alarm.name for alarm in machine.keeper.alarms()] == ["clock_behind"]
        machine.now = MIDNIGHT + HOUR
        await machine.looks()
    assert machine.batches == [(), ("--now",)]
    assert (await in_force(ca))[:2] == (MIDNIGHT + HOUR, MIDNIGHT + HOUR)


@pytest.mark.req("R-4-4-10")
async def test_lists_of_the_future_do_not_hide_that_lists_are_late(ca: FoundedCA) -> None:
    """Alarms go by the newest lists of before, until somebody has replaced those of the future."""
    await ca.publish(NOW)
    await ca.publish(NOW + 30 * DAY)
    machine = Machine(ca)
    async with at_work(machine.keeper.keep()):
        machine.now = NOW + 4 * DAY
        await machine.looks()
        assert [alarm.name for alarm in machine.keeper.alarms()] == ["clock_behind", "late", "expiring", "expired"]
        await batch.run(ca.installation, ca.key, machine.now, clock_was_ahead=True)
        await machine.looks()
        assert machine.keeper.alarms() == []
    assert machine.batches == []


@pytest.mark.req("R-2-6-4")
async def test_of_two_machines_one_publishes_and_the_other_takes_its_place(ca: FoundedCA) -> None:
    """Each list once, whoever made it."""
    await ca.publish(NOW)
    first, second = Machine(ca), Machine(ca)
    async with at_work(first.keeper.keep()):
        await first.sees(lambda: first.keeper.is_runner)
        async with at_work(second.keeper.keep()):
            for machine in (first, second):
                machine.now = MIDNIGHT
                await machine.looks()
            assert [len(first.batches), len(second.batches)] == [1, 0]
            assert not second.keeper.is_runner
    second.now = MIDNIGHT + DAY
    async with at_work(second.keeper.keep()):
        await second.sees(lambda: second.keeper.is_runner)
        await second.looks()
    assert [len(first.batches), len(second.batches)] == [1, 1]


async def end_sessions(ca: FoundedCA) -> None:
    """What a restart of PostgreSQL does to those who are connected."""
    await ca.query(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = 'prefca_issuer'"
    )


async def test_a_database_that_was_away_is_found_again(ca: FoundedCA) -> None:
    """And lists are published as before."""
    await ca.publish(NOW)
    machine = Machine(ca)
    async with at_work(machine.keeper.keep()):
        await machine.sees(lambda: machine.keeper.is_runner)
        await end_sessions(ca)
        machine.now = MIDNIGHT
        await machine.sees(lambda: machine.keeper.publications == 1)


async def test_a_database_that_stays_away_is_an_alarm(ca: FoundedCA) -> None:
    """And the age of the lists is still watched."""
    await ca.publish(NOW)
    machine = Machine(ca)
    async with at_work(machine.keeper.keep()) as (keeping,):
        await machine.looks()
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
    machine.now = NOW + 3 * DAY
    assert [alarm.name for alarm in machine.keeper.alarms()] == ["database_away", "late", "expiring", "expired"]


@asynccontextmanager
async def webhook(status: Callable[[], int]) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Where alarms can be posted: its address, and what was posted."""
    posted: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        posted.append(await request.json())
        return web.Response(status=status())

    application = web.Application()
    application.router.add_post("/hooks/secret", take)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/hooks/secret", posted
    finally:
        await runner.cleanup()


@pytest.mark.req("R-2-1-2-21", "R-4-4-10")
async def test_alarms_are_posted_until_somebody_takes_them(ca: FoundedCA, caplog: pytest.LogCaptureFixture) -> None:
    """Then once, and once more when all is well; a webhook that fails is logged without its address."""
    await ca.publish(NOW)
    answers = [500, 200, 200]
    async with webhook(lambda: answers.pop(0)) as (address, posted):
        channel = Channel(lambda standing: post(address, "Tokyo-to", standing))
        machine = Machine(ca, channel, now=MIDNIGHT + HOUR)
        machine.failures = [BatchFailedError("connect the token", 4)] * 1000
        async with at_work(machine.keeper.keep(), machine.keeper.watch()):
            await machine.sees(lambda: len(posted) == 2 and machine.keeper.failures > 0)
            machine.failures.clear()
            await machine.sees(lambda: len(posted) == 3)
    first, second, third = posted
    assert [alarm["name"] for alarm in second["alarms"]] == ["late"]
    assert (first["ca"], [alarm["name"] for alarm in first["alarms"]]) == ("Tokyo-to", ["late"])
    assert first["text"].startswith("prefca, CA of Tokyo-to: late: new lists were due at 2026-04-01T15:00:00Z; ")
    assert (third["alarms"], third["text"]) == ([], "prefca, CA of Tokyo-to: all is well again")
    assert "alarm_not_told" in caplog.messages
    assert "secret" not in caplog.text


async def test_what_belongs_to_no_ca_is_posted_as_such() -> None:
    """Whoever reads it in a chat does not look for a CA of that name."""
    async with webhook(lambda: 200) as (address, posted):
        await post(address, "journal", [Alarm("backup_late", "no backup")])
    assert (posted[0]["ca"], posted[0]["text"]) == ("journal", "prefca, journal: backup_late: no backup")


@pytest.mark.req("R-2-1-2-21")
async def test_operators_see_how_it_is(ca: FoundedCA) -> None:
    """Not ready before the database has answered; alarms and numbers for each CA."""
    await ca.publish(NOW)
    machine = Machine(ca, now=NOW + 3 * DAY)
    machine.failures = [BatchFailedError("connect the token", 4)] * 1000
    with socket.create_server(("127.0.0.1", 0)) as bound:
        async with (
            administering(bound, [machine.keeper], Collector(machine.keeper.settings, lambda: NOW, [])),
            ClientSession(f"http://127.0.0.1:{bound.getsockname()[1]}") as http,
        ):

            async def get(path: str) -> tuple[int, str]:
                async with http.get(path) as answer:
                    return answer.status, await answer.text()

            assert await get("/readyz") == (503, '{"runner": {"Tokyo-to": false}}')
            async with at_work(machine.keeper.keep()):
                await machine.sees(lambda: machine.keeper.failures > 0)
                assert await get("/readyz") == (200, '{"runner": {"Tokyo-to": true}}')
                assert await get("/healthz") == (
                    200,
                    '{"status": "alarm", "alarms": {"Tokyo-to": ["late", "expiring", "expired"], "journal": []}}',
                )
                _, metrics = await get("/metrics")
    samples = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    of_ca = {name.removeprefix("prefca_scheduler_"): float(value) for name, value in samples.items()}
    assert of_ca['runner{ca="Tokyo-to"}'] == 1
    assert of_ca['this_update_timestamp_seconds{ca="Tokyo-to"}'] == NOW.timestamp()
    assert of_ca['next_publish_timestamp_seconds{ca="Tokyo-to"}'] == MIDNIGHT.timestamp()
    assert of_ca['next_update_timestamp_seconds{ca="Tokyo-to"}'] == (NOW + 3 * DAY).timestamp()
    assert of_ca['alarm{ca="Tokyo-to",name="expired"}'] == 1
    assert of_ca['alarm{ca="Tokyo-to",name="clock_behind"}'] == 0
    assert of_ca['failures_total{ca="Tokyo-to"}'] >= 1
    assert of_ca['publications_total{ca="Tokyo-to"}'] == 0


async def test_a_fault_of_one_part_does_not_stop_the_others(
    ca: FoundedCA, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the part begins anew."""
    begun = []

    async def fault(*_: object) -> None:
        begun.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(scheduler, "AFTER_A_FAULT_S", 0.01)
    monkeypatch.setattr(Collector, "keep", fault)
    section = ca.settings.scheduler.model_copy(update={"admin_listen": None, "look_every_s": 0.01})
    settings = ca.settings.model_copy(update={"scheduler": section})
    await ca.publish(NOW)
    with caplog.at_level("INFO"):
        async with at_work(scheduler.run(CurrentSettings(lambda: settings), lambda: NOW)), asyncio.timeout(DEADLINE_S):
            while len(begun) < 3 or "runner" not in caplog.messages:  # noqa: ASYNC110 - no event for tests
                await asyncio.sleep(0.005)
    assert "unexpected_error" in caplog.messages
