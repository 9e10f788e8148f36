"""Several processes of one server: a parent that binds and keeps them running, and workers that answer.

Theory of operation. The parent binds one socket per worker and address, all with SO_REUSEPORT: the kernel spreads new
connections over them. It never listens itself, and a worker begins to listen when it is ready to answer. The parent
keeps the sockets open, so that connections wait for the successor of a worker that died. Workers are fresh processes:
neither an event loop nor a session of a token survives a fork.

Parent and worker share a socket pair. On it the worker says first that it is ready, and then, whenever it is asked, how
it is: one JSON object a line. When the parent is gone, however that came about, the worker sees the end of the stream
and stops.

A worker that ends is started again, after a pause that grows with its failures. One that never became ready ends
everything, because a person must mend it first; it has said why on standard error.
"""

import argparse
import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from settings.load import place_of
from settings.sections import Endpoint

WORKER_OPTION: Final = "--worker"  # of the program: a Place
FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 30.0
STEADY_S: Final = 10.0  # a worker that ran for so long is not failing
STOP_TIMEOUT_S: Final = 13.0  # a worker gives requests in progress 10 s
REPORT_TIMEOUT_S: Final = 2.0
_MAX_LINE_BYTES: Final = 1_048_576

_logger = logging.getLogger(__name__)

Report = Mapping[str, Any]
Sockets = Mapping[str, socket.socket]  # bound ones, each by the key of its address in the configuration


class CannotListenError(Exception):
    """An address cannot be used; the message says what to do."""


def bind(section: str, key: str, endpoint: Endpoint, count: int = 1) -> list[socket.socket]:
    """Sockets for `count` processes, bound to one address.

    Args:
        section: of the configuration, for the message.
        key: of that section.
        endpoint: port 0 is any free one, the same for all.
        count: how many.

    Raises:
        CannotListenError: the address cannot be used, or somebody listens there.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with contextlib.ExitStack() as failed:
        made = [failed.enter_context(socket.socket(family)) for _ in range(count)]
        try:
            # Without SO_REUSEPORT first: two servers of one account must not share a port by accident.
            with socket.socket(family) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(endpoint)
            address: tuple[Any, ...] = endpoint
            for one in made:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(count > 1))
                one.bind(address)
                address = one.getsockname()
        except OSError as e:
            reason = "address already in use" if e.errno == errno.EADDRINUSE else e.strerror or e
            raise CannotListenError(
                f"cannot listen on {endpoint}: {reason};"
                f" stop what listens there, or change {place_of(f'{section}.{key}')}"
            ) from e
        failed.pop_all()
    return made


@contextlib.contextmanager
def bound(section: str, addresses: Mapping[str, Endpoint | None], count: int = 1) -> Iterator[list[Sockets]]:
    """Sockets of these addresses for each of `count` processes, open while the context lasts; None is switched off.

    Raises:
        CannotListenError: an address cannot be used, or somebody listens there.
    """
    with contextlib.ExitStack() as stack:
        by_key = {}
        for key, endpoint in addresses.items():
            if endpoint is not None:
                by_key[key] = [stack.enter_context(one) for one in bind(section, key, endpoint, count)]
        yield [{key: sockets[number] for key, sockets in by_key.items()} for number in range(count)]


def address_of(one: socket.socket) -> str:
    """Where a socket is bound, as the configuration writes it."""
    return str(Endpoint(*one.getsockname()[:2]))


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is told of itself, as the value of WORKER_OPTION."""

    number: int  # 0 .. count - 1; it keeps its number when it is started again
    control: int  # descriptor of its end of the socket pair
    descriptors: Mapping[str, int]  # of its sockets, by key

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it.

        Raises:
            ValueError: it is not from `str`.
        """
        number, control, *descriptors = text.split(":")
        pairs = (each.split("=") for each in descriptors)
        return cls(int(number), int(control), {key: int(descriptor) for key, descriptor in pairs})

    def __str__(self) -> str:
        descriptors = (f"{key}={descriptor}" for key, descriptor in self.descriptors.items())
        return ":".join((str(self.number), str(self.control), *descriptors))

    def sockets(self) -> Sockets:
        """The sockets themselves, once: they belong to whoever called."""
        return {key: socket.socket(fileno=descriptor) for key, descriptor in self.descriptors.items()}


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What the parent knows of a worker."""

    starts: int
    report: Report | None  # None: it does not answer


