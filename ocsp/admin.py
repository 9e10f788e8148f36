"""The admin listener: /healthz, /readyz and /metrics of all workers, apart from what relying parties reach.

/healthz   200: the program runs
/readyz    200: every worker could sign an answer now, and heard of all revocations lately; else 503
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
        return {"status": "ok"}

    async def readiness() -> tuple[bool, object]:
        ready = {number: _is_ready(state.report, max_staleness_s) for number, state in (await states()).items()}
        return all(ready.values()), {"workers": ready}

    async def metrics() -> str:
        return exposition({number: (state.starts, state.report) for number, state in (await states()).items()})

    async with admin.listening(bound, admin.Looks(health, readiness, metrics)):
        yield


def _is_ready(report: Report | None, max_staleness_s: float) -> bool:
    if report is None or not report["ready"]:
        return False
    return bool(report["gauges"].get("staleness_seconds", float("inf")) <= max_staleness_s)
