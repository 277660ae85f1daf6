"""Tests of `p2pshare.peer.lan.dns_sd`, without a network: packets go straight to the library's cache."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zeroconf import ServiceInfo
from zeroconf._cache import DNSCache
from zeroconf._handlers.record_manager import RecordManager
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncServiceInfo

from p2pshare.errors import LanUnusable
from p2pshare.net.reach.interfaces import InterfaceAddress, NetworkState
from p2pshare.peer.lan import announcement, dns_sd
from p2pshare.peer.lan.announcement import SERVICE_TYPE, TEXT_MAX, Announcement
from p2pshare.peer.lan.dns_sd import ASKED_MAX, HAND_OVER, HEARD_MAX, TTL_MAX, DnsSd, _Ear
from tests.peer.lan.network import HOME, announced

RESPONSE = 0x8400  # flags of an answer
GOODBYE = 0  # s


class Library:
    """The parts of the library that an ear uses."""

    def __init__(self) -> None:
        self.cache = DNSCache()
        self.asked: list[str] = []
        self.manager = RecordManager(self)  # type: ignore[arg-type]

    def async_notify_all(self) -> None:
        pass

    def receive(self, *infos: ServiceInfo, ttl: int | None = None, only: str = "") -> None:
        """Take a packet with the records of services."""
        out = DNSOutgoing(RESPONSE)
        for info in infos:
            records = {"ptr": info.dns_pointer, "srv": info.dns_service, "txt": info.dns_text}
            for name, record in records.items():
                if only in ("", name):
                    out.add_answer_at_time(record(override_ttl=ttl), 0)
            for address in () if only else info.dns_addresses(override_ttl=ttl):
                out.add_answer_at_time(address, 0)
        for packet in out.packets():
            self.manager.async_updates_from_response(DNSIncoming(packet))


def service(announcement: Announcement, **changed: Any) -> ServiceInfo:
    said: dict[str, Any] = {
        "port": announcement.addresses[0].port,
        "properties": announcement.text(),
        "server": f"{announcement.name}.local.",
        "parsed_addresses": [each.ip for each in announcement.addresses],
    }
    name = f"{announcement.instance}.{SERVICE_TYPE}"
    return ServiceInfo(SERVICE_TYPE, name, **{**said, **changed})


class EarTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: list[tuple[tuple[Announcement, ...], list[str]]] = []
        self.asked: list[str] = []

        class Reactor:
            def callFromThread(self, work: Callable[..., object], *given: Any) -> None:
                work(*given)

        async def ask(info: Any, _zeroconf: object, _timeout: int) -> bool:
            self.asked.append(info.name)
            await asyncio.sleep(60)
            return False

        self.patch(AsyncServiceInfo, "async_request", ask)
        reactor: Any = Reactor()
        self.ear = _Ear(
            reactor, lambda news, left: self.calls.append((tuple(news), list(left))), HOME
        )

    def hear(self, *packets: Callable[[Library], None]) -> None:
        async def run() -> None:
            library: Any = Library()
            self.ear._zeroconf = library
            library.manager.async_add_listener(self.ear, None)
            for packet in packets:
                packet(library)
            await asyncio.sleep(2 * HAND_OVER)
            for each in self.ear._asking:
                each.cancel()
            await asyncio.gather(*self.ear._asking, return_exceptions=True)

        asyncio.run(run())

    def test_heard(self) -> None:
        """A packet with all records of a peer is an announcement, and so is each repetition; a farewell is one, too."""
        bob, carol = announced("bob", 7), announced("carol", 3)
        self.hear(lambda lib: lib.receive(service(bob), service(carol)))
        self.assertEqual(self.calls, [((bob, carol), [])])
        self.calls.clear()
        self.hear(
            lambda lib: lib.receive(service(bob)),
            lambda lib: lib.receive(service(bob)),
            lambda lib: lib.receive(service(carol)),
            lambda lib: lib.receive(service(carol), ttl=GOODBYE),
        )
        self.assertEqual(self.calls, [((bob, carol), [carol.instance])])

    def test_missing_records(self) -> None:
        """The records that a packet lacks are asked for, those of a bounded number of services at once."""
        many = [service(announced(f"n{n}", 7)) for n in range(2 * ASKED_MAX)]
        self.hear(lambda lib: lib.receive(*many, only="ptr"))
        self.assertEqual((len(self.asked), self.calls), (ASKED_MAX, []))

    def test_hostile(self) -> None:
        """Threats 62 and 63: records that are no announcement, or point elsewhere, are heard by nobody."""
        bob = announced("bob", 7)
        other = "_http._tcp.local."
        self.hear(
            lambda lib: lib.receive(
                service(bob, parsed_addresses=["203.0.113.1"]),
                service(announced("carol", 3), properties=b"\xff" + b"v" * 255),
                service(announced("dave", 3), properties={"v": "1" * 200}),
                service(
                    announced("eve", 3),
                    properties={f"x{n}": "y" * 200 for n in range(1 + TEXT_MAX // 200)}
                    | announced("eve", 3).text(),
                ),
                service(announced("frank", 3), port=0),
                ServiceInfo(
                    other, f"x.{other}", port=1, server="x.local.", parsed_addresses=["192.0.2.1"]
                ),
            )
        )
        self.assertEqual(self.calls, [])

    def test_flood(self) -> None:
        """Threat 63: a flood reaches the reactor as a bounded number of peers in each interval."""
        infos = [service(announced(f"n{n}", 7)) for n in range(3 * HEARD_MAX)]
        self.hear(lambda lib: lib.receive(*infos[:200]), lambda lib: lib.receive(*infos[200:]))
        ((news, left),) = self.calls
        self.assertEqual((len(news), left), (HEARD_MAX, []))

    def test_records_for_years(self) -> None:
        """Threat 63: records of a flood leave the library's cache soon, whatever they say."""
        kept: list[int] = []

        def receive(library: Library) -> None:
            library.receive(service(announced("bob", 7)), ttl=2**31 - 1)
            kept.extend(each.ttl for records in library.cache.cache.values() for each in records)

        self.hear(receive)
        self.assertEqual({*kept}, {TTL_MAX})
        self.assertEqual(len(self.calls), 1)

    def test_closed(self) -> None:
        """Nothing is handed over after the end."""
        self.hear(
            lambda lib: lib.receive(service(announced("bob", 7))),
            lambda lib: setattr(self.ear, "is_closed", True),
        )
        self.assertEqual(self.calls, [])


