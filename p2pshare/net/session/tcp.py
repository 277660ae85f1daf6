"""A session's carrier over TCP."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IPushProducer, IUNIXTransport
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.net.session.tcp_congestion import prefer_bbr
from p2pshare.wire.addresses import PeerAddress

FILE_READ = 256 * 1024  # bytes read from the socket at once by an opener, which receives files
MESSAGE_READ = ROOM = 64 * 1024
"""Bytes read at once by an acceptor, which receives messages, and bytes that may wait in this process until the
carrier is full. Twisted has one number for both."""
NOT_SENT_MAX = 256 * 1024  # bytes that may wait in the kernel before it accepts no more
SEND_SIZE = 512 * 1024  # bytes given to the kernel in one call: all that can wait


@implementer(IPushProducer)
class TcpCarrier(Protocol):
    """One end of a TCP connection, as a `Carrier`."""

    name = "tcp"
    """See `Carrier`."""
    transport: Connection  # set before any other call

    def __init__(self, user: CarrierUser, read_size: int) -> None:
        self._user = user
        self._read_size = read_size  # bytes
        self.is_full = False
        """See `Carrier`."""

    @property
    def local(self) -> PeerAddress:
        """See `Carrier`."""
        return _address(self.transport.getHost())

    @property
    def remote(self) -> PeerAddress:
        """See `Carrier`."""
        return _address(self.transport.getPeer())

    def send(self, data: bytes) -> None:
        """See `Carrier`."""
        self.transport.write(data)

    def pause(self) -> None:
        """See `Carrier`."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """See `Carrier`."""
        self.transport.resumeProducing()

    def half_close(self) -> None:
        """See `Carrier`."""
        self.transport.unregisterProducer()  # Twisted closes only after its producer is done
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """See `Carrier`."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """See `Carrier`."""
        self.transport.abortConnection()

    def connectionMade(self) -> None:
        """Set the socket's options, and hand the carrier over."""
        tune(self.transport, self._read_size)
        self.transport.registerProducer(self, True)
        self._user.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes on."""
        self._user.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass the end on, however it came."""
        self._user.closed()

    def pauseProducing(self) -> None:
        """Note that the transport has enough to send."""
        self.is_full = True

    def resumeProducing(self) -> None:
        """Note that the kernel has taken everything."""
        self.is_full = False
        self._user.writable()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""


class TcpCarriers(ServerFactory):
    """Makes carriers for accepted connections."""

    noisy = False

    def __init__(self, accept: Callable[[str], CarrierUser | None]) -> None:
        """Call `accept` with the IP address of each opener; it returns the carrier's user, or None to hang up."""
        self._accept = accept

    def buildProtocol(self, addr: IAddress | None) -> TcpCarrier | None:
        """Make the carrier of one connection."""
        user = self._accept(str(getattr(addr, "host", "")))
        return None if user is None else TcpCarrier(user, MESSAGE_READ)


def tune(transport: Any, read_size: int) -> None:
    """Set the options of a connection that carries sessions, and how many bytes are read from it at once."""
    transport = getattr(transport, "transport", transport)  # below TLS
    transport.bufferSize = read_size
    transport.SEND_LIMIT = SEND_SIZE
    if IUNIXTransport.providedBy(transport):
        return
    with suppress(AttributeError, OSError):  # not a socket, or an option that this system lacks
        transport.setTcpNoDelay(True)
        handle = transport.getHandle()
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_MAX)
    with suppress(AttributeError):  # not a socket
        prefer_bbr(transport.getHandle())


def _address(address: IPv4Address | IPv6Address) -> PeerAddress:
    return PeerAddress(address.host, address.port)
