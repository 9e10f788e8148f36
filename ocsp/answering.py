"""From a question to a reply.

Theory of operation. What is asked, by whom, and whether the answer is kept, is looked at when a question comes. Those
that need a new answer wait for a look-up: one at a time, for all that wait. The next one begins when few answers of
the ones before are still to be signed, so that database and processor work at the same time and a look-up is for many.
Drafts are signed in their order (`ocsp.signing`), and replies leave with all others of that turn (`ocsp.turn`).
There is one task for all of it, and none for a question.

This is also the one boundary where errors become statuses: whatever goes wrong with a question, it gets a reply.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple, Protocol

from ocsp import reply
from ocsp.access import AccessList, Caller
from ocsp.cache import AnswerCache
from ocsp.errors import (
    MalformedRequestError,
    OCSPError,
    OCSPResponseStatus,
    RightsChangedError,
    StoreUnavailableError,
    TooManyRequestsError,
)
from ocsp.forms import RequestReader
from ocsp.limits import RateLimits
from ocsp.metrics import Metrics
from ocsp.recognition import Peer, Recogniser
from ocsp.refresh import Snapshot
from ocsp.reply import Reply
from ocsp.request import OCSPRequest, path_octets
from ocsp.responder import Draft, Responder, Subject, authorize
from ocsp.signing import Outcome, Signatures
from ocsp.status import IssuedCertificate
from pkix.revocation import Unknown
from pkix.validity import whole_second

LOOKED_UP_AT_ONCE: Final = 64
UNSIGNED_ENOUGH: Final = 4  # to have the time for a look-up

_logger = logging.getLogger(__name__)

Deliver = Callable[[Reply, Caller], None]


class Knowledge(Protocol):
    """Where the CA's keys and the access rights of this moment are."""

    def at(self, moment: float) -> Snapshot:
        """What is known now; raises StoreUnavailableError as long as nothing current is."""


class StatusSource(Protocol):
    """Where statuses are read."""

    async def statuses(self, serials: Collection[int]) -> dict[int, IssuedCertificate]:
        """What is recorded now of those that were ever issued; raises StoreUnavailableError."""


@dataclass(frozen=True, slots=True)
class Means:
    """What answers are made with."""

    knowledge: Knowledge
    statuses: StatusSource
    recogniser: Recogniser
    limits: RateLimits
    responder: Responder
    signing: Signatures
    cache: AnswerCache
    metrics: Metrics
    clock: Callable[[], float]  # seconds since the epoch


@dataclass(slots=True)
class Question:
    """A question on its way to its reply."""

    method: str  # POST or GET
    key: bytes  # of the answer cache
    path: str | None  # of a GET: its octets are in it
    caller: Caller  # who asks, as far as it is known
    deliver: Deliver  # the first reply counts
    request: OCSPRequest | None = None  # when it could be read
    access: AccessList | None = None  # from which the caller is recognised


class _Found(NamedTuple):
    """What a look-up has found."""

    issued: Mapping[int, IssuedCertificate]
    now: datetime  # the moment of `issued`
    snapshot: Snapshot  # of when it was found
    ticket: int  # of the cache, before statuses were read