class DnsSdTests(TestCase):
    """The library on the loopback interface, over which it multicasts, too."""

    timeout = 20.0

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.addresses = ["127.0.0.1"]
        self.patch(dns_sd, "read_network", self.network)
        self.patch(announcement, "_is_near", lambda ip, networks: bool(networks))
        self.heard: list[Announcement] = []
        self.left: list[str] = []

    def network(self) -> NetworkState:
        network = ipaddress.ip_network("127.0.0.0/8")
        return NetworkState(tuple(InterfaceAddress(each, network, "lo") for each in self.addresses))

    async def listener(self) -> DnsSd:
        made = DnsSd(self.reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.close()))
        await made.open(self.hear)
        return made

    def hear(self, news: Sequence[Announcement], left: Sequence[str]) -> None:
        bob = announced("bob", 7)  # other peers may run on this machine
        self.heard += [each for each in news if each.key == bob.key]
        self.left += [each for each in left if each == bob.instance]

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await deferLater(self.reactor, 0.02, lambda: None)

    async def test_announced(self) -> None:
        """A peer is heard when it is announced, after its address has changed, and when it says farewell."""
        await self.listener()
        bob, said = await self.listener(), announced("bob", 7)
        await bob.announce(said)
        await self.until(lambda: bool(self.heard))
        self.assertEqual((self.heard[0].name, self.heard[0].key), ("bob", said.key))
        self.addresses.append("127.0.0.2")
        self.heard.clear()
        await bob.repeat()
        await self.until(lambda: any(len(each.addresses) == 2 for each in self.heard))
        await bob.announce(None)
        await self.until(lambda: bool(self.left))
        self.assertEqual(set(self.left), {said.instance})

    async def test_network_away(self) -> None:
        """Without a network it cannot begin; one that was away and has returned is used again."""
        self.addresses.clear()
        with self.assertRaises(LanUnusable):
            await self.listener()
        self.addresses.append("127.0.0.1")
        bob, said = await self.listener(), announced("bob", 7)
        await bob.announce(said)
        self.addresses.clear()
        await bob.repeat()
        self.heard.clear()
        self.addresses.append("127.0.0.1")
        await self.listener()
        await bob.repeat()
        await self.until(lambda: bool(self.heard))
        await bob.close()
        await bob.close()
        await bob.repeat()
