"""The glue between a datagram core and a UDP socket: one socket, one core, one timer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol

from p2pshare.core.datagram_core import Address, DatagramCore
from p2pshare.net.clocks import LazyTimer

FULL_BUFFER_WAIT = 0.001  # seconds until sending is retried after the socket buffer was full


class CoreDriver(DatagramProtocol):
    """Hands datagrams and the time to a core, sends its datagrams, and delivers its events.

    After each step the core may send, its events are delivered, and the timer is set again. A datagram that the socket
    refuses counts as lost in the network. If the buffer of the socket is full, the datagrams wait, and the core is not
    asked for more.
    """

    noisy = False

    def __init__(
        self,
        core: DatagramCore,
        clock: IReactorTime,
        on_event: Callable[[Any], object],
        on_refused: Callable[[], object] = lambda: None,
    ) -> None:
        """Drive `core`; `on_refused` is called when the port at the other end of a connected socket is closed."""
        self._core = core
        self._clock = clock
        self._on_event = on_event
        self._on_refused = on_refused
        self._held: deque[tuple[bytes, Address]] = deque()
        self._timer = LazyTimer(clock, self._time_passed)
        self._stopped = False
        self._connected = False
        self._pumping = False
        self.unsent = 0
        """Datagrams that the socket refused."""

    @property
    def interface(self) -> str:
        """The local address of the socket."""
        assert self.transport is not None
        host = self.transport.getHost()
        assert isinstance(host, IPv4Address | IPv6Address)
        return host.host

    def startProtocol(self) -> None:
        """Start the core, as the socket is bound."""
        self.pump()

    def stopProtocol(self) -> None:
        """Stop the core, as the socket is closed.

        On Linux the reactor closes a connected socket when the other end refuses datagrams, and reports nothing else.
        If this program closed the socket, the core has ended before.
        """
        self._stopped = True
        self._held.clear()
        self._timer.cancel()
        if self._connected:
            self._on_refused()
            self._deliver_events()

    def connect(self, address: Address) -> None:
        """Exchange datagrams with `address` only, and notice when it refuses them; call it once, when bound."""
        assert self.transport is not None
        self.transport.connect(*address)
        self._connected = True

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Hand a datagram to the core."""
        self._core.receive_datagram(datagram, addr, self._clock.seconds())
        self.pump()

    def connectionRefused(self) -> None:
        """Report that the port at the other end is closed."""
        self._on_refused()
        self.pump()

    def pump(self) -> None:
        """Let the core send, deliver its events, and set the timer; call it after changing the core directly."""
        if self._pumping or self._stopped or self.transport is None:
            return
        self._pumping = True  # writing may report a refusal, and an event may change the core
        try:
            if self._flush():
                self._held.extend(self._core.datagrams_to_send(self._clock.seconds()))
                self._flush()
            self._deliver_events()
        finally:
            self._pumping = False
            self._arm()

    def _deliver_events(self) -> None:
        while (event := self._core.next_event()) is not None:
            self._on_event(event)

    def _flush(self) -> bool:
        """Send the waiting datagrams; return whether all of them were sent."""
        assert self.transport is not None
        while self._held:
            data, addr = self._held[0]
            try:
                self.transport.write(data, None if self._connected else addr)
            except BlockingIOError:
                return False
            except (OSError, MessageLengthError):
                self.unsent += 1
            self._held.popleft()
        return True

    def _arm(self) -> None:
        """Run the timer no later than the core wants; running early does no harm."""
        if not self._stopped:
            full = self._clock.seconds() + FULL_BUFFER_WAIT
            self._timer.set(full if self._held else self._core.get_timer())

    def _time_passed(self) -> None:
        self._core.handle_timer(self._clock.seconds())
        self.pump()
