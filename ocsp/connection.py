"""HTTP connections: a shortcut for plain requests, below aiohttp's.

Theory of operation. `Connection.data_received` sees the octets first. As long as a connection is in step, its next
octet is the first one of a request, and aiohttp has nothing left to do. If what came in then is exactly one plain
request (`ocsp.framing`), its question is looked up in the answer cache; if the answer is not there, or would be no
longer fresh, it is made by the service in a task of its own, and what comes in meanwhile waits. Anything
else is aiohttp's, from the first octet on and unchanged: a request in the middle of a chunk, sent ahead, in HTTP/1.0,
with a header that means something. A connection where that leaves it open where the next request begins is not in step
again, and aiohttp's for good.

Answers from the cache gather in a Turn, until the end of this turn of the event loop: then their records are written to
the journal at once, and only then they leave (R-4-11-2-1).
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from aiohttp import web

from journal.record import peer, stamp
from ocsp.access import Caller, Right
from ocsp.cache import AnswerCache, KeptAnswer
from ocsp.caching import HTTPDate
from ocsp.framing import Heads, get_target
from ocsp.limits import ConnectionLimit
from ocsp.metrics import Metrics

HOLD_S: Final = 0.2  # for the body that follows its head in a segment of its own
CALLER_S: Final = 1.0  # how long a connection is taken for the same caller's without looking
STALL_S: Final = 60.0  # more than an answer ever takes

_logger = logging.getLogger(__name__)


class Journal(Protocol):
    """Where records go."""

    def append_line(self, line: bytes) -> None:
        """Add a record to the batch."""

    def flush(self) -> None:
        """Hand the batch to the kernel; raises OSError if it cannot be written."""


class Answering(Protocol):
    """What makes answers, and knows who asks."""

    @property
    def knowledge(self) -> object:
        """What callers are recognised from: another object, when it has changed."""

    def connected(self, transport: asyncio.Transport, now: datetime) -> Caller:
        """Who asks on a connection, by its address and client certificate."""

    @property
    def has_limits(self) -> bool:
        """Is anybody limited?"""

    def admits(self, caller: Caller, now: float) -> bool:
        """May he be answered at once, and is that counted?"""

    async def respond(self, question: bytes, target: str | None, caller: Caller) -> bytes:
        """The whole HTTP response to a plain request: a GET of `target`, or a POST of `question`."""

    def not_now(self, date: bytes) -> bytes:
        """The whole HTTP response that says tryLater."""


class Turn:
    """Answers of one turn of the event loop that wait for their records to be written."""

    def __init__(self, journal: Journal, clock: Callable[[], float], service: Answering, metrics: Metrics) -> None:
        self._journal = journal
        self._clock = clock
        self._service = service
        self._metrics = metrics
        self._waiting: list[tuple[asyncio.Transport, KeptAnswer, bytes]] = []
        self._date = HTTPDate()
        self.has_begun = False
        self.now = 0.0
        self.knowledge: object = None  # of now
        self.add = self._waiting.append  # an answer that leaves at the end; the octets are a fragment of its records

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the clock, and at what is known."""
        self.has_begun = True
        self.now = self._clock()
        self.knowledge = self._service.knowledge
        loop.call_soon(self.end)

    def end(self) -> None:
        """Write the records, then let the answers out; if that cannot be done, tell everybody to try later."""
        self.has_begun = False
        waiting = self._waiting.copy()
        if not waiting:
            return
        self._waiting.clear()
        recorded = self._record(waiting)
        date = self._date.at(self.now)
        before_body = date + b"\r\n\r\n"
        for transport, kept, _ in waiting:
            if transport.is_closing():
                continue
            if recorded:
                transport.write(b"".join((kept.before_date, before_body, kept.answer.der)))
            else:
                transport.write(self._service.not_now(date))
        if recorded:
            self._metrics.answered_from_cache([kept.results for _, kept, _ in waiting])

    def _record(self, waiting: list[tuple[asyncio.Transport, KeptAnswer, bytes]]) -> bool:
        at = stamp(datetime.fromtimestamp(self.now, UTC))
        try:
            self._journal.flush()  # of what could not be written before, so that it does not grow
            for _, kept, who in waiting:
                for what, given in kept.records:
                    self._journal.append_line(b"".join((at, what, who, given)))
            self._journal.flush()
        except OSError:
            _logger.exception("journal_failed")
            return False
        return True


class Shortcut:
    """What all connections of a server share."""

    def __init__(
        self, service: Answering, cache: AnswerCache, turn: Turn, max_request_bytes: int, limit: ConnectionLimit
    ) -> None:
        self.service = service
        self.has_limits = service.has_limits
        self.cache = cache
        self.turn = turn
        self.max_request_bytes = max_request_bytes
        self.limit = limit
        self.heads = Heads()


