"""One client: from its octets to those that answer it.

A connection reads into a framer, lets its Session react, and sends from an Outbox as fast as the peer reads. It is its
transport's push producer for all its life, so that small and large answers obey the same brake: `pauseProducing` when
the kernel takes no more, `resumeProducing` when it has taken all. With too many answers waiting it stops reading as
well. What a slow peer costs is a slice, which is not even a copy unless it is encrypted.

In front of all that stands a shortcut: a request whose octets were answered before, for a reader with the same rights
in the same publication, gets the same answer without a look inside. It is recorded like any other.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from journal import record
from journal.record import Record
from repository.authentication import VerifyPassword
from repository.cache import Answer
from repository.errors import MalformedMessageError
from repository.framing import MessageFramer, outline
from repository.messages import Result, ResultCode
from repository.outbox import Outbox
from repository.passwords import PasswordVerifier
from repository.session import Abandon, Action, Cancel, Close, Send, Service, Session, StartTLS
from repository.tls import TLSContext
from repository.turns import Turns
from settings.peer import host
from settings.sections import RepositorySection

logger = logging.getLogger(__name__)

SLICE_BYTES: Final = 1_048_576
TLS_SLICE_BYTES: Final = 262_144  # is copied when it is encrypted: for a peer that has not shown to be quick
QUICK_S: Final = 0.1  # a peer that takes a slice in this time gets large ones also through TLS
MAX_WAITING_ANSWERS: Final = 16  # of one connection; beyond, it is not read from

_UNBIND: Final = b"\x42\x00"
_NO_GENERATION: Final = -1

T = TypeVar("T")


def deferred(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Cross over from asyncio: the result of a coroutine as a Deferred."""
    return Deferred.fromFuture(asyncio.ensure_future(work))


@dataclass(slots=True, eq=False)
class Shared:
    """What the connections of one process have in common."""

    section: RepositorySection
    service: Service
    tls: TLSContext
    turns: Turns
    verifier: PasswordVerifier
    clock: Callable[[], float]  # monotonic, seconds
    connections: "set[Connection]" = field(default_factory=set)
    hosts: dict[str, int] = field(default_factory=dict)  # how many connections each has
    emptied: asyncio.Event = field(default_factory=asyncio.Event)  # the last connection has ended
    ready_answers: int = 0  # that were given
    read_messages: int = 0
    refused_connections: int = 0  # for which there was no room, or no journal
    failed_handshakes: int = 0  # of TLS
    is_tls_refused: bool = False  # the files for TLS could not be read again: those before are in use

    def tls_context(self) -> ssl.SSLContext:
        """What a connection that begins TLS now uses."""
        access = self.service.directory.access
        return self.tls.trusting(frozenset() if access is None else access.certificates)

    def may_connect(self, peer: str) -> bool:
        """Whether there is room for one more."""
        most, most_of_one = self.section.max_connections, self.section.max_connections_per_address
        return len(self.connections) < most and self.hosts.get(host(peer), 0) < most_of_one

    def add(self, connection: "Connection") -> None:
        """A connection has begun."""
        self.connections.add(connection)
        self.hosts[connection.host] = self.hosts.get(connection.host, 0) + 1

    def discard(self, connection: "Connection") -> None:
        """It has ended."""
        self.connections.discard(connection)
        left = self.hosts.pop(connection.host) - 1
        if left:
            self.hosts[connection.host] = left
        if not self.connections:
            self.emptied.set()


class _Reader(NamedTuple):
    """Whom ready answers are given to."""

    generation: int  # of the directory; with another one all this may be different
    find: Callable[[bytes], Answer | None]
    fragment: bytes  # of `record.peer`


