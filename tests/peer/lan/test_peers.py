"""Running peers without a registry: `PeerService` on a network in memory, and sessions on loopback sockets."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    AcceptanceAwaited,
    NamesProven,
    NoRegistry,
    NotFound,
    P2pshareError,
    SessionRefused,
    WrongUsage,
)
from p2pshare.names import ON_NETWORK
from p2pshare.net.session.carriers import Carriers
from p2pshare.peer import service
from p2pshare.peer.control import running_peer
from p2pshare.peer.find.target import Target
from p2pshare.peer.lan.directory import LanDirectory
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.peer.service import PeerService, shares_of
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.wire.addresses import LAN, PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import List, Listing
from tests.peer.lan.network import Network, announced
from tests.peer.loopback import HOST, LoopbackTestCase

BOB, EVE = SigningKey(b"b" * 32), SigningKey(b"e" * 32)


class Viewer:
    """The user of a session that lists."""

    def __init__(self, session: Session) -> None:
        self.listing: Deferred[Listing] = Deferred()
        session.begin(self)
        session.send(List(1, (), (), 100, False))

    def message_received(self, message: Message) -> None:
        if isinstance(message, Listing):
            self.listing.callback(message)

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None: ...
    def size_received(self, transfer: int, size: int) -> None: ...
    def fin_received(self, transfer: int) -> tuple[()]:
        return ()

    def room_again(self) -> None: ...
    def session_ended(self, reason: P2pshareError | None) -> None: ...


class LanPeerCase(LoopbackTestCase):
    """Alice's peer on a network in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.network = Network()
        self.machine = self.network.machine()
        self.notices: list[str] = []
        self.data = self.saved.parent / "data"

        def open_directory(
            reactor: Any, url: str, place: Any, wall: Any, *, on_notice: Any
        ) -> tuple[LanDirectory, Any]:
            lan = LanDirectory(reactor, self.machine, place, wall, on_notice=on_notice)
            return lan, lambda: Deferred.fromCoroutine(lan.close())

        self.patch(service, "open_directory", open_directory)

    async def start(self, *shares: SharedPath) -> PeerService:
        """Start alice's peer, and stop it with the test."""
        settings = Settings(registry=LAN, name="alice", data=self.data, address=(HOST,))
        peer = PeerService(
            self.reactor,
            random.Random(str(self.data)),
            settings,
            shares or [SharedPath("stuff", self.shared)],
            wall=self.reactor.seconds,
            on_notice=self.notices.append,
        )
        peer.startService()
        self.addCleanup(lambda: maybeDeferred(peer.stopService) if peer.running else None)
        self.address: PeerAddress = await peer.ready
        return peer

    async def seen_by(self, peer: PeerService, key: SigningKey, said: str) -> list[str]:
        """Return the shares that somebody sees who calls itself `said`."""
        carriers = Carriers(self.real_reactor)
        dialler = Dialler(self.real_reactor, lambda: key, carriers, own_name=said)
        try:
            session = await dialler.open(
                Target.at("alice", peer.key.public, self.address), credit=1
            )
            listing = await Viewer(session).listing
            session.close()
        finally:
            await carriers.close()
        return [each.path[0] for each in listing.entries]

    async def ask(self, do: str, **fields: str) -> dict[str, Any]:
        client = await running_peer(self.reactor, self.data)
        assert client is not None
        try:
            return await client.ask(do, **fields)
        finally:
            client.close()


class LanPeerTests(LanPeerCase):
    """What a peer without a registry does."""

    async def test_accepted_while_running(self) -> None:
        """A new key waits, the owner is asked, and a verb lets it in at once; it is announced from start to end."""
        peer = await self.start()
        assert self.machine.announced is not None
        self.assertEqual(self.machine.announced.key, peer.key.public)
        with self.assertRaises(AcceptanceAwaited):
            await self.seen_by(peer, BOB, "bob")
        (notice,) = self.notices
        self.assertIn(BOB.public.grouped, notice)
        status = await self.ask("status")
        self.assertEqual(status["waiting"], [{"name": "bob", "key": str(BOB.public)}])
        self.assertEqual((status["registry"], status["registry_key"]), (LAN, None))
        with self.assertRaises(NotFound):
            await self.ask("accept", name="carol")
        self.assertEqual((await self.ask("accept", name="Bob"))["key"], str(BOB.public))
        self.assertEqual(await self.seen_by(peer, BOB, "robert"), ["stuff"])
        with self.assertRaises(SessionRefused):
            await self.seen_by(peer, EVE, "bob")
        await peer.stopService()
        self.assertIsNone(self.machine.announced)

    async def test_whole_network(self) -> None:
        """Threat 62: a stranger sees the shares that are for the whole network, and no other one, whatever it says."""
        open_to_all = frozenset({ON_NETWORK})
        peer = await self.start(
            SharedPath("open", self.shared, open_to_all),
            SharedPath("mine", self.shared),
            SharedPath("bobs", self.shared, frozenset({"bob"})),
        )
        self.assertEqual(await self.seen_by(peer, EVE, "bob"), ["open"])
        await peer.accept("bob", str(BOB.public))
        self.assertEqual(await self.seen_by(peer, BOB, "bob"), ["bobs", "mine", "open"])

    async def test_without_owners(self) -> None:
        """Names are not given up, and keys not replaced; another peer with the own name is a trouble."""
        await self.start()
        for action in ("release", "rotate"):
            with self.assertRaises(NoRegistry):
                await self.ask(action)
        self.network.say(announced("alice", 66))
        self.assertIn("alice", (await self.ask("status"))["trouble"])

    def test_settings(self) -> None:
        """`--allow @lan` needs the local network, and there is nobody to accept in a registry."""
        settings = Settings(registry="http://127.0.0.1:8000", name="alice", allow=(ON_NETWORK,))
        self.assertRaises(WrongUsage, shares_of, settings, self.shared)
        private = Settings(registry="lan:", name="alice", private=True)
        self.assertRaises(WrongUsage, shares_of, private, self.shared)
        with_registry = PeerService.__new__(PeerService)
        with_registry._lan_admission, with_registry._settings = None, settings
        accepting = Deferred.fromCoroutine(with_registry.accept("bob"))
        self.failureResultOf(accepting, NamesProven)
