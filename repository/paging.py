"""Simple paged results (RFC 2696): the entries of one search, a few at a time.

A connection has one paged search at a time. It holds on to the entries that it found at first, so that all pages are of
one publication; they are let go with the last page, with the next paged search, and with the connection. There are many
connections, so of the request, which may be long, no more is kept than its hash.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from repository.controls import Controls, PagedResults, paged_results
from repository.dit import DIT
from repository.errors import OperationError
from repository.messages import Control, Result, ResultCode, SearchRequest
from repository.search import Found, Limits, Outcome, answer, find

_UNLIMITED: Final = 2**31  # entries: the limit of the server is one for a page


@dataclass(frozen=True, slots=True)
class _Rest:
    cookie: bytes
    request_hash: bytes
    may_read_restricted: bool
    found: Found  # not shown yet
    total: int


class Paging:
    """The paged search of one connection."""

    def __init__(self) -> None:
        self._number = 0
        self._rest: _Rest | None = None

    def page(
        self, dit: DIT, request: SearchRequest, controls: Controls, *, may_read_restricted: bool, limits: Limits
    ) -> tuple[Outcome, Control]:
        """Begin a paged search, or go on with the one that the cookie names; its control says how to go on.

        Raises:
            OperationError: unwillingToPerform: the cookie is not the last one, the search is another one, or rights
                have changed in between; what `find` raises.
        """
        asked, rest = controls.paged_results, self._rest
        self._rest = None
        if asked is None:
            raise RuntimeError("the request does not ask for a page")
        request_hash = sha256(repr(request).encode()).digest()
        if not asked.cookie:
            unlimited = replace(limits, entries=_UNLIMITED)
            found = find(dit, request, controls, may_read_restricted=may_read_restricted, limits=unlimited)
            rest = _Rest(b"", request_hash, may_read_restricted, found, len(found.entries))
        elif rest is None or (asked.cookie, request_hash, may_read_restricted) != (
            rest.cookie,
            rest.request_hash,
            rest.may_read_restricted,
        ):
            message = "this page does not follow the one before it; begin the search again"
            raise OperationError(ResultCode.UNWILLING_TO_PERFORM, message)
        shown, control = self._next(rest, asked, limits)
        return answer(shown, request, controls, may_read_restricted=may_read_restricted), control

    def _next(self, rest: _Rest, asked: PagedResults, limits: Limits) -> tuple[Found, Control]:
        size = min(asked.size, limits.entries)
        entries, result = rest.found
        is_last = size == 0 or size >= len(entries)  # a page of size 0 ends the search: RFC 2696, section 3
        shown = Found(entries[:size], result if is_last else Result(ResultCode.SUCCESS))
        cookie = b""
        if not is_last:
            self._number += 1
            cookie = self._number.to_bytes(8, "big")
            self._rest = replace(rest, cookie=cookie, found=Found(entries[size:], result))
        return shown, paged_results(rest.total, cookie)