_UNKNOWN: Final = _Reader(_NO_GENERATION, lambda _: None, b"")


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """One client."""

    transport: Any  # a Wire, or an EncryptedWire

    def __init__(self, shared: Shared, peer: str, *, is_encrypted: bool) -> None:
        self.peer = peer
        self.host = host(peer)
        self.is_active = True  # it was, since the sweep looked last
        self.active_at = shared.clock()  # as the sweep found
        self._shared = shared
        self._is_encrypted = is_encrypted  # or about to be
        self._framer = MessageFramer(shared.section.max_message_bytes)
        self._outbox = Outbox()
        self._replies: list[bytes] = []  # ready ones, to be sent before what is in the outbox
        self._session: Session | None = None  # until something was asked for which there was no ready answer
        self._reader = _UNKNOWN
        self._slice_bytes = SLICE_BYTES
        self._is_clear = True  # ready answers may be given at once: see `_settle`
        self._is_paused = False  # the kernel takes no more
        self._paused_at = 0.0
        self._is_reading = True
        self._has_all = False  # the peer sends nothing more
        self._must_encrypt = False  # once everything is sent
        self._is_upgrading = False  # to TLS: nothing is received
        self._is_closing = False  # once everything is sent

    # ---------------------------------------------------------------- called by Twisted

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Begin."""
        self._shared.add(self)
        self.transport.registerProducer(self, True)
        if self._is_encrypted:
            self._is_upgrading = True
            self._settle()
            self.transport.startTLS(self._shared.tls_context())

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """What comes from now on is encrypted."""
        certificate = self.transport.getPeerCertificate()
        session = self._its_session()
        session.client_fingerprint = None if certificate is None else sha256(certificate).digest()
        session.is_encrypted = self._is_encrypted = True
        self._slice_bytes = TLS_SLICE_BYTES
        self._is_upgrading = False
        self._settle()

    def handshakeFailed(self, error: OSError) -> None:  # noqa: N802 - as Twisted's
        """The client does not know our CA, or we do not know his certificate, or he has left."""
        self._shared.failed_handshakes += 1
        extra = {"origin": self.peer, "reason": getattr(error, "verify_message", None) or str(error)}
        logger.info("handshake_failed", extra=extra)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take octets from the peer."""
        if self._is_clear:
            data = self._repeat(data)
            if not data:
                self.is_active = True
                return
        if not (self._is_closing or self._is_upgrading):
            self.is_active |= self._framer.is_empty  # a message begins, and has as long to end as silence may last
            self._framer.receive(data)
            self._advance()

    def readConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """The peer sends nothing more; what it has sent is still answered."""
        self._has_all = True
        self._advance()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802, ARG002 - Twisted's
        """End."""
        self._is_closing = self._is_paused = True  # a password may still be verified; its answer goes nowhere
        self._is_clear = False
        self._drop()
        self._shared.discard(self)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The peer reads more slowly than we write."""
        self._is_paused = True
        self._is_clear = False
        self._paused_at = self._shared.clock()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Everything written so far is with the kernel."""
        self.is_active = True
        self._is_paused = False
        if self._is_encrypted:
            is_quick = self._shared.clock() - self._paused_at < QUICK_S
            self._slice_bytes = SLICE_BYTES if is_quick else TLS_SLICE_BYTES
        self._shared.turns.flush_soon(self)

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The connection is gone."""
        self._drop()

    # ---------------------------------------------------------------- called by the server

    def flush(self) -> None:
        """At the end of a turn: all records are with the kernel, so what they tell of may leave."""
        if self._replies:
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
        if self._is_clear or self.transport.disconnecting:
            return
        self._send()
        if not self._is_reading:
            self._advance()
        self._settle()

    def finish(self) -> None:
        """Receive nothing more, and close once everything is sent."""
        self._is_closing = True
        self._is_clear = False
        self._shared.turns.flush_soon(self)

    def abort(self) -> None:
        """Close now, whatever is not sent."""
        self._drop()
        self.transport.abortConnection()

    def leave(self) -> None:
        """Close in order, if nothing is on its way and this was not tried before."""
        if self._outbox or self._is_paused or self._is_upgrading or self.transport.disconnecting:
            self.abort()
        else:
            self.transport.loseConnection()

    def is_idle(self, now: float, allowed_s: float) -> bool:
        """Whether it has said nothing whole, and read nothing of its answers, for so long. To be asked every second."""
        if self.is_active or (now - self.active_at > allowed_s and self.transport.is_being_read()):
            self.is_active = False
            self.active_at = now
        return now - self.active_at > allowed_s

    # ---------------------------------------------------------------- ready answers

    def _repeat(self, octets: bytes) -> bytes:
        """Answer the messages at the beginning whose answers are ready; what is left of the octets."""
        generation, find, peer = self._reader
        if generation != self._shared.service.directory.generation:
            _, find, peer = self._recognised()
        turns = self._shared.turns
        position = size = number = 0
        while position < len(octets) and size < SLICE_BYTES:
            parts = outline(octets, position)
            if parts is None:
                break
            message_id, operation, end = parts
            answer = find(octets[operation:end])
            if answer is None:
                if self._greet(octets[message_id:operation], octets[operation:end]):
                    position = end
                break
            number += 1
            position = end
            turns.record_again(answer.records, peer)
            if not answer.is_flat:
                self._put(answer, octets[message_id:operation])
                break
            reply = answer.octets(octets[message_id:operation])
            self._replies.append(reply)
            size += len(reply)
        if position:
            self._shared.ready_answers += number
            turns.flush_soon(self)
        return octets[position:]

    def _repeat_one(self, message: bytes) -> bool:
        """The same for one message behind others."""
        parts = outline(message, 0)
        if parts is None:
            return False
        message_id, operation, end = parts
        reader = self._recognised()
        answer = reader.find(message[operation:end])
        if answer is None:
            return False
        self._put(answer, message[message_id:operation])
        self._shared.turns.record_again(answer.records, reader.fragment)
        self._shared.ready_answers += 1
        return True

    def _put(self, answer: Answer, message_id: bytes) -> None:
        self._outbox.add(int.from_bytes(message_id[2:], "big"), answer.messages(message_id))
        self._is_clear = False

    def _greet(self, message_id: bytes, request: bytes) -> bool:
        """Answer an anonymous bind, or the unbind, of somebody who has no session: there it changes nothing."""
        if self._session is not None:
            return False
        if request == _UNBIND:
            self.finish()
            return True
        answer = self._shared.service.directory.greetings.find(request)
        if answer is None:
            return False
        self._shared.turns.record_again(answer.records, self._reader.fragment)
        self._replies.append(answer.octets(message_id))
        return True

    def _recognised(self) -> "_Reader":
        """Who this client is at this moment."""
        session, directory = self._session, self._shared.service.directory
        is_bound = session is not None and session.is_bound
        party = session.party(self._shared.turns.now()) if session is not None else None
        self._reader = _Reader(
            generation=_NO_GENERATION if is_bound else directory.generation,  # a right may end at any moment
            find=directory.answers(may_read_restricted=party is not None).find,
            fragment=record.peer(None if party is None else party.name, self.peer),
        )
        return self._reader

    # ---------------------------------------------------------------- inside

    def _its_session(self) -> Session:
        if self._session is None:
            self._session = Session(self._shared.service, peer=self.peer, is_encrypted=self._is_encrypted)
        return self._session

    def _settle(self) -> None:
        """After anything out of the ordinary: may the next octets be answered without a look at what was before?"""
        is_waiting = self._session is not None and self._session.is_waiting
        is_ending = self._has_all or self._is_closing or self._must_encrypt or self._is_upgrading
        is_busy = is_waiting or self._is_paused or bool(self._outbox) or not self._framer.is_empty
        self._is_clear = not (is_ending or is_busy)
        if self._session is not None and self._session.is_bound:  # perhaps since a moment ago
            self._reader = _UNKNOWN

    @property
    def _may_receive(self) -> bool:
        is_waiting = self._session is not None and self._session.is_waiting
        is_ending = self._is_closing or self._is_upgrading
        return not (is_ending or is_waiting or len(self._outbox) >= MAX_WAITING_ANSWERS)

    def _advance(self) -> None:
        """Work on what has arrived, as far as answers may wait."""
        while self._may_receive and (message := self._next_message()) is not None:
            self.is_active = True
            if not self._repeat_one(message):
                self._shared.read_messages += 1
                self._react(self._its_session().receive, message)
        if self._has_all and self._may_receive:  # everything is worked on
            self._is_closing = True
        if not self._is_paused and (self._outbox or self._is_closing or self._must_encrypt):
            self._shared.turns.flush_soon(self)
        self._read_if_wanted()
        self._settle()

    def _next_message(self) -> bytes | None:
        try:
            return self._framer.next_message()
        except MalformedMessageError as e:
            self._disconnect(Result(e.result, str(e)))
            return None

    def _react(self, step: Callable[[T, datetime], list[Action]], argument: T) -> None:
        try:
            actions = step(argument, self._shared.turns.now())
        except Exception as e:  # noqa: BLE001 - the boundary of errors.py: a bug of ours costs this connection only
            self._fail(e)
        else:
            self._perform(actions)

    def _fail(self, error: BaseException | None) -> None:
        logger.error("internal_error", exc_info=error)
        self._disconnect(Result(ResultCode.OTHER, "internal error"))

    def _disconnect(self, result: Result) -> None:
        self._perform(self._its_session().disconnect(result, self._shared.turns.now()))

    def _perform(self, actions: Iterable[Action]) -> None:  # noqa: C901 - one case for each action
        for action in actions:
            match action:
                case Record():
                    self._shared.turns.record(action)
                case Send(message_id, messages):
                    self._outbox.add(message_id, messages)
                case Abandon(message_id):
                    self._outbox.abandon(message_id)
                case Cancel(message_id, canceled, answer):
                    told = answer(self._outbox.cancel(message_id, canceled))
                    self._outbox.add(told.message_id, told.messages)
                case VerifyPassword():
                    self._verify(action)
                case StartTLS():
                    self._must_encrypt = self._is_upgrading = True
                case Close():
                    self._is_closing = True

    def _verify(self, asked: VerifyPassword) -> None:
        session = self._its_session()

        def is_refused() -> bool:
            return session.is_locked_out(self._shared.turns.now())

        def end(matching_hash: str | None) -> None:
            self._react(session.verified, matching_hash)

        def failed(failure: Failure) -> None:
            self._fail(failure.value)

        def go_on(_: None) -> None:
            self._advance()

        waiting = deferred(self._shared.verifier.verify(asked, is_refused, end))
        waiting.addErrback(failed).addCallback(go_on)

    def _drop(self) -> None:
        self._replies.clear()
        self._outbox.clear()

    def _send(self) -> None:
        while self._outbox and not self._is_paused:
            self.transport.writeSequence(self._outbox.take(self._slice_bytes))
        if self._outbox or self._is_paused:
            return
        if self._is_closing:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        elif self._must_encrypt:
            self._must_encrypt = False
            self._framer.discard()
            self.transport.startTLS(self._shared.tls_context())

    def _read_if_wanted(self) -> None:
        is_waiting = self._session is not None and self._session.is_waiting
        is_wanted = not (is_waiting or self._has_all or len(self._outbox) >= MAX_WAITING_ANSWERS)
        if is_wanted != self._is_reading:
            self._is_reading = is_wanted
            (self.transport.resumeProducing if is_wanted else self.transport.pauseProducing)()