class _Worker:
    """One of them, through all its lives."""

    def __init__(self, number: int, command: Sequence[str], sockets: Sockets) -> None:
        self.number = number
        self.starts = 0
        self.was_ready = asyncio.Event()
        self._command = command
        self._sockets = sockets
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False
        self._channel: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._one_question = asyncio.Lock()
        self._questions = 0

    async def run_once(self) -> int:
        """Start it and wait for its end; its exit status.

        Raises:
            OSError: no process, memory or descriptor is left.
        """
        ours, its = socket.socketpair()
        with its, contextlib.ExitStack() as failed:
            failed.enter_context(ours)
            descriptors = {key: one.fileno() for key, one in self._sockets.items()}
            place = Place(self.number, its.fileno(), descriptors)
            self._process = await asyncio.create_subprocess_exec(
                *(*self._command, WORKER_OPTION, str(place)),
                pass_fds=(place.control, *descriptors.values()),
                process_group=0,  # Ctrl-C is for the parent, which then says SIGTERM
            )
            failed.pop_all()
        self.starts += 1
        if self._is_stopping:  # it was told while there was nothing to tell yet
            self.stop()
        reader, writer = await asyncio.open_connection(sock=ours, limit=_MAX_LINE_BYTES)
        try:
            if await reader.readline():
                self._channel = reader, writer
                self.was_ready.set()
            return await self._process.wait()
        finally:
            self._channel = None
            writer.close()

    async def state(self) -> WorkerState:
        """Ask it how it is."""
        if self._channel is None:
            return WorkerState(self.starts, None)
        reader, writer = self._channel
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(REPORT_TIMEOUT_S), self._one_question:
                self._questions += 1
                writer.write(b"%d\n" % self._questions)
                async for line in reader:
                    answer = json.loads(line)
                    if answer["asked"] == self._questions:  # not the late answer to an earlier question
                        return WorkerState(self.starts, answer["report"])
        return WorkerState(self.starts, None)

    def reload(self) -> None:
        """Let it read again what it has read; one that is being started does so anyway."""
        if self._channel is not None:
            self._send(signal.SIGHUP)

    def stop(self) -> None:
        """Let it finish what it accepted, and end; also one that is only being started."""
        self._is_stopping = True
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it, if it still runs."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


class Workers:
    """The workers of one program."""

    def __init__(self, command: Sequence[str], sockets: Sequence[Sockets]) -> None:
        """Make a parent.

        Args:
            command: starts one worker, which understands WORKER_OPTION.
            sockets: of each worker. They are closed when the workers stop, or connections would wait for nobody.
        """
        self._workers = [_Worker(number, command, its) for number, its in enumerate(sockets)]
        self._sockets = [one for its in sockets for one in its.values()]
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self, when_ready: Callable[[], None]) -> int:
        """Keep them running until SIGTERM or SIGINT; SIGHUP is passed on.

        Args:
            when_ready: called once, when all of them answer.

        Returns:
            The exit status: 0 after a stop, or that of a worker that could not start, or end as it should.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(self._start(tasks, when_ready))
            await self._stop.wait()
            starting.cancel()
            for one in self._sockets:
                one.close()
            for worker in self._workers:
                worker.stop()
            late = loop.call_later(STOP_TIMEOUT_S, self._kill)
        late.cancel()
        return self._status

    async def states(self) -> dict[int, WorkerState]:
        """How each of them is."""
        states = await asyncio.gather(*(worker.state() for worker in self._workers))
        return dict(enumerate(states))

    async def _start(self, tasks: asyncio.TaskGroup, when_ready: Callable[[], None]) -> None:
        """Start the first one alone: what keeps it from starting would keep them all."""
        first, *others = self._workers
        tasks.create_task(self._keep_running(first))
        await first.was_ready.wait()
        for worker in others:
            tasks.create_task(self._keep_running(worker))
        for worker in others:
            await worker.was_ready.wait()
        when_ready()

    async def _keep_running(self, worker: _Worker) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                status = await worker.run_once()
            except OSError as e:  # perhaps only for now, and the other workers go on
                _logger.error("worker_not_started", extra={"worker": worker.number, "error": str(e)})  # noqa: TRY400 - the machine, not our code
                status = 1
            if self._stop.is_set():
                self._status = max(self._status, status)  # what could not end as it should has said why
                return
            if not worker.was_ready.is_set():
                self._status = status if status > 0 else 1
                self._stop.set()
                return
            if time.monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            _logger.error("worker_ended", extra={"worker": worker.number, "status": status, "again_in_s": pause_s})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _reload(self) -> None:
        for worker in self._workers:
            worker.reload()

    def _kill(self) -> None:
        _logger.warning("workers_killed", extra={"after_s": STOP_TIMEOUT_S})
        for worker in self._workers:
            worker.kill()


async def answer_parent(control: int, report: Callable[[], Report]) -> None:
    """The worker's side: say that it is ready, then tell `report` whenever asked; stop this process with the parent.

    Args:
        control: descriptor, of the worker's Place.
        report: how the worker is, as JSON can say it.
    """
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=control))
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        writer.write(b"ready\n")
        async for question in reader:
            writer.write(json.dumps({"asked": int(question), "report": report()}).encode() + b"\n")
            await writer.drain()
    os.kill(os.getpid(), signal.SIGTERM)


def command(module: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """How a worker of this module is started; with -P, so that nothing is imported from the current directory."""
    return (sys.executable, "-P", "-m", module, *arguments)


def count(text: str) -> int:
    """The value of an option `--workers`.

    Raises:
        argparse.ArgumentTypeError: it is no number.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; write 2, or 0 for one per core")
    return int(text)


def one_per_core() -> int:
    """How many workers that is, of the cores that this process may use."""
    return len(os.sched_getaffinity(0))
