"""OCSP over HTTP (RFC 6960, appendix A).

An OCSP answer, also one that refuses, is HTTP 200 with application/ocsp-response. HTTP's own errors are for what cannot
have one: another method or media type, too large or too slow a body. Every OCSP answer is in the journal before it
leaves (R-4-11-2-1), one record for each certificate asked about.

Questions come on two ways: plain ones as octets from `connection`, any other as an aiohttp request. From there on the
way is the same: parse → who asks → kept answer, or a new one → journal.

POST is served at every path, so that a proxy may put the responder anywhere; all of the path of a GET is the request.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from journal.record import Record, event, gift
from ocsp import caching, connection
from ocsp.access import AccessList, Caller
from ocsp.cache import AnswerCache, KeptAnswer
from ocsp.connection import HTTPServer, Shortcut, Turn
from ocsp.errors import OCSPError, OCSPResponseStatus, StoreUnavailableError, TooManyRequestsError
from ocsp.limits import ConnectionLimit, RateLimits
from ocsp.metrics import Metrics
from ocsp.recognition import Peer, Recogniser
from ocsp.refresh import Snapshot
from ocsp.request import OCSPRequest, parse_request, path_octets
from ocsp.responder import Responder, authorize
from ocsp.response import ERROR_RESPONSES, Answer
from pkix.revocation import CertStatus, Good, Revoked, Unknown
from pkix.validity import whole_second
from settings.sections import OCSPSection

REQUEST_TYPE: Final = "application/ocsp-request"
RESPONSE_TYPE: Final = "application/ocsp-response"
METHODS: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST)
BACKLOG_CONNECTIONS: Final = 1024
SHUTDOWN_TIMEOUT_S: Final = 10.0
LINGERING_S: Final = 1.0  # how long a body that is not wanted is still read, so that its sender sees the answer
SERVER: Final = "prefca"
EVENT: Final = "ocsp_request"

_logger = logging.getLogger(__name__)


class Knowledge(Protocol):
    """Where the CA's keys and the access rights of this moment are."""

    @property
    def snapshot(self) -> Snapshot:
        """What is known; raises StoreUnavailableError as long as nothing is."""


class Journal(connection.Journal, Protocol):
    """Where records go."""

    def append(self, record: Record) -> None:
        """Add a record to the batch."""


