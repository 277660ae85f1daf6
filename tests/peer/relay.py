"""A relay on loopback between a requester and a sharer: a NAT that changes its mapping, and a firewall that blocks."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol, ServerFactory
from twisted.internet.tcp import Port as TcpPort

from p2pshare.wire.addresses import PeerAddress

HOST = "127.0.0.1"
BUFFER = 4 * 1024 * 1024  # bytes asked for, so that the relay itself loses little

reactor: Any = the_reactor


class Relay:
    """Passes TCP and UDP of one port number on to a sharer. Each of the two can be cut or blocked."""

    def __init__(self, target: PeerAddress, *, udp: bool = True, tcp: str = "open") -> None:
        """Open the ports.

        Args:
            target: where the sharer is.
            udp: whether datagrams pass; if not, all of them are dropped.
            tcp: "open", "refused", "silent" (accepted, and nothing passes) or "dropped" (never accepted).
        """
        self.is_udp_cut = not udp
        self.is_tcp_cut = tcp == "silent"
        self.mappings = 0
        """How many source ports the sharer has seen, at most."""
        self.recorded: list[tuple[bytes, Any]] | None = None
        """If it is a list, the datagrams that pass; each with the address of the requester that it goes to, or None."""
        self._target = (target.ip, target.port)
        self._nat: dict[Any, _Outside] = {}
        self._pipes: list[Protocol] = []
        self._tcp: TcpPort | None = None
        self._full: list[socket.socket] = []
        while True:
            inside = reactor.listenUDP(0, _Inside(self), HOST, maxPacketSize=65536)
            try:
                self._open_tcp(inside.getHost().port, tcp)
            except (CannotListenError, OSError):  # another program has this number for TCP
                inside.stopListening()
                continue
            break
        self._inside = inside
        _widen(inside)
        self.address = PeerAddress(HOST, inside.getHost().port)

    def rebind(self) -> None:
        """Forget all mappings: what is sent to them is lost, and the sharer sees new source ports."""
        nat, self._nat = self._nat, {}
        for each in nat.values():
            each.port.stopListening()

    async def stop(self) -> None:
        """Close all sockets."""
        self.rebind()
        for each in (self._inside, self._tcp):
            if each is not None:
                await maybeDeferred(each.stopListening)
        for pipe in self._pipes:
            if pipe.transport is not None:
                pipe.transport.abortConnection()  # type: ignore[attr-defined]
        for full in self._full:
            full.close()

    def outwards(self, datagram: bytes, address: Any) -> None:
        """Pass a datagram of a requester on."""
        if self.is_udp_cut:
            return
        if self.recorded is not None:
            self.recorded.append((datagram, None))
        if address not in self._nat:
            outside = _Outside(self, address)
            outside.port = reactor.listenUDP(0, outside, HOST, maxPacketSize=65536)
            _widen(outside.port)
            self._nat[address] = outside
            self.mappings += 1
        self._nat[address].port.write(datagram, self._target)

    def inwards(self, datagram: bytes, address: Any) -> None:
        """Pass a datagram of the sharer on."""
        if self.is_udp_cut:
            return
        if self.recorded is not None:
            self.recorded.append((datagram, address))
        self._inside.write(datagram, address)

    def inject(self, datagram: bytes, address: Any) -> None:
        """Send a datagram from the relay's own ports: to a requester's address, or to the sharer for None."""
        if address is not None:
            self._inside.write(datagram, address)
            return
        for outside in self._nat.values():
            outside.port.write(datagram, self._target)

    def _open_tcp(self, number: int, kind: str) -> None:
        if kind == "refused":
            return
        if kind == "dropped":
            listening = socket.socket()
            self._full.append(listening)
            listening.bind((HOST, number))
            listening.listen(0)
            for _ in range(
                2
            ):  # fills the backlog; the kernel then drops what asks for a connection
                filling = socket.socket()
                filling.setblocking(False)
                filling.connect_ex((HOST, number))
                self._full.append(filling)
            return
        factory = ServerFactory()
        factory.buildProtocol = self._accepted  # type: ignore[method-assign, assignment]
        self._tcp = reactor.listenTCP(number, factory, interface=HOST)

    def _accepted(self, _address: Any) -> Protocol:
        near, far = _Pipe(self), _Pipe(self)
        near.other, far.other = far, near
        self._pipes += [near, far]
        factory = ClientFactory()
        factory.noisy = False
        factory.protocol = lambda: far
        reactor.connectTCP(*self._target, factory)
        return near


class _Inside(DatagramProtocol):
    noisy = False

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._relay.outwards(datagram, addr)


class _Outside(DatagramProtocol):
    noisy = False
    port: Any

    def __init__(self, relay: Relay, inside: Any) -> None:
        self._relay = relay
        self._inside = inside

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._relay.inwards(datagram, self._inside)


class _Pipe(Protocol):
    """One end of a TCP connection through the relay."""

    other: _Pipe

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._waiting: list[bytes] = []

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.writeSequence(self._waiting)

    def dataReceived(self, data: bytes) -> None:
        if self._relay.is_tcp_cut:
            return
        if self.other.transport is None:
            self.other._waiting.append(data)
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.other.transport is not None and not self._relay.is_tcp_cut:
            self.other.transport.loseConnection()


def _widen(port: Any) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        port.getHandle().setsockopt(socket.SOL_SOCKET, option, BUFFER)
