"""Tests of `p2pshare.peer.service`, with a registry in memory behind a real port."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest

from p2pshare.classic.datagrams import Kind
from p2pshare.classic.shared_files import ClassicShare
from p2pshare.core.datagram_core import Address
from p2pshare.core.ranges import Range
from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    AlreadyRunning,
    KeyUnusable,
    NameReleased,
    NameTaken,
    OwnAddressUnknown,
    P2pshareError,
    PeerStopped,
    PortUnusable,
    RegistryUnreachable,
    SessionRefused,
)
from p2pshare.names import ON_NETWORK
from p2pshare.net.datagrams.welcome_port import WelcomePort
from p2pshare.net.dns import LookUpError
from p2pshare.net.reach import interfaces
from p2pshare.net.reach.port_mapping import Forwarded
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.dialling import open_session
from p2pshare.net.session.tcp_congestion import congestion_control
from p2pshare.peer.control import running_peer
from p2pshare.peer.reach import network, own_ports
from p2pshare.peer.registration import Elsewhere
from p2pshare.peer.service import PeerService, classic_shares
from p2pshare.storage.identity import key_file
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.site import Site
from p2pshare.wire.addresses import LAN, PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import PeerView, Presence
from p2pshare.wire.session_messages import CAP_SESSIONS, Credit, Message
from p2pshare.wire.statements import CAP_REACH, Location, Record
from p2pshare.wire.transfer_messages import End, Failed, Fault, Get
from tests.peer.loopback import HOST, PATIENCE, Datagrams, LoopbackTestCase
from tests.registry.connections import make_routes


class Visitor:
    """The user of a session that fetches."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.said: list[Message] = []
        self.data = b""
        self.is_over = False
        self.reason: P2pshareError | None = None
        session.begin(self)

    def message_received(self, message: Message) -> None:
        """Record it, unless it is the credit of the greeting."""
        if not isinstance(message, Credit):
            self.said.append(message)

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Record it."""
        self.data += data

    def size_received(self, transfer: int, size: int) -> None:
        """Ignore it: the header tells it, too."""

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """Miss nothing."""
        return ()

    def room_again(self) -> None:
        """Nothing waits to be sent."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Record the end."""
        self.is_over, self.reason = True, reason


