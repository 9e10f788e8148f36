"""The event loop's own transports under Twisted's protocols.

uvloop reads, writes and encrypts faster than Twisted's transports do, takes views of values without copying them, and
sends small pieces at once (TCP_NODELAY), or an answer would wait some 40 ms for the peer's delayed ACK.
A `Wire` is an asyncio protocol towards the loop, and towards a protocol of Twisted what this server needs of
ITransport, ISSLTransport and IConsumer.

TLS always begins on a connection that is there already: for LDAPS at once, for StartTLS later. So there is one way into
TLS, and a client counts as connected before its handshake.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import types
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

HIGH_WATER_BYTES: Final = 65_536  # written and not yet with the kernel: from here on the producer pauses

_FORGET_UNSENT: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s
_DONE: Final = Failure(CONNECTION_DONE)  # type: ignore[no-untyped-call]
_LOST: Final = Failure(CONNECTION_LOST)  # type: ignore[no-untyped-call]

_Generator = Generator[Any, None, Any]


@implementer(ITransport)
class Wire(asyncio.Protocol):
    """One connection between the loop and a protocol of Twisted."""

    disconnecting = False

    def __init__(self, loop: asyncio.AbstractEventLoop, accept: Callable[[str], Protocol | None]) -> None:
        """Make one for a client that has come.

        Args:
            loop: of uvloop.
            accept: makes the protocol for a client at this address, or turns it away with None.
        """
        self._loop = loop
        self._accept = accept
        self._protocol: Any = None  # what `accept` made
        self._producer: Any = None
        self._tcp: Any = None
        self._transport: Any = None  # TCP, or TLS over it
        self._upgrade: asyncio.Task[None] | None = None  # while TLS begins
        self._early: list[bytes] = []  # decrypted before it has ended

    # ---------------------------------------------------------------- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._tcp = self._transport = transport
        self._tcp.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._protocol = self._accept(self._tcp.get_extra_info("peername", ("", 0))[0])
        if self._protocol is None:
            self.loseConnection()
        else:
            self._protocol.makeConnection(self)

    def data_received(self, data: bytes) -> None:
        """Pass octets on."""
        if self._upgrade is None:
            self._protocol.dataReceived(data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool:
        """The peer sends nothing more. In plaintext it may still read; TLS ends in both directions."""
        is_plain = self._transport is self._tcp and self._upgrade is None
        if is_plain:
            self._protocol.readConnectionLost()
        return is_plain

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        """It has taken what was written."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._protocol is not None:
            self._protocol.connectionLost(_DONE if exc is None else _LOST)
            self._protocol = self._producer = None  # which know this in turn

    # ---------------------------------------------------------------- called by the protocol: Twisted's names

    def write(self, data: bytes) -> None:
        """Send octets; nowhere, if the connection is ending."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def writeSequence(self, data: Sequence[bytes | memoryview]) -> None:  # noqa: N802
        """The same for pieces; none is copied unless it is encrypted."""
        if not self._transport.is_closing():
            self._transport.writelines(data)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:  # noqa: N802, FBT001, ARG002
        """Pause and resume this one."""
        self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        """And no longer."""
        self._producer = None

    def pauseProducing(self) -> None:  # noqa: N802
        """Receive nothing for now."""
        self._transport.pause_reading()

    def resumeProducing(self) -> None:  # noqa: N802
        """Receive again."""
        self._transport.resume_reading()

    def loseConnection(self) -> None:  # noqa: N802
        """Close once everything is sent."""
        self.disconnecting = True
        self._transport.close()

    def abortConnection(self) -> None:  # noqa: N802
        """Close now; the peer is told that something was lost."""
        self.disconnecting = True
        connected = self._tcp.get_extra_info("socket")
        if connected is None:  # the loop has closed it already
            self.connection_lost(None)
            return
        with contextlib.suppress(OSError, ValueError):  # or is about to
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET_UNSENT)
        self._tcp.abort()

    def getPeer(self) -> IPv4Address | IPv6Address:  # noqa: N802
        """Where the client is; port 0 of the unspecified address if it is gone already."""
        return _address(self._tcp.get_extra_info("peername") or ("0.0.0.0", 0))  # noqa: S104 - nothing is bound to it

    def getHost(self) -> IPv4Address | IPv6Address:  # noqa: N802
        """Where it has connected to."""
        return _address(self._tcp.get_extra_info("sockname"))

    def getPeerCertificate(self) -> bytes | None:  # noqa: N802
        """The certificate that the client has shown and proved, in DER."""
        encrypted = self._transport.get_extra_info("ssl_object")
        return None if encrypted is None else cast("bytes | None", encrypted.getpeercert(binary_form=True))

    def startTLS(self, context: ssl.SSLContext) -> None:  # noqa: N802
        """Encrypt from here on; `handshakeCompleted` of the protocol tells when, `connectionLost` if it fails."""
        if self._tcp.is_closing():
            return
        self._tcp.pause_reading()
        handshake = cast("_Generator", self._loop.start_tls(self._tcp, self, context, server_side=True))
        # The first step at once, not when a task begins: what arrives in between is TLS already.
        waiting = handshake.send(None)
        self._upgrade = self._loop.create_task(self._encrypted(_rest(handshake, waiting)))

    # ---------------------------------------------------------------- inside

    async def _encrypted(self, handshake: Awaitable[Any]) -> None:
        try:
            transport = await handshake
        except OSError:  # also of TLS; `connection_lost` is called for it
            return
        if self._protocol is None:
            return
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._upgrade = None
        self._protocol.handshakeCompleted()
        for data in self._early:
            self._protocol.dataReceived(data)
        self._early.clear()


@types.coroutine
def _rest(coroutine: _Generator, waiting: Any) -> _Generator:  # noqa: ANN401 - a future of the loop
    """The rest of a coroutine whose first step has been made and waits for something."""
    try:
        yield waiting
    except BaseException as e:
        coroutine.throw(e)
        raise
    return (yield from coroutine)


def _address(pair: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    host, port = pair[:2]
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)
