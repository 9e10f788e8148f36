"""Twisted: connections and listening ports. The only module with Deferreds.

A connection reads into a framer, lets its Session react, and sends from an Outbox as fast as the peer reads. It is its
transport's push producer for all its life, so that small and large answers obey the same brake: `pauseProducing` when
the transport's buffer is full, `resumeProducing` when it is empty. With too many answers waiting it stops reading as
well. What a slow peer costs is one slice and the transport's copy of it.

Order within a turn: receive, journal, send. An answer leaves only after the record of it is in the kernel.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import ILogObserver, STDLibLogObserver, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from journal.record import Record
from journal.segment import Journal
from repository.directory import Directory
from repository.errors import MalformedMessageError, StartError
from repository.framing import MessageFramer
from repository.messages import Result, ResultCode
from repository.outbox import Outbox
from repository.passwords import PasswordVerifier
from repository.session import Abandon, Action, Close, Send, Session, StartTLS, VerifyPassword
from repository.tls import TLSContext
from settings.sections import Endpoint, RepositorySection

logger = logging.getLogger(__name__)

SLICE_BYTES: Final = 262_144
MAX_WAITING_ANSWERS: Final = 16  # of one connection; beyond, it is not read from
SWEEP_S: Final = 1.0
GRACE_S: Final = 5.0  # for answers that are being sent when the server is told to stop

T = TypeVar("T")
Reactor = Any  # AsyncioSelectorReactor; the methods that are called here are not typed


def deferred(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Cross over from asyncio: the result of a coroutine as a Deferred."""
    return Deferred.fromFuture(asyncio.ensure_future(work))


def _now() -> datetime:
    return datetime.now(UTC)


class Source(Protocol):
    """What keeps the directory up to date."""

    async def follow(self, directory: Directory) -> None:
        """Never return."""


