"""HTTP connections: a shortcut for plain requests, below aiohttp's.

Theory of operation. `Connection.data_received` sees the octets first. As long as a connection is in step, its next
octet is the first one of a request, and aiohttp has nothing left to do. If what came in then is exactly one plain
request (`ocsp.framing`), its answer is made without aiohttp, and what comes in meanwhile waits. Anything else is
aiohttp's, from the first octet on and unchanged: a request in the middle of a chunk, sent ahead, in HTTP/1.0, with a
header that means something. A connection where that leaves it open where the next request begins is not in step again,
and aiohttp's for good.

Once a plain request was answered, the next one of that connection usually differs in its question only. Then nothing
has to be read but the question, and if its answer is kept, it leaves with this turn: the one hot path.

A server that stops takes all of its connections out of step: the next answer is aiohttp's and says `Connection: close`
(RFC 9112, section 9.6). Without that, what a client sends while its connection is being closed is lost.
"""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol, cast

from aiohttp import hdrs, web

from ocsp.access import Caller, Right
from ocsp.answering import Question
from ocsp.cache import AnswerCache
from ocsp.framing import Heads, get_target
from ocsp.limits import ConnectionLimit
from ocsp.reply import SERVER, Reply, who
from ocsp.turn import Turn

HOLD_S: Final = 0.2  # for the body that follows its head in a segment of its own
CALLER_S: Final = 1.0  # how long a connection is taken for the same caller's without looking
STALL_S: Final = 60.0  # more than an answer ever takes
LAST_REQUEST_S: Final = 0.5  # for the next request of a connection when the server stops

_logger = logging.getLogger(__name__)


class Service(Protocol):
    """What makes answers, and knows who asks."""

    @property
    def has_limits(self) -> bool:
        """Is anybody limited?"""

    def connected(self, transport: asyncio.Transport, origin: str, now: datetime) -> Caller:
        """Who asks on a connection, by its address and client certificate."""

    def ask(self, question: Question) -> None:
        """Let a question be answered, at once or later."""