class Answering:
    """Makes replies."""

    def __init__(self, means: Means, max_certificates: int, path: str) -> None:
        """Make it; `path` is the one below which GETs have their requests, without a slash at its end."""
        self._means = means
        self._reader = RequestReader(max_certificates)
        self._path = path
        self._waiting: list[tuple[Question, Subject]] = []  # for the next look-up
        self._woken = asyncio.Event()

    def ask(self, question: Question) -> None:
        """Take a question of a caller whom his connection tells."""
        try:
            at = self._means.clock()
            self._count(question, question.caller.origin, at)
            request = self._read(question)
            self._begin(question, request, self._means.knowledge.at(at), at)
        except Exception as e:  # noqa: BLE001 - the boundary
            self._refuse(question, e)

    async def recognise_and_ask(self, question: Question, peer: Peer, authorization: str | None) -> None:
        """Take a question of `peer`, who may show something in the Authorization header."""
        means = self._means
        try:
            at = means.clock()
            self._count(question, peer.origin, at)
            request = self._read(question)
            question.access = access = means.knowledge.at(at).access
            now = datetime.fromtimestamp(at, UTC)
            question.caller = await means.recogniser.caller(peer, authorization, access, now)
            at = means.clock()
            self._begin(question, request, means.knowledge.at(at), at)
        except Exception as e:  # noqa: BLE001 - the boundary
            self._refuse(question, e)

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting and len(self._means.signing) < UNSIGNED_ENOUGH:
                waiting = self._waiting[:LOOKED_UP_AT_ONCE]
                del self._waiting[:LOOKED_UP_AT_ONCE]
                await self._look_up(waiting)

    def _read(self, question: Question) -> OCSPRequest:
        """The request; raises MalformedRequestError."""
        octets = question.key if question.path is None else path_octets(question.path, self._path)
        question.request = self._reader.read(octets)
        return question.request

    def _count(self, question: Question, origin: str, at: float) -> None:
        """Count a request, whatever it is; raises TooManyRequestsError."""
        if not self._means.limits.admits_address(origin, at):
            with contextlib.suppress(MalformedRequestError):  # what it is about stands in its record
                self._read(question)
            raise TooManyRequestsError("an address sends too many requests")

    def _begin(self, question: Question, request: OCSPRequest, snapshot: Snapshot, at: float) -> None:
        """Give a kept answer, or let one be made.

        Raises:
            OCSPError: there is none for this caller.
        """
        means = self._means
        if question.access is None:
            question.access = snapshot.access
        if request.signature is not None:
            now = datetime.fromtimestamp(at, UTC)
            question.caller = means.recogniser.signer(request.signature, question.caller, question.access, now)
        if not means.limits.admits_party(question.caller, at):
            raise TooManyRequestsError("a relying party sends too many requests")
        kept = means.cache.fresh(question.key, at)
        if kept is not None:
            self._give_again(question, kept, snapshot)
            return
        self._waiting.append((question, means.responder.subject(request, snapshot.issuers)))
        self._woken.set()

    async def _look_up(self, waiting: Sequence[tuple[Question, Subject]]) -> None:
        """Look up the statuses of several questions, and draft their answers."""
        means = self._means
        ticket = means.cache.ticket
        serials = {serial for _, subject in waiting for serial in subject.serials}
        now = whole_second(datetime.fromtimestamp(means.clock(), UTC))
        try:
            issued = await means.statuses.statuses(serials)
            found = _Found(issued, now, means.knowledge.at(means.clock()), ticket)
        except StoreUnavailableError as e:
            also_waiting, self._waiting = self._waiting, []  # who came meanwhile does not wait for the next try
            for question, _ in (*waiting, *also_waiting):
                self._do_without(question, e)
        except Exception as e:  # noqa: BLE001 - the boundary
            for question, _ in waiting:
                self._refuse(question, e)
        else:
            for question, subject in waiting:
                try:
                    self._draft(question, subject, found)
                except Exception as e:  # noqa: BLE001 - the boundary
                    self._refuse(question, e)

    def _draft(self, question: Question, subject: Subject, found: _Found) -> None:
        """Let an answer be signed by a delegate of now; raises OCSPError."""
        means, issuers = self._means, found.snapshot.issuers
        if issuers is not subject.issuers:
            subject = means.responder.subject(subject.request, issuers)
        draft = means.responder.draft(subject, found.issued, question.caller, found.now)
        _check_rights(question, found.snapshot, public=draft.public)
        done = partial(self._signed, question, draft, found.ticket)
        means.signing.sign(draft.voice.signer, draft.to_be_signed, done)

    def _do_without(self, question: Question, error: StoreUnavailableError) -> None:
        """Give what was kept and still holds, for no new answer can be made."""
        at = self._means.clock()
        try:
            kept = self._means.cache.valid(question.key, at)
            if kept is None:
                raise error
            late = kept.late(datetime.fromtimestamp(at, UTC))
            self._give_again(question, late, self._means.knowledge.at(at))
        except OCSPError as e:
            self._refuse(question, e)

    def _give_again(self, question: Question, kept: Reply, snapshot: Snapshot) -> None:
        """Give a kept answer; raises OCSPError."""
        _check_rights(question, snapshot, public=kept.public)
        self._means.metrics.cache_hits += 1
        question.deliver(kept, question.caller)

    def _signed(self, question: Question, draft: Draft, ticket: int, outcome: Outcome) -> None:
        """Give a new answer, or tell that the key cannot be used, and begin the next look-up if little is left."""
        if isinstance(outcome, Exception):
            self._refuse(question, outcome)
        else:
            try:
                given = reply.told(draft.response(outcome), draft.answer, question.method)
                if _may_be_kept(draft):
                    self._means.cache.keep(question.key, given, ticket)
                question.deliver(given, question.caller)
            except Exception as e:  # noqa: BLE001 - the boundary
                self._refuse(question, e)
        if self._waiting and len(self._means.signing) < UNSIGNED_ENOUGH:
            self._woken.set()

    def _refuse(self, question: Question, error: Exception) -> None:
        """Give an unsigned answer: the boundary where errors become statuses."""
        caller, request = question.caller, question.request
        if not isinstance(error, OCSPError):
            status = OCSPResponseStatus.INTERNAL_ERROR
            _logger.error("internal_error", exc_info=error, extra={"origin": caller.origin})
        else:
            status = error.status
            if status is not OCSPResponseStatus.TRY_LATER:  # whose cause is logged once, where it arises
                extra = {"origin": caller.origin, "status": status.label, "reason": str(error)}
                _logger.info("refused", extra=extra)
        if request is None:
            caller = Caller(caller.origin)
        question.deliver(reply.refusal(status, question.method, request), caller)


def _check_rights(question: Question, snapshot: Snapshot, *, public: bool) -> None:
    """Let the caller be recognised anew, by asking again, if rights have changed since; raises OCSPError."""
    authorize(question.caller, public=public)
    if not public and snapshot.access is not question.access:
        raise RightsChangedError("access rights have changed meanwhile")


def _may_be_kept(draft: Draft) -> bool:
    """Will the same octets come again, and will the change feed tell when the answer is no longer true?"""
    if draft.request.nonce is not None or draft.request.signature is not None:
        return False
    return not any(isinstance(single.cert_status, Unknown) for single in draft.singles)
