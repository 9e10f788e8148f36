"""The listening ports and the life of one server process.

uvloop's loop runs under Twisted's reactor: connections are protocols of Twisted (`connection`) on transports of the
loop (`transport`).
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Coroutine
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol, cast

from twisted.logger import ILogObserver, STDLibLogObserver, globalLogBeginner

from repository.connection import Connection, Shared, deferred
from repository.directory import Directory
from repository.errors import StartError
from repository.transport import Wire
from settings.sections import Endpoint

logger = logging.getLogger(__name__)

BACKLOG_CONNECTIONS: Final = 1024
SWEEP_S: Final = 1.0
GRACE_S: Final = 5.0  # for answers that are being sent when the server is told to stop

Reactor = Any  # AsyncioSelectorReactor; the methods that are called here are not typed


class Source(Protocol):
    """What keeps the directory up to date."""

    async def follow(self, directory: Directory) -> None:
        """Never return."""


class Server:
    """The directory server of one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reactor: Reactor, shared: Shared) -> None:
        self._loop = loop
        self._reactor = reactor
        self._shared = shared
        self._ports: list[asyncio.Server] = []
        self._is_stopping = False
        self._alarmed: datetime | None = None  # which nextUpdate was told to have passed

    def listen(self, *, is_shared: bool) -> None:
        """Open the ports.

        Args:
            is_shared: other workers open them, too.

        Raises:
            StartError: a port cannot be opened.
        """
        section = self._shared.section
        addresses = {"ldap": self._listen("listen", section.listen, is_encrypted=False, is_shared=is_shared)}
        if section.tls_listen is not None:
            addresses["ldaps"] = self._listen("tls_listen", section.tls_listen, is_encrypted=True, is_shared=is_shared)
        logger.info("listening", extra=addresses)

    def _listen(self, key: str, endpoint: Endpoint, *, is_encrypted: bool, is_shared: bool) -> str:
        bound = bound_socket(key, endpoint, is_shared=is_shared)
        accept = partial(self._accept, is_encrypted=is_encrypted)
        port = self._loop.create_server(lambda: Wire(self._loop, accept), sock=bound, backlog=BACKLOG_CONNECTIONS)
        self._ports.append(self._loop.run_until_complete(port))
        return str(Endpoint(*bound.getsockname()[:2]))

    def _accept(self, address: str, *, is_encrypted: bool) -> Connection | None:
        if not (self._shared.may_connect(address) and self._shared.turns.has_recorded()):
            return None
        return Connection(self._shared, address, is_encrypted=is_encrypted)

    def run(self, source: Source, *others: Coroutine[Any, Any, None]) -> int:
        """Serve until told to stop.

        Args:
            source: keeps the directory up to date.
            others: what else is to run meanwhile, and to be cancelled then.

        Returns:
            The exit status: 0, or 1 after a bug of ours.
        """
        logging.getLogger("twisted").setLevel(logging.WARNING)
        globalLogBeginner.beginLoggingTo([cast("ILogObserver", STDLibLogObserver())], redirectStandardIO=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload_tls)
        work = self._loop.create_task(self._work(source, *others))
        work.add_done_callback(lambda _: self._stop())
        self._reactor.addSystemEventTrigger("before", "shutdown", lambda: deferred(self._finish(work)))
        self._reactor.run(installSignalHandlers=False)
        self._shared.verifier.close()
        if work.cancelled():
            return 0
        logger.critical("internal_error", exc_info=work.exception())
        return 1

    async def _work(self, source: Source, *others: Coroutine[Any, Any, None]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.follow(self._shared.service.directory))
            tasks.create_task(self._look_around())
            for other in others:
                tasks.create_task(other)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            since = self._shared.clock() - self._shared.section.idle_timeout_s
            for connection in [each for each in self._shared.connections if each.active_at < since]:
                connection.abort()
            self._alarm()

    def _alarm(self) -> None:
        """Say, once for each publication, that lists in force are out of date; they are served all the same."""
        next_update = self._shared.service.directory.next_update
        if next_update is None or next_update > self._shared.turns.now() or next_update == self._alarmed:
            return
        self._alarmed = next_update
        logger.error("publication_out_of_date", extra={"next_update": next_update.isoformat()})

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._reactor.stop()

    async def _finish(self, work: asyncio.Task[None]) -> None:
        """Take no new work, and give what is being sent a moment to end."""
        logger.info("stopping")
        work.cancel()
        await asyncio.wait([work])
        for port in self._ports:
            port.close()
        connections = self._shared.connections
        self._shared.emptied.clear()
        for connection in tuple(connections):
            connection.finish()
        if connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._shared.emptied.wait(), GRACE_S)
        for connection in tuple(connections):
            connection.abort()

    def _reload_tls(self) -> None:
        try:
            self._shared.tls.reload()
        except StartError as e:
            logger.error("tls_reload_refused", extra={"error": str(e)})  # noqa: TRY400 - the operator's files
        else:
            logger.info("tls_reloaded")


def bound_socket(key: str, endpoint: Endpoint, *, is_shared: bool) -> socket.socket:
    """A socket of this address.

    Args:
        key: of the section [repository], for the message.
        endpoint: port 0 is any free one.
        is_shared: other workers have it, too.

    Raises:
        StartError: the address cannot be used.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(endpoint)
    except OSError as e:
        bound.close()
        raise StartError(
            f"cannot listen on {endpoint} ({e.strerror or e});"
            f" stop what uses it, or set `repository.{key}` in prefca.toml to another address"
        ) from e
    return bound
