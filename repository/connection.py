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
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from journal import record
from journal.record import Record
from repository.access import Credential
from repository.authentication import VerifyPassword
from repository.cache import AnswerCache
from repository.errors import MalformedMessageError
from repository.framing import MessageFramer, outline
from repository.messages import Result, ResultCode
from repository.outbox import Outbox
from repository.passwords import PasswordVerifier
from repository.session import Abandon, Action, Cancel, Close, Send, Service, Session, StartTLS
from repository.tls import TLSContext
from repository.turns import Turns
from settings.sections import RepositorySection

logger = logging.getLogger(__name__)

SLICE_BYTES: Final = 1_048_576
TLS_SLICE_BYTES: Final = 262_144  # is copied when it is encrypted: for a peer that has not shown to be quick
QUICK_S: Final = 0.1  # a peer that takes a slice in this time gets large ones also through TLS
MAX_WAITING_ANSWERS: Final = 16  # of one connection; beyond, it is not read from

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
    addresses: Counter[str] = field(default_factory=Counter)  # how many connections each has
    emptied: asyncio.Event = field(default_factory=asyncio.Event)  # the last connection has ended
    ready_answers: int = 0  # that were given
    read_messages: int = 0

    def tls_context(self) -> ssl.SSLContext:
        """What a connection that begins TLS now uses."""
        access = self.service.directory.access
        return self.tls.trusting(frozenset() if access is None else access.certificates)

    def may_connect(self, address: str) -> bool:
        """Whether there is room for one more."""
        most, most_of_one = self.section.max_connections, self.section.max_connections_per_address
        return len(self.connections) < most and self.addresses[address] < most_of_one

    def add(self, connection: "Connection") -> None:
        """A connection has begun."""
        self.connections.add(connection)
        self.addresses[connection.peer] += 1

    def discard(self, connection: "Connection") -> None:
        """It has ended."""
        self.connections.discard(connection)
        self.addresses[connection.peer] -= 1
        if not self.addresses[connection.peer]:
            del self.addresses[connection.peer]
        if not self.connections:
            self.emptied.set()


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """One client."""

    transport: Any  # a Wire

    def __init__(self, shared: Shared, peer: str, *, is_encrypted: bool) -> None:
        self._shared = shared
        self._framer = MessageFramer(shared.section.max_message_bytes)
        self._replies: list[bytes] = []  # ready ones, to be sent before what is in the outbox
        self._outbox = Outbox()
        self.peer = peer
        self._begins_encrypted = is_encrypted
        self._session = Session(shared.service, peer=peer, is_encrypted=is_encrypted)
        # Who was last given a ready answer, and how the journal names that reader.
        self._reader: tuple[Credential | None, bytes] = (None, record.peer(None, peer))
        self._slice_bytes = SLICE_BYTES
        self._is_paused = False  # the kernel takes no more
        self._paused_at = 0.0
        self._is_reading = True
        self._must_encrypt = False  # once everything is sent
        self._is_upgrading = False  # to TLS: nothing is received
        self._is_closing = False  # once everything is sent
        self.active_at = shared.clock()

    # ---------------------------------------------------------------- called by Twisted

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Begin."""
        self._shared.add(self)
        self.transport.registerProducer(self, True)
        if self._begins_encrypted:
            self._is_upgrading = True
            self.transport.startTLS(self._shared.tls_context())

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """What comes from now on is encrypted."""
        self._slice_bytes = TLS_SLICE_BYTES
        certificate = self.transport.getPeerCertificate()
        self._session.client_fingerprint = None if certificate is None else sha256(certificate).digest()
        self._session.is_encrypted = True
        self._is_upgrading = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take octets from the peer."""
        self.active_at = self._shared.clock()
        if self._is_closing or self._is_upgrading:
            return
        if self._framer.is_empty and not self._outbox and not self._is_paused and not self._session.is_waiting:
            data = data[self._repeat(data) :]
            if not data:
                self._shared.turns.flush_soon(self)
                return
        self._framer.receive(data)
        self._advance()

    def readConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """The peer sends nothing more."""
        self.finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802, ARG002 - Twisted's
        """End."""
        self._is_closing = self._is_paused = True  # a password may still be verified; its answer goes nowhere
        self._drop()
        self._shared.discard(self)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The peer reads more slowly than we write."""
        self._is_paused = True
        self._paused_at = self._shared.clock()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Everything written so far is with the kernel."""
        self.active_at = self._shared.clock()
        self._is_paused = False
        if self._session.is_encrypted:
            is_quick = self.active_at - self._paused_at < QUICK_S
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
        if self._outbox or self._is_closing or self._must_encrypt:
            self._send()
        if not self._is_reading:
            self._advance()

    def finish(self) -> None:
        """Receive nothing more, and close once everything is sent."""
        self._is_closing = True
        self._shared.turns.flush_soon(self)

    def abort(self) -> None:
        """Close now, whatever is not sent."""
        self._drop()
        self.transport.abortConnection()

    # ---------------------------------------------------------------- ready answers

    def _repeat(self, octets: bytes) -> int:
        """Answer the messages at the beginning whose answers are ready; how many octets these are."""
        answers, fragment = self._ready()
        find, record_again, replies = answers.find, self._shared.turns.record_again, self._replies
        position = size = number = 0
        end_of_all = len(octets)
        while position < end_of_all and size < SLICE_BYTES:
            parts = outline(octets, position)
            if parts is None:
                break
            message_id, operation, end = parts
            answer = find(octets[operation:end])
            if answer is None or not answer.is_flat:
                break
            reply = answer.octets(octets[message_id:operation])
            replies.append(reply)
            record_again(answer, fragment)
            size += len(reply)
            number += 1
            position = end
        self._shared.ready_answers += number
        return position

    def _repeat_one(self, message: bytes) -> bool:
        """The same for one message behind others, or whose answer is large."""
        parts = outline(message, 0)
        if parts is None:
            return False
        message_id, operation, end = parts
        answers, fragment = self._ready()
        answer = answers.find(message[operation:end])
        if answer is None:
            return False
        number = int.from_bytes(message[message_id + 2 : operation], "big")
        self._outbox.add(number, answer.messages(message[message_id:operation]))
        self._shared.turns.record_again(answer, fragment)
        self._shared.ready_answers += 1
        return True

    def _ready(self) -> tuple[AnswerCache, bytes]:
        """The ready answers that this client may be given at this moment, and who that is in the journal."""
        party = self._session.party(self._shared.turns.now()) if self._session.is_bound else None
        if party is not self._reader[0]:
            self._reader = party, record.peer(None if party is None else party.name, self.peer)
        return self._shared.service.directory.answers(may_read_restricted=party is not None), self._reader[1]

    # ---------------------------------------------------------------- inside

    @property
    def _may_receive(self) -> bool:
        is_ending = self._is_closing or self._is_upgrading
        return not (is_ending or self._session.is_waiting or len(self._outbox) >= MAX_WAITING_ANSWERS)

    def _advance(self) -> None:
        """Work on what has arrived, as far as answers may wait."""
        while self._may_receive and (message := self._next_message()) is not None:
            if not self._repeat_one(message):
                self._shared.read_messages += 1
                self._react(self._session.receive, message)
        if not self._is_paused and (self._outbox or self._is_closing or self._must_encrypt):
            self._shared.turns.flush_soon(self)
        self._read_if_wanted()

    def _next_message(self) -> bytes | None:
        try:
            return self._framer.next_message()
        except MalformedMessageError as e:
            self._perform(self._session.disconnect(Result(e.result, str(e)), self._shared.turns.now()))
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
        self._perform(self._session.disconnect(Result(ResultCode.OTHER, "internal error"), self._shared.turns.now()))

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
        def verified(matching_hash: str | None) -> None:
            self._react(self._session.verified, matching_hash)

        def failed(failure: Failure) -> None:
            self._fail(failure.value)

        def go_on(_: None) -> None:
            self._advance()

        waiting = deferred(self._shared.verifier.matching(asked.password, asked.hashes, asked.address))
        waiting.addCallbacks(verified, failed).addCallback(go_on)

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
        is_wanted = not (self._session.is_waiting or len(self._outbox) >= MAX_WAITING_ANSWERS)
        if is_wanted != self._is_reading:
            self._is_reading = is_wanted
            (self.transport.resumeProducing if is_wanted else self.transport.pauseProducing)()
