"""The listening ports and the life of one server process.

uvloop's loop runs under Twisted's reactor: connections are protocols of Twisted (`connection`) on transports of our own
and of the loop (`transport`).
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol, cast

from twisted.logger import ILogObserver, STDLibLogObserver, globalLogBeginner

from repository.connection import Connection, Shared, deferred
from repository.directory import Directory
from repository.errors import StartError
from repository.poller import Poller
from repository.transport import Listener
from settings import peer
from settings.workers import Sockets, address_of

logger = logging.getLogger(__name__)

BACKLOG_CONNECTIONS: Final = 1024
SWEEP_S: Final = 1.0
GRACE_S: Final = 5.0  # for answers that are being sent when the server is told to stop

Reactor = Any  # AsyncioSelectorReactor; the methods that are called here are not typed


class Source(Protocol):
    """What keeps the directory up to date."""

    async def follow(self, directory: Directory, when_tried: Callable[[], None]) -> None:
        """Never return; `when_tried` is called when there is something to serve, or the database is away."""


class Server:
    """The directory server of one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reactor: Reactor, shared: Shared, sockets: Sockets) -> None:
        self._loop = loop
        self._reactor = reactor
        self._shared = shared
        self._sockets = sockets  # "listen" and, if LDAPS is wanted, "tls_listen"
        self._poller = Poller(loop, shared.turns)
        self._ports: list[Listener] = []
        self._is_stopping = False
        self._alarmed: datetime | None = None  # which nextUpdate was told to have passed

    def _listen(self) -> None:
        """Begin to accept connections."""
        addresses = {
            name: self._listen_at(self._sockets[key], is_encrypted=key == "tls_listen")
            for name, key in (("ldap", "listen"), ("ldaps", "tls_listen"))
            if key in self._sockets
        }
        logger.info("listening", extra=addresses)

    def _listen_at(self, bound: socket.socket, *, is_encrypted: bool) -> str:
        accept = partial(self._accept, is_encrypted=is_encrypted)
        self._ports.append(Listener(self._poller, bound, BACKLOG_CONNECTIONS, accept))
        return address_of(bound)

    def _accept(self, address: str, *, is_encrypted: bool) -> Connection | None:
        turns, origin = self._shared.turns, str(peer.address_of(address))
        if not (self._shared.may_connect(origin) and (turns.is_recording or turns.has_recorded())):
            self._shared.refused_connections += 1
            return None
        return Connection(self._shared, origin, is_encrypted=is_encrypted)

    def run(self, source: Source, meanwhile: Callable[[], Coroutine[Any, Any, None]]) -> int:
        """Serve until told to stop.

        Args:
            source: keeps the directory up to date.
            meanwhile: what else is to run, from when it listens until it stops.

        Returns:
            The exit status: 0, or 1 after a bug of ours.
        """
        logging.getLogger("twisted").setLevel(logging.WARNING)
        globalLogBeginner.beginLoggingTo([cast("ILogObserver", STDLibLogObserver())], redirectStandardIO=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload_tls)
        work = self._loop.create_task(self._work(source, meanwhile))
        work.add_done_callback(lambda _: self._stop())
        self._reactor.addSystemEventTrigger("before", "shutdown", lambda: deferred(self._finish(work)))
        self._reactor.run(installSignalHandlers=False)
        self._shared.verifier.close()
        if work.cancelled():
            return 0
        logger.critical("internal_error", exc_info=work.exception())
        return 1

    async def _work(self, source: Source, meanwhile: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tried = asyncio.Event()
            tasks.create_task(source.follow(self._shared.service.directory, tried.set))
            await tried.wait()
            self._listen()
            tasks.create_task(self._look_around())
            tasks.create_task(meanwhile())

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now, allowed_s = self._shared.clock(), self._shared.section.idle_timeout_s
            for connection in [each for each in self._shared.connections if each.is_idle(now, allowed_s)]:
                connection.leave()
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
        for port in self._ports:
            port.close()
        logger.info("stopping")
        work.cancel()
        await asyncio.wait([work])
        connections = self._shared.connections
        self._shared.emptied.clear()
        for connection in tuple(connections):
            connection.finish()
        if connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await self._shared.emptied.wait()
        for connection in tuple(connections):
            connection.abort()

    def _reload_tls(self) -> None:
        try:
            self._shared.tls.reload()
        except StartError as e:
            self._shared.is_tls_refused = True
            logger.error("tls_reload_refused", extra={"error": str(e)})  # noqa: TRY400 - the operator's files
        else:
            self._shared.is_tls_refused = False
            logger.info("tls_reloaded")
