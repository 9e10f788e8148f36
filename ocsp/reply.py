"""What goes out, and to the journal: an OCSP answer as an HTTP response and as records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final

from aiohttp import hdrs

from journal.record import peer, result
from ocsp import caching
from ocsp.access import Caller
from ocsp.errors import OCSPResponseStatus
from ocsp.metrics import outcome
from ocsp.request import OCSPRequest
from ocsp.response import ERROR_RESPONSES, Answer
from pkix.revocation import CertStatus, Good, Revoked, Unknown

REQUEST_TYPE: Final = "application/ocsp-request"
RESPONSE_TYPE: Final = "application/ocsp-response"
SERVER: Final = "prefca"
SUCCESSFUL: Final = OCSPResponseStatus.SUCCESSFUL.label
HEADERS_ALONE: Final = "head"
DATE_OCTETS: Final = 29
NO_SECOND: Final = -1
_RESULTS: Final[Mapping[type[CertStatus], str]] = {Good: "good", Revoked: "revoked", Unknown: "unknown"}  # RFC 6960
_UNKNOWN: Final = _RESULTS[Unknown]
_NO_DATE: Final = b" " * DATE_OCTETS + b"\r\n\r\n"


@dataclass(slots=True)  # not frozen, which takes five times as long to make
class Reply:
    """An HTTP response, and fragments of its records. Moments are seconds since the epoch."""

    method: str  # that it answers: POST or GET
    octets: bytes  # ready to leave, in `second`
    date_at: int  # where the value of its last header, Date, begins
    outcome: str  # for the metrics
    records: bytes  # `journal.record.result` for each certificate asked about, joined with commas
    answer: Answer | None = None  # what is told
    public: bool = True  # may anybody get it?
    fresh_until: float = 0.0
    valid_until: float = 0.0
    second: int = NO_SECOND  # of Date

    @property
    def body(self) -> bytes:
        """The OCSPResponse."""
        return self.octets[self.date_at + len(_NO_DATE) :]

    def date(self, second: int) -> None:
        """Let it leave in that second: what is given out again and again is copied no more often."""
        begin, end = self.date_at, self.date_at + DATE_OCTETS
        self.octets = b"".join((self.octets[:begin], _http_date(second), self.octets[end:]))
        self.second = second

    def headers(self, now: datetime) -> Mapping[str, str]:
        """Those that are not aiohttp's, if it leaves `now`."""
        if self.answer is None:
            return _headers(caching.NO_STORE)
        return _headers(caching.headers(self.answer, self.body, self.method, now))

    def late(self, now: datetime) -> "Reply":
        """The same, if it leaves `now`, behind its middle."""
        body = self.body
        before_date = _head(self.headers(now), len(body))
        return replace(self, octets=_undated(before_date, body), date_at=len(before_date), second=NO_SECOND)


def who(caller: Caller) -> bytes:
    """The fragment of records that says who asked."""
    return peer(caller.party, caller.origin, caller.recognition)


def told(body: bytes, answer: Answer, method: str) -> Reply:
    """What a signed answer to a request with `method` becomes, if it leaves before its middle.

    Args:
        body: the DER of the OCSPResponse.
        answer: what it says.
        method: POST or GET.
    """
    interval = answer.interval
    results = [(_RESULTS[type(status)], f"{cert_id.serial_number:016X}") for cert_id, status, _ in answer.singles]
    before_date = _before_date(answer, body, method)
    return Reply(
        method,
        _undated(before_date, body),
        len(before_date),
        outcome(SUCCESSFUL, *[how for how, _ in results]),
        _records(results, len(body)),
        answer,
        answer.public,
        interval.fresh_until,
        interval.valid_until,
    )


def refusal(status: OCSPResponseStatus, method: str, request: OCSPRequest | None) -> Reply:
    """An unsigned answer; `request` is None if it could not be read."""
    body = ERROR_RESPONSES[status]
    serials = [f"{cert_id.serial_number:016X}" for cert_id in request.cert_ids] if request is not None else [""]
    records = _records([(status.label, serial) for serial in serials], len(body))
    before_date = _unchanging_head("no-store", len(body))
    return Reply(method, _undated(before_date, body), len(before_date), outcome(status.label), records)


def _records(results: Sequence[tuple[str, str]], size: int) -> bytes:
    """Those of one answer, of which one tells the octets and the others 0, so that sums are of what was given out.

    It is the first of a certificate that is known, if there is any: reports leave the others out.
    """
    teller = next((number for number, (how, _) in enumerate(results) if how != _UNKNOWN), 0)
    return b",".join(
        [result(how, serial, size if number == teller else 0) for number, (how, serial) in enumerate(results)]
    )


def headers_alone(reply: Reply) -> Reply:
    """The same for a HEAD request: no status is provided, and its records say so."""
    if reply.answer is None:
        return reply
    serials = [f"{cert_id.serial_number:016X}" for cert_id, _, _ in reply.answer.singles]
    return replace(reply, records=b",".join(result(HEADERS_ALONE, serial, 0) for serial in serials))


def _before_date(answer: Answer, body: bytes, method: str) -> bytes:
    values = caching.headers(answer, body, method, answer.interval.this_update)
    if len(values) == 1:
        return _unchanging_head(values["Cache-Control"], len(body))
    return _head(_headers(values), len(body))


@lru_cache(maxsize=4096)
def _unchanging_head(cache_control: str, size: int) -> bytes:
    """The same for all answers that no cache may keep."""
    return _head(_headers({hdrs.CACHE_CONTROL: cache_control}), size)


def _head(headers: Mapping[str, str], size: int) -> bytes:
    """The head of an HTTP response, until the value of its last header, Date."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {size}\r\nDate: ".encode()


def _undated(before_date: bytes, body: bytes) -> bytes:
    """An HTTP response with room for its date."""
    return b"".join((before_date, _NO_DATE, body))


@lru_cache(maxsize=2)
def _http_date(second: int) -> bytes:
    """The value of Date (RFC 9110, section 6.6.1)."""
    return formatdate(second, usegmt=True).encode()


def _headers(caching_headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of every answer; Date and Content-Length come later."""
    return {hdrs.CONTENT_TYPE: RESPONSE_TYPE, hdrs.SERVER: SERVER, **caching_headers}
