"""OCSP over HTTP (RFC 6960, appendix A).

An OCSP answer, also one that refuses, is HTTP 200 with application/ocsp-response. HTTP's own errors are for what cannot
have one: another method or media type, too large or too slow a body. Every OCSP answer is in the journal before it
leaves (R-4-11-2-1), one record for each certificate asked about.

Questions come on two ways: plain ones as octets from `connection`, any other as an aiohttp request. From there on the
way is the same: parse → who asks → kept answer, or a new one → journal.

POST is served at every path, so that a proxy may put the responder anywhere; in that of a GET the request follows
`ocsp.path`.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from ocsp.access import Caller
from ocsp.answering import Answering, Means, Question
from ocsp.caching import ETAG
from ocsp.connection import HTTPServer, Shortcut
from ocsp.errors import StoreUnavailableError
from ocsp.limits import ConnectionLimit
from ocsp.recognition import Peer
from ocsp.reply import REQUEST_TYPE, Reply, headers_alone, who
from ocsp.turn import NOT_RECORDED, Turn
from settings.sections import OCSPSection

METHODS: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST)
BACKLOG_CONNECTIONS: Final = 1024
SHUTDOWN_TIMEOUT_S: Final = 10.0
HANDSHAKE_TIMEOUT_S: Final = 5.0  # of TLS; until it ends, a connection counts for nobody
LINGERING_S: Final = 1.0  # how long a body that is not wanted is still read, so that its sender sees the answer


@dataclass(frozen=True, slots=True)
class Listener:
    """Where connections come from."""

    socket: socket.socket  # bound
    tls: ssl.SSLContext | None = None


class OCSPService:
    """What answers HTTP requests: the handler of aiohttp's low-level server; and what connections need besides."""

    def __init__(self, section: OCSPSection, means: Means, turn: Turn, answering: Answering) -> None:
        self._section = section
        self._means = means
        self._turn = turn
        self._answering = answering
        self.ask = answering.ask  # see ocsp.connection.Service, also for the following
        self.has_limits = bool(section.address_requests_per_s or section.party_requests_per_s)

    def connected(self, transport: asyncio.Transport, origin: str, now: datetime) -> Caller:
        """Who asks on a connection."""
        peer = self._peer(transport, origin)
        try:
            return self._means.recogniser.by_connection(peer, self._means.knowledge.at(now.timestamp()).access, now)
        except StoreUnavailableError:
            return Caller(peer.origin)

    async def __call__(self, http: web.BaseRequest) -> web.Response:
        """Answer one HTTP request.

        Raises:
            HTTPException: it cannot have an OCSP answer.
            ConnectionError: the peer has gone.
        """
        if http.method not in METHODS:
            raise web.HTTPMethodNotAllowed(http.method, METHODS)
        transport = http.transport
        if transport is None or http.remote is None:
            raise ConnectionResetError("the peer has gone")
        peer = self._means.recogniser.client(self._peer(transport, http.remote), http.headers)
        if http.method == hdrs.METH_POST:
            method, path, key = hdrs.METH_POST, None, await self._body(http)
        else:
            method, path, key = hdrs.METH_GET, http.rel_url.raw_path, f"GET {http.raw_path} HTTP/1.1".encode()
        replied: asyncio.Future[tuple[Reply, Caller]] = asyncio.get_running_loop().create_future()

        def deliver(reply: Reply, caller: Caller) -> None:
            if not replied.done():
                replied.set_result((reply, caller))

        question = Question(method, key, path, Caller(peer.origin), deliver)
        await self._answering.recognise_and_ask(question, peer, http.headers.get(hdrs.AUTHORIZATION))
        reply, caller = await replied
        if transport.is_closing():  # not given, so not recorded
            raise ConnectionResetError("the peer has gone")
        return self._response(reply, caller, http)

    def _response(self, reply: Reply, caller: Caller, http: web.BaseRequest) -> web.Response:
        """The response, recorded; raises HTTPException: there is none to HEAD."""
        now = self._means.clock()
        is_head = http.method == hdrs.METH_HEAD
        if is_head:
            reply = headers_alone(reply)
        if not self._turn.record([(None, reply, who(caller))], now):
            reply = NOT_RECORDED
        if is_head and not reply.public:  # the length of the answer would tell the status
            raise web.HTTPMethodNotAllowed(hdrs.METH_HEAD, (hdrs.METH_GET, hdrs.METH_POST))
        headers = reply.headers(datetime.fromtimestamp(now, UTC))
        if _has_it_already(http, headers):
            return web.Response(status=304, headers=headers)
        return web.Response(body=reply.body, headers=headers)

    def _peer(self, transport: asyncio.BaseTransport, origin: str) -> Peer:
        """Who is at the other end."""
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        return self._means.recogniser.peer(origin, certificate, is_tls=tls is not None)

    async def _body(self, http: web.BaseRequest) -> bytes:
        """The body of a POST.

        Raises:
            HTTPException: it is of another type, too large, too slow, or cannot be read.
        """
        if hdrs.CONTENT_TYPE in http.headers and http.content_type != REQUEST_TYPE:
            raise web.HTTPUnsupportedMediaType(text=f"POST {REQUEST_TYPE}\n")
        limit = self._section.max_request_bytes
        if (http.content_length or 0) > limit:
            raise web.HTTPRequestEntityTooLarge(limit)
        await _say_continue(http)
        body = bytearray()
        try:
            async with asyncio.timeout(self._section.idle_timeout_s):
                async for chunk in http.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise web.HTTPRequestEntityTooLarge(limit)
        except TimeoutError as e:
            raise web.HTTPRequestTimeout from e
        except web.RequestPayloadError as e:
            raise web.HTTPBadRequest from e
        return bytes(body)


