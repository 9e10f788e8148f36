"""What protocols of Twisted speak through here: TCP of our own, and TLS of the event loop.

A `Wire` is a plaintext connection below a `Poller`; sockets are read and written in the turn in which they are ready,
and views of values leave without a copy. An `EncryptedWire` is uvloop's TLS, which is faster than Twisted's. Both give
a protocol what this server needs of ITransport, ISSLTransport and IConsumer.

TLS always begins on a connection that is there already: for LDAPS at once, for StartTLS later. So there is one way into
TLS, and a client counts as connected before its handshake.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import ssl
import struct
import termios
from array import array
from collections.abc import Callable, Sequence
from select import EPOLLIN, EPOLLOUT
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from repository.poller import Poller

logger = logging.getLogger(__name__)

HIGH_WATER_BYTES: Final = 65_536  # encrypted and not yet with the kernel: from here on the producer pauses
HANDSHAKE_S: Final = 10.0
READ_BYTES: Final = 16_384  # at a time; a turn goes round among all connections

_ACCEPTED_A_TURN: Final = 64
_ACCEPT_PAUSE_S: Final = 1.0  # when there are no more descriptors
_TCP_ESTABLISHED: Final = 1  # of the states in tcp(7), TCP_INFO
_FORGET_UNSENT: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s
_DONE: Final = Failure(CONNECTION_DONE)  # type: ignore[no-untyped-call]
_LOST: Final = Failure(CONNECTION_LOST)  # type: ignore[no-untyped-call]

Octets = bytes | memoryview
Accept = Callable[[str], Protocol | None]  # makes the protocol for a client at this address, or turns it away


class Listener:
    """A listening socket."""

    def __init__(self, poller: Poller, bound: socket.socket, backlog: int, accept: Accept) -> None:
        """Listen on a socket that is bound."""
        bound.setblocking(False)
        # Inherited: small pieces leave at once, or an answer would wait some 40 ms for the peer's delayed ACK.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.listen(backlog)
        self._poller = poller
        self._bound = bound
        self._accept = accept
        self._is_closed = False
        poller.register(bound.fileno(), EPOLLIN, self._ready)

    def close(self) -> None:
        """Accept nothing more."""
        if not self._is_closed:
            self._is_closed = True
            with contextlib.suppress(KeyError):  # it pauses
                self._poller.unregister(self._bound.fileno())
            self._bound.close()

    def _ready(self, _: int) -> None:
        for _ in range(_ACCEPTED_A_TURN):
            try:
                connected, address = self._bound.accept()
            except (BlockingIOError, ConnectionError):  # nobody is there, or no longer
                return
            except OSError as e:
                logger.error("accept_failed", extra={"error": str(e)})  # noqa: TRY400 - the machine, not our code
                self._poller.unregister(self._bound.fileno())
                self._poller.loop.call_later(_ACCEPT_PAUSE_S, self._resume)
                return
            protocol = self._accept(address[0])
            if protocol is None:
                connected.close()
            else:
                protocol.makeConnection(Wire(self._poller, connected, protocol))  # type: ignore[no-untyped-call]

    def _resume(self) -> None:
        if not self._is_closed:
            self._poller.register(self._bound.fileno(), EPOLLIN, self._ready)


class _Transport:
    """What both kinds have in common."""

    disconnecting = False

    def __init__(self, connected: socket.socket, protocol: Any, producer: IPushProducer | None) -> None:  # noqa: ANN401
        self._socket = connected
        self._protocol = protocol  # None: told that the connection is lost
        self._producer: Any = producer
        self._unacknowledged = 0  # octets, when somebody asked last

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:  # noqa: N802, FBT001, ARG002
        """Pause and resume this one."""
        self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        """And no longer."""
        self._producer = None

    def getPeer(self) -> IPv4Address | IPv6Address:  # noqa: N802
        """Where the client is; port 0 of the unspecified address if it is gone already."""
        try:
            return _address(self._socket.getpeername())
        except OSError:
            return _address(("0.0.0.0", 0))  # noqa: S104 - nothing is bound to it

    def getHost(self) -> IPv4Address | IPv6Address:  # noqa: N802
        """Where it has connected to."""
        return _address(self._socket.getsockname())

    def is_being_read(self) -> bool:
        """Whether something that was sent is on its way to the peer, and another part of it than at the last time."""
        unacknowledged = array("i", [0])
        with contextlib.suppress(OSError, ValueError):  # the loop may have closed the socket
            fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, unacknowledged)
        before, self._unacknowledged = self._unacknowledged, unacknowledged[0]
        return self._unacknowledged not in {0, before}

    def _forget_unsent(self) -> None:
        """When the socket is closed, the peer is told that something was lost."""
        with contextlib.suppress(OSError):  # the loop may have closed it
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET_UNSENT)

    def _tell_lost(self, reason: Failure) -> None:
        protocol, self._protocol, self._producer = self._protocol, None, None  # which know this in turn
        if protocol is not None:
            protocol.connectionLost(reason)


@implementer(ITransport)
class Wire(_Transport):
    """A connection in plaintext."""

    def __init__(self, poller: Poller, connected: socket.socket, protocol: Protocol) -> None:
        """Make one for a client that has come."""
        connected.setblocking(False)
        super().__init__(connected, protocol, None)
        self._poller = poller
        self._descriptor = connected.fileno()
        self._events = EPOLLIN  # what is waited for
        self._unsent: list[Octets] = []  # the kernel takes no more for now
        poller.register(self._descriptor, EPOLLIN, self._ready)

    # ---------------------------------------------------------------- called by the protocol: Twisted's names

    def write(self, data: bytes) -> None:
        """Send octets; nowhere, if the connection is ending."""
        try:
            sent = 0 if self._unsent else self._socket.send(data)
        except OSError:  # the next attempt tells which
            sent = 0
        if sent < len(data):
            self.writeSequence((memoryview(data)[sent:],))

    def writeSequence(self, data: Sequence[Octets]) -> None:  # noqa: N802
        """The same for pieces, at most IOV_MAX (1024); none is copied, but by the kernel."""
        if self._unsent:
            self._unsent += data
        elif rest := self._rest(data):
            self._unsent = rest
            self._wait_for(self._events | EPOLLOUT)
            if self._producer is not None:
                self._producer.pauseProducing()

    def pauseProducing(self) -> None:  # noqa: N802
        """Receive nothing for now."""
        self._wait_for(self._events & ~EPOLLIN)

    def resumeProducing(self) -> None:  # noqa: N802
        """Receive again."""
        self._wait_for(self._events | EPOLLIN)

    def loseConnection(self) -> None:  # noqa: N802
        """Close once everything is sent."""
        self.disconnecting = True
        if not self._unsent:
            self._end(_DONE)

    def abortConnection(self) -> None:  # noqa: N802
        """Close now; the peer is told that something was lost."""
        self._forget_unsent()
        self._end(_LOST)

    def getPeerCertificate(self) -> bytes | None:  # noqa: N802
        """There is none in plaintext."""
        return None

    def startTLS(self, context: ssl.SSLContext) -> None:  # noqa: N802
        """Encrypt from here on; `handshakeCompleted` or `handshakeFailed` of the protocol tells what came of it."""
        if self._protocol is not None:
            self._poller.unregister(self._descriptor)
            encrypted = EncryptedWire(self._poller.loop, self._socket, self._protocol, self._producer)
            self._protocol.transport = encrypted
            self._protocol = self._producer = None
            encrypted.shake_hands(context)

    # ---------------------------------------------------------------- inside

    def _ready(self, events: int) -> None:
        try:
            if events == EPOLLIN:
                self._receive()
            elif self._events & EPOLLOUT:
                self._send_on()
            elif self._events:  # an error or the end, of which reading tells
                self._receive()
            else:
                self._end(_LOST)
        except Exception:  # the boundary of errors.py: a bug of ours costs this connection only
            logger.exception("internal_error")
            self.abortConnection()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._end(_LOST)
            return
        if data:
            self._protocol.dataReceived(data)
        else:
            self.pauseProducing()
            self._protocol.readConnectionLost()

    def _send_on(self) -> None:
        rest = self._rest(self._unsent)
        if rest or self._protocol is None:
            self._unsent = rest
            return
        self._unsent = []
        self._wait_for(self._events & ~EPOLLOUT)
        if self.disconnecting:
            self._end(_DONE)
        elif self._producer is not None:
            self._producer.resumeProducing()

    def _rest(self, data: Sequence[Octets]) -> list[Octets]:
        """Send as much as the kernel takes; what is left."""
        try:
            sent = self._socket.sendmsg(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Not at once: the protocol is in the middle of something.
            self._poller.loop.call_soon(self._end, _LOST)
            return []
        return _after(data, sent)

    def _wait_for(self, events: int) -> None:
        if events != self._events and self._protocol is not None:
            self._events = events
            self._poller.modify(self._descriptor, events)

    def _end(self, reason: Failure) -> None:
        if self._protocol is not None:
            self._poller.unregister(self._descriptor)
            self._socket.close()
            self._tell_lost(reason)


@implementer(ITransport)
class EncryptedWire(_Transport, asyncio.Protocol):
    """A connection in TLS, between a transport of the loop and a protocol of Twisted."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connected: socket.socket,
        protocol: Protocol,
        producer: IPushProducer | None,
    ) -> None:
        """Make one of a socket that nobody else uses any more."""
        super().__init__(connected, protocol, producer)
        self._loop = loop
        self._handshake: asyncio.Task[None] | None = None
        self._transport: Any = None  # of the loop, once the handshake has ended

    def shake_hands(self, context: ssl.SSLContext) -> None:
        """Begin."""
        self._handshake = self._loop.create_task(self._shake_hands(context))

    async def _shake_hands(self, context: ssl.SSLContext) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self, self._socket, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as e:  # also of TLS
            if self._protocol is not None:
                self._protocol.handshakeFailed(e)
            self._tell_lost(_LOST)

    # ---------------------------------------------------------------- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake has succeeded."""
        self._transport = cast("asyncio.Transport", transport)
        if self._protocol is None:  # aborted in this very turn
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._protocol.handshakeCompleted()

    def data_received(self, data: bytes) -> None:
        """Pass octets on."""
        if self._protocol is not None:
            self._protocol.dataReceived(data)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        """It has taken what was written."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; TLS ends in both directions at once."""
        self._tell_lost(_DONE if exc is None else _LOST)

    # ---------------------------------------------------------------- called by the protocol: Twisted's names

    def write(self, data: bytes) -> None:
        """Send octets; nowhere, if the connection is ending."""
        if self._can_send():
            self._transport.write(data)

    def writeSequence(self, data: Sequence[Octets]) -> None:  # noqa: N802
        """The same for pieces."""
        if self._can_send():
            self._transport.writelines(data)

    def pauseProducing(self) -> None:  # noqa: N802
        """Receive nothing for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resumeProducing(self) -> None:  # noqa: N802
        """Receive again; as long as the handshake lasts, the loop decides about that."""
        if self._transport is not None:
            self._transport.resume_reading()

    def loseConnection(self) -> None:  # noqa: N802
        """Close once everything is sent."""
        self.disconnecting = True
        if self._transport is None:
            self.abortConnection()
        else:
            self._transport.close()

    def abortConnection(self) -> None:  # noqa: N802
        """Close now; the peer is told that something was lost."""
        self.disconnecting = True
        self._forget_unsent()
        if self._transport is not None:
            self._transport.abort()
        elif self._handshake is not None:
            self._handshake.cancel()
            self._socket.close()
        self._tell_lost(_LOST)

    def getPeerCertificate(self) -> bytes | None:  # noqa: N802
        """The certificate that the client has shown and proved, in DER."""
        return cast("bytes | None", self._transport.get_extra_info("ssl_object").getpeercert(binary_form=True))

    # ---------------------------------------------------------------- inside

    def _can_send(self) -> bool:
        """Whether somebody is still there; if not, the connection ends.

        The loop may have read the end of the stream together with the request. Its TLS then takes everything that is
        written, never says that it is closing, and drops each piece with a warning: only the socket knows.
        """
        if self._transport.is_closing():
            return False
        try:
            (state,) = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:  # the loop has closed it
            state = 0
        if state != _TCP_ESTABLISHED:
            self.abortConnection()
        return state == _TCP_ESTABLISHED


def _after(data: Sequence[Octets], sent: int) -> list[Octets]:
    """What is left of the pieces when so many octets of them are gone."""
    left: list[Octets] = []
    for piece in data:
        if sent < len(piece):
            left.append(memoryview(piece)[sent:] if sent else piece)
            sent = 0
        else:
            sent -= len(piece)
    return left


def _address(pair: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    host, port = pair[:2]
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)
