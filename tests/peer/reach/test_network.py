"""Tests of `p2pshare.peer.reach.network` and `stun_servers`, on a machine behind a NAT as a test wants them."""

from __future__ import annotations

import errno
import ipaddress
import random
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram_core import Address
from p2pshare.errors import LanUnusable, OwnAddressUnknown, RegistryNotLookedUp
from p2pshare.net.dns import LookUpError
from p2pshare.net.reach.interfaces import InterfaceAddress, NetworkState
from p2pshare.peer.reach import network as module
from p2pshare.peer.reach import stun_servers as servers_module
from p2pshare.peer.reach.network import (
    AGAIN,
    FIRST_WAIT,
    REFRESH,
    REFRESH_BLOCKED,
    REFRESH_OPEN,
    OwnLocation,
    OwnNetwork,
)
from p2pshare.peer.reach.stun_servers import stun_servers
from p2pshare.storage.settings import Settings
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.candidates import CANDIDATES_MAX, Mapping
from p2pshare.wire.reach.stun import answer_to

PORT = 50000
REGISTRY = "203.0.113.1"
OUTSIDE = PeerAddress("198.51.100.9", 61000)


def state_of(*ips: str) -> NetworkState:
    """Return the state of a machine with these addresses."""
    return NetworkState(
        tuple(
            InterfaceAddress(ip, ipaddress.ip_network((ip, 64 if ":" in ip else 24), False), "eth0")
            for ip in ips
        )
    )


class FakeWatch:
    """A watch whose state a test sets."""

    def __init__(self, _reactor: object, on_change: Callable[[bool], object]) -> None:
        self.on_change = on_change
        self.state = NetworkState()
        self.is_running = False

    def start(self) -> None:
        """Record it."""
        self.is_running = True

    def stop(self) -> None:
        """Record it."""
        self.is_running = False


