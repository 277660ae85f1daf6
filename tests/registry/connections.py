"""A site, and connections to it, in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.metrics import RegistryMetrics
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import NameStore
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.exchange import Answers, Query, Reply
from p2pshare.web.limits import Limits
from p2pshare.web.site import Channel, Site
from p2pshare.wire.keys import SigningKey

HOST = b"Host: x\r\n\r\n"
REGISTRY_KEY = SigningKey(bytes(range(32)))


def make_authority(clock: IReactorTime) -> Authority:
    """Return an authority with a fixed key and fixed random bytes."""
    return Authority(REGISTRY_KEY, clock.seconds, lambda size: b"r" * size)


def make_routes(
    store: NameStore,
    clock: IReactorTime,
    *,
    metrics: RegistryMetrics | None = None,
    **settings: Any,
) -> Routes:
    """Return routes with a fixed key and fixed random bytes, without limits; `clock` is also the wall clock."""
    settings.setdefault("limits", {})
    return Routes(
        store,
        clock,
        wall=clock.seconds,
        authority=make_authority(clock),
        settings=RegistrySettings("", Path(), **settings),
        metrics=metrics,
    )


class SlowRoutes:
    """Answers queries when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Reply]] = []

    def answer(self, query: Query) -> Deferred[Reply]:
        self.asked.append(Deferred())
        return self.asked[-1]


class NarrowTransport(StringTransport):
    """A transport that pauses its producer after every write, until it is drained."""

    producer: Any

    def write(self, data: bytes) -> None:
        super().write(data)
        self.producer.pauseProducing()
        self.producerState = "paused"

    def drain(self) -> None:
        self.producerState = "producing"
        self.producer.resumeProducing()


class Client:
    """One connection to a site, in memory."""

    def __init__(
        self,
        site: Site,
        host: str = "10.9.9.9",
        transport: type[StringTransport] = StringTransport,
    ) -> None:
        address = IPv4Address("TCP", host, 40000)
        self.transport: Any = transport(peerAddress=address)
        self.channel: Channel | None = site.buildProtocol(address)
        if self.channel is not None:
            self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """Deliver bytes and return what came back."""
        assert self.channel is not None
        self.transport.clear()
        if not self.transport.disconnecting:
            self.channel.dataReceived(data)
        written: bytes = self.transport.value()
        return written

    def leave(self) -> None:
        """Close the connection as the client."""
        assert self.channel is not None
        self.channel.connectionLost()

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)


class SiteTestCase(SynchronousTestCase):
    """A site over a store in memory, and a clock."""

    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.site = self.make_site(make_routes(MemoryNameStore(self.clock), self.clock))

    def make_site(self, routes: Answers) -> Site:
        site = Site(routes, self.clock, self.limits)
        site.doStart()
        self.addCleanup(site.doStop)
        return site

    def one(self, data: bytes) -> tuple[int, bytes, bool]:
        """Return the status and body of the reply to one request, and whether the connection has ended."""
        client = Client(self.site)
        head, _, body = client.send(data).partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body, client.closed
