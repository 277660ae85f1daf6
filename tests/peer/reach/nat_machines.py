"""Machines behind NATs with TCP and UDP between them, a rendezvous and a relay, in memory and in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from socket import AF_INET, AF_INET6
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pshare.core.datagram_core import Address
from p2pshare.errors import (
    CallFailed,
    P2pshareError,
    PeerNotListening,
    RegistryUnreachable,
    SignalNotAccepted,
)
from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.net.session.tcp import TcpCarrier
from p2pshare.peer.reach.signalling import Follower, OwnEnd
from p2pshare.testing.nat import HOPS, Nat, NatKind
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.reach import stun
from tests.peer.delayed_network import DelayedNetwork, Machine, _End

REGISTRY_KEY = SigningKey(b"r" * 32)
REGISTRY_IP = "203.0.113.1"
STUN_PORTS = 8000, 8001
URL = f"http://{REGISTRY_IP}:8000"
START = 1_800_000_000  # Unix time in s


class NatNetwork(DelayedNetwork):
    """Machines, some of them in homes behind NATs."""

    def __init__(self, delay: float) -> None:
        super().__init__(delay)
        self.udp_ports: dict[Address, MemoryPort] = {}
        self.datagrams: list[tuple[bytes, str, Address]] = []
        """Every datagram that was sent, the sender's IP address, and where to."""
        self.loses: Callable[[Address, Address], bool] = lambda _source, _to: False
        """Whether a datagram from one address to another is lost."""
        self._homes: dict[str, Nat] = {}
        self._routers: dict[str, Nat] = {}
        self._free_port = 40_000

    def home(self, kind: NatKind, router: str, ip: str) -> Machine:
        """Return a machine behind a NAT; it has the public address itself if there is none."""
        if kind is NatKind.OPEN:
            return self.machine(router)
        nat = Nat(kind, router, random.Random(5))
        self._routers[router] = nat
        self._homes[ip] = nat
        return self.machine(ip)

    def answers(self, one: str, other: str) -> bool:
        """Whether a TCP connection is answered: a NAT lets none in."""
        return other not in self._homes and other not in self._routers

    def listen_trains(self, reactor: Machine, port: int, user: Any, interface: str) -> MemoryPort:
        """Stand for the function of this name."""
        if not port:
            self._free_port += 1
            port = self._free_port
        opened = MemoryPort(self, reactor.ip, port, user, interface)
        if interface != "::":
            self.udp_ports[reactor.ip, port] = opened
        return opened

    def send(self, data: bytes, source: Address, to: Address, ttl: int | None = None) -> None:
        """Send a datagram from a machine."""
        self.datagrams.append((data, source[0], to))
        nat, now = self._homes.get(source[0]), self.clock.seconds()
        if to[0] in self._homes or self.loses(source, to):
            return  # each home has one machine
        public: Address | None = source
        if nat is not None:
            public = nat.leave(source, to, now) if ttl is None or ttl > 1 else None
        if public is not None and (ttl is None or ttl >= HOPS):
            self.clock.callLater(self.delay(source[0], to[0]), self._arrive, data, public, to)

    def _arrive(self, data: bytes, source: Address, to: Address) -> None:
        if to[0] == REGISTRY_IP and to[1] in STUN_PORTS:
            answer = stun.answer_to(data, PeerAddress(*source))
            if answer is not None:
                self.send(answer, to, source)
            return
        nat = self._routers.get(to[0])
        inner = to if nat is None else nat.enter(source, to[1], self.clock.seconds())
        port = None if inner is None else self.udp_ports.get(inner)
        if port is not None:
            port.user.train_received(memoryview(data), len(data), source)


class MemoryPort:
    """A `TrainPort` in memory."""

    unsent = 0
    is_full = False

    def __init__(
        self, network: NatNetwork, ip: str, number: int, user: Any, interface: str
    ) -> None:
        self.user = user
        self.addressFamily = AF_INET6 if ":" in interface else AF_INET
        self._network = network
        self._own = ip, number

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "0.0.0.0", self._own[1])

    def send_train(self, data: Any, segment: int, address: Address) -> None:
        whole = bytes(data)
        for start in range(0, len(whole), segment):
            self._network.send(whole[start : start + segment], self._own, address)

    def send_with_ttl(self, data: bytes, ttl: int, address: Address) -> bool:
        self._network.send(data, self._own, address, ttl)
        return True

    def stopListening(self) -> None:
        if self._network.udp_ports.get(self._own) is self:
            del self._network.udp_ports[self._own]


class MemoryRegistry:
    """What a registry offers for calls."""

    def __init__(self, network: NatNetwork, delay: float) -> None:
        self.network = network
        self.delay = delay
        """Seconds from a peer to the registry."""
        self.inboxes: dict[tuple[str, str], Callable[[bytes], object]] = {}
        self.accepted: dict[tuple[str, str], Sequence[str] | None] = {}
        self.sent: list[tuple[str, str, bytes]] = []
        """Sender, recipient and sealed signal."""
        self.drops: Callable[[str, str], bool] = lambda _sender, _to: False
        """Whether a signal from one to another is lost."""
        self.rooms: dict[str, tuple[Deferred[None], Machine, CarrierUser, int]] = {}
        self.joined: list[tuple[str, str]] = []
        """Room, and the name of who joined."""
        self.has_relay = True
        self.is_away: Callable[[], bool] = lambda: False
        """Whether it does not answer now."""

    def expect_here(self) -> None:
        """Fail as a client does if the registry is away."""
        if self.is_away():
            raise RegistryUnreachable(registry=URL, reason="it is away")

    def end(self, machine: Machine, key: SigningKey, name: str) -> MemoryRendezvous:
        """Return the rendezvous as one user sees it."""
        return MemoryRendezvous(self, machine, key, name)


