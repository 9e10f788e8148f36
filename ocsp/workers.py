"""The workers, as their parent sees them: processes that answer, kept running.

Theory of operation. The parent binds one socket per worker and address, all with SO_REUSEPORT: the kernel spreads new
connections over them. It never listens itself, and a worker begins to listen when it is ready to answer. The parent
keeps the sockets open, so that connections wait for the successor of a worker that died. Workers are fresh processes:
neither an event loop nor a session of a token survives a fork.
"""

import asyncio
import contextlib
import errno
import json
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ocsp.errors import StartError
from settings.sections import Endpoint

REPORT_TIMEOUT_S: Final = 2.0
STOP_TIMEOUT_S: Final = 13.0  # a worker gives requests in progress 10 s
MAX_PAUSE_S: Final = 30.0
STEADY_S: Final = 10.0  # a worker that ran for so long can do it

_logger = logging.getLogger("ocsp")


class WorkerFailedError(Exception):
    """A worker could not start; it has said why on standard error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def bind(key: str, endpoint: Endpoint, number: int) -> list[socket.socket]:
    """Sockets for `number` workers, bound to one address.

    Args:
        key: of the configuration, for the message.
        endpoint: port 0 is any free one, the same for all.
        number: how many.

    Raises:
        StartError: the address cannot be used, or somebody listens there.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    bound: list[socket.socket] = []
    try:
        with socket.socket(family) as alone:  # without SO_REUSEPORT: two responders must not share a port by accident
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(endpoint)
        address: tuple[Any, ...] = endpoint
        for _ in range(number):
            one = socket.socket(family)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
            address = one.getsockname()
    except OSError as e:
        for one in bound:
            one.close()
        what = e.strerror if e.errno != errno.EADDRINUSE else "address already in use"
        raise StartError(
            f"cannot listen on {endpoint}: {what}; stop what listens there, or change `{key}` in prefca.toml"
        ) from e
    return bound


class Worker:
    """One worker, and its successors."""

    def __init__(self, number: int, instance: Path, sockets: Mapping[str, socket.socket]) -> None:
        """Prepare it; `sockets` are the bound ones, by the option that `ocsp.worker` takes each with."""
        self.number = number
        self.starts = 0
        self._instance = instance
        self._sockets = sockets
        self._process: asyncio.subprocess.Process | None = None
        self._control: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._one_question = asyncio.Lock()
        self._questions = 0

    async def start(self) -> None:
        """Start the process, and wait until it serves.

        Raises:
            WorkerFailedError: it ended instead.
        """
        self.starts += 1
        ours, theirs = socket.socketpair()
        descriptors = {option: one.fileno() for option, one in self._sockets.items()}
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ocsp.worker", "--instance", str(self._instance)),
                *("--number", str(self.number), "--control", str(theirs.fileno())),
                *(f"{option}={descriptor}" for option, descriptor in descriptors.items()),
                pass_fds=(theirs.fileno(), *descriptors.values()),
            )
        reader, writer = self._control = await asyncio.open_connection(sock=ours)
        if not await reader.readline():
            writer.close()
            raise WorkerFailedError(await self._process.wait())

    async def keep_running(self) -> None:
        """Whenever the process ends, start another one: at once if it had run well, else after growing pauses."""
        loop = asyncio.get_running_loop()
        pause_s, started_at = 0.0, loop.time()
        while self._process is not None:
            status = await self._process.wait()
            pause_s = 0.0 if loop.time() > started_at + STEADY_S else min(pause_s * 2 + 1, MAX_PAUSE_S)
            _logger.error("worker_ended", extra={"worker": self.number, "status": status, "again_in_s": pause_s})
            await asyncio.sleep(pause_s)
            started_at = loop.time()
            with contextlib.suppress(WorkerFailedError):  # it has said why, and has ended
                await self.start()

    async def report(self) -> dict[str, Any] | None:
        """What the worker says about itself; None if it does not answer."""
        if self._control is None:
            return None
        reader, writer = self._control
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(REPORT_TIMEOUT_S), self._one_question:
                self._questions += 1
                writer.write(b"%d\n" % self._questions)
                async for line in reader:
                    report: dict[str, Any] = json.loads(line)
                    if report["asked"] == str(self._questions):  # not the late answer to an earlier question
                        return report
        return None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def stop(self) -> None:
        """Let it finish what it accepted; after a while, do not ask any more."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            _logger.warning("worker_killed", extra={"worker": self.number})
            self.signal(signal.SIGKILL)
            await self._process.wait()
        if self._control is not None:
            self._control[1].close()
