"""The admin listener: /healthz, /readyz and /metrics of all workers, apart from what relying parties reach.

/healthz   200: the program runs
/readyz    200: every worker could sign an answer now, and heard of all revocations lately; else 503
/metrics   Prometheus text format
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from ocsp.metrics import exposition
from ocsp.workers import Worker

EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_TIMEOUT_S: Final = 1.0


class Admin:
    """Answers for all workers."""

    def __init__(self, workers: Sequence[Worker], max_staleness_s: float) -> None:
        self._workers = workers
        self._max_staleness_s = max_staleness_s

    async def health(self, _: web.Request) -> web.Response:
        """Is there anybody?"""
        return web.json_response({"status": "ok"})

    async def readiness(self, _: web.Request) -> web.Response:
        """Would a question be answered now?"""
        ready = {worker.number: self._is_ready(report) for worker, report in await self._reports()}
        return web.json_response({"workers": ready}, status=200 if all(ready.values()) else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        """What was counted."""
        workers = {worker.number: (worker.starts, report) for worker, report in await self._reports()}
        return web.Response(body=exposition(workers).encode(), headers={"Content-Type": EXPOSITION_TYPE})

    async def _reports(self) -> list[tuple[Worker, dict[str, Any] | None]]:
        reports = await asyncio.gather(*(worker.report() for worker in self._workers))
        return list(zip(self._workers, reports, strict=True))

    def _is_ready(self, report: Mapping[str, Any] | None) -> bool:
        if report is None or not report["ready"]:
            return False
        return bool(report["gauges"].get("staleness_seconds", float("inf")) <= self._max_staleness_s)


@contextlib.asynccontextmanager
async def administering(admin: Admin, bound: socket.socket) -> AsyncIterator[None]:
    """Serve on a bound socket while the context lasts."""
    application = web.Application()
    application.router.add_get("/healthz", admin.health)
    application.router.add_get("/readyz", admin.readiness)
    application.router.add_get("/metrics", admin.metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        yield
    finally:
        await runner.cleanup()
