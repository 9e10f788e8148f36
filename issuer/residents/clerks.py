"""Clerks as registration works with them: one in this process, or many in processes of their own, one for each core.

A process has one stream of requests and one of answers. Each message is its length in 8 octets and a pickle: first an
`Employment`, then requests, each with one `Answer`, in order. So a process always has something to do next, while the
one who asks is busy with the database.
"""

import asyncio
import pickle
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

from issuer import children
from issuer.errors import NotNowError
from issuer.installation import ActiveKey
from issuer.profiles.authority import Authority
from issuer.residents.clerk import Application, Clerk, Order, Unreadable
from issuer.residents.lines import Line
from settings.load import Settings

LENGTH_OCTETS: Final = 8
READ_BYTES: Final = 1_048_576
GONE_TIMEOUT_S: Final = 1
PROCESS_MODULE: Final = "issuer.residents.clerk_process"


class Clerks(Protocol):
    """What registration asks for. The methods raise what those of `Clerk` do."""

    batch_lines: int  # how many lines a request should have
    batches: int  # how many batches may be with them at once

    async def read(self, lines: Sequence[Line], now: datetime) -> list[Unreadable | Application]:
        """See `Clerk.read`."""

    async def certify(self, orders: Sequence[Order], now: datetime) -> list[bytes]:
        """See `Clerk.certify`."""


class OneClerk:
    """One in this process, for a counter's few notices: small batches, so that each certificate is soon there."""

    batch_lines = 64
    batches = 1

    def __init__(self, key: ActiveKey) -> None:
        self._clerk = Clerk(key.issuer, key.signer)

    async def read(self, lines: Sequence[Line], now: datetime) -> list[Unreadable | Application]:
        """See `Clerk.read`."""
        return self._clerk.read(lines, now)

    async def certify(self, orders: Sequence[Order], now: datetime) -> list[bytes]:
        """See `Clerk.certify`; in a thread, because a token blocks."""
        return await asyncio.to_thread(self._clerk.certify, orders, now)


@dataclass(frozen=True, slots=True)
class Employment:
    """What a clerk in another process works with."""

    settings: Settings
    secret: str = field(repr=False)  # that opens the key; it travels in a pipe, never in arguments or environment
    key_reference: str
    authority: Authority
    certificate: bytes  # the CA's own, DER


class ReadRequest(NamedTuple):
    """A call of `Clerk.read`."""

    lines: Sequence[Line]
    now: datetime


class CertifyRequest(NamedTuple):
    """A call of `Clerk.certify`."""

    orders: Sequence[Order]
    now: datetime


class Answer(NamedTuple):
    """What the method returned or raised."""

    value: Any
    error: Exception | None


def framed(message: object) -> bytes:
    """A message as it is sent."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(body).to_bytes(LENGTH_OCTETS, "big") + body


class ClerkProcesses:
    """Clerks in processes of their own."""

    batch_lines = 512

    def __init__(self, processes: Sequence["_ClerkProcess"]) -> None:
        self._processes = processes
        self.batches = 2 * len(processes)  # one in work, one that waits for it
        self.signatures = 0  # that they made

    async def read(self, lines: Sequence[Line], now: datetime) -> list[Unreadable | Application]:
        """See `Clerk.read`."""
        found: list[Unreadable | Application] = await self._ask(ReadRequest(lines, now))
        return found

    async def certify(self, orders: Sequence[Order], now: datetime) -> list[bytes]:
        """See `Clerk.certify`."""
        made: list[bytes] = await self._ask(CertifyRequest(orders, now))
        self.signatures += len(made)
        return made

    async def _ask(self, request: ReadRequest | CertifyRequest) -> Any:  # noqa: ANN401 - whatever the method returns
        return await min(self._processes, key=lambda process: process.backlog).ask(request)


@asynccontextmanager
async def clerk_processes(employment: Employment, count: int) -> AsyncIterator[ClerkProcesses]:
    """`count` of them, ready to work.

    Raises:
        SigningError, ConfigurationError: a process cannot use the key.
        NotNowError: a process ended.
    """
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_started()) for _ in range(count)]
        await asyncio.gather(*(process.ask(employment) for process in processes))
        yield ClerkProcesses(processes)


@asynccontextmanager
async def _started() -> AsyncIterator["_ClerkProcess"]:
    process = await children.start(PROCESS_MODULE, stdin=PIPE, stdout=PIPE, limit=READ_BYTES)
    clerk = _ClerkProcess(process)
    listening = asyncio.create_task(clerk.listen())
    try:
        yield clerk
    finally:
        listening.cancel()
        if clerk.is_gone:  # asyncio is to notice its end by itself: a signal to the dead takes the exit status from it
            with suppress(TimeoutError):
                async with asyncio.timeout(GONE_TIMEOUT_S):
                    await process.wait()
        await children.stop(process)
        if process.stdin is not None:
            with suppress(ConnectionError):  # what it did not read; if nobody asks, asyncio complains of it
                await process.stdin.wait_closed()


class _ClerkProcess:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self.is_gone = False  # it answers no more

    @property
    def backlog(self) -> int:
        """How many requests have no answer yet."""
        return len(self._waiting)

    async def ask(self, message: object) -> Any:  # noqa: ANN401 - whatever is answered
        """The answer to a request."""
        if self.is_gone or self._process.stdin is None:
            raise _gone()
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._process.stdin.write(framed(message))
        return await answer

    async def listen(self) -> None:
        """Hand out the answers until the process ends."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                value, error = await self._received()
                answer = self._waiting.popleft()
                if answer.cancelled():
                    continue
                if error is None:
                    answer.set_result(value)
                else:
                    answer.set_exception(error)
        self.is_gone = True
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(_gone())

    async def _received(self) -> Answer:
        if self._process.stdout is None:
            raise _gone()
        length = int.from_bytes(await self._process.stdout.readexactly(LENGTH_OCTETS), "big")
        answer: Answer = pickle.loads(await self._process.stdout.readexactly(length))  # noqa: S301 - from our own child
        return answer


def _gone() -> NotNowError:
    return NotNowError("a process that issues ended; what was not reported as done is not done: run it again")
