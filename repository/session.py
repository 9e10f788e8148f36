"""One LDAP session without I/O: messages in, actions out (RFC 4511, RFC 4513).

State is small: whether the connection is encrypted, who is bound, and the bind that waits for its password to be
verified. While one waits (`is_waiting`), the shell holds back every later message, so all are answered in order.

Every action of a list is to be carried out in its order, and the records must be written before anything is sent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from journal.record import Record
from repository import codec
from repository.access import Credential
from repository.codec import Envelope, Operation
from repository.directory import Directory
from repository.errors import MalformedMessageError, OperationError
from repository.messages import (
    AbandonRequest,
    BindRequest,
    CompareRequest,
    ExtendedRequest,
    Request,
    Result,
    ResultCode,
    SearchRequest,
    Simple,
    UnbindRequest,
    UpdateRequest,
)
from repository.search import Outcome, compare, search
from repository.snapshot import START_TLS, WHO_AM_I


@dataclass(frozen=True, slots=True)
class Send:
    """Answer a request with these LDAPMessages."""

    message_id: int
    messages: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Send nothing more of the answer to this message (RFC 4511, section 4.11)."""

    message_id: int


@dataclass(frozen=True, slots=True)
class VerifyPassword:
    """Find which of these Argon2id hashes (there may be none) is of the password, and tell `Session.verified`."""

    password: bytes = field(repr=False)
    hashes: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Once everything is sent: drop what has arrived since, encrypt, and set `Session.is_encrypted`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once everything is sent."""


Action = Record | Send | Abandon | VerifyPassword | StartTLS | Close

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


_VERSION: Final = 3
_MAX_OBJECT_CHARACTERS: Final = 512  # of a record: a peer may write names as long as a message


@dataclass(frozen=True, slots=True)
class _PendingBind:
    envelope: Envelope
    name: str
    credentials: tuple[Credential, ...]


class Session:
    """The server's side of one connection."""

    def __init__(self, directory: Directory, *, peer: str, is_encrypted: bool, size_limit_entries: int) -> None:
        self.is_encrypted = is_encrypted
        self._directory = directory
        self._peer = peer
        self._size_limit_entries = size_limit_entries
        self._bound: Credential | None = None  # None: anonymous
        self._pending: _PendingBind | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a password is being verified; until `verified`, nothing else may be received."""
        return self._pending is not None

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

    def verified(self, matching_hash: str | None, now: datetime) -> list[Action]:
        """Go on with the bind that waited.

        Args:
            matching_hash: that of the hashes in VerifyPassword which the password has; None if none has.
            now: as in `receive`.
        """
        pending = self._pending
        if pending is None:
            raise RuntimeError("no bind waits for its password")
        self._pending = None
        self._bound = next((each for each in pending.credentials if each.secret_hash == matching_hash), None)
        # The same for a wrong password and an unknown name (RFC 4513, section 5.1.3), also in time.
        code = ResultCode.SUCCESS if self._bound else ResultCode.INVALID_CREDENTIALS
        return self._bind_response(pending.envelope, pending.name, Result(code), now)

    def _react(self, envelope: Envelope, now: datetime) -> Iterator[Action]:
        if envelope.kind == "bind":
            self._bound = None  # whatever becomes of this bind: RFC 4511, section 4.2.1
        try:
            request = codec.read_request(envelope)
            if envelope.critical_control is not None:
                yield from self._refuse_control(envelope, request, now)
            else:
                yield from self._operation(envelope, request, now)
        except OperationError as e:
            yield from self._refuse(envelope, e.result, now)

    def _operation(self, envelope: Envelope, request: Request, now: datetime) -> Iterator[Action]:
        match request:
            case BindRequest():
                yield from self._bind(envelope, request, now)
            case UnbindRequest():
                yield Close()
            case SearchRequest():
                yield from self._search(envelope, request, now)
            case CompareRequest():
                may_read = self._party(now) is not None
                result = compare(self._directory.dit, request, may_read_restricted=may_read)
                yield _answer(envelope, result)
            case UpdateRequest():
                raise OperationError(ResultCode.UNWILLING_TO_PERFORM, "this directory is read-only")
            case AbandonRequest(message_id):
                yield Abandon(message_id)
            case ExtendedRequest(request_name):
                yield from self._extended(envelope, request_name, now)

    # ---------------------------------------------------------------- bind

    def _bind(self, envelope: Envelope, request: BindRequest, now: datetime) -> Iterator[Action]:
        if request.version != _VERSION:
            result = Result(ResultCode.PROTOCOL_ERROR, "only LDAPv3 is spoken here")
        elif not isinstance(request.authentication, Simple):
            result = Result(ResultCode.AUTH_METHOD_NOT_SUPPORTED, "use simple authentication")
        elif not request.name and not request.authentication.password:
            result = Result(ResultCode.SUCCESS)
        elif not request.authentication.password:
            # A name with an empty password is no login: RFC 4513, section 5.1.2.
            result = Result(ResultCode.UNWILLING_TO_PERFORM, "a name needs a password")
        elif not self.is_encrypted:
            result = Result(ResultCode.CONFIDENTIALITY_REQUIRED, "use StartTLS or ldaps before you send a password")
        elif self._directory.access is None:
            result = Result(ResultCode.UNAVAILABLE, "access rights are not loaded yet; try again soon")
        else:
            credentials = self._directory.access.credentials(request.name, now)
            self._pending = _PendingBind(envelope, request.name, credentials)
            yield VerifyPassword(request.authentication.password, tuple(each.secret_hash for each in credentials))
            return
        yield from self._bind_response(envelope, request.name, result, now)

    def _bind_response(self, envelope: Envelope, name: str, result: Result, now: datetime) -> list[Action]:
        return [self._record(envelope.kind, result.code.text, name, now), _answer(envelope, result)]

    def _party(self, now: datetime) -> Credential | None:
        """Who is bound and has the right at this moment; the right may have ended since the bind."""
        access = self._directory.access
        return self._bound if self._bound and access and access.holds(self._bound, now) else None

    # ---------------------------------------------------------------- search

    def _search(self, envelope: Envelope, request: SearchRequest, now: datetime) -> Iterator[Action]:
        outcome = search(
            self._directory.dit,
            request,
            may_read_restricted=self._party(now) is not None,
            size_limit_entries=self._size_limit_entries,
        )
        yield from self._search_records(request, outcome, now)
        done = codec.response(envelope.tag, outcome.result)
        messages = (codec.message(envelope.message_id, operation) for operation in (*outcome.entries, done))
        yield Send(envelope.message_id, tuple(messages))

    def _search_records(self, request: SearchRequest, outcome: Outcome, now: datetime) -> Iterator[Record]:
        """One for each list given out: they are what the reports to relying parties count (R-2-1-4-10)."""
        for entry_dn, attribute, size in outcome.lists:
            yield self._record("search", ResultCode.SUCCESS.text, f"{entry_dn} {attribute}", now, size)
        if outcome.is_withheld:
            yield self._record("search", "withheld", request.base_object, now)
        if outcome.result.code in _REFUSALS:
            yield self._record("search", outcome.result.code.text, request.base_object, now)

    # ---------------------------------------------------------------- extended operations

    def _extended(self, envelope: Envelope, name: str, now: datetime) -> Iterator[Action]:
        if name == WHO_AM_I:
            party = self._party(now)
            operation = codec.extended_response(Result(ResultCode.SUCCESS), value=f"dn:{party.dn}" if party else "")
            yield Send(envelope.message_id, (codec.message(envelope.message_id, operation),))
        elif name != START_TLS:
            raise OperationError(ResultCode.PROTOCOL_ERROR, "this extended operation is unknown here")
        elif self.is_encrypted:
            raise OperationError(ResultCode.OPERATIONS_ERROR, "the connection is encrypted already")
        else:
            operation = codec.extended_response(Result(ResultCode.SUCCESS), name=START_TLS)
            yield Send(envelope.message_id, (codec.message(envelope.message_id, operation),))
            yield StartTLS()

    # ---------------------------------------------------------------- refusals and records

    def _refuse_control(self, envelope: Envelope, request: Request, now: datetime) -> Iterator[Action]:
        """A control that must be understood and is not (RFC 4511, section 4.1.11)."""
        match request:
            case UnbindRequest():
                yield Close()
            case AbandonRequest():
                return
            case _:
                message = "a critical control is unknown here"
                yield from self._refuse(envelope, Result(ResultCode.UNAVAILABLE_CRITICAL_EXTENSION, message), now)

    def _refuse(self, envelope: Envelope, result: Result, now: datetime) -> Iterator[Action]:
        if result.code in _REFUSALS:
            yield self._record(envelope.kind, result.code.text, "", now)
        yield _answer(envelope, result)

    def _record(self, kind: str, result: str, about: str, now: datetime, size: int = 0) -> Record:
        party = self._party(now)
        name = party.name if party else None
        return Record(now, f"ldap_{kind}", result, name, self._peer, about[:_MAX_OBJECT_CHARACTERS], size)


def _answer(envelope: Envelope, result: Result) -> Send:
    message = codec.message(envelope.message_id, codec.response(envelope.tag, result))
    return Send(envelope.message_id, (message,))