class Shortcut:
    """What all connections of a server share."""

    def __init__(
        self, service: Service, cache: AnswerCache, turn: Turn, max_request_bytes: int, limit: ConnectionLimit
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
        "_answered",
        "_at_rest",
        "_busy",
        "_caller",
        "_caller_until",
        "_counted",
        "_cut_off",
        "_has_ended",
        "_head",
        "_held",
        "_in_step",
        "_is_asked",
        "_is_ending",
        "_knowledge",
        "_may_ask",
        "_method",
        "_request_octets",
        "_shortcut",
        "_timer",
        "_who",
    )

    def __init__(self, shortcut: Shortcut, manager: web.Server, **arguments: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(manager, **arguments)
        self._shortcut = shortcut
        self._in_step = True  # the next octet begins a request
        self._busy = False  # aiohttp has a request that it has not answered yet
        self._is_asked = False  # an answer is being made
        self._answered: asyncio.Event | None = None  # somebody waits for that
        self._held = b""  # a head whose body is awaited, or what came before its turn
        self._timer: asyncio.TimerHandle | None = None  # for what is held
        self._at_rest = False  # nothing of all this: the next octets are a request that may be answered at once
        self._method = ""  # of the plain request before, if there was one
        self._head = b""  # of that request; of a GET, what follows the request line
        self._request_octets = 0  # how long it was; of a GET, nothing that counts
        self._caller: Caller | None = None
        self._caller_until = 0.0
        self._knowledge: object = None  # of when the caller was recognised
        self._may_ask = False  # about what is not public
        self._who = b""  # the caller, as a fragment of records
        self._has_ended = False  # the peer sends no more, and waits for its answers
        self._is_ending = False  # the server stops: the next answer is the last one
        self._counted: str | None = None  # the address that this connection counts for
        self._cut_off: asyncio.TimerHandle | None = None  # as long as the peer does not read what it is sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, if there may be one more."""
        peer = transport.get_extra_info("peername")
        if peer is None:  # reset before it was accepted
            cast("asyncio.Transport", transport).abort()
            return
        origin: str = peer[0]
        if not self._shortcut.limit.take(origin):
            _logger.info("connection_refused", extra={"origin": origin})
            cast("asyncio.Transport", transport).abort()
            return
        self._counted = origin
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """The peer does not read: wait for a while."""
        super().pause_writing()
        self._at_rest = False
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
        if self._at_rest and self._take_usual(data):
            return
        if self._is_asked:
            self._wait(data)
            return
        if self._held:
            data = self._take_held() + data
        if not (data and self._in_step and self._take(data)):
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's always closes
        """The peer sends no more; True: what it has asked is still answered. TLS cannot do that."""
        self._shortcut.turn.end()
        if self.transport is None or self.transport.get_extra_info("ssl_object") is not None:
            return False
        self._has_ended = self._is_asked or self._is_busy_with_whole_request()
        if self._has_ended and not self._is_asked:
            self.close()  # aiohttp: after its answer
        return self._has_ended

    def _is_busy_with_whole_request(self) -> bool:
        request = self._current_request
        return self._busy and (request is None or request.content.is_eof())

    def _take_usual(self, data: bytes) -> bool:
        """Answer what differs from the request before in its question only; the one hot path, if that is kept."""
        method, head, shortcut, transport = self._method, self._head, self._shortcut, self.transport
        if method == "POST":
            if len(data) != self._request_octets or not data.startswith(head):
                return False
            question = data[len(head) :]
        else:
            if not data.endswith(head):
                return False
            question = data[: -len(head)]
        turn = shortcut.turn
        if not turn.has_begun:
            turn.begin()
        now = turn.now
        kept = shortcut.cache.fresh(question, now)
        if (
            transport is None
            or kept is None
            or kept.method != method
            or now >= self._caller_until
            or self._knowledge is not turn.knowledge
            or not (kept.public or self._may_ask)
            or shortcut.has_limits
        ):
            return self._ask(question, method)
        turn.add((transport, kept, self._who))
        self._next_keepalive_close_time = turn.loop_time + self._keepalive_timeout
        return True

    def _take(self, data: bytes) -> bool:
        """Answer what begins with a request, or let aiohttp do it: False."""
        self._at_rest = False
        if self._busy or self._force_close or self._close:
            self._in_step = False
            return False
        head, question = self._shortcut.heads.split(data)
        if head.plain and head.body_octets and not question:
            self._hold(data)
            return True
        is_post = data.startswith(b"POST")
        if head.body_octets is None or (is_post and head.body_octets != len(question)):
            self._in_step = False
            return False
        if head.plain and self._ask(question, "POST" if is_post else "GET"):
            self._remember(data, question, is_post=is_post)
            return True
        self._busy = True
        return False

    def _remember(self, data: bytes, question: bytes, *, is_post: bool) -> None:
        """The next request may differ in the question only."""
        self._method = "POST" if is_post else "GET"
        self._head = data[: len(data) - len(question)] if is_post else data[len(question) :]
        self._request_octets = len(data)

    def _ask(self, question: bytes, method: str) -> bool:
        """Let a plain request be answered; False is aiohttp's business."""
        shortcut, transport, path = self._shortcut, self.transport, None
        if transport is None or self._paused:  # what was answered before is not read: aiohttp waits for that
            return False
        if len(question) > shortcut.max_request_bytes:
            return False
        if method == "GET":
            target = get_target(question)
            if target is None:
                return False
            path = target.partition("?")[0]
        turn = shortcut.turn
        if not turn.has_begun:
            turn.begin()
        caller = self._caller
        if caller is None or self._knowledge is not turn.knowledge or turn.now >= self._caller_until:
            caller = self._recognised(transport, turn)
        self._is_asked, self._at_rest = True, False
        self._next_keepalive_close_time = turn.loop_time + STALL_S
        deliver = partial(self._leave, transport)
        shortcut.service.ask(Question(method, question, path, caller, deliver))
        return True

    def _leave(self, transport: asyncio.Transport, reply: Reply, caller: Caller) -> None:
        """Send an answer, at the end of this turn, and go on."""
        if not self._is_asked:
            return
        turn = self._shortcut.turn
        if not turn.has_begun:
            turn.begin()
        turn.add((transport, reply, self._who if caller is self._caller else who(caller)))
        turn.made += 1
        self._is_asked = False
        self._next_keepalive_close_time = turn.loop_time + self._keepalive_timeout
        if self._answered is not None:
            self._answered.set()
        self._at_rest = self._in_step and not self._held and not self._paused
        if self._held and not transport.is_closing():
            transport.resume_reading()
            self.data_received(self._take_held())
        if self._has_ended and not self._is_asked:
            if self._busy:
                self.close()
            else:
                self._loop.call_soon(transport.close)  # when this turn has ended

    def _wait(self, data: bytes) -> None:
        """Keep what came in before the answer has left, and read no more."""
        if data and self.transport is not None:
            self._held += data
            self.transport.pause_reading()

    def _recognised(self, transport: asyncio.Transport, turn: Turn) -> Caller:
        """Who asks: looked up when rights have changed or ended, and each second."""
        now = turn.now
        caller = self._shortcut.service.connected(transport, self._counted or "", datetime.fromtimestamp(now, UTC))
        end = now + CALLER_S if caller.until is None else min(now + CALLER_S, caller.until.timestamp())
        self._caller, self._caller_until, self._knowledge = caller, end, turn.knowledge
        self._may_ask = Right.OCSP in caller.rights
        self._who = who(caller)
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
        """Notice that aiohttp has answered, also for itself."""
        resp.headers[hdrs.SERVER] = SERVER  # its own value tells versions
        if self._is_ending and not self._messages:  # what was sent ahead is answered, too
            resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        self._busy = False
        return finished

    def end_soon(self) -> None:
        """Let the next answer be the last."""
        self._is_ending = True
        self._in_step = self._at_rest = False

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - the signature is aiohttp's
        """Finish what was accepted, and what comes within a moment, then close."""
        if self._is_asked:
            self._answered = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._answered.wait()
        if self._task_handler is not None:  # aiohttp's, which ends with the connection
            await asyncio.wait([self._task_handler], timeout=LAST_REQUEST_S)
        self.close()
        self._shortcut.turn.end()
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
        """Refuse what is no HTTP request, or notice that a peer left in the middle of one, in one line of the log."""
        if isinstance(exc, ConnectionError):
            _logger.info("peer_left", extra={"origin": request.remote})
        else:  # of the exception its type alone: aiohttp's quote the line of a header, with the credentials in it
            error = None if exc is None else type(exc).__name__
            _logger.info("http_error", extra={"origin": request.remote, "status": status, "error": error})
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

    def pre_shutdown(self) -> None:
        """Let connections end with their next answers; aiohttp's would close those that are idle now."""
        for connection in cast("list[Connection]", self.connections):
            connection.end_soon()
