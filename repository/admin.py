"""The admin listener, apart from what relying parties reach: how all workers of this server are.

/healthz   200: the process runs; `alarms` says what somebody should look at
/readyz    200: every worker would answer a search now, if only from an older publication; else 503
/metrics   Prometheus text format
"""

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from repository import health
from settings.workers import WorkerState

logger = logging.getLogger(__name__)

_EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SHUTDOWN_TIMEOUT_S: Final = 1.0

States = Callable[[], Awaitable[Mapping[int, WorkerState]]]


@contextlib.asynccontextmanager
async def administering(bound: socket.socket, states: States) -> AsyncIterator[None]:
    """Answer on a bound socket while the context lasts."""

    async def healthz(_: web.Request) -> web.Response:
        alarms = health.alarms((await states()).values())
        return web.json_response({"status": "alarm" if alarms else "ok", "alarms": alarms})

    async def readyz(_: web.Request) -> web.Response:
        workers = (await states()).values()
        is_ready = health.is_ready(workers)
        return web.json_response({"ready": is_ready, "alarms": health.alarms(workers)}, status=200 if is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        text = health.exposition(await states())
        return web.Response(body=text.encode(), headers={"Content-Type": _EXPOSITION_TYPE})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        host, port = bound.getsockname()[:2]
        logger.info("administering", extra={"admin": f"{host}:{port}"})
        yield
    finally:
        await runner.cleanup()
