"""The addresses of this machine's interfaces, and when they change.

*Which addresses.* Those at which other machines may reach this one: no loopback and no link-local addresses, and none
of an interface that is down or has no carrier. Of IPv6, no address that another machine has or that is deprecated. A
machine with temporary addresses (RFC 8981) has a stable one beside them. Both can be reached, and the system sends from
a temporary one.

*Changes.* Linux reports them over netlink. Elsewhere, and if a report is lost, the addresses are read again every
`POLL_EVERY` seconds. Several reports within `SETTLE` seconds are one change, since an interface that comes up reports
its link, its addresses and its routes one by one. A suspended machine is noticed after it has resumed: the clock that
counts suspended time is then ahead of the one that does not. Nothing in the addresses need have changed, but
connections and NAT mappings are gone.
"""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ifaddr
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pshare.net.reach import netlink
from p2pshare.net.sockets import local_address_towards
from p2pshare.wire.addresses import address_fault, is_loopback

POLL_EVERY = 5.0  # seconds between two looks at the clocks and the addresses
SETTLE = 0.25  # seconds from the first report of a change until the addresses are read
ASLEEP_MIN = 2.0  # seconds of suspension that count
LATE_MIN = 10.0  # seconds by which a timer is late if the process was stopped
ADDRESSES_MAX = 64  # addresses that are looked at
_OUTSIDE = ("192.0.2.1", "2001:db8::1")  # addresses of documentation: nothing is sent there

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of this machine, and the network that is reached without a router."""

    ip: str
    network: IPNetwork
    interface: str
    """Name of the interface."""
    is_temporary: bool = False
    """Whether it is an IPv6 address that is replaced from time to time."""


@dataclass(frozen=True, slots=True)
class NetworkState:
    """How this machine is connected."""

    addresses: tuple[InterfaceAddress, ...] = ()
    """Those of default routes first."""
    sources: tuple[str, ...] = ()
    """The addresses from which the default routes send, IPv4 before IPv6."""

    @property
    def is_offline(self) -> bool:
        """Whether no other machine can be reached."""
        return not self.addresses


def read_network() -> NetworkState:
    """Return how this machine is connected now."""
    found = [each for each in _linked() if _is_for_others(each)]
    sources = tuple(filter(None, map(_source_towards, _OUTSIDE)))
    routed = {each.interface for each in found if each.ip in sources}
    found.sort(key=lambda each: (each.interface not in routed, each.ip not in sources))
    addresses = [
        InterfaceAddress(
            each.ip,
            ipaddress.ip_network((each.ip, each.prefix), strict=False),
            each.interface,
            bool(each.flags & netlink.TEMPORARY) and ":" in each.ip,
        )
        for each in found[:ADDRESSES_MAX]
    ]
    return NetworkState(tuple(addresses), sources)


def _linked() -> list[netlink.LinkedAddress]:
    with suppress(OSError):
        return netlink.linked_addresses()
    with suppress(OSError):
        return [
            netlink.LinkedAddress(ip, each.network_prefix, adapter.nice_name, 0)
            for adapter in ifaddr.get_adapters()
            for each in adapter.ips
            for ip in (each.ip if isinstance(each.ip, str) else each.ip[0],)
        ]
    return []


def _is_for_others(each: netlink.LinkedAddress) -> bool:
    """Whether other machines may reach this one at an address."""
    flags = netlink.UNUSABLE | netlink.DEPRECATED
    is_unusable = ":" in each.ip and each.flags & flags
    return not (is_unusable or is_loopback(each.ip) or address_fault(each.ip))


def _source_towards(ip: str) -> str | None:
    try:
        source = local_address_towards(ip, 9)
    except OSError:
        return None
    return None if is_loopback(source) or address_fault(source) else source


def seconds_asleep() -> float:
    """Return for how long this machine was suspended since it started, as far as the system counts that."""
    with_sleep, without = ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC")
    if sys.platform == "darwin":
        with_sleep, without = ("CLOCK_MONOTONIC", "CLOCK_UPTIME_RAW")
    clocks = getattr(time, with_sleep, None), getattr(time, without, None)
    if clocks[0] is None or clocks[1] is None:
        return 0.0
    return time.clock_gettime(clocks[0]) - time.clock_gettime(clocks[1])


class NetworkWatch:
    """Knows how this machine is connected, and tells when that changes."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        on_change: Callable[[bool], object],
        *,
        read: Callable[[], NetworkState] = read_network,
        asleep: Callable[[], float] = seconds_asleep,
        events: Callable[[Any, Callable[[], object]], Any] = netlink.NetworkEvents,
    ) -> None:
        """Watch after `start`.

        Args:
            reactor: for the timers and the notifications.
            on_change: called after each change with False, and after each suspension with True.
            read: returns how the machine is connected.
            asleep: returns the seconds of suspension so far.
            events: begins to call a function at each event, until `stop` of what it returns; raises `OSError` if there
                are no notifications.
        """
        self._reactor = reactor
        self._on_change = on_change
        self._read = read
        self._asleep = asleep
        self._open_events = events
        self._events: Any = None
        self._polling: IDelayedCall | None = None
        self._settling: IDelayedCall | None = None
        self._slept = 0.0
        self._checked = 0.0  # when the clocks were looked at
        self.state = NetworkState()
        """The state that was read last."""

    def start(self) -> None:
        """Read the state, and begin to watch."""
        self.state = self._read()
        self._slept, self._checked = self._asleep(), self._reactor.seconds()
        with suppress(OSError):
            self._events = self._open_events(self._reactor, self._happened)
        self._polling = self._reactor.callLater(POLL_EVERY, self._poll)

    def stop(self) -> None:
        """Stop watching."""
        for call in (self._polling, self._settling):
            if call is not None and call.active():
                call.cancel()
        events, self._events = self._events, None
        if events is not None:
            events.stop()

    def _happened(self) -> None:
        """Read the state soon."""
        if self._settling is None or not self._settling.active():
            self._settling = self._reactor.callLater(SETTLE, self._look)

    def _poll(self) -> None:
        self._polling = self._reactor.callLater(POLL_EVERY, self._poll)
        asleep, now = self._asleep(), self._reactor.seconds()
        slept, late = asleep - self._slept, now - self._checked - POLL_EVERY
        self._slept, self._checked = asleep, now
        if slept >= ASLEEP_MIN or late >= LATE_MIN:
            self._log.info("resumed: suspended_s={s:.0f}", s=max(slept, late))
            self._look(is_resumed=True)
        else:  # also if changes are reported, since a report may be lost
            self._look()

    def _look(self, *, is_resumed: bool = False) -> None:
        """Read the state, and tell if it is another one or the machine has resumed."""
        before, self.state = self.state, self._read()
        if self.state != before:
            self._log.info(
                "network changed: addresses={addresses}",
                addresses=",".join(each.ip for each in self.state.addresses) or "none",
            )
        if is_resumed or self.state != before:
            self._on_change(is_resumed)