class PeerServiceTests(LoopbackTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = MemoryNameStore(self.reactor)
        self.registry_port = self.serve_registry(0)
        self.data = self.saved.parent / "data"

    def serve_registry(self, number: int) -> int:
        """Start the registry."""
        site = Site(make_routes(self.store, self.reactor), self.real_reactor)
        self.listening: Any = self.real_reactor.listenTCP(number, site, interface=HOST)
        self.addCleanup(self.listening.stopListening)
        return int(self.listening.getHost().port)

    def peer(
        self, data: Path | None = None, user: str = "alice", rng: Any = None, **options: Any
    ) -> PeerService:
        """Start a peer that stops with the test."""
        shares = options.pop("shares", [SharedPath("stuff", self.shared)])
        patient = options.pop("patient", True)
        registry = options.pop("registry", f"http://{HOST}:{self.registry_port}")
        peer = PeerService(
            self.reactor,
            rng or random.Random(str(data or self.data)),  # another port for each
            Settings(name=user, registry=registry, data=data or self.data, **options),
            shares,
            wall=self.reactor.seconds,
            patient=patient,
        )
        peer.startService()
        self.addCleanup(lambda: peer.stopService() if peer.running else None)
        return peer

    def listed(self) -> Deferred[PeerAddress | None]:
        """Return the address that original clients see."""
        return self.store.look_up("alice")

    async def registered(self) -> PeerAddress | None:
        """Return the address of the peer if it is online."""
        view = await self.view()
        if view is None or view.summary.presence is not Presence.ONLINE:
            return None
        assert view.location is not None and view.key is not None
        return PeerAddress.parse(Location.parse(view.location).addresses[0])

    async def test_serves_classically(self) -> None:
        """With --classic, originals find a peer and are served. It is gone when it stops, and can come back at once."""
        self.share_text(b"text")
        peer = self.peer(classic=True)
        address = await peer.ready
        self.assertEqual(address.ip, HOST, "the address from which the registry is reached")
        self.assertEqual(await self.registered(), address)
        self.assertEqual(await self.listed(), address)
        self.assertEqual((await self.fetch(address, Kind.TEXT)).path.read_bytes(), b"text")
        await peer.stopService()
        self.assertIsNone(await self.registered())
        self.assertEqual(self.udp_ports(), [])
        again = self.peer(classic=True)
        await again.ready

    async def key_of(self, user: str) -> SigningKey:
        """Return the key of another peer, which is online."""
        data = self.saved.parent / f"data of {user}"
        peer = self.peer(data, user, shares=[])
        await peer.ready
        key = key_file.load(data / "key")
        assert key is not None
        return key

    async def visit(self, key: SigningKey, address: PeerAddress) -> Visitor:
        """Open a session with alice."""
        view = await self.view()
        assert view is not None and view.key is not None
        visitor = Visitor(
            await open_session(self.real_reactor, key, "alice", address, view.key, credit=1_000_000)
        )
        self.addCleanup(visitor.session.abort)
        return visitor

    async def test_serves_sessions(self) -> None:
        """A peer accepts sessions from owners of names, and its record says so."""
        self.share_text(b"text")
        alice = self.peer(shares=[SharedPath("stuff", self.shared, frozenset(["bob", "dave"]))])
        address = await alice.ready
        visitor = await self.visit(await self.key_of("bob"), address)
        visitor.session.send(Get(1, ("stuff", "my_file.txt")))
        await self.until(lambda: any(isinstance(each, End) for each in visitor.said))
        self.assertEqual(visitor.data, b"text")
        status = await self.ask("status")
        (share,) = status["shares"]
        self.assertEqual(share.pop("left_out")["looked_at"], 1)
        self.assertEqual(
            share, {"name": "stuff", "path": str(self.shared), "allow": ["bob", "dave"]}
        )
        self.assertEqual(status["sessions"], 1)
        self.assertEqual(status["congestion_control"], congestion_control())
        self.assertEqual([each["name"] for each in status["uploads"]], ["bob"])
        carol = await self.visit(await self.key_of("carol"), address)
        carol.session.send(Get(1, ("stuff", "my_file.txt")))
        await self.until(lambda: bool(carol.said))
        self.assertEqual(carol.said, [Failed(1, Fault.NOT_FOUND)], "threat 34")
        await alice.stopService()
        await self.until(lambda: visitor.is_over and carol.is_over)
        self.assertIsNone(visitor.reason, "it was told")

    async def test_stops_all_ports(self) -> None:
        """A peer whose port reaches this machine alone opens another one to ask peers elsewhere, and closes it, too."""
        alice = self.peer()
        await alice.ready
        carriers = cast(Carriers, alice._carriers)
        self.assertIsNotNone(carriers.udp_towards(PeerAddress("192.0.2.7", 1)))
        self.assertEqual(len(self.udp_ports()), 2)
        await alice.stopService()
        self.assertEqual(self.udp_ports(), [])

    async def test_stops_beside_a_deaf_peer(self) -> None:
        """An opener that reads nothing does not delay the stop of a peer."""
        (self.shared / "big").write_bytes(bytes(5_000_000))
        alice = self.peer()
        visitor = await self.visit(await self.key_of("bob"), await alice.ready)
        visitor.session.send(Get(1, ("stuff", "big")))
        await self.until(lambda: bool(visitor.data))
        stream: Any = visitor.session
        stream._channel.pause()
        began = self.real_reactor.seconds()
        await alice.stopService()
        self.assertLess(self.real_reactor.seconds() - began, 2.0)
        stream._channel.resume()

    async def test_stranger(self) -> None:
        """An opener whose key owns no name is refused."""
        address = await self.peer().ready
        await self.assertFailure(
            Deferred.fromCoroutine(self.visit(SigningKey(b"x" * 32), address)), SessionRefused
        )

    async def test_no_classic(self) -> None:
        """Without --classic nothing is sent in the clear: the welcome port is silent, and originals do not see
        the peer (threat 36).
        """
        self.share_text(b"text")
        heard: list[bytes] = []
        take = WelcomePort.train_received

        def hear(port: WelcomePort, data: memoryview, segment: int, address: Address) -> None:
            heard.append(bytes(data))
            take(port, data, segment, address)

        self.patch(WelcomePort, "train_received", hear)
        address = await self.peer().ready
        self.assertIsNone(await self.listed())
        view = await self.view()
        assert view is not None and view.record is not None and view.key is not None
        self.assertEqual(Record.read(view.record, view.key).caps, (CAP_SESSIONS, CAP_REACH))
        asking = Datagrams()
        self.socket(asking)
        for word in (b"TXT", b"IMG", bytes(1000)):
            asking.send(word, (address.ip, address.port))
        await self.until(lambda: len(b"".join(heard)) == 1006)
        self.assertEqual(asking.received, [])
        self.assertIs((await self.ask("status"))["classic"], False)

    def classic_share(
        self, share: SharedPath, registry: str = "http://127.0.0.1:8000"
    ) -> ClassicShare:
        return ClassicShare(classic_shares([share], Settings(registry=registry)))

    async def test_classic_knows_nobody(self) -> None:
        """The classic protocol serves only what is shared with everyone (threats 34 and 36)."""
        self.share_text(b"text")
        for allow in (None, frozenset(["bob"])):
            share = self.classic_share(SharedPath("stuff", self.shared, allow))
            opened = share.open(Kind.TEXT, lambda *_: None)
            self.assertEqual(opened is None, allow is not None)
            if opened is not None:
                opened.file.close()
        for names, count in ((None, 0), ({"bob"}, 0), ({"bob", ON_NETWORK}, 1)):
            allowed = None if names is None else frozenset(names)
            there = [SharedPath("stuff", self.shared, allowed)]
            self.assertEqual(len(classic_shares(there, Settings(registry=LAN))), count)
        other = self.shared / "other.bin"
        other.write_bytes(b"")
        share = self.classic_share(SharedPath("other", other))
        for kind in Kind:
            self.assertIsNone(share.open(kind, lambda *_: None))

    async def test_number_of_both_ports(self) -> None:
        """A port number whose TCP port is in use is not used: another one is drawn, or it is an error."""
        with socket.socket() as taken:
            taken.bind((HOST, 0))
            taken.listen()
            port = taken.getsockname()[1]
            error: Any = await self.assertFailure(self.peer(listen=port).ready, PortUnusable)
            self.assertEqual(error.fields["port"], port)
            numbers = [port, port, 50_123]
            drawing = SimpleNamespace(choice=lambda _: numbers.pop(0), uniform=lambda a, _b: a)
            address = await self.peer(self.saved.parent / "other", rng=drawing).ready
        self.assertEqual(address.port, 50_123)

    async def test_rotated_sessions(self) -> None:
        """After a rotation, sessions are accepted with the new key."""
        address = await self.peer().ready
        bob = await self.key_of("bob")
        before = await self.visit(bob, address)
        await self.ask("rotate")
        after = await self.visit(bob, address)
        self.assertNotEqual(before.session.key, after.session.key)

    async def test_same_name_elsewhere(self) -> None:
        """A name of another peer is refused, and remains registered when the second peer stops."""
        first = self.peer()
        address = await first.ready
        second = self.peer(self.saved.parent / "elsewhere")
        await self.assertFailure(second.ready, NameTaken)
        await second.stopService()
        self.assertEqual(await self.registered(), address)

    async def test_data_folder_in_use(self) -> None:
        """Only one peer runs on a data folder."""
        await self.peer().ready
        await self.assertFailure(self.peer().ready, AlreadyRunning)

    async def test_data_folder_damaged(self) -> None:
        """A damaged key is an error, and is never replaced."""
        self.data.mkdir()
        (self.data / "key").write_bytes(b"damaged")
        (self.data / "key").chmod(0o600)
        await self.assertFailure(self.peer().ready, KeyUnusable)
        self.assertEqual((self.data / "key").read_bytes(), b"damaged")

    async def test_port_in_use(self) -> None:
        """A port in use is an error, and the name is not claimed."""
        port = self.socket(Datagrams())
        await self.assertFailure(self.peer(listen=port).ready, PortUnusable)
        self.assertIsNone(await self.registered())

    async def test_chosen_address(self) -> None:
        """The address in the settings is registered."""
        address = await self.peer(address=("127.0.0.7",)).ready
        self.assertEqual((await self.registered(), address.ip), (address, "127.0.0.7"))

    async def test_no_usable_address(self) -> None:
        """An address that the registry would reject is an error, with the remedy, and is not sent."""
        self.patch(network, "local_address_towards", lambda *_: "169.254.3.4")
        self.patch(interfaces, "_linked", list)
        ready = self.peer(patient=False).ready
        error: Any = await self.assertFailure(ready, OwnAddressUnknown)
        self.assertIn("169.254.3.4", error.fields["reason"])

    async def test_registry_away(self) -> None:
        """A patient peer waits for a registry that is away; for another one it is an error."""
        await self.listening.stopListening()
        hasty = self.peer(self.saved.parent / "hasty", patient=False)
        await self.assertFailure(hasty.ready, RegistryUnreachable)
        patient = self.peer()
        self.serve_registry(self.registry_port)
        self.assertEqual(await patient.ready, await self.registered())

    async def test_name_lost(self) -> None:
        """A peer that has lost its name to somebody else fails."""
        peer = self.peer()
        await peer.ready
        await self.listening.stopListening()
        self.store = MemoryNameStore(self.reactor)
        self.serve_registry(self.registry_port)
        await self.peer(self.saved.parent / "thief").ready
        await self.assertFailure(peer.lost, NameTaken)

    test_name_lost.timeout = 3 * PATIENCE  # type: ignore[attr-defined]  # up to two heartbeats pass

    async def ask(self, do: str) -> dict[str, Any]:
        """Let the running peer perform an action."""
        client = await running_peer(self.reactor, self.data)
        assert client is not None
        try:
            return await client.ask(do)
        finally:
            client.close()

    def view(self) -> Deferred[PeerView | None]:
        return self.store.look_up_peer("alice")

    async def test_status(self) -> None:
        """The status names the peer, its key and its address."""
        peer = self.peer()
        address = await peer.ready
        status = await self.ask("status")
        view = await self.view()
        assert view is not None
        self.assertEqual(status["key"], str(view.key))
        self.assertEqual((status["name"], status["pid"]), ("alice", os.getpid()))
        self.assertEqual((status["address"], status["registered"]), (str(address), True))
        self.assertEqual((status["online"], status["sharing"]), (True, ["stuff"]))
        self.assertIs(status["loopback"], True)
        self.assertIsNone(status["elsewhere"])
        assert peer._keeper is not None
        peer._keeper.elsewhere = Elsewhere("10.0.0.7:1", 1_800_000_000, waits=True)
        told = (await self.ask("status"))["elsewhere"]
        self.assertEqual(told, {"address": "10.0.0.7:1", "noticed": 1_800_000_000, "waits": True})
        self.assertEqual(status["registry"], f"http://{HOST}:{self.registry_port}")
        self.assertAlmostEqual(status["since"], self.reactor.seconds(), -2)
        await peer.stopService()
        self.assertIsNone(await running_peer(self.reactor, self.data))

    async def test_status_without_a_registry(self) -> None:
        """The status is there while the peer waits for its registry, and says why it waits."""
        await self.listening.stopListening()
        peer = self.peer()
        status = await self.ask("status")
        self.assertEqual((status["registered"], status["online"]), (False, False))
        self.assertEqual((status["address"], status["since"]), (None, None))
        self.assertIs(status["loopback"], False)
        while (trouble := (await self.ask("status"))["trouble"]) is None:
            pass
        self.assertIn(f"http://{HOST}:{self.registry_port}", trouble)
        self.serve_registry(self.registry_port)
        await peer.ready
        self.assertIsNone((await self.ask("status"))["trouble"])

    async def test_ipv6_registry(self) -> None:
        """A registry that is reached over IPv6 is as good as any."""
        site = Site(make_routes(self.store, self.reactor), self.real_reactor)
        try:
            listening = self.real_reactor.listenTCP(0, site, interface="::1")
        except CannotListenError as error:
            raise SkipTest("this machine has no IPv6") from error
        self.addCleanup(listening.stopListening)
        address = await self.peer(registry=f"http://[::1]:{listening.getHost().port}").ready
        self.assertEqual((await self.registered(), address.ip), (address, "::1"))

    async def test_private(self) -> None:
        """A private peer is online, and its record has no address (threat 52)."""
        await self.peer(private=True).ready
        view = await self.view()
        assert view is not None
        self.assertEqual((view.location, view.addresses), (None, ()))
        self.assertEqual(view.summary.presence, Presence.ONLINE)
        status = await self.ask("status")
        self.assertEqual((status["private"], status["candidates"]), (True, []))

    async def test_port_mapping(self) -> None:
        """The router is asked to forward the port if the user wants that, and no more in the end; never for a peer that
        is private, or for this machine only (threat 53).
        """
        forwarded: list[tuple[str, int]] = []

        class Router:
            async def forward(self, port: int) -> Forwarded:
                forwarded.append(("forward", port))
                return Forwarded((PeerAddress("203.0.113.9", port),), 3600)

            async def remove(self, port: int) -> None:
                forwarded.append(("remove", port))

        self.patch(own_ports, "PcpGateway", lambda _: Router())
        never: list[dict[str, Any]] = [{}, {"private": True, "address": ("192.0.2.7",)}]
        for options in never:
            peer = self.peer(port_mapping=True, **options)
            await peer.ready
            await peer.stopService()
        self.assertEqual(forwarded, [])
        peer = self.peer(port_mapping=True, address=("192.0.2.7",))
        port = (await peer.ready).port
        candidates = (await self.ask("status"))["candidates"]
        self.assertEqual(
            candidates[:2], [f"given/192.0.2.7:{port}", f"forwarded/203.0.113.9:{port}"]
        )
        await peer.stopService()
        self.assertEqual(forwarded, [("forward", port), ("remove", port)])

    async def test_first_contact_after_a_change(self) -> None:
        """A peer that waits for its registry tries again at once when the network changes."""
        await self.listening.stopListening()
        peer = self.peer()
        for _ in range(3):
            while (await self.ask("status"))["trouble"] is None:
                pass
        self.serve_registry(self.registry_port)
        peer._network._network_changed(True)
        await peer.ready

    async def test_network_changed(self) -> None:
        """A change of the network renews the presence at once."""
        peer = self.peer()
        await peer.ready
        self.store = MemoryNameStore(self.reactor)
        await self.listening.stopListening()
        self.serve_registry(self.registry_port)
        peer._network._network_changed(True)
        while await self.registered() is None:
            await deferLater(self.real_reactor, 0.001)

    async def test_no_dns_at_the_start(self) -> None:
        """A patient peer with a fixed port also waits for DNS."""
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        asked: list[str] = []

        async def look_up(_reactor: object, host: str) -> tuple[str, ...]:
            asked.append(host)
            if len(asked) == 1:
                raise LookUpError("DNS does not answer")
            return (host,)

        self.patch(network, "look_up", look_up)
        self.assertEqual((await self.peer(listen=port).ready).port, port)
        self.assertGreater(len(asked), 1)

    async def test_release(self) -> None:
        """The action `release` releases the name and ends the peer without a failure."""
        peer = self.peer()
        await peer.ready
        self.assertEqual(await self.ask("release"), {"name": "alice"})
        await self.assertFailure(peer.lost, NameReleased)
        self.assertIsNone(await self.view())
        await peer.stopService()
        await self.peer(self.saved.parent / "elsewhere").ready

    async def test_stop(self) -> None:
        """The action `stop` ends the peer without a failure; the key still owns the name."""
        peer = self.peer()
        await peer.ready
        self.assertEqual(await self.ask("stop"), {"name": "alice", "pid": os.getpid()})
        await self.assertFailure(peer.lost, PeerStopped)
        await peer.stopService()
        view = await self.view()
        assert view is not None
        self.assertEqual(view.summary.presence, Presence.OFFLINE)

    async def test_stop_before_it_is_ready(self) -> None:
        """The action `stop` also works while the peer waits for its registry."""
        await self.listening.stopListening()
        peer = self.peer()
        await self.ask("stop")
        await self.assertFailure(peer.ready, PeerStopped)

    async def test_rotate(self) -> None:
        """The action `rotate` changes the key of a running peer, which stays online; a later start uses the new key."""
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
        """A peer that is stopped while it waits for its registry never registers."""
        await self.listening.stopListening()
        peer = self.peer()
        await peer.stopService()
        self.serve_registry(self.registry_port)
        self.assertNoResult(peer.ready)
        self.assertIsNone(await self.registered())
