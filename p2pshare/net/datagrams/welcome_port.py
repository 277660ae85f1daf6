"""The welcome port: one UDP socket for everything that reaches a peer in datagrams.

The first byte of a datagram tells its protocol (`wire.datagrams.packets.kind_of`): packets of sessions go to the
endpoint, words of the classic protocol to its core if that is enabled, and all else is ignored and counted. STUN has
its place among the first bytes, and is ignored today.

There is one timer. It runs when the endpoint's next deadline comes, and not at all while nothing is in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from p2pshare.core.datagram_core import Address, TrainCore
from p2pshare.errors import PortUnusable
from p2pshare.net.clocks import LazyTimer
from p2pshare.net.datagrams.train_port import TrainPort, listen_trains
from p2pshare.net.sockets import IPeerReactor, interface_for, port_of
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.datagrams.packets import DatagramKind, kind_of

SEND_AT_ONCE = 512 * 1024  # bytes sent until others in the reactor get their turn
FULL_WAIT = 0.01  # seconds between looks at deadlines while the socket's buffer is full


class WelcomePort(DatagramProtocol):
    """The user of a `TrainPort`, which drives an endpoint and hands on datagrams of the classic protocol."""

    noisy = False
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
        self._port: TrainPort | None = None
        self._timer = LazyTimer(reactor, self._timer_due)
        self._is_pumping = False
        self.ignored = 0
        """Datagrams of protocols that are not spoken here."""

    def listen(self, port: int, interface: str) -> int:
        """Open the UDP port of this number, an unused one for 0, and return its number.

        Raises:
            PortUnusable: the port is in use, or reserved.
        """
        try:
            self._port = listen_trains(self._reactor, port, self, interface)
        except CannotListenError as error:
            raise PortUnusable(port=port, reason=plain_reason(error.socketError)) from error
        return port_of(self._port)

    @property
    def local(self) -> Address:
        """The address of the socket."""
        assert self._port is not None
        host = self._port.getHost()
        return host.host, host.port

    def reaches(self, ip: str) -> bool:
        """Whether datagrams can be sent to an IP address from here."""
        everywhere = "::" if ":" in ip else "0.0.0.0"
        return self._port is not None and self.local[0] in (everywhere, interface_for(ip))

    async def stop(self) -> None:
        """Close the port, if it is open."""
        port, self._port = self._port, None
        self._timer.cancel()
        if port is not None:
            await maybeDeferred(port.stopListening)

    def startProtocol(self) -> None:
        """Let the classic protocol use the socket, too."""
        if self._classic is not None and self.transport is not None:
            self._classic.makeConnection(self.transport)

    def stopProtocol(self) -> None:
        """Stop the timer, and the classic protocol."""
        self._timer.cancel()
        if self._classic is not None:
            self._classic.doStop()

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
        if not self._is_pumping and self._port is not None:
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
        if self._port is None:
            return
        now = self._reactor.seconds()
        due = now if has_more else self._endpoint.get_timer()
        if due is None:
            self._timer.cancel()
        elif self._port.is_full:  # what was due to be sent stays due until there is room
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
            port = self._port
            if port is None or port.is_full:
                return False
            if left <= 0:
                return True
            trains = endpoint.trains_to_send(self._reactor.seconds(), left)
            if not trains:
                return False
            for train in trains:
                port.send_train(train.data, train.segment, train.address)
                left -= len(train.data)

    def _take_datagram(self, data: memoryview, address: Address) -> None:
        match kind_of(data[0]):
            case DatagramKind.P2PSHARE:
                self._endpoint.receive_train(data, len(data), address, self._reactor.seconds())
                self.pump()
            case DatagramKind.CLASSIC if self._classic is not None:
                self._classic.datagramReceived(bytes(data), address)
            case _:
                self.ignored += 1

    def _timer_due(self) -> None:
        if self._port is not None:
            self._endpoint.handle_timer(self._reactor.seconds())
            self.pump()