@dataclass(frozen=True, slots=True)
class Means:
    """What answers are made with, and written down with."""

    knowledge: Knowledge
    recogniser: Recogniser
    limits: RateLimits
    responder: Responder
    cache: AnswerCache
    journal: Journal
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Listener:
    """Where connections come from."""

    socket: socket.socket  # bound
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, as it came."""

    method: str
    key: bytes  # of the answer cache
    path: str | None  # of a GET: its octets are in it
    sender: Caller | Peer  # who asks, if the connection says that, and his limits allow it; else who sent it
    authorization: str | None = field(default=None, repr=False)  # the header

    @property
    def origin(self) -> str:
        """The address that it came from."""
        return self.sender.origin

    def octets(self) -> bytes:
        """The DER; raises MalformedRequestError if the path holds none."""
        return self.key if self.path is None else path_octets(self.path)


@dataclass(frozen=True, slots=True)
class _Reply:
    """What goes out, and to the journal."""

    octets: bytes
    headers: Mapping[str, str]
    caller: Caller
    status: OCSPResponseStatus
    results: tuple[tuple[str, str], ...]  # for each certificate asked about: serial number in hexadecimal, result


class OCSPService:
    """From an HTTP request to an HTTP response: the handler of aiohttp's low-level server, and of the shortcut."""

    def __init__(self, section: OCSPSection, means: Means) -> None:
        self._section = section
        self._means = means
        self._date = caching.HTTPDate()

    async def __call__(self, http: web.BaseRequest) -> web.Response:
        """Answer one HTTP request.

        Raises:
            HTTPException: it cannot have an OCSP answer.
            ConnectionError: the peer has gone.
        """
        if http.method not in METHODS:
            raise web.HTTPMethodNotAllowed(http.method, METHODS)
        if http.transport is None:
            raise ConnectionResetError("the peer has gone")
        peer = self._means.recogniser.client(self._peer(http.transport), http.headers)
        path = None if http.method == hdrs.METH_POST else http.rel_url.raw_path
        key = await self._body(http) if path is None else f"GET {http.raw_path} HTTP/1.1".encode()
        authorization = http.headers.get(hdrs.AUTHORIZATION)
        reply = await self._recorded_reply(_Asked(http.method, key, path, peer, authorization))
        return web.Response(body=reply.octets, headers=reply.headers)

    @property
    def knowledge(self) -> object:
        """See ocsp.connection.Answering, also for the following."""
        try:
            return self._means.knowledge.snapshot
        except StoreUnavailableError:
            return None

    def connected(self, transport: asyncio.Transport, now: datetime) -> Caller:
        """Who asks on a connection."""
        peer = self._peer(transport)
        try:
            return self._means.recogniser.by_connection(peer, self._means.knowledge.snapshot.access, now)
        except StoreUnavailableError:
            return Caller(peer.origin)

    @property
    def has_limits(self) -> bool:
        """Is anybody limited?"""
        return (self._section.address_requests_per_s or self._section.party_requests_per_s) is not None

    def admits(self, caller: Caller, now: float) -> bool:
        """May he be answered at once, and is that counted?"""
        return self._means.limits.admits(caller, now)

    async def respond(self, question: bytes, target: str | None, caller: Caller) -> bytes:
        """The whole HTTP response to a plain request."""
        method = hdrs.METH_POST if target is None else hdrs.METH_GET
        path = None if target is None else target.partition("?")[0]
        reply = await self._recorded_reply(_Asked(method, question, path, caller))
        return self._response(reply)

    def not_now(self, date: bytes) -> bytes:
        """The whole HTTP response that says tryLater."""
        octets = ERROR_RESPONSES[OCSPResponseStatus.TRY_LATER]
        return b"".join((_head_before_date(_headers(caching.NO_STORE), len(octets)), date, b"\r\n\r\n", octets))

    def _response(self, reply: _Reply) -> bytes:
        head = _head_before_date(reply.headers, len(reply.octets))
        return b"".join((head, self._date.at(time.time()), b"\r\n\r\n", reply.octets))

    async def _recorded_reply(self, asked: _Asked) -> _Reply:
        """The OCSP answer, after it was written to the journal."""
        now = datetime.now(UTC)
        reply = await self._reply(asked, now)
        try:
            self._record(reply, now)
        except OSError:
            _logger.exception("journal_failed")
            reply = _refusal(OCSPResponseStatus.TRY_LATER, reply.caller)
        self._means.metrics.answers[reply.status.label] += 1
        return reply

    async def _reply(self, asked: _Asked, now: datetime) -> _Reply:
        """The OCSP answer: the one boundary where errors become statuses."""
        caller, request = Caller(asked.origin), None
        try:
            request = parse_request(asked.octets(), max_certificates=self._section.max_request_certificates)
            snapshot = self._means.knowledge.snapshot
            caller = await self._caller(asked, request, snapshot.access, now)
            answer = await self._answer(asked, request, caller, now)
        except OCSPError as e:
            if e.status is not OCSPResponseStatus.TRY_LATER:  # whose cause is logged once, where it arises
                _logger.info("refused", extra={"origin": asked.origin, "status": e.status.label, "reason": str(e)})
            return _refusal(e.status, caller, request)
        except Exception:
            _logger.exception("internal_error", extra={"origin": asked.origin})
            return _refusal(OCSPResponseStatus.INTERNAL_ERROR, caller, request)
        results = tuple(_result(single.cert_id.serial_number, single.cert_status) for single in answer.singles)
        self._means.metrics.certificates.update(result for _, result in results)
        headers = _headers(caching.headers(answer, asked.method, now))
        return _Reply(answer.der, headers, caller, OCSPResponseStatus.SUCCESSFUL, results)

    async def _caller(self, asked: _Asked, request: OCSPRequest, access: AccessList, now: datetime) -> Caller:
        """Who asks.

        Raises:
            TooManyRequestsError: he must wait.
        """
        recogniser, limits, at = self._means.recogniser, self._means.limits, now.timestamp()
        if isinstance(asked.sender, Caller):
            caller = asked.sender
        elif limits.admits_address(asked.origin, at):
            caller = await recogniser.caller(asked.sender, asked.authorization, access, now)
        else:
            raise TooManyRequestsError("an address sends too many requests")
        if request.signature is not None:
            caller = recogniser.signer(request.signature, caller, access, now)
        if caller is not asked.sender and not limits.admits_party(caller, at):
            raise TooManyRequestsError("a relying party sends too many requests")
        return caller

    def _peer(self, transport: asyncio.BaseTransport) -> Peer:
        """Who is at the other end."""
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        origin: str = transport.get_extra_info("peername")[0]
        return self._means.recogniser.peer(origin, certificate, is_tls=tls is not None)

    async def _answer(self, asked: _Asked, request: OCSPRequest, caller: Caller, now: datetime) -> Answer:
        """A kept answer, or a new one."""
        means, at = self._means, now.timestamp()
        kept = means.cache.fresh(asked.key, at)
        if kept is None:
            ticket = means.cache.ticket
            issuers = means.knowledge.snapshot.issuers
            try:
                answer = await means.responder.answer(request, caller, issuers, whole_second(now))
            except StoreUnavailableError:
                kept = means.cache.valid(asked.key, at)
                if kept is None:
                    raise
            else:
                if _may_be_kept(request, answer):
                    means.cache.keep(asked.key, _kept(answer, asked.method), ticket)
                return answer
        authorize(caller, kept.answer.singles)
        means.metrics.cache_hits += 1
        return kept.answer

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

    def _record(self, reply: _Reply, now: datetime) -> None:
        """Write to the journal what was asked, by whom, and what is answered.

        Raises:
            OSError: the journal cannot be written, so the answer must not leave.
        """
        journal = self._means.journal
        journal.flush()  # of what could not be written before, so that it does not grow
        for serial, result in reply.results:
            journal.append(
                Record(
                    at=now,
                    kind=EVENT,
                    result=result,
                    party=reply.caller.party,
                    origin=reply.caller.origin,
                    object=serial,
                    size=len(reply.octets),
                )
            )
        journal.flush()


