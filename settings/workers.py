"""Several processes of one server: a parent that keeps them running, and what a worker tells it.

Every worker opens the same port with SO_REUSEPORT, and the kernel spreads connections over them. Parent and worker
share a socket pair. On it the worker says first that it is ready, and then, whenever it is asked, how it is: one JSON
object a line. When the parent is gone, however that came about, the worker sees the end of the stream and stops.

A worker that ends is started again, after a pause that grows with its failures. One that never became ready ends
everything, because a person must mend it first; it has said why on standard error.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

WORKER_OPTION: Final = "--worker"  # of the program: a Place
FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0  # a worker that ran for so long is not failing
STOP_TIMEOUT_S: Final = 15.0
REPORT_TIMEOUT_S: Final = 2.0
_MAX_LINE_BYTES: Final = 1_048_576

_logger = logging.getLogger(__name__)

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is told of itself, as the value of WORKER_OPTION."""

    number: int  # 0 .. count - 1; it keeps its number when it is started again
    descriptor: int  # its end of the socket pair

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it.

        Raises:
            ValueError: it is not from `str`.
        """
        number, descriptor = map(int, text.split(":"))
        return cls(number, descriptor)

    def __str__(self) -> str:
        return f"{self.number}:{self.descriptor}"


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What the parent knows of a worker."""

    starts: int
    report: Report | None  # None: it does not answer


class _Worker:
    """One of them, through all its lives."""

    def __init__(self, number: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.number = number
        self._environment = environment
        self.starts = 0
        self.was_ready = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self._command = command
        self._is_stopping = False
        self._channel: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asking = asyncio.Lock()

    async def run_once(self) -> int:
        """Start it and wait for its end; its exit status."""
        ours, its = socket.socketpair()
        try:
            place = Place(self.number, its.fileno())
            self.process = await asyncio.create_subprocess_exec(
                *(*self._command, WORKER_OPTION, str(place)), env=self._environment, pass_fds=(place.descriptor,)
            )
        finally:
            its.close()
        self.starts += 1
        if self._is_stopping:  # it was told while there was nothing to tell yet
            self.send(signal.SIGTERM)
        reader, writer = await asyncio.open_connection(sock=ours, limit=_MAX_LINE_BYTES)
        try:
            if await reader.readline():
                self._channel = reader, writer
                self.was_ready.set()
            return await self.process.wait()
        finally:
            self._channel = None
            writer.close()

    async def state(self) -> WorkerState:
        """Ask it how it is."""
        async with self._asking:
            if self._channel is None:
                return WorkerState(self.starts, None)
            reader, writer = self._channel
            try:
                async with asyncio.timeout(REPORT_TIMEOUT_S):
                    writer.write(b"\n")
                    return WorkerState(self.starts, json.loads(await reader.readline()))
            except (TimeoutError, OSError, ValueError):
                self._channel = None  # a late answer would be taken for the next one
                return WorkerState(self.starts, None)

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on; SIGTERM also to a process that is only being started."""
        self._is_stopping = self._is_stopping or number == signal.SIGTERM
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Workers:
    """The workers of one program."""

    def __init__(self, command: Sequence[str], count: int, environment: Mapping[str, str]) -> None:
        """Make a parent.

        Args:
            command: starts one worker, which understands WORKER_OPTION.
            count: how many.
            environment: of theirs.
        """
        self._workers = [_Worker(number, command, environment) for number in range(count)]
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Keep them running until SIGTERM or SIGINT; SIGHUP is passed on.

        Returns:
            The exit status: 0 after a stop, or that of a worker that could not start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._send, signal.SIGHUP)
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(self._keep_running(worker))
            await self._stop.wait()
            self._send(signal.SIGTERM)
            tasks.create_task(self._kill_late())
        return self._status

    async def ready(self) -> None:
        """Wait until each has been ready once."""
        for worker in self._workers:
            await worker.was_ready.wait()

    async def states(self) -> dict[int, WorkerState]:
        """How each of them is."""
        states = await asyncio.gather(*(worker.state() for worker in self._workers))
        return dict(enumerate(states))

    async def _keep_running(self, worker: _Worker) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            began = time.monotonic()
            status = await worker.run_once()
            if self._stop.is_set():
                return
            if not worker.was_ready.is_set():
                self._status = status if status > 0 else 1
                self._stop.set()
                return
            if time.monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            _logger.error("worker_ended", extra={"worker": worker.number, "status": status, "restart_in_s": pause_s})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _kill_late(self) -> None:
        """End what does not end by itself."""
        waiting = [worker.process.wait() for worker in self._workers if worker.process is not None]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*waiting), STOP_TIMEOUT_S)
            return
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.send(number)


async def answer_parent(descriptor: int, report: Callable[[], Report]) -> None:
    """The worker's side: say that it is ready, then tell `report` whenever asked; stop this process with the parent.

    Args:
        descriptor: of the worker's Place.
        report: how the worker is, as JSON can say it.
    """
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    try:
        writer.write(b"{}\n")
        while await reader.readline():
            writer.write(json.dumps(report()).encode() + b"\n")
            await writer.drain()
    finally:
        writer.close()
    os.kill(os.getpid(), signal.SIGTERM)


def command(module: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """How a worker of this module is started."""
    return (sys.executable, "-m", module, *arguments)