@implementer(IPushProducer, IHandshakeListener)
class Connection(TwistedProtocol):
    """One client."""

    transport: Any  # a Wire

    def __init__(self, server: "Server", peer: str, *, is_encrypted: bool) -> None:
        self._server = server
        self._framer = MessageFramer(server.section.max_message_bytes)
        self._replies: list[bytes] = []  # ready ones, to be sent before what is in the outbox
        self._outbox = Outbox()
        self._peer = peer
        self._begins_encrypted = is_encrypted
        self._session = Session(
            server.directory,
            peer=peer,
            is_encrypted=is_encrypted,
            size_limit_entries=server.section.search_size_limit_entries,
        )
        self._reader = (None, record.peer(None, peer))  # who was last given a ready answer, and the journal's fragment
        self._slice_bytes = SLICE_BYTES
        self._is_paused = False  # the kernel takes no more
        self._is_reading = True
        self._must_encrypt = False  # once everything is sent
        self._is_upgrading = False  # to TLS: nothing is received
        self._is_closing = False  # once everything is sent
        self.active_at = server.loop.time()

    # ---------------------------------------------------------------- called by Twisted

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Begin."""
        self._server.connections.add(self)
        self.transport.setTcpNoDelay(True)  # else an answer waits some 40 ms for the peer's delayed ACK
        self.transport.registerProducer(self, True)
        if self._begins_encrypted:
            self._is_upgrading = True
            self.transport.startTLS(self._server.tls.context)

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """What comes from now on is encrypted."""
        self._slice_bytes = TLS_SLICE_BYTES
        self._session.is_encrypted = True
        self._is_upgrading = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take octets from the peer."""
        self.active_at = self._server.loop.time()
        if self._is_closing or self._is_upgrading:
            return
        if self._framer.is_empty and not self._outbox and not self._is_paused and not self._session.is_waiting:
            data = data[self._repeat(data) :]
            if not data:
                self._server.flush_soon(self)
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
        self._server.forget(self)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The peer reads more slowly than we write."""
        self._is_paused = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Everything written so far is with the kernel."""
        self.active_at = self._server.loop.time()
        self._is_paused = False
        self._server.flush_soon(self)

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """The connection is gone."""
        self._drop()

    # ---------------------------------------------------------------- called by the server

    def flush(self) -> None:
        """At the end of a turn: all records are with the kernel, so what they tell of may leave."""
        if self._replies:
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
        self._send()
        if not self._is_reading:
            self._advance()

    def finish(self) -> None:
        """Receive nothing more, and close once everything is sent."""
        self._is_closing = True
        self._server.flush_soon(self)

    def abort(self) -> None:
        """Close now, whatever is not sent."""
        self._drop()
        self.transport.abortConnection()

    # ---------------------------------------------------------------- ready answers

    def _repeat(self, octets: bytes) -> int:
        """Answer the messages at the beginning whose answers are ready; how many octets these are."""
        answers, fragment = self._ready()
        position = size = 0
        while size < SLICE_BYTES and (parts := outline(octets, position)) is not None:
            message_id, operation, end = parts
            answer = answers.find(octets[operation:end])
            if answer is None or not answer.is_flat:
                break
            reply = answer.octets(octets[message_id:operation])
            self._replies.append(reply)
            self._server.record_again(answer, fragment)
            size += len(reply)
            position = end
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
        self._server.record_again(answer, fragment)
        return True

    def _ready(self) -> tuple[AnswerCache, bytes]:
        """The ready answers that this client may be given at this moment, and who that is in the journal."""
        party = self._session.party(self._server.now())
        if party is not self._reader[0]:
            self._reader = party, record.peer(None if party is None else party.name, self._peer)
        return self._server.directory.answers(may_read_restricted=party is not None), self._reader[1]

    # ---------------------------------------------------------------- inside

    @property
    def _may_receive(self) -> bool:
        is_ending = self._is_closing or self._is_upgrading
        return not (is_ending or self._session.is_waiting or len(self._outbox) >= MAX_WAITING_ANSWERS)

    def _advance(self) -> None:
        """Work on what has arrived, as far as answers may wait."""
        while self._may_receive and (message := self._next_message()) is not None:
            if not self._repeat_one(message):
                self._react(self._session.receive, message)
        if not self._is_paused and (self._outbox or self._is_closing or self._must_encrypt):
            self._server.flush_soon(self)
        self._read_if_wanted()

    def _next_message(self) -> bytes | None:
        try:
            return self._framer.next_message()
        except MalformedMessageError as e:
            self._perform(self._session.disconnect(Result(e.result, str(e)), self._server.now()))
            return None

    def _react(self, step: Callable[[T, datetime], list[Action]], argument: T) -> None:
        try:
            actions = step(argument, self._server.now())
        except Exception as e:  # noqa: BLE001 - the boundary of errors.py: a bug of ours costs this connection only
            self._fail(e)
        else:
            self._perform(actions)

    def _fail(self, error: BaseException | None) -> None:
        logger.error("internal_error", exc_info=error)
        self._perform(self._session.disconnect(Result(ResultCode.OTHER, "internal error"), self._server.now()))

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Record():
                    self._server.journal.append(action)
                case Send(message_id, messages):
                    self._outbox.add(message_id, messages)
                case Abandon(message_id):
                    self._outbox.abandon(message_id)
                case VerifyPassword(password, hashes):
                    self._verify(password, hashes)
                case StartTLS():
                    self._must_encrypt = self._is_upgrading = True
                case Close():
                    self._is_closing = True

    def _verify(self, password: bytes, hashes: tuple[str, ...]) -> None:
        def verified(matching_hash: str | None) -> None:
            self._react(self._session.verified, matching_hash)

        def failed(failure: Failure) -> None:
            self._fail(failure.value)

        def go_on(_: None) -> None:
            self._advance()

        waiting = deferred(self._server.verifier.matching(password, hashes))
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
            self.transport.startTLS(self._server.tls.context)

    def _read_if_wanted(self) -> None:
        is_wanted = not (self._session.is_waiting or len(self._outbox) >= MAX_WAITING_ANSWERS)
        if is_wanted != self._is_reading:
            self._is_reading = is_wanted
            (self.transport.resumeProducing if is_wanted else self.transport.pauseProducing)()


class Listener(Factory[Connection]):
    """Makes the connections of one listening port."""

    noisy = False

    def __init__(self, server: "Server", *, is_encrypted: bool) -> None:
        self._server = server
        self._is_encrypted = is_encrypted

    def buildProtocol(self, addr: Any) -> Connection | None:  # noqa: N802, ANN401 - Twisted's; its addresses differ
        """A client has come; None turns it away."""
        if not self._server.has_recorded():
            return None
        return Connection(self._server, addr.host, is_encrypted=self._is_encrypted)