@contextlib.asynccontextmanager
async def listening(
    service: OCSPService, section: OCSPSection, means: Means, listeners: Sequence[Listener]
) -> AsyncIterator[HTTPServer]:
    """Serve while the context lasts; at its end requests in progress are still answered."""
    turn = Turn(means.journal, time.time, service, means.metrics)
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
    try:
        for listener in listeners:
            site = web.SockSite(runner, listener.socket, ssl_context=listener.tls, backlog=BACKLOG_CONNECTIONS)
            await site.start()
        yield server
    finally:
        await runner.cleanup()


async def _say_continue(http: web.BaseRequest) -> None:
    """Let a client that waits for it send the body (RFC 9110, section 10.1.1): the low-level server does not."""
    expectation = http.headers.get(hdrs.EXPECT, "").lower()
    if not expectation or http.version < HttpVersion11:
        return
    if expectation != "100-continue":
        raise web.HTTPExpectationFailed
    await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    http.writer.output_size = 0  # the response itself has not begun


def _refusal(status: OCSPResponseStatus, caller: Caller, request: OCSPRequest | None = None) -> _Reply:
    """An unsigned answer."""
    serials = [f"{cert_id.serial_number:016X}" for cert_id in request.cert_ids] if request is not None else [""]
    results = tuple((serial, status.label) for serial in serials)
    return _Reply(ERROR_RESPONSES[status], _headers(caching.NO_STORE), caller, status, results)


def _may_be_kept(request: OCSPRequest, answer: Answer) -> bool:
    """Will the same octets come again, and will the change feed tell when the answer is no longer true?"""
    unknown = any(isinstance(single.cert_status, Unknown) for single in answer.singles)
    return not (answer.has_nonce or unknown or request.signature)


def _kept(answer: Answer, method: str) -> KeptAnswer:
    results = [_result(single.cert_id.serial_number, single.cert_status) for single in answer.singles]
    begin, end = answer.interval.this_update, answer.interval.next_update
    return KeptAnswer(
        answer=answer,
        before_date=_head_before_date(_headers(caching.headers(answer, method, begin)), len(answer.der)),
        records=tuple((event(EVENT, result), gift(serial, len(answer.der))) for serial, result in results),
        results=tuple(result for _, result in results),
        fresh_until=(begin + (end - begin) / 2).timestamp(),
        valid_until=end.timestamp(),
        public=answer.public,
    )


def _headers(caching_headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of every answer; Date and Content-Length come later."""
    return {hdrs.CONTENT_TYPE: RESPONSE_TYPE, hdrs.SERVER: SERVER, **caching_headers}


def _head_before_date(headers: Mapping[str, str], length: int) -> bytes:
    """The head of an HTTP response, until the value of its last header, Date."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {length}\r\nDate: ".encode()


def _result(serial: int, status: CertStatus) -> tuple[str, str]:
    """A serial number in hexadecimal, and its status as CertStatus names it in RFC 6960."""
    name = f"{serial:016X}"
    match status:
        case Good():
            return name, "good"
        case Revoked():
            return name, "revoked"
        case Unknown():
            return name, "unknown"
