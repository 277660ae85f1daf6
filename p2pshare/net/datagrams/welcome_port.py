"""The welcome port: one UDP port for everything that reaches a peer in datagrams.

The port has a socket for IPv4 and one for IPv6, of the same number, or one of them. A single socket for both families
would show IPv4 addresses in another form, and the kernel joins and cuts trains for each family by itself anyway.

The first byte of a datagram tells its protocol (`wire.datagrams.packets.kind_of`): packets of sessions go to the
endpoint, STUN messages to the handlers that wait for some, words of the classic protocol to its core if that is
enabled, and all else is ignored and counted. The classic protocol is spoken over IPv4 only.

There is one timer. It runs when the endpoint's next deadline comes, and not at all while nothing is in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from socket import AF_INET, AF_INET6
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from p2pshare.core.datagram_core import Address, TrainCore
from p2pshare.errors import PortUnusable
from p2pshare.net.clocks import LazyTimer
from p2pshare.net.datagrams.train_port import TrainPort, listen_trains
from p2pshare.net.sockets import (
    ALL_IPV4,
    ALL_IPV6,
    PORT_TRIES,
    IPeerReactor,
    interface_for,
    port_of,
)
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.datagrams.packets import DatagramKind, kind_of

SEND_AT_ONCE = 512 * 1024  # bytes sent until others in the reactor get their turn
FULL_WAIT = 0.01  # seconds between looks at deadlines while the socket's buffer is full


StunHandler = Callable[[bytes, Address], bool]
"""Takes a STUN message and its source, and returns whether the message was for it. It never raises."""


class WelcomePort:
    """The user of one `TrainPort` for each interface, which drives an endpoint and hands on all other datagrams."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        endpoint: TrainCore,
        on_event: Callable[[Any], object],
        classic: DatagramProtocol | None = None,
    ) -> None:
        """Drive `endpoint` after `listen`; its events go to `on_event`."""
        self._reactor = reactor
        self._endpoint = endpoint
        self._on_event = on_event
        self._classic = classic
        self._ports: list[TrainPort] = []  # of one number
        self._stun_handlers: list[StunHandler] = []
        self._timer = LazyTimer(reactor, self._timer_due)
        self._is_pumping = False
        self.ignored = 0
        """Datagrams of protocols that are not spoken here."""

    def listen(self, port: int, *interfaces: str) -> int:
        """Open the UDP port of this number, an unused one for 0, on all of the interfaces, and return its number.

        Raises:
            PortUnusable: the port is in use, or reserved.
        """
        tries = (
            1 if port else PORT_TRIES
        )  # the unused port of one interface may be in use on another one
        for remaining in reversed(range(tries)):
            try:
                number = self._listen(port, interfaces)
                self._lend_socket()
                return number
            except CannotListenError as error:
                self._close()
                if not remaining:
                    reason = plain_reason(error.socketError)
                    raise PortUnusable(port=port, reason=reason) from error
        raise AssertionError("the last try returns or raises")

    def _listen(self, port: int, interfaces: Sequence[str]) -> int:
        for interface in interfaces:
            user = _PortUser(self)
            self._ports.append(listen_trains(self._reactor, port, user, interface))
            port = port_of(self._ports[0])
        return port

    def _lend_socket(self) -> None:
        """Let the classic protocol use the socket for IPv4, too."""
        port = self._port_towards(ALL_IPV4)
        if self._classic is not None and port is not None:
            self._classic.makeConnection(port)

    @property
    def number(self) -> int | None:
        """The number of the port; None while it is closed."""
        return port_of(self._ports[0]) if self._ports else None

    def local_towards(self, ip: str) -> Address:
        """Return the address of the socket that sends to an IP address."""
        port = self._port_towards(ip) or self._ports[0]
        host = port.getHost()
        return host.host, host.port

    def reaches(self, ip: str) -> bool:
        """Whether datagrams can be sent to an IP address from here."""
        port = self._port_towards(ip)
        everywhere = ALL_IPV6 if ":" in ip else ALL_IPV4
        return port is not None and port.getHost().host in (everywhere, interface_for(ip))

    def send_to(self, data: bytes, address: Address, ttl: int | None = None) -> bool:
        """Send one datagram, not of a connection; whether it was sent.

        Args:
            data: the datagram.
            address: the destination.
            ttl: the number of routers that may forward it; None for the system's default. With a `ttl`, the datagram
                is dropped if the socket's buffer is full.
        """
        port = self._port_towards(address[0])
        if port is None:
            return False
        if ttl is not None:
            return port.send_with_ttl(data, ttl, address)
        unsent = port.unsent
        port.send_train(data, len(data), address)
        return port.unsent == unsent

    def add_stun_handler(self, handler: StunHandler) -> None:
        """Let a handler see the STUN messages that no earlier handler has taken."""
        self._stun_handlers.append(handler)

    def remove_stun_handler(self, handler: StunHandler) -> None:
        """Undo `add_stun_handler`."""
        self._stun_handlers.remove(handler)

    async def stop(self) -> None:
        """Close the port, if it is open."""
        self._timer.cancel()
        for closing in self._close():
            await closing

    def _close(self) -> list[Deferred[Any]]:
        ports, self._ports = self._ports, []
        if self._classic is not None and self._classic.transport is not None:
            self._classic.doStop()
        return [maybeDeferred(port.stopListening) for port in ports]

    def _port_towards(self, ip: str) -> TrainPort | None:
        """Return the port of the address's family, if it is open."""
        family = AF_INET6 if ":" in ip else AF_INET
        return next((each for each in self._ports if each.addressFamily == family), None)

    @property
    def _is_full(self) -> bool:
        """Whether trains wait for room in the buffer of a socket."""
        return any(port.is_full for port in self._ports)

    def train_received(self, data: memoryview, segment: int, address: Address) -> None:
        """Take a train; see `TrainProtocol`.

        All segments of a train have one source, but anybody can forge it. So the first byte decides for a train of
        packets, whose core looks at each segment by itself, and other datagrams are looked at one by one.
        """
        if kind_of(data[0]) is DatagramKind.P2PSHARE:
            self._endpoint.receive_train(data, segment, address, self._reactor.seconds())
            self.pump()
            return
        for start in range(0, len(data), segment):
            self._take_datagram(data[start : start + segment], address)

    def datagram_refused(self, address: Address) -> None:
        """Tell the endpoint; see `TrainProtocol`."""
        self._endpoint.datagram_refused(address)

    def port_writable(self) -> None:
        """Send what had to wait; see `TrainProtocol`."""
        self.pump()

    def pump_soon(self) -> None:
        """Pump at the end of this turn of the reactor: whatever is sent in one turn then shares packets."""
        if not self._is_pumping and self._ports:
            self._timer.set(self._reactor.seconds())

    def pump(self) -> None:
        """Deliver events, send what is due, and set the timer; call it after each use of a connection."""
        if self._is_pumping:  # an event led to a use
            return
        self._is_pumping = True
        try:
            has_more = self._send_and_deliver()
        finally:
            self._is_pumping = False
        if not self._ports:
            return
        now = self._reactor.seconds()
        due = now if has_more else self._endpoint.get_timer()
        if due is None:
            self._timer.cancel()
        elif self._is_full:  # what was due to be sent stays due until there is room
            self._timer.set(max(due, now + FULL_WAIT))
        else:
            self._timer.set(due)

    def _send_and_deliver(self) -> bool:
        """Go on until nothing is due; whether more is due when others in the reactor have had their turn."""
        endpoint, left = self._endpoint, SEND_AT_ONCE
        while True:
            while (event := endpoint.next_event()) is not None:
                try:
                    self._on_event(event)
                except Exception:  # a defect, which must not stop the sessions of others
                    self._log.failure("event of a connection not handled")
            if not self._ports or self._is_full:
                return False
            if left <= 0:
                return True
            trains = endpoint.trains_to_send(self._reactor.seconds(), left)
            if not trains:
                return False
            for train in trains:
                left -= len(train.data)
                if (port := self._port_towards(train.address[0])) is not None:
                    port.send_train(train.data, train.segment, train.address)

    def _take_datagram(self, data: memoryview, address: Address) -> None:
        match kind_of(data[0]):
            case DatagramKind.P2PSHARE:
                self._endpoint.receive_train(data, len(data), address, self._reactor.seconds())
                self.pump()
            case DatagramKind.CLASSIC if self._classic is not None:
                self._classic.datagramReceived(bytes(data), address)
            case DatagramKind.STUN if self._has_taken(bytes(data), address):
                pass
            case _:
                self.ignored += 1

    def _has_taken(self, data: bytes, address: Address) -> bool:
        """Whether a handler has taken a STUN message."""
        return any(handler(data, address) for handler in tuple(self._stun_handlers))

    def _timer_due(self) -> None:
        if self._ports:
            self._endpoint.handle_timer(self._reactor.seconds())
            self.pump()


class _PortUser(DatagramProtocol):
    """Passes what happens on one `TrainPort` to its `WelcomePort`; see `TrainProtocol`."""

    noisy = False

    def __init__(self, welcome: WelcomePort) -> None:
        self.train_received = welcome.train_received
        self.datagram_refused = welcome.datagram_refused
        self.port_writable = welcome.port_writable
