"""A registry in memory behind a real port of the loopback interface, for tests of whole peers and of verbs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from p2pshare.peer.service import PeerService
from p2pshare.registry.api.events import EventHub
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.client_addresses import Origins
from p2pshare.web.site import Site
from tests.peer.loopback import HOST, LoopbackTestCase
from tests.registry.connections import make_routes


class RegistryTestCase(LoopbackTestCase):
    """Peers with a registry; each stops with the test."""

    has_events = False
    """Whether the registry tells who comes and goes."""

    def setUp(self) -> None:
        super().setUp()
        self.store = MemoryNameStore(self.reactor)
        routes = make_routes(self.store, self.reactor)
        if self.has_events:
            hub = EventHub(self.store, self.reactor)
            routes.table.update(hub.table(Origins(()).of))
            self.addCleanup(hub.stop)
        self._site = Site(routes, self.real_reactor)
        self._listening: Any = self.real_reactor.listenTCP(0, self._site, interface=HOST)
        self.addCleanup(self.go_away)
        self._port: int = self._listening.getHost().port
        self.registry = f"http://{HOST}:{self._port}"

    def go_away(self) -> Any:
        """Let the registry accept no connections, and end those that there are."""
        return self._listening.stopListening()

    def come_back(self) -> None:
        """Let it serve again, at the same port."""
        self._listening = self.real_reactor.listenTCP(self._port, self._site, interface=HOST)

    def settings(self, name: str) -> Settings:
        """Return the settings of a user."""
        return Settings(name=name, registry=self.registry, data=self.data_of(name))

    def data_of(self, name: str) -> Path:
        """Return the data folder of a user."""
        return self.saved.parent / f"data-{name}"

    async def started(self, name: str) -> PeerService:
        """Start a peer that shares a folder as `stuff`, and return it when it is ready."""
        peer = PeerService(
            self.reactor,
            random.Random(name),
            self.settings(name),
            [SharedPath("stuff", self.shared)],
            wall=self.reactor.seconds,
        )
        peer.startService()
        self.addCleanup(lambda: peer.stopService() if peer.running else None)
        await peer.ready
        peer.lost.addErrback(lambda _: None)  # a test may let it end
        return peer
