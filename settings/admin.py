"""The admin listener of a program: /healthz, /readyz and /metrics, apart from what others reach."""

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_TIMEOUT_S: Final = 1.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Looks:
    """What is told about a program at this moment."""

    health: Callable[[], Awaitable[object]]  # JSON of /healthz, which is always 200: the program runs
    readiness: Callable[[], Awaitable[tuple[bool, object]]]  # 200 or 503, and the JSON of /readyz
    metrics: Callable[[], Awaitable[str]]  # in Prometheus' text format


class _WithoutHeaders(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log, without exceptions that quote the line of a header: there may be credentials in it."""

    def process(self, msg: str, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        error = kwargs.get("exc_info")
        if not isinstance(error, HttpProcessingError):
            return msg, kwargs
        return msg, {**kwargs, "exc_info": None, "extra": {"error": type(error).__name__}}


@contextlib.asynccontextmanager
async def listening(bound: socket.socket, looks: Looks) -> AsyncIterator[None]:
    """Answer on a bound socket while the context lasts."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response(await looks.health())

    async def readyz(_: web.Request) -> web.Response:
        is_ready, told = await looks.readiness()
        return web.json_response(told, status=200 if is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=(await looks.metrics()).encode(), headers={"Content-Type": EXPOSITION_TYPE})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    logger = _WithoutHeaders(_logger)
    runner = web.AppRunner(application, access_log=None, logger=logger, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        yield
    finally:
        await runner.cleanup()
