"""`prefca up`: PostgreSQL, both servers and the daily batch, kept running until a signal.

A server that ends by itself is started again, after a pause that grows with its failures; one that cannot even start
ends everything, because a person must mend it first. Servers are told by the kernel when this process is killed, so
that none is left behind with the ports.
"""

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from issuer import batch
from issuer.errors import IssuerError, NotNowError
from issuer.installation import active_key, database, opened
from issuer.lint import LintError
from pkix.signing import SigningError
from settings.load import ConfigurationError, Settings
from settings.sections import Endpoint

PR_SET_PDEATHSIG: Final = 1
START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 15
MAX_PAUSE_S: Final = 30.0
CHECK_SCHEDULE_EVERY_S: Final = 30

log = logging.getLogger("prefca.up")


@dataclass(frozen=True, slots=True)
class Server:
    """A program that is kept running."""

    name: str
    module: str
    listen: Endpoint


async def supervise(settings: Settings, clock: Callable[[], datetime], when_ready: Callable[[], None]) -> None:
    """Run everything until SIGINT or SIGTERM; `when_ready` is called once all servers accept connections.

    Raises:
        NotNowError: an address is taken; or a server cannot start, and has said why on standard error.
        RefusedError: nothing is set up here.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = [
        Server("prefca-ocsp", "ocsp", settings.ocsp.listen),
        Server("prefca-repository", "repository", settings.repository.listen),
    ]
    _require_free_addresses(settings)
    async with database(settings):
        async with opened(settings):
            pass  # nothing is set up, or the schema is old: say so before any server starts
        with _one_failure():
            async with asyncio.TaskGroup() as group:
                started = [asyncio.Event() for _ in servers]
                tasks = [
                    group.create_task(_keep_running(server, settings, event))
                    for server, event in zip(servers, started, strict=True)
                ]
                tasks.append(group.create_task(_publish_when_due(settings, clock)))
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
    ):
        if address is None:
            continue
        try:
            socket.create_server(address, family=socket.AF_INET6 if ":" in address.host else socket.AF_INET).close()
        except OSError as e:
            reason = str(e.strerror).partition(" (")[0]  # without Python's own way to write the address
            raise NotNowError(f"{address}: {reason}; stop what listens there, or change `{key}`") from e


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


async def _keep_running(server: Server, settings: Settings, started: asyncio.Event) -> None:
    pause_s = 1.0
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", server.module, "--instance", str(settings.instance)),
            preexec_fn=_die_with_parent,
        )
        try:
            if await _accepts_connections(server, process):
                started.set()
                pause_s = 1.0
            status = await process.wait()
        finally:
            await _stop(process)
        if not started.is_set():
            raise NotNowError(f"{server.name} could not start; mend what it said above, then run `prefca up` again")
        log.error("server_ended", extra={"server": server.name, "status": status, "again_in_s": pause_s})
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, MAX_PAUSE_S)


async def _accepts_connections(server: Server, process: asyncio.subprocess.Process) -> bool:
    async def connect() -> None:
        while process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*server.listen)
                writer.close()
                return
            await asyncio.sleep(0.05)

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(connect(), START_TIMEOUT_S)
    return process.returncode is None


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask it to finish what it accepted; after a while, do not ask any more."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            log.warning("server_killed", extra={"pid": process.pid})
            process.kill()
            await process.wait()


def _die_with_parent() -> None:
    """In the child, before it becomes the server: SIGTERM when this process is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _publish_when_due(settings: Settings, clock: Callable[[], datetime]) -> None:
    """Run the batch whenever the lists in force promised new ones (R-4-4-9-1); a failure is tried again."""
    while True:
        try:
            await _publish_if_due(settings, clock())
        except (IssuerError, SigningError, LintError, ConfigurationError) as e:
            log.error("batch_failed", extra={"reason": str(e)})  # noqa: TRY400 - the reason says it all
        await asyncio.sleep(CHECK_SCHEDULE_EVERY_S)


async def _publish_if_due(settings: Settings, now: datetime) -> None:
    async with opened(settings) as installation:
        publication = await installation.store.publication_in_force(installation.authority_id)
        if publication is not None and now < publication.window.next_publish:
            return
        async with active_key(installation) as key:
            published = await batch.run(installation, key, now)
        log.info("published", extra={"publication": published.publication_id, "entries": published.entries})
