"""NATs in memory, on the network in memory: which datagram leaves with which address, and which one is let in.

`Nat` models the connection tracking of a kernel rather than an abstract "cone". A flow is a public port together with
one remote address; each datagram belongs to a flow, opens one, or is dropped. From this follows what surprises people
with real routers, such as the port that a plain `masquerade` changes because a datagram came from outside too early.
The lab (`tests.lab`) has the same kinds with a real kernel, and shows that the model is true.

    network = RoutedNetwork(random.Random(7))
    network.add_home(Nat(NatKind.PORT_RESTRICTED, "203.0.113.1", random.Random(8)), "192.168.1.5")
    network.attach(("192.168.1.5", 5000), core)
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from p2pshare.core.datagram_core import Address
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import VirtualNetwork, _Segment

FLOW_S = (
    30.0  # s without a datagram until a flow is forgotten, as with Linux (nf_conntrack_udp_timeout)
)
HOPS = 8  # the TTL with which a datagram arrives in another home; one with less dies behind the sender's NAT


class NatKind(StrEnum):
    """What stands between a home and the internet. The words are those of RFC 3489 where it has one."""

    OPEN = "open"
    """Nothing: the host has a public address."""
    FULL_CONE = "full cone"
    """One mapping, and everybody may use it."""
    ADDRESS_RESTRICTED = "address-restricted cone"
    """One mapping, for each address that was sent to, from any of its ports."""
    PORT_RESTRICTED = "port-restricted cone"
    """`masquerade`, with a filter that drops what comes from outside: most homes."""
    STOCK = "stock masquerade"
    """`masquerade` whose router takes what comes from outside for itself: plain Linux, as with containers."""
    SYMMETRIC = "symmetric"
    """`masquerade random`: another port for each destination."""
    UDP_BLOCKED = "UDP blocked"
    """No UDP leaves: some offices and hotels."""


_ONE_MAPPING = NatKind.FULL_CONE, NatKind.ADDRESS_RESTRICTED


@dataclass(slots=True)
class _Flow:
    inner: Address | None
    """The host's address; None for a flow with the router itself."""
    used: float


class Nat:
    """One router with one public address."""

    def __init__(self, kind: NatKind, ip: str, rng: random.Random) -> None:
        """Make a router.

        Args:
            kind: how it behaves.
            ip: its public address.
            rng: chooses ports.
        """
        self.kind = kind
        self.ip = ip
        self._rng = rng
        self._flows: dict[tuple[int, Address], _Flow] = {}
        self._mappings: dict[Address, int] = {}

    def leave(self, inner: Address, remote: Address, now: float) -> Address | None:
        """Return the public source of a datagram that a host sends; None if it is dropped."""
        if self.kind is NatKind.UDP_BLOCKED:
            return None
        self._forget(now)
        for (port, each), flow in self._flows.items():
            if each == remote and flow.inner == inner:
                flow.used = now
                return self.ip, port
        port = self._port(inner, remote)
        self._flows[port, remote] = _Flow(inner, now)
        return self.ip, port

    def enter(self, remote: Address, port: int, now: float) -> Address | None:
        """Return the host that gets a datagram from outside; None if none does."""
        self._forget(now)
        if (flow := self._flows.get((port, remote))) is not None:
            flow.used = now
            return flow.inner
        inner = self._inner(remote, port)
        if inner is not None or self.kind is NatKind.STOCK:
            self._flows[port, remote] = _Flow(inner, now)
        return inner

    def rebind(self) -> None:
        """Forget everything, as a router that restarts; later flows get other ports."""
        self._flows.clear()
        self._mappings = {inner: self._free_port() for inner in self._mappings}

    def _inner(self, remote: Address, port: int) -> Address | None:
        """Return the host of a new flow from outside."""
        if self.kind is NatKind.FULL_CONE:
            return next((inner for inner, each in self._mappings.items() if each == port), None)
        if self.kind is NatKind.ADDRESS_RESTRICTED:
            for (each, known), flow in self._flows.items():
                if each == port and known[0] == remote[0]:
                    return flow.inner
        return None

    def _port(self, inner: Address, remote: Address) -> int:
        """Return the public port of a new flow: that of the host, if the kind keeps it and it is free."""
        if self.kind in _ONE_MAPPING:
            if inner not in self._mappings:
                self._mappings[inner] = self._free_port()
            return self._mappings[inner]
        if self.kind is not NatKind.SYMMETRIC and (inner[1], remote) not in self._flows:
            return inner[1]
        return self._free_port()

    def _free_port(self) -> int:
        taken = {port for port, _ in self._flows} | set(self._mappings.values())
        while (port := self._rng.randrange(1024, 65536)) in taken:
            pass
        return port

    def _forget(self, now: float) -> None:
        for key in [key for key, flow in self._flows.items() if now - flow.used > FLOW_S]:
            del self._flows[key]


class RoutedNetwork(VirtualNetwork):
    """A network in memory with homes behind NATs. Addresses in no home are public."""

    def __init__(
        self, rng: random.Random, conditions: Conditions | None = None, *, hops: int = HOPS
    ) -> None:
        """Make a network; a datagram with a TTL below `hops` does not arrive in another home."""
        super().__init__(rng, conditions)
        self._hops = hops
        self._homes: dict[str, Nat] = {}
        self._routers: dict[str, Nat] = {}

    def add_home(self, nat: Nat, *ips: str) -> None:
        """Put the hosts with these private addresses behind a NAT. Each private address is in one home only."""
        self._routers[nat.ip] = nat
        self._homes.update(dict.fromkeys(ips, nat))

    def send(
        self, data: bytes, source: Address, destination: Address, ttl: int | None = None
    ) -> None:
        """Send a datagram from a host; one with a low TTL opens the NAT and dies on the way."""
        nat = self._homes.get(source[0])
        if (other := self._homes.get(destination[0])) is not None:
            if other is nat:  # within the home
                super()._send(data, source, destination)
            return
        public: Address | None = source
        if nat is not None:
            public = nat.leave(source, destination, self.now) if ttl is None or ttl > 1 else None
        if public is not None and (ttl is None or ttl >= self._hops):
            super()._send(data, public, destination)

    def _send(self, data: bytes, source: Address, destination: Address) -> None:
        self.send(data, source, destination)

    def _arrive(self, segment: _Segment, destination: Address) -> None:
        nat = self._routers.get(destination[0])
        if nat is None:
            super()._arrive(segment, destination)
        elif (inner := nat.enter(segment.source, destination[1], self.now)) is not None:
            super()._arrive(segment, inner)
