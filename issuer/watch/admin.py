"""The admin listener of the scheduler.

/healthz   200: the program runs; `alarms` says what somebody should look at
/readyz    200: the database has told lately what is in force, and batches are run here or elsewhere; else 503
/metrics   Prometheus text format
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final

from issuer.alarm import NAMES
from issuer.watch import collector
from issuer.watch.collector import Collector
from issuer.watch.keeper import Keeper
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
_JOURNAL: Final = {
    "segments_total": ("counter", "Segments that this process has had collected."),
    "records_total": ("counter", "Records in them."),
    "collected_timestamp_seconds": ("gauge", "When journals were last collected."),
    "stamped_timestamp_seconds": ("gauge", "When the newest root was last seen to have its time stamp."),
    "backup_timestamp_seconds": ("gauge", "When the daily backup last succeeded."),
    "alarm": ("gauge", "Does this alarm stand?"),
}


@contextlib.asynccontextmanager
async def administering(bound: socket.socket, keepers: Iterable[Keeper], journals: Collector) -> AsyncIterator[None]:
    """Answer on a bound socket while the context lasts; `keepers` are looked at anew for each answer."""

    async def health() -> object:
        alarms = _alarms(keepers) | {"journal": [alarm.name for alarm in journals.alarms()]}
        return {"status": "alarm" if any(alarms.values()) else "ok", "alarms": alarms}

    async def readiness() -> tuple[bool, object]:
        is_away = any("database_away" in names for names in _alarms(keepers).values())
        has_looked = all(keeper.sight.has_answered for keeper in keepers)
        return has_looked and not is_away, {"runner": {each.name: each.is_runner for each in keepers}}

    async def metrics() -> str:
        return exposition(keepers) + journal_exposition(journals)

    async with admin.listening(bound, admin.Looks(health, readiness, metrics)):
        yield


def _alarms(keepers: Iterable[Keeper]) -> dict[str, list[str]]:
    return {keeper.name: [alarm.name for alarm in keeper.alarms()] for keeper in keepers}


def exposition(keepers: Iterable[Keeper]) -> str:
    """The numbers of all CAs, for Prometheus."""
    return _text("prefca_scheduler", _METRICS, [sample for keeper in keepers for sample in _samples(keeper)])


def journal_exposition(journals: Collector) -> str:
    """What is done with the journals each day."""
    return _text("prefca_journal", _JOURNAL, list(_journal_samples(journals)))


Sample = tuple[str, str, float]


def _text(prefix: str, metrics: Mapping[str, tuple[str, str]], samples: Sequence[Sample]) -> str:
    lines = []
    for name, (kind, what) in metrics.items():
        lines += [f"# HELP {prefix}_{name} {what}", f"# TYPE {prefix}_{name} {kind}"]
        lines += [
            f"{prefix}_{name}{{{labels}}} {value}" if labels else f"{prefix}_{name} {value}"
            for its, labels, value in samples
            if its == name
        ]
    return "\n".join(lines) + "\n"


def _journal_samples(journals: Collector) -> Iterator[Sample]:
    yield "segments_total", "", journals.segments
    yield "records_total", "", journals.records
    moments = {"collected": journals.collected_at, "stamped": journals.stamped_at, "backup": journals.backed_up_at}
    for name, moment in moments.items():
        if moment is not None:
            yield f"{name}_timestamp_seconds", "", moment.timestamp()
    standing = {alarm.name for alarm in journals.alarms()}
    for name in collector.NAMES:
        yield "alarm", f'name="{name}"', int(name in standing)


def _samples(keeper: Keeper) -> Iterator[Sample]:
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
