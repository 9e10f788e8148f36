"""The parent of several workers: reserves their ports, keeps them running, and answers for all of them."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping

from repository.admin import administering
from repository.server import bound_socket
from settings.load import PREFIX, Settings
from settings.sections import Endpoint
from settings.workers import Workers, command

logger = logging.getLogger(__name__)


async def supervise(settings: Settings, count: int) -> int:
    """Run `count` workers until SIGTERM or SIGINT.

    Returns:
        The exit status: 0 after a stop, or that of a worker that could not start.

    Raises:
        StartError: an address cannot be used.
    """
    section = settings.repository
    with contextlib.ExitStack() as held:
        environment = dict(os.environ)
        for key, endpoint in (("listen", section.listen), ("tls_listen", section.tls_listen)):
            if endpoint is not None:
                environment |= held.enter_context(_reserved(key, endpoint))
        arguments = ("--instance", str(settings.instance))
        workers = Workers(command("repository", arguments), count, environment)
        async with contextlib.AsyncExitStack() as listening:
            if section.admin_listen is not None:
                bound = bound_socket("admin_listen", section.admin_listen, is_shared=False)
                await listening.enter_async_context(administering(bound, workers.states))
            announcing = asyncio.create_task(_announce(workers, count))
            try:
                return await workers.run()
            finally:
                announcing.cancel()


@contextlib.contextmanager
def _reserved(key: str, endpoint: Endpoint) -> Iterator[Mapping[str, str]]:
    """Hold a port for the workers while the context lasts; what tells them which one it is.

    The socket never listens. As long as it is bound, nobody who does not share the port on purpose can take it.
    """
    # Alone first: with SO_REUSEPORT another server of the same account would share its port by accident.
    bound_socket(key, endpoint, is_shared=False).close()
    reserved = bound_socket(key, endpoint, is_shared=True)
    with reserved:
        yield {f"{PREFIX}REPOSITORY__{key.upper()}": str(_address(reserved))}


def _address(bound: socket.socket) -> Endpoint:
    return Endpoint(*bound.getsockname()[:2])


async def _announce(workers: Workers, count: int) -> None:
    await workers.ready()
    logger.info("workers_ready", extra={"workers": count})
