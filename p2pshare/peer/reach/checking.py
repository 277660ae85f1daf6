"""Runs the connectivity checks of an attempt on a UDP port that carries other things, too."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from p2pshare.core.datagram_core import Address
from p2pshare.core.reach.checks import CheckEvent, ConnectivityChecks
from p2pshare.net.clocks import LazyTimer
from p2pshare.net.reach.stun_client import StunPort
from p2pshare.wire.reach.candidates import Mapping


class CheckDriver:
    """Drives a `ConnectivityChecks` from its creation until `stop`."""

    def __init__(
        self,
        clock: IReactorTime,
        port: StunPort,
        checks: ConnectivityChecks,
        on_event: Callable[[CheckEvent], object] = lambda _: None,
    ) -> None:
        """Send from `port`, and hand events to `on_event`."""
        self._clock = clock
        self._port = port
        self._checks = checks
        self._on_event = on_event
        self._timer = LazyTimer(clock, self._timer_due)
        self._is_stopped = False
        port.add_stun_handler(self._received)

    def add_remote(self, address: Address, *, is_near: bool) -> None:
        """Check an address of the other end; see `ConnectivityChecks.add_remote`."""
        self._checks.add_remote(address, self._clock.seconds(), is_near=is_near)
        self._pump()

    def prime(self, mapping: Mapping) -> None:
        """Open the own NAT, which maps like this."""
        self._checks.prime(self._clock.seconds(), has_nat=mapping is not Mapping.NONE)
        self._pump()

    def go(self) -> None:
        """Start the checks."""
        self._checks.go(self._clock.seconds())
        self._pump()

    def stop(self) -> None:
        """Send nothing more. May be called again."""
        if not self._is_stopped:
            self._is_stopped = True
            self._timer.cancel()
            self._port.remove_stun_handler(self._received)

    def _received(self, data: bytes, address: Address) -> bool:
        is_ours = self._checks.receive(data, (address[0], address[1]), self._clock.seconds())
        if is_ours:
            self._pump()
        return is_ours

    def _pump(self) -> None:
        """Send what is due, tell what has happened, and set the timer."""
        if self._is_stopped:
            return
        for data, address, ttl in self._checks.datagrams_to_send(self._clock.seconds()):
            self._port.send_to(data, address, ttl)
        while not self._is_stopped and (event := self._checks.next_event()) is not None:
            self._on_event(event)
        if not self._is_stopped:
            self._timer.set(self._checks.get_timer())

    def _timer_due(self) -> None:
        self._checks.handle_timer(self._clock.seconds())
        self._pump()