class Server:
    """The directory server of one process: what its connections share, and its life."""

    def __init__(self, reactor: Reactor, section: RepositorySection, tls: TLSContext, journal: Journal) -> None:
        self.loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop  # noqa: SLF001
        self.reactor = reactor
        self.section = section
        self.tls = tls
        self.journal = journal
        self.directory = Directory()
        self.verifier = PasswordVerifier()
        self.connections: set[Connection] = set()
        self._ports: list[Any] = []
        self._is_recording = True
        self._is_stopping = False
        self._emptied = asyncio.Event()

    def listen(self) -> None:
        """Open the ports.

        Raises:
            StartError: a port cannot be opened.
        """
        section = self.section
        addresses = {"ldap": self._listen("listen", section.listen, is_encrypted=False)}
        if section.tls_listen is not None:
            addresses["ldaps"] = self._listen("tls_listen", section.tls_listen, is_encrypted=True)
        logger.info("listening", extra=addresses)

    def _listen(self, key: str, endpoint: Endpoint, *, is_encrypted: bool) -> str:
        listener = Listener(self, is_encrypted=is_encrypted)
        try:
            if is_encrypted:
                port = self.reactor.listenSSL(endpoint.port, listener, self.tls, interface=endpoint.host, backlog=1024)
            else:
                port = self.reactor.listenTCP(endpoint.port, listener, interface=endpoint.host, backlog=1024)
        except CannotListenError as e:
            raise StartError(
                f"cannot listen on {endpoint} ({e.socketError});"
                f" stop what uses it, or set `repository.{key}` in prefca.toml to another address"
            ) from e
        self._ports.append(port)
        address = port.getHost()
        return str(Endpoint(address.host, address.port))

    def has_recorded(self) -> bool:
        """Write the records that wait; False if they cannot be written: then nobody is answered, until they can."""
        try:
            self.journal.flush()
        except OSError as e:
            if self._is_recording:
                logger.error("journal_failed", extra={"error": str(e)})  # noqa: TRY400 - the disk, not our code
            self._is_recording = False
        else:
            self._is_recording = True
        return self._is_recording

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if self._is_stopping and not self.connections:
            self._emptied.set()

    def run(self, loop: asyncio.AbstractEventLoop, source: Source) -> int:
        """Serve until told to stop.

        Args:
            loop: the one under the reactor.
            source: keeps the directory up to date.

        Returns:
            The exit status: 0, or 1 after a bug of ours.
        """
        logging.getLogger("twisted").setLevel(logging.WARNING)
        globalLogBeginner.beginLoggingTo([cast("ILogObserver", STDLibLogObserver())], redirectStandardIO=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_tls)
        work = loop.create_task(self._work(source))
        work.add_done_callback(lambda _: self._stop())
        self.reactor.addSystemEventTrigger("before", "shutdown", lambda: deferred(self._finish(work)))
        self.reactor.run(installSignalHandlers=False)
        self.verifier.close()
        if work.cancelled():
            return 0
        logger.critical("internal_error", exc_info=work.exception())
        return 1

    async def _work(self, source: Source) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(source.follow(self.directory))
            tasks.create_task(self._drop_idle())

    async def _drop_idle(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            since = self.reactor.seconds() - self.section.idle_timeout_s
            for connection in [each for each in self.connections if each.active_at < since]:
                connection.abort()

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self.reactor.stop()

    async def _finish(self, work: asyncio.Task[None]) -> None:
        """Take no new work, and give what is being sent a moment to end."""
        logger.info("stopping")
        work.cancel()
        await asyncio.wait([work])
        for port in self._ports:
            port.stopListening()
        for connection in tuple(self.connections):
            connection.finish()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), GRACE_S)
        for connection in tuple(self.connections):
            connection.abort()

    def _reload_tls(self) -> None:
        try:
            self.tls.reload()
        except StartError as e:
            logger.error("tls_reload_refused", extra={"error": str(e)})  # noqa: TRY400 - the operator's files
        else:
            logger.info("tls_reloaded")
