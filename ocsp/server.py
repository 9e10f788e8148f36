"""OCSP over HTTP (RFC 6960, appendix A).

An OCSP answer, also one that refuses, is HTTP 200 with application/ocsp-response. HTTP's own errors are for what cannot
have one: another method or media type, too large or too slow a body. Every OCSP answer is in the journal before it
leaves (R-4-11-2-1), one record for each certificate asked about.

POST is served at every path, so that a proxy may put the responder anywhere; all of the path of a GET is the request.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from journal.record import Record
from ocsp import caching
from ocsp.access import Caller
from ocsp.connection import HTTPServer
from ocsp.errors import OCSPError, OCSPResponseStatus, StartError
from ocsp.refresh import Snapshot
from ocsp.request import OCSPRequest, parse_request, path_octets
from ocsp.responder import Responder
from ocsp.response import ERROR_RESPONSES
from pkix.revocation import CertStatus, Good, Revoked, Unknown
from pkix.validity import whole_second
from settings.sections import Endpoint, OCSPSection

REQUEST_TYPE: Final = "application/ocsp-request"
RESPONSE_TYPE: Final = "application/ocsp-response"
METHODS: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST)
BACKLOG_CONNECTIONS: Final = 1024
SHUTDOWN_TIMEOUT_S: Final = 10.0
LINGERING_S: Final = 1.0  # how long a body that is not wanted is still read, so that its sender sees the answer

_logger = logging.getLogger(__name__)


class Knowledge(Protocol):
    """Where the CA's keys and the access rights of this moment are."""

    @property
    def snapshot(self) -> Snapshot:
        """What is known; raises StoreUnavailableError as long as nothing is."""


class Journal(Protocol):
    """Where records go."""

    def append(self, record: Record) -> None:
        """Add a record to the batch."""

    def flush(self) -> None:
        """Hand the batch to the kernel; raises OSError if it cannot be written."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What goes out, and to the journal."""

    octets: bytes
    headers: Mapping[str, str]
    caller: Caller
    results: tuple[tuple[str, str], ...]  # for each certificate asked about: serial number in hexadecimal, result


class OCSPService:
    """From an HTTP request to an HTTP response: the handler of aiohttp's low-level server."""

    def __init__(self, section: OCSPSection, knowledge: Knowledge, responder: Responder, journal: Journal) -> None:
        self._section = section
        self._knowledge = knowledge
        self._responder = responder
        self._journal = journal

    async def __call__(self, http: web.BaseRequest) -> web.Response:
        """Answer one HTTP request.

        Raises:
            HTTPException: it cannot have an OCSP answer.
            ConnectionError: the peer has gone.
        """
        if http.method not in METHODS:
            raise web.HTTPMethodNotAllowed(http.method, METHODS)
        body = await self._body(http) if http.method == hdrs.METH_POST else None
        now = datetime.now(UTC)
        reply = await self._reply(http, body, now)
        try:
            self._record(reply, now)
        except OSError:
            _logger.exception("journal_failed")
            reply = _refusal(OCSPResponseStatus.TRY_LATER, reply.caller)
        return web.Response(body=reply.octets, headers=reply.headers, content_type=RESPONSE_TYPE)

    async def _reply(self, http: web.BaseRequest, body: bytes | None, now: datetime) -> _Reply:
        """The OCSP answer: the one boundary where errors become statuses."""
        if http.remote is None:
            raise ConnectionResetError("the peer has gone")
        caller, request = Caller(http.remote), None
        try:
            octets = path_octets(http.rel_url.raw_path) if body is None else body
            request = parse_request(octets, max_certificates=self._section.max_request_certificates)
            snapshot = self._knowledge.snapshot
            caller = snapshot.access.caller(http.remote, now)
            answer = await self._responder.answer(request, caller, snapshot.issuers, whole_second(now))
        except OCSPError as e:
            if e.status is not OCSPResponseStatus.TRY_LATER:  # whose cause is logged once, where it arises
                _logger.info("refused", extra={"origin": http.remote, "status": e.status.label, "reason": str(e)})
            return _refusal(e.status, caller, request)
        except Exception:
            _logger.exception("internal_error", extra={"origin": http.remote})
            return _refusal(OCSPResponseStatus.INTERNAL_ERROR, caller, request)
        results = tuple((f"{one.cert_id.serial_number:016X}", _result(one.cert_status)) for one in answer.singles)
        return _Reply(answer.der, caching.headers(answer, http.method), caller, results)

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
        for serial, result in reply.results:
            self._journal.append(
                Record(
                    at=now,
                    kind="ocsp_request",
                    result=result,
                    party=reply.caller.party,
                    origin=reply.caller.origin,
                    object=serial,
                    size=len(reply.octets),
                )
            )
        self._journal.flush()


@contextlib.asynccontextmanager
async def listening(service: OCSPService, section: OCSPSection) -> AsyncIterator[list[Endpoint]]:
    """Serve while the context lasts; at its end requests in progress are still answered.

    Yields:
        Where it listens.

    Raises:
        StartError: the address cannot be used.
    """
    server = HTTPServer(
        service,
        keepalive_timeout=section.idle_timeout_s,
        lingering_time=LINGERING_S,
        auto_decompress=False,  # a small body stays small
        access_log=None,
    )
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, *section.listen, backlog=BACKLOG_CONNECTIONS).start()
        except OSError as e:
            raise StartError(
                f"cannot listen on {section.listen}: {e.strerror or e}; "
                "stop what listens there, or change `ocsp.listen` in prefca.toml"
            ) from e
        yield [Endpoint(*address[:2]) for address in runner.addresses]
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
    return _Reply(
        ERROR_RESPONSES[status], caching.NO_STORE, caller, tuple((serial, status.label) for serial in serials)
    )


def _result(status: CertStatus) -> str:
    """As CertStatus names it in RFC 6960."""
    match status:
        case Good():
            return "good"
        case Revoked():
            return "revoked"
        case Unknown():
            return "unknown"
