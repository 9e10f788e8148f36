"""The event loop's own transports under Twisted's protocols.

uvloop reads, writes and encrypts faster than Twisted's transports do, and takes views of values without copying them.
A `Wire` is an asyncio protocol towards the loop, and towards a protocol of Twisted what this server needs of ITransport,
ISSLTransport and IConsumer.

TLS always begins on a connection that is there already: for LDAPS at once, for StartTLS later. So there is one way into
TLS, and a client counts as connected before its handshake.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

HIGH_WATER_BYTES: Final = 65_536  # written and not yet with the kernel: from here on the producer pauses

_FORGET_UNSENT: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s
_DONE: Final = Failure(CONNECTION_DONE)
_LOST: Final = Failure(CONNECTION_LOST)


@implementer(ITransport)
class Wire(asyncio.Protocol):
    """One connection between the loop and a protocol of Twisted."""

    disconnecting = False

    def __init__(self, loop: asyncio.AbstractEventLoop, factory: Factory[Any]) -> None:
        self._loop = loop
        self._factory = factory
        self._protocol: Any = None  # made by the factory
        self._producer: Any = None
        self._tcp: Any = None
        self._transport: Any = None  # TCP, or TLS over it
        self._upgrade: asyncio.Task[None] | None = None  # while TLS begins
        self._early: list[bytes] = []  # decrypted before that has ended

    # ---------------------------------------------------------------- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._tcp = self._transport = transport
        self._tcp.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._protocol = self._factory.buildProtocol(self.getPeer())
        if self._protocol is None:
            self.abortConnection()
        else:
            self._protocol.makeConnection(self)

    def data_received(self, data: bytes) -> None:
        """Pass octets on."""
        if self._upgrade is None:
            self._protocol.dataReceived(data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool:
        """The peer sends nothing more; in plaintext it may still read."""
        self._protocol.readConnectionLost()
        return self._transport is self._tcp

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
        """Send octets."""
        self._transport.write(data)

    def writeSequence(self, data: Sequence[bytes | memoryview]) -> None:  # noqa: N802
        """Send pieces; none is copied unless it is encrypted."""
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
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET_UNSENT)
        self._tcp.abort()

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802, FBT001
        """Send small pieces at once."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

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
        self._tcp.pause_reading()  # what arrives from now on is read as TLS
        self._upgrade = self._loop.create_task(self._encrypt(context))

    # ---------------------------------------------------------------- inside

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        try:
            transport = await self._loop.start_tls(self._tcp, self, context, server_side=True)
        except OSError:  # also of the handshake; `connection_lost` is called for it
            return
        if transport is None or self._protocol is None:
            return
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._upgrade = None
        self._protocol.handshakeCompleted()
        for data in self._early:
            self._protocol.dataReceived(data)
        self._early.clear()

    @property
    def _socket(self) -> Any:  # noqa: ANN401 - uvloop's stand-in for socket.socket
        return self._tcp.get_extra_info("socket")


def _address(pair: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    host, port = pair[:2]
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)
