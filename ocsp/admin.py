"""The admin listener: /healthz, /readyz and /metrics of all workers, apart from what relying parties reach.

/healthz   200: the program runs; `alarms` says what somebody should look at
/readyz    200: every worker could sign an answer now and record it, and heard of all revocations lately; else 503
/metrics   Prometheus text format
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from ocsp.metrics import exposition
from settings import admin
from settings.workers import Report, WorkerState

States = Callable[[], Awaitable[Mapping[int, WorkerState]]]


@contextlib.asynccontextmanager
async def administering(states: States, max_staleness_s: float, bound: socket.socket) -> AsyncIterator[None]:
    """Answer for all workers, on a bound socket, while the context lasts."""

    async def health() -> object:
        alarms = {name for state in (await states()).values() for name in _alarms(state.report, max_staleness_s)}
        return {"status": "alarm" if alarms else "ok", "alarms": sorted(alarms)}

    async def readiness() -> tuple[bool, object]:
        ready = {number: not _alarms(state.report, max_staleness_s) for number, state in (await states()).items()}
        return all(ready.values()), {"workers": ready}

    async def metrics() -> str:
        return exposition({number: (state.starts, state.report) for number, state in (await states()).items()})

    async with admin.listening(bound, admin.Looks(health, readiness, metrics)):
        yield


def _alarms(report: Report | None, max_staleness_s: float) -> list[str]:
    """What keeps a worker from answering."""
    if report is None:
        return ["worker_down"]
    gauges = report["gauges"]
    alarms = {
        "journal_failed": not gauges["journal_up"],
        "no_delegate": not report["can_sign"],
        "outdated": gauges.get("staleness_seconds", float("inf")) > max_staleness_s,
    }
    return [name for name, holds in alarms.items() if holds]
