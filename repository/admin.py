"""The admin listener, apart from what relying parties reach: how all workers of this server are.

/healthz   200: the process runs; `alarms` says what somebody should look at
/readyz    200: every worker would answer a search now, if only from an older publication; else 503
/metrics   Prometheus text format
"""

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from repository import health
from settings import admin
from settings.workers import WorkerState

logger = logging.getLogger(__name__)

States = Callable[[], Awaitable[Mapping[int, WorkerState]]]


@contextlib.asynccontextmanager
async def administering(bound: socket.socket, states: States) -> AsyncIterator[None]:
    """Answer on a bound socket while the context lasts."""

    async def told() -> object:
        alarms = health.alarms((await states()).values())
        return {"status": "alarm" if alarms else "ok", "alarms": alarms}

    async def readiness() -> tuple[bool, object]:
        workers = (await states()).values()
        is_ready = health.is_ready(workers)
        return is_ready, {"ready": is_ready, "alarms": health.alarms(workers)}

    async def metrics() -> str:
        return health.exposition(await states())

    async with admin.listening(bound, admin.Looks(told, readiness, metrics)):
        host, port = bound.getsockname()[:2]
        logger.info("administering", extra={"admin": f"{host}:{port}"})
        yield
