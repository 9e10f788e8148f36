"""One LDAP session without I/O: messages in, actions out (RFC 4511, RFC 4513).

State is small: whether the connection is encrypted, who is bound, the bind that waits for its password to be verified,
and the rest of a paged search. While a bind waits (`is_waiting`), the shell holds back every later message, so all are
answered in order.

Every action of a list is to be carried out in its order, and the records must be written before anything is sent.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from journal.record import Record
from repository import codec, controls
from repository.access import Credential
from repository.authentication import Authentication, VerifyPassword
from repository.ber import Reader
from repository.cache import Answer
from repository.codec import Envelope, Operation
from repository.controls import Controls
from repository.directory import Directory
from repository.errors import MalformedMessageError, OperationError
from repository.messages import (
    ANONYMOUS,
    AbandonRequest,
    AnsweredRequest,
    BindRequest,
    CompareRequest,
    ExtendedRequest,
    Request,
    Result,
    ResultCode,
    SearchRequest,
    UnbindRequest,
    UpdateRequest,
)
from repository.paging import Paging
from repository.search import Limits, Outcome, compare, search
from repository.snapshot import CANCEL, PASSWORD_MODIFY, START_TLS, WHO_AM_I
from settings.failed_logins import FailedLogins
from settings.peer import host


@dataclass(frozen=True, slots=True)
class Service:
    """What the sessions of a server share."""

    directory: Directory
    limits: Limits
    failed_binds: FailedLogins


class Send(NamedTuple):
    """Answer a request with these LDAPMessages."""

    message_id: int
    messages: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Send nothing more of the answer to this message (RFC 4511, section 4.11)."""

    message_id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The same, but end that answer with a last message, and then say how it went (RFC 3909)."""

    message_id: int
    canceled: Operation  # the last message
    answer: Callable[[ResultCode], Send]  # to be told success, tooLate or noSuchOperation


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Once everything is sent: drop what has arrived since, encrypt, and set `Session.is_encrypted`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once everything is sent."""


Action = Record | Send | Abandon | Cancel | VerifyPassword | StartTLS | Close

# What the directory itself refuses, which the journal keeps; other results just say what is there and what is not.
_REFUSALS: Final = frozenset({
    ResultCode.OPERATIONS_ERROR,
    ResultCode.PROTOCOL_ERROR,
    ResultCode.AUTH_METHOD_NOT_SUPPORTED,
    ResultCode.ADMIN_LIMIT_EXCEEDED,
    ResultCode.UNAVAILABLE_CRITICAL_EXTENSION,
    ResultCode.CONFIDENTIALITY_REQUIRED,
    ResultCode.UNWILLING_TO_PERFORM,
})  # fmt: skip

# Results that the same request would lead to again; how long a search takes is another matter every time.
_REPEATABLE: Final = frozenset({ResultCode.SUCCESS, ResultCode.SIZE_LIMIT_EXCEEDED, ResultCode.ADMIN_LIMIT_EXCEEDED})

_WITHOUT_VALUE: Final = frozenset({START_TLS, WHO_AM_I})  # RFC 4511, section 4.14.1; RFC 4532, section 2.1

_MAX_OBJECT_CHARACTERS: Final = 512  # of a record: a peer may write names as long as a message


