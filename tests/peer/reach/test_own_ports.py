"""Tests of `p2pshare.peer.reach.own_ports`: what the user changes while the peer runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.reach.port_mapping import Forwarded
from p2pshare.peer.reach import own_ports
from p2pshare.peer.reach.own_ports import OwnPorts
from p2pshare.storage.settings import Settings
from p2pshare.wire.addresses import PeerAddress

OUTSIDE = PeerAddress("203.0.113.7", 50000)


class FakeGateway:
    """A router that forwards every port."""

    def __init__(self, _reactor: object) -> None:
        self.forwarded: set[int] = set()
        gateways.append(self)

    async def forward(self, port: int) -> Forwarded:
        self.forwarded.add(port)
        return Forwarded((OUTSIDE,), 3600)

    async def remove(self, port: int) -> None:
        self.forwarded.discard(port)


gateways: list[FakeGateway] = []


class FakeNetwork:
    """Is reached from outside."""

    is_local = False

    def __init__(self) -> None:
        self.told: list[Sequence[PeerAddress]] = []

    async def interfaces(self) -> tuple[str, ...]:
        return ()

    def opened(self, number: int, port: object) -> None: ...

    async def location(self) -> None: ...

    def forwarded_at(self, addresses: Sequence[PeerAddress]) -> None:
        self.told.append(tuple(addresses))


class FakePorts:
    """Opens every port."""

    port: Any = None

    def __init__(self) -> None:
        self.port = self

    async def listen(self, *_: object) -> int:
        return 50000


class MappingTests(SynchronousTestCase):
    def test_changed(self) -> None:
        """The router forwards the port as soon as the user wants it, and not any more when they do not."""
        gateways.clear()
        self.patch(own_ports, "PcpGateway", FakeGateway)
        self.patch(own_ports, "upnp_gateway", lambda _: None)
        self.patch(own_ports, "listen_welcome", lambda *_: FakePorts().listen())
        network, settings = FakeNetwork(), Settings(listen=50000)
        ports = OwnPorts(
            cast(Any, Clock()),
            random.Random(1),
            settings,
            cast(Any, network),
            cast(Any, FakePorts()),
            cast(Any, FakePorts()),
        )
        self.do(ports.location())
        self.assertEqual(gateways, [])
        self.do(ports.use(replace(settings, port_mapping=True)))
        self.assertEqual((gateways[0].forwarded, network.told), ({50000}, [(OUTSIDE,)]))
        self.do(ports.use(replace(settings, port_mapping=True, limit=1000.0)))
        self.assertEqual(len(gateways), 1)
        self.do(ports.use(settings))
        self.assertEqual((gateways[0].forwarded, network.told[-1]), (set(), ()))
        self.do(ports.use(replace(settings, port_mapping=True)))
        self.assertEqual(gateways[1].forwarded, {50000})
        self.do(ports.stop())

    def do(self, work: Any) -> None:
        self.successResultOf(Deferred.fromCoroutine(work))