@contextlib.asynccontextmanager
async def listening(
    section: OCSPSection, means: Means, turn: Turn, listeners: Sequence[Listener]
) -> AsyncIterator[HTTPServer]:
    """Serve while the context lasts; at its end requests in progress are still answered."""
    answering = Answering(means, section.max_request_certificates, section.path.rstrip("/"))
    service = OCSPService(section, means, turn, answering)
    limit = ConnectionLimit(section.max_connections, section.max_connections_per_address)
    server = HTTPServer(
        Shortcut(service, means.cache, turn, section.max_request_bytes, limit),
        service,
        keepalive_timeout=section.idle_timeout_s,
        lingering_time=LINGERING_S,
        auto_decompress=False,  # a small body stays small
        access_log=None,
    )
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    working = asyncio.create_task(answering.run())
    try:
        async with contextlib.AsyncExitStack() as open_ports:
            for listener in listeners:
                open_ports.callback((await _listen(server, listener)).close)
            yield server
    finally:
        await runner.cleanup()
        working.cancel()


async def _listen(server: HTTPServer, listener: Listener) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(
        server,
        sock=listener.socket,
        ssl=listener.tls,
        backlog=BACKLOG_CONNECTIONS,
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if listener.tls else None,
    )


def _has_it_already(http: web.BaseRequest, headers: Mapping[str, str]) -> bool:
    """Is the answer that the client, or a cache on the way, asks about still the one (RFC 9110, section 13.1.2)?

    If-Modified-Since is not looked at: in one second there may be an answer and another one, after a revocation.
    """
    etag = headers.get(ETAG)
    return etag is not None and any(known.value in {etag.strip('"'), "*"} for known in http.if_none_match or ())


async def _say_continue(http: web.BaseRequest) -> None:
    """Let a client that waits for it send the body (RFC 9110, section 10.1.1): the low-level server does not."""
    expectation = http.headers.get(hdrs.EXPECT, "").lower()
    if not expectation or http.version < HttpVersion11:
        return
    if expectation != "100-continue":
        raise web.HTTPExpectationFailed
    await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    http.writer.output_size = 0  # the response itself has not begun