class Connection(web.RequestHandler):
    """aiohttp's protocol with the shortcut in front."""

    __slots__ = (
        "_answering",
        "_asked_by",
        "_busy",
        "_caller",
        "_caller_until",
        "_counted",
        "_cut_off",
        "_held",
        "_in_step",
        "_knowledge",
        "_shortcut",
        "_timer",
    )

    def __init__(self, shortcut: Shortcut, manager: web.Server, **arguments: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(manager, **arguments)
        self._shortcut = shortcut
        self._in_step = True  # the next octet begins a request
        self._busy = False  # aiohttp has a request that it has not answered yet
        self._held = b""  # a head whose body is awaited, or what came before its turn
        self._timer: asyncio.TimerHandle | None = None  # for what is held
        self._answering: asyncio.Task[None] | None = None
        self._knowledge: object = None  # of when the caller was recognised
        self._caller: Caller | None = None
        self._caller_until = 0.0
        self._asked_by = b""
        self._counted: str | None = None  # the address that this connection counts for
        self._cut_off: asyncio.TimerHandle | None = None  # as long as the peer does not read what it is sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, if there may be one more."""
        origin: str = transport.get_extra_info("peername")[0]
        if not self._shortcut.limit.take(origin):
            _logger.info("connection_refused", extra={"origin": origin})
            cast("asyncio.Transport", transport).abort()
            return
        self._counted = origin
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """The peer does not read: wait for a while."""
        super().pause_writing()
        if self.transport is not None:
            self._cut_off = self._loop.call_later(self._keepalive_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._wait_no_more()

    def _wait_no_more(self) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None

    def data_received(self, data: bytes) -> None:
        """Answer a plain request; hand anything else to aiohttp."""
        if self._answering is not None:
            self._wait(data)
            return
        if self._held:
            data = self._take_held() + data
        if not (data and self._in_step and self._take(data)):
            super().data_received(data)

    def _take(self, data: bytes) -> bool:
        """Answer what begins with a request, or let aiohttp do it: False."""
        if self._busy or self._force_close or self._close:
            self._in_step = False
            return False
        head, question = self._shortcut.heads.split(data)
        if head.plain and head.body_octets and not question:
            self._hold(data)
            return True
        if head.body_octets is None or (data.startswith(b"POST") and head.body_octets != len(question)):
            self._in_step = False
            return False
        if head.plain and self._answer(question):
            return True
        self._busy = True
        return False

    def _answer(self, question: bytes) -> bool:
        """Answer a plain request, now or later; False is aiohttp's business."""
        shortcut, transport = self._shortcut, self.transport
        if transport is None or self._paused:  # what was answered before is not read: aiohttp waits for that
            return False
        turn = shortcut.turn
        if not turn.has_begun:
            turn.begin(self._loop)
        now = turn.now
        caller = self._caller
        if caller is None or self._knowledge is not turn.knowledge or now >= self._caller_until:
            caller = self._recognised(transport, now)
        kept = shortcut.cache.fresh(question, now)
        if kept is None or not (kept.public or Right.OCSP in caller.rights):
            return self._answer_later(transport, question, caller)
        if shortcut.has_limits and not shortcut.service.admits(caller, now):
            return False
        turn.add((transport, kept, self._asked_by))
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _answer_later(self, transport: asyncio.Transport, question: bytes, caller: Caller) -> bool:
        """Let an answer be made, unless aiohttp is needed to refuse."""
        shortcut, target = self._shortcut, None
        if question.startswith(b"GET "):
            target = get_target(question)
            if target is None:
                return False
        if len(question) > shortcut.max_request_bytes:
            return False
        if shortcut.has_limits and not shortcut.service.admits(caller, shortcut.turn.now):
            return False
        self._next_keepalive_close_time = self._loop.time() + STALL_S
        self._answering = self._loop.create_task(self._respond(transport, question, target, caller))
        return True

    async def _respond(self, transport: asyncio.Transport, question: bytes, target: str | None, caller: Caller) -> None:
        """Answer what the cache does not know."""
        response = b""
        try:
            response = await self._shortcut.service.respond(question, target, caller)
        finally:
            self._answering = None
            if not response:
                transport.close()
        if not transport.is_closing():
            transport.write(response)
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if self._held:
                transport.resume_reading()
                self.data_received(self._take_held())

    def _wait(self, data: bytes) -> None:
        """Keep what came in before the answer has left, and read no more."""
        if data and self.transport is not None:
            self._held += data
            self.transport.pause_reading()

    def _recognised(self, transport: asyncio.Transport, now: float) -> Caller:
        """Who asks: looked up when rights have changed or ended, and each second."""
        caller = self._shortcut.service.connected(transport, datetime.fromtimestamp(now, UTC))
        end = now + CALLER_S if caller.until is None else min(now + CALLER_S, caller.until.timestamp())
        self._caller, self._caller_until, self._knowledge = caller, end, self._shortcut.turn.knowledge
        self._asked_by = peer(caller.party, caller.origin)
        return caller

    def _hold(self, data: bytes) -> None:
        """Wait a little for the body: many clients send it in a segment of its own."""
        self._held = data
        self._timer = self._loop.call_later(HOLD_S, self._let_go)

    def _take_held(self) -> bytes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, b""
        return held

    def _let_go(self) -> None:
        """The body did not come: aiohttp waits for it, and says so in the end."""
        self._in_step = False
        super().data_received(self._take_held())

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Notice that aiohttp has answered."""
        finished = await super().finish_response(request, resp, start_time)
        self._busy = False
        return finished

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - the signature is aiohttp's
        """Finish what was accepted, then close."""
        self._shortcut.turn.end()
        if self._answering is not None:
            await asyncio.wait([self._answering], timeout=timeout)
        await super().shutdown(timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The peer has gone."""
        self._take_held()
        self._wait_no_more()
        if self._counted is not None:
            self._shortcut.limit.give_back(self._counted)
            self._counted = None
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the signature is aiohttp's
    ) -> web.StreamResponse:
        """Refuse what is no HTTP request, or a peer that left in the middle of one, in one line of the log."""
        _logger.info("http_error", extra={"origin": request.remote, "status": status, "error": repr(exc)})
        response = web.Response(status=status, text=f"{status}\n")
        response.force_close()
        return response


class HTTPServer(web.Server):
    """aiohttp's low-level server, with our connections."""

    def __init__(self, shortcut: Shortcut, handler: Any, **arguments: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(handler, **arguments)
        self._shortcut = shortcut

    def __call__(self) -> Connection:
        """A protocol for a connection that was just accepted."""
        return Connection(self._shortcut, self, loop=self._loop, **self._kwargs)
