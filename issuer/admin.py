"""The admin listener of the scheduler.

/healthz   200: the program runs; `alarms` says what somebody should look at
/readyz    200: the database has told lately what is in force, and batches are run here or elsewhere; else 503
/metrics   Prometheus text format
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

from issuer.alarm import NAMES
from issuer.keeper import Keeper
from settings import admin

_METRICS: Final = {
    "runner": ("gauge", "Does this process run the batches of the CA?"),
    "publications_total": ("counter", "Publications made by this process."),
    "failures_total": ("counter", "Batches of this process that failed."),
    "this_update_timestamp_seconds": ("gauge", "When the lists in force were made."),
    "next_publish_timestamp_seconds": ("gauge", "When regular lists replace them."),
    "next_update_timestamp_seconds": ("gauge", "When they end."),
    "alarm": ("gauge", "Does this alarm stand?"),
}


@contextlib.asynccontextmanager
async def administering(bound: socket.socket, keepers: Sequence[Keeper]) -> AsyncIterator[None]:
    """Answer on a bound socket while the context lasts."""

    async def health() -> object:
        alarms = _alarms(keepers)
        return {"status": "alarm" if any(alarms.values()) else "ok", "alarms": alarms}

    async def readiness() -> tuple[bool, object]:
        is_away = any("database_away" in names for names in _alarms(keepers).values())
        has_looked = all(keeper.sight.has_answered for keeper in keepers)
        return has_looked and not is_away, {"runner": {each.name: each.is_runner for each in keepers}}

    async def metrics() -> str:
        return exposition(keepers)

    async with admin.listening(bound, admin.Looks(health, readiness, metrics)):
        yield


def _alarms(keepers: Iterable[Keeper]) -> dict[str, list[str]]:
    return {keeper.name: [alarm.name for alarm in keeper.alarms()] for keeper in keepers}


def exposition(keepers: Iterable[Keeper]) -> str:
    """The numbers of all CAs, for Prometheus."""
    samples = [sample for keeper in keepers for sample in _samples(keeper)]
    lines = []
    for name, (kind, what) in _METRICS.items():
        lines += [f"# HELP prefca_scheduler_{name} {what}", f"# TYPE prefca_scheduler_{name} {kind}"]
        lines += [f"prefca_scheduler_{name}{{{labels}}} {value}" for its, labels, value in samples if its == name]
    return "\n".join(lines) + "\n"


def _samples(keeper: Keeper) -> Iterator[tuple[str, str, float]]:
    ca = f'ca="{keeper.name}"'
    yield "runner", ca, int(keeper.is_runner)
    yield "publications_total", ca, keeper.publications
    yield "failures_total", ca, keeper.failures
    if keeper.sight.in_force is not None:
        window = keeper.sight.in_force.window
        yield "this_update_timestamp_seconds", ca, window.this_update.timestamp()
        yield "next_publish_timestamp_seconds", ca, keeper.schedule.overdue_since(keeper.sight.in_force).timestamp()
        yield "next_update_timestamp_seconds", ca, window.next_update.timestamp()
    standing = {alarm.name for alarm in keeper.alarms()}
    for name in NAMES:
        yield "alarm", f'{ca},name="{name}"', int(name in standing)