class FakeStun:
    """A welcome port behind a NAT, with the STUN servers outside."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.handlers: list[Callable[[bytes, Address], bool]] = []
        self.asked: list[Address] = []
        self.nat: Callable[[Address], PeerAddress | None] = lambda _: OUTSIDE

    def send_to(self, data: bytes, address: Address, ttl: int | None = None) -> bool:
        """Answer in the next turn, as the NAT maps."""
        self.asked.append(address)
        mapped = self.nat(address)
        answer = None if mapped is None else answer_to(data, mapped)
        if answer is not None:
            self.clock.callLater(0, self._deliver, answer, address)
        return True

    def _deliver(self, answer: bytes, address: Address) -> None:
        for handler in tuple(self.handlers):
            handler(answer, address)

    def add_stun_handler(self, handler: Callable[[bytes, Address], bool]) -> None:
        """Record it."""
        self.handlers.append(handler)

    def remove_stun_handler(self, handler: Callable[[bytes, Address], bool]) -> None:
        """Record it."""
        self.handlers.remove(handler)


class NetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.dns: dict[str, tuple[str, ...]] = {"registry.example": (REGISTRY,)}
        self.routes = {False: "192.168.1.5", True: ""}
        self.client: Any = SimpleNamespace(
            url="http://registry.example:8000",
            description=SimpleNamespace(stun=("8000", "8001")),
        )
        self.changes: list[bool] = []
        self.port = FakeStun(self.clock)
        for each in (module, servers_module):
            self.patch(each, "look_up", self.look_up)
        self.patch(module, "local_address_towards", self.route)
        self.forgotten = 0
        self.patch(module, "forget_names", self.forget)

    def look_up(self, _reactor: object, host: str) -> Deferred[tuple[str, ...]]:
        if host not in self.dns:
            return fail(LookUpError("DNS does not answer"))
        return succeed(self.dns[host])

    def forget(self, _reactor: object) -> None:
        self.forgotten += 1

    def route(self, ip: str, _port: int) -> str:
        source = self.routes[":" in ip]
        if not source:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return source

    def network(self, *ips: str, **settings: Any) -> OwnNetwork:
        """Return the network of a peer on a machine with these addresses."""
        numbers = count(1)
        self.own = OwnNetwork(
            self.clock,  # type: ignore[arg-type]
            random.Random(1),
            Settings(name="bob", registry=self.client.url, **settings),
            self.client,
            self.changes.append,
            watch=FakeWatch,  # type: ignore[arg-type]
            random_bytes=lambda size: next(numbers).to_bytes(size),
        )
        self.watch: Any = self.own._watch
        self.watch.state = state_of(*ips)
        self.own.start()
        self.own.opened(PORT, self.port)  # type: ignore[arg-type]
        self.addCleanup(self.own.stop)
        return self.own

    def locate(self) -> OwnLocation:
        """Return the location."""
        locating = Deferred.fromCoroutine(self.own.location())
        self.clock.advance(0)
        found: OwnLocation = self.successResultOf(locating)
        return found

    def texts(self) -> list[str]:
        """Return the candidates."""
        return list(map(str, self.locate().candidates))

    def test_behind_a_nat(self) -> None:
        """The interface's address, the address seen outside with the port's number, and the mapped one."""
        self.network("192.168.1.5")
        location = self.locate()
        self.assertEqual(
            list(map(str, location.candidates)),
            [f"host/192.168.1.5:{PORT}", f"seen/198.51.100.9:{PORT}", f"mapped/{OUTSIDE}"],
        )
        self.assertEqual(location.mapping, Mapping.INDEPENDENT)
        self.assertEqual(location.address, PeerAddress("192.168.1.5", PORT))
        self.assertEqual(self.port.asked, [(REGISTRY, 8000), (REGISTRY, 8001)])

    def test_no_nat(self) -> None:
        """Without a NAT each address is published once."""
        self.routes[False] = "198.51.100.7"
        self.port.nat = lambda _: PeerAddress("198.51.100.7", PORT)
        self.network("198.51.100.7")
        self.assertEqual(self.texts(), [f"host/198.51.100.7:{PORT}"])
        self.assertEqual(self.own.mapping, Mapping.NONE)
        self.clock.pump([1.0] * int(REFRESH_OPEN - 1))
        self.assertLessEqual(len(self.port.asked), 4)

    def test_dependent(self) -> None:
        """The mapped addresses of a NAT that maps by destination are of no use, and are not published."""
        self.port.nat = lambda address: PeerAddress(OUTSIDE.ip, address[1])
        self.network("192.168.1.5")
        self.assertEqual(self.texts(), [f"host/192.168.1.5:{PORT}", f"seen/198.51.100.9:{PORT}"])
        self.assertEqual(self.own.mapping, Mapping.DEPENDENT)

    def test_blocked(self) -> None:
        """A network that blocks UDP delays the location only a little."""
        self.port.nat = lambda _: None
        self.network("192.168.1.5")
        locating = Deferred.fromCoroutine(self.own.location())
        self.assertNoResult(locating)
        self.clock.advance(FIRST_WAIT)
        location = self.successResultOf(locating)
        self.assertEqual(location.mapping, Mapping.UNKNOWN)
        self.clock.advance(2)
        self.assertEqual(self.own.mapping, Mapping.BLOCKED)
        self.assertEqual(self.changes, [False])
        asked = len(self.port.asked)
        self.clock.pump([1.0] * int(REFRESH_BLOCKED * 0.8 - 1))
        self.assertEqual(len(self.port.asked), asked)

    def test_kept_alive(self) -> None:
        """Behind a NAT the registry is asked again and again, and a new mapping is told."""
        self.network("192.168.1.5")
        self.locate()
        self.port.asked.clear()
        self.clock.pump([REFRESH, 0])
        self.assertEqual((len(self.port.asked), self.changes), (2, []))
        other = PeerAddress(OUTSIDE.ip, 62000)
        self.port.nat = lambda _: other
        self.clock.pump([REFRESH, 0])
        self.assertEqual(self.changes, [False])
        self.assertIn(f"mapped/{other}", self.texts())

    def test_lost_round(self) -> None:
        """One round without an answer changes nothing, and is repeated soon; the second one counts."""
        self.network("192.168.1.5")
        self.locate()
        self.port.nat = lambda _: None
        self.clock.pump([REFRESH, 0])
        self.clock.pump([0.5] * 4)
        self.assertEqual((self.own.mapping, self.changes), (Mapping.INDEPENDENT, []))
        self.clock.advance(AGAIN)
        self.clock.pump([0.5] * 4)
        self.assertEqual((self.own.mapping, self.changes), (Mapping.BLOCKED, [False]))

    def test_given(self) -> None:
        """Addresses that the user gives come first, and the others follow."""
        self.network("192.168.1.5", address=("198.51.100.9", "2001:db8::9"))
        expected = [
            "given/198.51.100.9:50000",
            "given/[2001:db8::9]:50000",
            "host/192.168.1.5:50000",
        ]
        self.assertEqual(self.texts()[:3], expected)
        self.assertEqual(self.texts()[3:], [f"mapped/{OUTSIDE}"])

    def test_given_without_dns(self) -> None:
        """With a given address, the registry's need not be known; without one, that is an error."""
        self.dns = {}
        self.network("192.168.1.5", address=("198.51.100.9",))
        self.assertEqual(len(self.texts()), 2)
        self.network("192.168.1.5")
        failed = Deferred.fromCoroutine(self.own.location())
        self.failureResultOf(failed, RegistryNotLookedUp)

    def test_both_families(self) -> None:
        """IPv4 and IPv6 addresses are published, each family asks STUN servers of its own."""
        self.dns["registry.example"] = (REGISTRY, "2001:db8:1::1")
        self.routes[True] = "2001:db8::5"
        self.port.nat = lambda to: PeerAddress("2001:db8::5", PORT) if ":" in to[0] else OUTSIDE
        self.network("192.168.1.5", "2001:db8::5", "2001:db8::6")
        self.assertEqual(
            self.texts(),
            [
                "host/192.168.1.5:50000",
                "host/[2001:db8::5]:50000",
                "host/[2001:db8::6]:50000",
                "seen/198.51.100.9:50000",
                f"mapped/{OUTSIDE}",
            ],
        )
        self.assertEqual((len(self.port.asked), self.own.mapping), (4, Mapping.INDEPENDENT))

    def test_ipv6_only(self) -> None:
        """A machine with IPv6 alone finds its address by a registry that has IPv6, and asks it nothing over IPv4."""
        self.dns["registry.example"] = (REGISTRY, "2001:db8:1::1")
        self.routes = {False: "", True: "2001:db8::5"}
        self.port.nat = lambda _: PeerAddress("2001:db8::5", PORT)
        self.network("2001:db8::5")
        location = self.locate()
        self.assertEqual(list(map(str, location.candidates)), ["host/[2001:db8::5]:50000"])
        self.assertEqual((location.mapping, location.ipv4_address), (Mapping.NONE, None))
        self.assertEqual({":" in ip for ip, _ in self.port.asked}, {True})

    def test_this_machine_only(self) -> None:
        """If the registry is on this machine, the loopback address is the only one, and nobody is asked for others."""
        for ip in ("127.0.0.1", "::1"):
            self.dns["registry.example"] = (ip,)
            self.routes[":" in ip] = ip
            self.network("192.168.1.5")
            address = PeerAddress(ip, PORT)
            self.assertEqual(self.texts(), [f"host/{address}"])
            interfaces = Deferred.fromCoroutine(self.own.interfaces())
            self.assertEqual(self.successResultOf(interfaces), (ip,))
            self.own.seen_at("127.0.0.1")
            self.assertEqual((self.own.mapping, self.port.asked), (Mapping.NONE, []))

    def test_without_a_registry(self) -> None:
        """Without a registry the addresses of the interfaces are the candidates, and nobody is asked."""
        self.client.url, self.client.description = "lan:", None
        self.network("192.168.1.5", "2001:db8::5")
        self.assertEqual(self.texts(), ["host/192.168.1.5:50000", "host/[2001:db8::5]:50000"])
        self.network()
        self.failureResultOf(Deferred.fromCoroutine(self.own.location()), LanUnusable)

    def test_seen(self) -> None:
        """The registry's word for the address counts before STUN's; one that no peer can have does not (threat 51)."""
        self.network("192.168.1.5")
        self.locate()
        for ip in ("127.0.0.1", "169.254.1.1", "::1", "nonsense"):
            self.own.seen_at(ip)
        self.assertEqual((self.changes, self.own.seen), ([], None))
        self.own.seen_at("198.51.100.8")
        self.assertEqual((self.changes, self.own.seen), ([False], "198.51.100.8"))
        self.assertIn(f"seen/198.51.100.8:{PORT}", self.texts())

    def test_bound(self) -> None:
        """At most eight candidates are published, and those that are seen from outside have a place (threat 13)."""
        self.network(*(f"192.168.{each}.5" for each in range(20)))
        self.own.forwarded_at([PeerAddress("198.51.100.9", 443)])
        texts = self.texts()
        self.assertEqual(len(texts), CANDIDATES_MAX)
        self.assertEqual(texts[0], "forwarded/198.51.100.9:443")
        self.assertEqual(texts[-2:], [f"seen/198.51.100.9:{PORT}", f"mapped/{OUTSIDE}"])

    def test_private(self) -> None:
        """A private peer publishes no address, and asks nobody for it, whatever it learns (threat 52)."""
        self.network("192.168.1.5", private=True, address=("198.51.100.9",))
        location = self.locate()
        self.assertEqual((location.candidates, location.mapping), ((), Mapping.UNKNOWN))
        self.own.seen_at("198.51.100.9")
        self.own.forwarded_at([OUTSIDE])
        self.assertEqual((self.changes, self.port.asked), ([], []))
        status = self.own.status()
        self.assertEqual((status["candidates"], status["private"]), ([], True))

    def test_moved(self) -> None:
        """After a change of the network, everything is asked again at once, and the change is told."""
        self.network("192.168.1.5")
        self.locate()
        self.watch.state = state_of("10.1.1.7")
        self.routes[False] = "10.1.1.7"
        self.port.nat = lambda _: PeerAddress("192.0.2.77", 1234)
        self.watch.on_change(False)
        self.assertEqual(self.changes, [True])
        self.assertEqual(
            self.texts(), ["host/10.1.1.7:50000", "seen/192.0.2.77:50000", "mapped/192.0.2.77:1234"]
        )

    def test_other_network(self) -> None:
        """A change that does not concern the way to the registry is published, and breaks no connection."""
        self.network("192.168.1.5")
        self.locate()
        self.port.asked.clear()
        self.watch.state = state_of("192.168.1.5", "172.17.0.1")
        self.watch.on_change(False)
        self.assertEqual((self.changes, self.port.asked, self.forgotten), ([False], [], 0))
        self.assertIn("host/172.17.0.1:50000", self.texts())
        self.watch.on_change(True)  # the machine has resumed
        self.assertEqual(self.changes, [False, True])

    def test_cable(self) -> None:
        """A cable that is pulled and put back breaks connections, though the address is the same in the end."""
        self.network("192.168.1.5")
        self.locate()
        for state in (NetworkState(), state_of("192.168.1.5")):
            self.watch.state = state
            self.watch.on_change(False)
        self.assertEqual((self.changes, self.forgotten), ([True, True], 2))

    def test_moved_during_a_round(self) -> None:
        """A change of the network ends the round that runs; its answers count for nothing."""
        self.port.nat = lambda _: None
        self.network("192.168.1.5")
        locating = Deferred.fromCoroutine(self.own.location())
        self.watch.on_change(True)
        self.successResultOf(locating)
        self.assertEqual((self.port.handlers, self.own.mapping), ([], Mapping.UNKNOWN))

    def test_unusable(self) -> None:
        """A machine with no address that others could use is an error with the reason."""
        self.routes[False] = "169.254.3.4"
        self.port.nat = lambda _: None
        self.network()
        locating = Deferred.fromCoroutine(self.own.location())
        self.clock.advance(FIRST_WAIT)
        error: Any = self.failureResultOf(locating, OwnAddressUnknown).value
        self.assertIn("169.254.3.4", error.fields["reason"])
        self.routes[False] = ""
        error = self.failureResultOf(Deferred.fromCoroutine(self.own.location())).value
        self.assertIn(REGISTRY, str(error))

    def test_stopped(self) -> None:
        """Stopping leaves no timer, also in the middle of a round."""
        self.port.nat = lambda _: None
        self.network("192.168.1.5")
        Deferred.fromCoroutine(self.own.location())
        self.own.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.port.handlers), ([], []))
        self.assertFalse(self.watch.is_running)

    def test_status(self) -> None:
        """The status has the candidates and the kind of the NAT."""
        self.network("192.168.1.5")
        self.locate()
        status = self.own.status()
        self.assertEqual((status["mapping"], status["private"]), ("independent", False))
        self.assertEqual(status["candidates"][0], f"host/192.168.1.5:{PORT}")

    def test_servers(self) -> None:
        """A registry cannot make its peers send datagrams to programs on their own machines (threat 51)."""
        self.dns |= {
            "stun.example": ("198.51.100.1",),
            "evil.example": ("127.0.0.1", "::1"),
            "odd.example": ("169.254.1.1", "ff02::1"),
        }

        def found(url: str, *stun: str) -> list[str]:
            finding: Deferred[Any] = Deferred.fromCoroutine(stun_servers(self.clock, stun, url))
            return list(map(str, self.successResultOf(finding)))

        url = "http://registry.example:8000"
        stun = ("1", "stun.example:2", "evil.example:3", "odd.example:4", "none.example:5")
        self.assertEqual(found(url, *stun), [f"{REGISTRY}:1", "198.51.100.1:2"])
        self.dns["registry.example"] = ("127.0.0.1",)
        self.assertEqual(found(url, "8000"), ["127.0.0.1:8000"])
