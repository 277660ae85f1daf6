"""Tests of `p2pshare.peer.service`, with a registry in memory behind a real port."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import (
    AlreadyRunning,
    KeyUnusable,
    NameReleased,
    NameTaken,
    PortUnusable,
    RegistryUnreachable,
)
from p2pshare.peer.control import running_peer
from p2pshare.peer.service import PeerService
from p2pshare.registry.memory_store import MemoryNameStore
from p2pshare.registry.site import RegistrySite
from p2pshare.storage.share_arguments import SharedPath
from p2pshare.wire.classic import Kind
from p2pshare.wire.peers import PeerView, Presence
from p2pshare.wire.registration import PeerAddress
from tests.peer.loopback import HOST, PATIENCE, Datagrams, LoopbackTestCase
from tests.registry.connections import make_routes


class PeerServiceTests(LoopbackTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = MemoryNameStore(self.reactor)
        self.registry_port = self.serve_registry(0)
        self.data = self.saved.parent / "data"

    def serve_registry(self, number: int) -> int:
        """Let the registry be there."""
        site = RegistrySite(make_routes(self.store, self.reactor), self.real_reactor)
        self.listening: Any = self.real_reactor.listenTCP(number, site, interface=HOST)
        self.addCleanup(self.listening.stopListening)
        return int(self.listening.getHost().port)

    def peer(self, data: Path | None = None, **options: Any) -> PeerService:
        """A peer that is started, and stopped with the test."""
        peer = PeerService(
            self.reactor,
            random.Random(str(data or self.data)),  # another port for each
            user="alice",
            registry=f"http://{HOST}:{self.registry_port}",
            shares=[SharedPath("stuff", self.shared)],
            data=data or self.data,
            wall=self.reactor.seconds,
            on_served=self.served.append,
            **options,
        )
        peer.startService()
        self.addCleanup(lambda: peer.stopService() if peer.running else None)
        return peer

    def registered(self) -> Deferred[PeerAddress | None]:
        return self.store.look_up("alice")

    async def test_serves(self) -> None:
        """A peer is registered where it is reached, and serves; once it stops it is gone, and comes back at once."""
        self.share_text(b"text")
        peer = self.peer(classic=True)
        address = await peer.ready
        self.assertEqual(address.ip, HOST, "the address from which the registry is reached")
        self.assertEqual(await self.registered(), address)
        self.assertEqual((await self.fetch(address, Kind.TEXT)).path.read_bytes(), b"text")
        await peer.stopService()
        self.assertIsNone(await self.registered())
        self.assertEqual(self.udp_ports(), [])
        again = self.peer(classic=True)
        await again.ready

    async def test_same_name_elsewhere(self) -> None:
        """A name that another peer has is refused, and stays the other's when the second one stops."""
        first = self.peer()
        address = await first.ready
        second = self.peer(self.saved.parent / "elsewhere")
        await self.assertFailure(second.ready, NameTaken)
        await second.stopService()
        self.assertEqual(await self.registered(), address)

    async def test_data_folder_in_use(self) -> None:
        """One data folder, one running peer."""
        await self.peer().ready
        error = await self.assertFailure(self.peer().ready, AlreadyRunning)
        self.assertIn("'alice' is already running", str(error))

    async def test_data_folder_damaged(self) -> None:
        """A damaged key is told, and never replaced."""
        self.data.mkdir()
        (self.data / "key").write_bytes(b"damaged")
        (self.data / "key").chmod(0o600)
        await self.assertFailure(self.peer().ready, KeyUnusable)
        self.assertEqual((self.data / "key").read_bytes(), b"damaged")

    async def test_port_in_use(self) -> None:
        """A port that somebody else has is told; the name is not taken."""
        port = self.socket(Datagrams())
        await self.assertFailure(self.peer(listen=port).ready, PortUnusable)
        self.assertIsNone(await self.registered())

    async def test_chosen_address(self) -> None:
        """The address that the user names is the one that is registered."""
        address = await self.peer(address="127.0.0.7").ready
        self.assertEqual((await self.registered(), address.ip), (address, "127.0.0.7"))

    async def test_registry_away(self) -> None:
        """Without patience a registry that is away is an error; with it, it is waited for."""
        await self.listening.stopListening()
        hasty = self.peer(self.saved.parent / "hasty", patient=False)
        await self.assertFailure(hasty.ready, RegistryUnreachable)
        patient = self.peer()
        self.serve_registry(self.registry_port)
        self.assertEqual(await patient.ready, await self.registered())

    async def test_name_lost(self) -> None:
        """A peer whose name somebody else has got hears of it."""
        peer = self.peer()
        await peer.ready
        await self.listening.stopListening()
        self.store = MemoryNameStore(self.reactor)
        self.serve_registry(self.registry_port)
        await self.peer(self.saved.parent / "thief").ready
        await self.assertFailure(peer.lost, NameTaken)

    test_name_lost.timeout = 3 * PATIENCE  # type: ignore[attr-defined]  # up to two heartbeats pass

    async def ask(self, do: str) -> dict[str, Any]:
        """Have the peer that runs do something."""
        client = await running_peer(self.reactor, self.data)
        assert client is not None
        try:
            return await client.ask(do)
        finally:
            client.close()

    def view(self) -> Deferred[PeerView | None]:
        return self.store.look_up_peer("alice")

    async def test_status(self) -> None:
        """A verb learns from the running peer who and where it is."""
        peer = self.peer()
        address = await peer.ready
        status = await self.ask("status")
        view = await self.view()
        assert view is not None
        self.assertEqual(status["key"], str(view.key))
        self.assertEqual((status["name"], status["pid"]), ("alice", os.getpid()))
        self.assertEqual((status["address"], status["registered"]), (str(address), True))
        self.assertEqual((status["online"], status["sharing"]), (True, ["stuff"]))
        self.assertEqual(status["registry"], f"http://{HOST}:{self.registry_port}")
        self.assertAlmostEqual(status["since"], self.reactor.seconds(), -2)
        await peer.stopService()
        self.assertIsNone(await running_peer(self.reactor, self.data))

    async def test_status_without_a_registry(self) -> None:
        """So it does while the peer waits for its registry."""
        await self.listening.stopListening()
        self.peer()
        status = await self.ask("status")
        self.assertEqual((status["registered"], status["online"]), (False, False))
        self.assertEqual((status["address"], status["since"]), (None, None))

    async def test_release(self) -> None:
        """A verb has the running peer give its name up; the peer ends, which is no failure."""
        peer = self.peer()
        await peer.ready
        self.assertEqual(await self.ask("release"), {"name": "alice"})
        await self.assertFailure(peer.lost, NameReleased)
        self.assertIsNone(await self.view())
        await peer.stopService()
        await self.peer(self.saved.parent / "elsewhere").ready

    async def test_rotate(self) -> None:
        """A verb has the running peer change its key; the peer stays there, and so does a later start."""
        peer = self.peer()
        await peer.ready
        reply = await self.ask("rotate")
        view = await self.view()
        assert view is not None
        self.assertEqual((reply["key"], len(view.rotations)), (str(view.key), 1))
        self.assertNotEqual(reply["old"], reply["key"])
        self.assertEqual((await self.ask("status"))["key"], reply["key"])
        await peer.stopService()
        await self.peer().ready
        view = await self.view()
        assert view is not None
        self.assertEqual((str(view.key), view.summary.presence), (reply["key"], Presence.ONLINE))

    async def test_stopped_while_waiting(self) -> None:
        """A peer that is stopped while it waits for a registry is over, and never registers."""
        await self.listening.stopListening()
        peer = self.peer()
        await peer.stopService()
        self.serve_registry(self.registry_port)
        self.assertNoResult(peer.ready)
        self.assertIsNone(await self.registered())
