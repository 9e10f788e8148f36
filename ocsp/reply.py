"""What goes out, and to the journal: an OCSP answer as an HTTP response and as records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Final

from aiohttp import hdrs

from journal.record import peer, result
from ocsp import caching
from ocsp.access import Caller
from ocsp.errors import OCSPResponseStatus
from ocsp.request import OCSPRequest
from ocsp.response import ERROR_RESPONSES, Answer
from pkix.revocation import CertStatus, Good, Revoked, Unknown

REQUEST_TYPE: Final = "application/ocsp-request"
RESPONSE_TYPE: Final = "application/ocsp-response"
SERVER: Final = "prefca"
SUCCESSFUL: Final = OCSPResponseStatus.SUCCESSFUL.label


@dataclass(slots=True)  # not frozen, which takes five times as long to make
class Reply:
    """An HTTP response except for the date, and fragments of its records. Moments are seconds since the epoch."""

    method: str  # that it answers: POST or GET
    status: str  # OCSPResponseStatus
    body: bytes
    before_date: bytes  # the head of the HTTP response, until "Date: "
    records: bytes  # `journal.record.result` for each certificate asked about, joined with commas
    results: Sequence[str] = ()  # and their statuses, if they are told
    answer: Answer | None = None  # what is told
    public: bool = True  # may anybody get it?
    fresh_until: float = 0.0
    valid_until: float = 0.0

    def headers(self, now: datetime) -> Mapping[str, str]:
        """Those that are not aiohttp's, if it leaves `now`."""
        return _headers(caching.NO_STORE if self.answer is None else caching.headers(self.answer, self.method, now))

    def late(self, now: datetime) -> "Reply":
        """The same, if it leaves `now`, behind its middle."""
        return replace(self, before_date=_head(self.headers(now), len(self.body)))


def who(caller: Caller) -> bytes:
    """The fragment of records that says who asked."""
    return peer(caller.party, caller.origin, caller.recognition)


def told(answer: Answer, method: str) -> Reply:
    """What a signed answer to a request with `method` becomes, if it leaves before its middle."""
    interval = answer.interval
    size = len(answer.der)
    results = [_result(status) for _, status, _ in answer.singles]
    records = b",".join(
        result(how, f"{cert_id.serial_number:016X}", size)
        for how, (cert_id, _, _) in zip(results, answer.singles, strict=True)
    )
    return Reply(
        method,
        SUCCESSFUL,
        answer.der,
        _before_date(answer, method, size),
        records,
        results,
        answer,
        answer.public,
        interval.fresh_until,
        interval.valid_until,
    )


def refusal(status: OCSPResponseStatus, method: str, request: OCSPRequest | None) -> Reply:
    """An unsigned answer; `request` is None if it could not be read."""
    body = ERROR_RESPONSES[status]
    serials = [f"{cert_id.serial_number:016X}" for cert_id in request.cert_ids] if request is not None else [""]
    records = b",".join(result(status.label, serial, len(body)) for serial in serials)
    return Reply(method, status.label, body, _unchanging_head("no-store", len(body)), records)


def _result(status: CertStatus) -> str:
    """As CertStatus names it in RFC 6960."""
    match status:
        case Good():
            return "good"
        case Revoked():
            return "revoked"
        case Unknown():
            return "unknown"


def _before_date(answer: Answer, method: str, size: int) -> bytes:
    values = caching.headers(answer, method, answer.interval.this_update)
    if len(values) == 1:
        return _unchanging_head(values["Cache-Control"], size)
    return _head(_headers(values), size)


@lru_cache(maxsize=4096)
def _unchanging_head(cache_control: str, size: int) -> bytes:
    """The same for all answers that no cache may keep."""
    return _head(_headers({hdrs.CACHE_CONTROL: cache_control}), size)


def _head(headers: Mapping[str, str], size: int) -> bytes:
    """The head of an HTTP response, until the value of its last header, Date."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {size}\r\nDate: ".encode()


def _headers(caching_headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of every answer; Date and Content-Length come later."""
    return {hdrs.CONTENT_TYPE: RESPONSE_TYPE, hdrs.SERVER: SERVER, **caching_headers}
