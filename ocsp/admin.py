"""The admin listener: /healthz, /readyz and /metrics of all workers, apart from what relying parties reach.

/healthz   200: the program runs
/readyz    200: every worker could sign an answer now, and heard of all revocations lately; else 503
/metrics   Prometheus text format
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from ocsp.metrics import exposition
from settings.workers import Report, WorkerState

EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_TIMEOUT_S: Final = 1.0


States = Callable[[], Awaitable[Mapping[int, WorkerState]]]


@contextlib.asynccontextmanager
async def administering(states: States, max_staleness_s: float, bound: socket.socket) -> AsyncIterator[None]:
    """Answer for all workers, on a bound socket, while the context lasts."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readiness(_: web.Request) -> web.Response:
        ready = {number: _is_ready(state.report, max_staleness_s) for number, state in (await states()).items()}
        return web.json_response({"workers": ready}, status=200 if all(ready.values()) else 503)

    async def metrics(_: web.Request) -> web.Response:
        workers = {number: (state.starts, state.report) for number, state in (await states()).items()}
        return web.Response(body=exposition(workers).encode(), headers={"Content-Type": EXPOSITION_TYPE})

    application = web.Application()
    application.add_routes([web.get("/healthz", health), web.get("/readyz", readiness), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        yield
    finally:
        await runner.cleanup()


def _is_ready(report: Report | None, max_staleness_s: float) -> bool:
    if report is None or not report["ready"]:
        return False
    return bool(report["gauges"].get("staleness_seconds", float("inf")) <= max_staleness_s)