class MemoryRendezvous:
    """A `Rendezvous` of a `MemoryRegistry`."""

    url = URL

    def __init__(
        self, registry: MemoryRegistry, machine: Machine, key: SigningKey, name: str
    ) -> None:
        self.registry = registry
        self.key = key
        self._machine = machine
        self._name = name
        self._rng = random.Random(name)
        self.errors: list[P2pshareError] = []
        """With which the next uses fail."""
        self.ahead = 0
        """Seconds by which the machine's clock has been set since the registry told the time."""
        self.times_asked = 0

    @property
    def has_relay(self) -> bool:
        return self.registry.has_relay

    async def own(self) -> OwnEnd:
        if self.errors:
            raise self.errors.pop(0)
        now = self._machine.network.clock.seconds
        return OwnEnd(
            self.key,
            self._name,
            REGISTRY_KEY.public,
            lambda: START + int(now()) + self.ahead,
            self._rng.randbytes,
        )

    def follow(
        self,
        own: OwnEnd,
        inbox: str,
        accept: Sequence[str] | None,
        on_signal: Callable[[bytes], object],
        on_link: Callable[[bool], object],
    ) -> Follower:
        return MemoryFollower(self, (self._name, inbox), accept, on_signal, on_link)

    async def send(self, own: OwnEnd, to: str, inbox: str, sealed: bytes) -> None:
        registry = self.registry
        await deferLater(self._clock, registry.delay)
        registry.expect_here()
        if registry.drops(self._name, to):
            return
        if (to, inbox) not in registry.inboxes:
            raise PeerNotListening(name=to)
        accepted = registry.accepted.get((to, inbox))
        if accepted is not None and self._name not in accepted:
            raise SignalNotAccepted(name=to)
        registry.sent.append((self._name, to, sealed))
        self._clock.callLater(registry.delay, self._deliver, to, inbox, sealed)

    def _deliver(self, to: str, inbox: str, sealed: bytes) -> None:
        on_signal = self.registry.inboxes.get((to, inbox))
        if on_signal is not None:
            on_signal(sealed)

    async def learn_time(self) -> None:
        self.times_asked += 1
        await deferLater(self._clock, 2 * self.registry.delay)
        self.ahead = 0

    async def stun_servers(self) -> Sequence[PeerAddress]:
        await deferLater(self._clock, 2 * self.registry.delay)
        return tuple(PeerAddress(REGISTRY_IP, port) for port in STUN_PORTS)

    async def join(
        self, own: OwnEnd, room: str, other: PublicKey, user: CarrierUser, read_size: int
    ) -> None:
        registry = self.registry
        registry.expect_here()
        registry.joined.append((room, self._name))
        await deferLater(self._clock, 2 * registry.delay)
        found = registry.rooms.pop(room, None)
        if found is None:
            met: Deferred[None] = Deferred()
            registry.rooms[room] = met, self._machine, user, read_size
            try:
                await met.addTimeout(10.0, self._clock)
            except Exception:
                registry.rooms.pop(room, None)
                raise CallFailed(name=self._name, reason="nobody came to the relay") from None
            return
        met, machine, first, size = found
        here, there = (
            IPv4Address("TCP", each.ip, 1 + number)
            for number, each in enumerate((self._machine, machine))
        )
        near, far = _End(self._machine, here, there), _End(machine, there, here)
        near.other, far.other = far, near
        for end, each, bytes_at_once in ((near, user, read_size), (far, first, size)):
            carrier = TcpCarrier(each, bytes_at_once)
            carrier.name = "relay"
            end.begin(carrier)
        met.callback(None)

    @property
    def _clock(self) -> Any:
        return cast("Any", self._machine)


class MemoryFollower:
    """Follows an inbox of a `MemoryRegistry`."""

    def __init__(
        self,
        rendezvous: MemoryRendezvous,
        inbox: tuple[str, str],
        accept: Sequence[str] | None,
        on_signal: Callable[[bytes], object],
        on_link: Callable[[bool], object],
    ) -> None:
        self._rendezvous = rendezvous
        self._inbox = inbox
        self._accept = accept
        self._on_signal = on_signal
        self._on_link = on_link

    async def run(self) -> None:
        registry = self._rendezvous.registry
        await deferLater(self._rendezvous._clock, 4 * registry.delay)
        registry.inboxes[self._inbox] = self._on_signal
        registry.accepted[self._inbox] = self._accept
        self._on_link(True)
        try:
            await Deferred()
        finally:
            del registry.inboxes[self._inbox]
            self._on_link(False)

    def nudge(self) -> None:
        """Do nothing."""