class Session:
    """The server's side of one connection."""

    def __init__(self, service: Service, *, peer: str, is_encrypted: bool) -> None:
        self.is_encrypted = is_encrypted
        self.client_fingerprint: bytes | None = None  # SHA-256 of the certificate that the client showed in TLS
        self._directory = service.directory
        self._limits = service.limits
        self._peer = peer
        self._authentication = Authentication(service.directory, service.failed_binds, host(peer))
        self._pending: Callable[[Result, datetime], Iterable[Action]] | None = None  # answers the bind that waits
        self._paging = Paging()

    @property
    def is_waiting(self) -> bool:
        """Whether a password is being verified; until `verified`, nothing else may be received."""
        return self._pending is not None

    @property
    def is_bound(self) -> bool:
        """Whether somebody is bound, with a right or without it now."""
        return self._authentication.is_bound

    def party(self, now: datetime) -> Credential | None:
        """Who is bound and has the right at this moment."""
        return self._authentication.party(now)

    def receive(self, octets: bytes, now: datetime) -> list[Action]:
        """React to one whole LDAPMessage.

        Args:
            octets: the message.
            now: decides whether rights are in force, and goes into the journal.
        """
        try:
            envelope = codec.open_envelope(octets)
            return list(self._react(envelope, now))
        except MalformedMessageError as e:
            return self.disconnect(Result(e.result, str(e)), now)

    def disconnect(self, result: Result, now: datetime) -> list[Action]:
        """Tell why, and close: RFC 4511, section 4.4.1."""
        record = self._record("disconnect", result.code.text, "", now)
        return [record, Send(0, (codec.notice_of_disconnection(result),)), Close()]

    def is_locked_out(self, now: datetime) -> bool:
        """Whether the bind that waits is refused whatever its password: nobody needs to look at that."""
        return self._authentication.is_locked_out(now)

    def verified(self, matching_hash: str | None, now: datetime) -> list[Action]:
        """Go on with the bind that waited.

        Args:
            matching_hash: that of the hashes in VerifyPassword which the password has; None if none has.
            now: as in `receive`.
        """
        answer = self._pending
        if answer is None:
            raise RuntimeError("no bind waits for its password")
        self._pending = None
        return list(answer(self._authentication.end(matching_hash, now), now))

    def _react(self, envelope: Envelope, now: datetime) -> Iterator[Action]:
        if envelope.kind == "bind":
            self._authentication.forget()
            self._paging = Paging()
        try:
            request = codec.read_request(envelope)
            yield from self._operation(envelope, request, now)
        except OperationError as e:
            yield from self._refuse(envelope, e.result, now)

    def _operation(self, envelope: Envelope, request: Request, now: datetime) -> Iterable[Action]:
        match request:
            case UnbindRequest():
                return [Close()]
            case AbandonRequest(message_id):
                is_refused = any(control.criticality for control in envelope.controls)  # none goes with this operation
                return [] if is_refused else [Abandon(message_id)]
            case _:
                understood = controls.read(envelope.controls, envelope.kind)
                return self._answered(envelope, request, understood, now)

    def _answered(
        self, envelope: Envelope, request: AnsweredRequest, understood: Controls, now: datetime
    ) -> Iterable[Action]:
        match request:
            case BindRequest():
                return self._bind(envelope, request, now)
            case SearchRequest():
                return self._search(envelope, request, understood, now)
            case CompareRequest():
                return [_answer(envelope, self._compare(request, understood, now))]
            case UpdateRequest():
                raise OperationError(ResultCode.UNWILLING_TO_PERFORM, "this directory is read-only")
            case ExtendedRequest():
                return self._extended(envelope, request, now)

    # ---------------------------------------------------------------- bind

    def _bind(self, envelope: Envelope, request: BindRequest, now: datetime) -> Iterator[Action]:
        begun = self._authentication.begin(
            request, now, is_encrypted=self.is_encrypted, fingerprint=self.client_fingerprint
        )
        if isinstance(begun, VerifyPassword):
            self._pending = partial(self._bind_response, envelope, request.name)
            yield begun
            return
        told, answer = self._bind_response(envelope, request.name, begun, now)
        if begun.code == ResultCode.SUCCESS and request.authentication == ANONYMOUS:
            greeting = Answer.of([codec.response(envelope.tag, begun)], [told])
            self._directory.greetings.add(envelope.operation, greeting)
        yield told
        yield answer

    def _bind_response(self, envelope: Envelope, name: str, result: Result, now: datetime) -> tuple[Record, Send]:
        return self._record(envelope.kind, result.code.text, name, now), _answer(envelope, result)

    # ---------------------------------------------------------------- search

    def _search(
        self, envelope: Envelope, request: SearchRequest, understood: Controls, now: datetime
    ) -> Iterator[Action]:
        dit, may_read = self._directory.dit, self.party(now) is not None
        if understood.paged_results is None:
            outcome = search(dit, request, understood, may_read_restricted=may_read, limits=self._limits)
            done = codec.response(envelope.tag, outcome.result)
        else:
            outcome, page = self._paging.page(
                dit, request, understood, may_read_restricted=may_read, limits=self._limits
            )
            done = codec.with_control(codec.response(envelope.tag, outcome.result), page)
        records = list(self._search_records(request, outcome, now))
        yield from records
        operations = (*outcome.entries, done)
        if understood.paged_results is None and outcome.result.code in _REPEATABLE:
            answers = self._directory.answers(may_read_restricted=may_read)
            answers.add(envelope.operation, Answer.of(operations, records))
        messages = [codec.message(envelope.message_id, operation) for operation in operations]
        yield Send(envelope.message_id, tuple(messages))

    def _compare(self, request: CompareRequest, understood: Controls, now: datetime) -> Result:
        return compare(self._directory.dit, request, understood, may_read_restricted=self.party(now) is not None)

    def _search_records(self, request: SearchRequest, outcome: Outcome, now: datetime) -> Iterator[Record]:
        """One for each list given out: they are what the reports to relying parties count (R-2-1-4-10)."""
        for entry_dn, attribute, size in outcome.lists:
            yield self._record("search", ResultCode.SUCCESS.text, f"{entry_dn} {attribute}", now, size)
        if outcome.is_withheld:
            yield self._record("search", "withheld", request.base_object, now)
        if outcome.result.code in _REFUSALS:
            yield self._record("search", outcome.result.code.text, request.base_object, now)

    # ---------------------------------------------------------------- extended operations

    def _extended(self, envelope: Envelope, request: ExtendedRequest, now: datetime) -> Iterator[Action]:
        name = request.request_name
        if name in _WITHOUT_VALUE and request.request_value is not None:
            raise OperationError(ResultCode.PROTOCOL_ERROR, "this extended operation has no value")
        if name == WHO_AM_I:
            party = self.party(now)
            operation = codec.extended_response(Result(ResultCode.SUCCESS), value=f"dn:{party.dn}" if party else "")
            yield Send(envelope.message_id, (codec.message(envelope.message_id, operation),))
        elif name == START_TLS:
            yield from self._start_tls(envelope)
        elif name == CANCEL:
            yield _cancel(envelope, request)
        elif name == PASSWORD_MODIFY:
            raise OperationError(ResultCode.UNWILLING_TO_PERFORM, "the CA sets passwords; ask it for a new one")
        else:
            raise OperationError(ResultCode.PROTOCOL_ERROR, "this extended operation is unknown here")

    def _start_tls(self, envelope: Envelope) -> Iterator[Action]:
        if self.is_encrypted:
            raise OperationError(ResultCode.OPERATIONS_ERROR, "the connection is encrypted already")
        operation = codec.extended_response(Result(ResultCode.SUCCESS), name=START_TLS)
        yield Send(envelope.message_id, (codec.message(envelope.message_id, operation),))
        yield StartTLS()

    # ---------------------------------------------------------------- refusals and records

    def _refuse(self, envelope: Envelope, result: Result, now: datetime) -> Iterator[Action]:
        if result.code in _REFUSALS:
            yield self._record(envelope.kind, result.code.text, "", now)
        yield _answer(envelope, result)

    def _record(self, kind: str, result: str, about: str, now: datetime, size: int = 0) -> Record:
        party = self.party(now)
        name = party.name if party else None
        return Record(now, f"ldap_{kind}", result, name, self._peer, about[:_MAX_OBJECT_CHARACTERS], size)


def _answer(envelope: Envelope, result: Result) -> Send:
    message = codec.message(envelope.message_id, codec.response(envelope.tag, result))
    return Send(envelope.message_id, (message,))


def _cancel(envelope: Envelope, request: ExtendedRequest) -> Cancel:
    """The Cancel operation (RFC 3909): what can be canceled is a search whose answer is not sent to its end."""
    try:
        message_id = Reader(request.request_value or b"").constructed().integer()
    except MalformedMessageError as e:
        raise OperationError(ResultCode.PROTOCOL_ERROR, "a cancel request needs the ID of a message") from e
    canceled = codec.message(message_id, codec.response(codec.SEARCH, Result(ResultCode.CANCELED)))
    return Cancel(message_id, canceled, lambda code: _answer(envelope, Result(code)))
