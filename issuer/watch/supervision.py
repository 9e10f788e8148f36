"""`prefca up`: PostgreSQL, both servers and the scheduler, kept running until a signal.

A server that ends by itself is started again, after a pause that grows with its failures; one that cannot even start
ends everything, because a person must mend it first. Servers are told by the kernel when this process is killed, so
that none is left behind with the ports.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from issuer import children
from issuer.errors import NotNowError
from issuer.installation import database, opened
from issuer.watch import scheduler, signals
from issuer.watch.current import CurrentSettings
from issuer.watch.keeper import Clock
from settings.load import Settings, place_of
from settings.sections import Endpoint

START_TIMEOUT_S: Final = 60
MAX_PAUSE_S: Final = 30.0

log = logging.getLogger("prefca.up")


@dataclass(frozen=True, slots=True)
class Server:
    """A program that is kept running."""

    name: str
    module: str
    listen: Endpoint


async def supervise(current: CurrentSettings, clock: Clock, when_ready: Callable[[], None]) -> None:
    """Run everything until SIGINT or SIGTERM; `when_ready` is called once all servers accept connections.

    SIGHUP is passed on to the servers, and the scheduler looks at its settings.

    Raises:
        NotNowError: an address is taken; or a server cannot start, and has said why on standard error.
        RefusedError: nothing is set up here.
    """
    settings, stop = current.settings, asyncio.Event()
    running: set[Process] = set()  # servers that understand signals already

    def reload() -> None:
        current.reload()
        for process in running:
            if process.returncode is None:
                process.send_signal(signal.SIGHUP)

    signals.handle(stop.set, reload)
    servers = [
        Server("prefca-ocsp", "ocsp", settings.ocsp.listen),
        Server("prefca-repository", "repository", settings.repository.listen),
    ]
    _require_free_addresses(settings)
    async with database(settings):
        for one in settings.each():
            async with opened(one):
                pass  # nothing is set up, or the schema is old: say so before any server starts
        with _one_failure():
            async with asyncio.TaskGroup() as group:
                started = [asyncio.Event() for _ in servers]
                tasks = [
                    group.create_task(_keep_running(server, settings, event, running))
                    for server, event in zip(servers, started, strict=True)
                ]
                tasks.append(group.create_task(scheduler.run(current, clock)))
                tasks.append(group.create_task(_announce(started, when_ready)))
                await stop.wait()
                log.info("stopping")
                for task in tasks:
                    task.cancel()


def _require_free_addresses(settings: Settings) -> None:
    """Another program that listens there would be taken for our server."""
    for key, address in (
        ("ocsp.listen", settings.ocsp.listen),
        ("ocsp.tls_listen", settings.ocsp.tls_listen),
        ("ocsp.admin_listen", settings.ocsp.admin_listen),
        ("repository.listen", settings.repository.listen),
        ("repository.tls_listen", settings.repository.tls_listen),
        ("repository.admin_listen", settings.repository.admin_listen),
        ("scheduler.admin_listen", settings.scheduler.admin_listen),
    ):
        if address is None:
            continue
        try:
            socket.create_server(address, family=socket.AF_INET6 if ":" in address.host else socket.AF_INET).close()
        except OSError as e:
            reason = str(e.strerror).partition(" (")[0]  # without Python's own way to write the address
            raise NotNowError(f"{address}: {reason}; stop what listens there, or change {place_of(key)}") from e


@contextlib.contextmanager
def _one_failure() -> Iterator[None]:
    """Of what a task group raises, the first: a server that cannot start says it all."""
    try:
        yield
    except* NotNowError as group:
        raise group.exceptions[0] from None


async def _announce(started: list[asyncio.Event], when_ready: Callable[[], None]) -> None:
    for event in started:
        await event.wait()
    when_ready()


async def _keep_running(server: Server, settings: Settings, started: asyncio.Event, running: set[Process]) -> None:
    pause_s = 1.0
    while True:
        process = await children.start(server.module, "--instance", str(settings.instance))
        try:
            if await _accepts_connections(server, process):
                running.add(process)
                started.set()
                pause_s = 1.0
            status = await process.wait()
        finally:
            running.discard(process)
            await children.stop(process)
        if not started.is_set():
            raise NotNowError(f"{server.name} could not start; mend what it said above, then run `prefca up` again")
        log.error("server_ended", extra={"server": server.name, "status": status, "again_in_s": pause_s})
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, MAX_PAUSE_S)


async def _accepts_connections(server: Server, process: Process) -> bool:
    async def connect() -> None:
        while process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*server.listen)
                writer.close()
                return
            await asyncio.sleep(0.05)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S):
            await connect()
    return process.returncode is None
