"""The relay over HTTP in memory: rooms, forwarding, ends, limits, and abuse."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.configuration import RelayLimits
from p2pshare.registry.relay.rooms import MEMORY, WAIT
from p2pshare.registry.relay.turns import TURN_MAX
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.reach.access import Access, Use, detail_of_room
from p2pshare.wire.registry_answers import Problem
from tests.net.session_pairs import ALICE, BOB, EVE
from tests.registry.connections import Client
from tests.registry.relay.server import REGISTRY, ROOM, RelayServer
from tests.test_layers import modules

HARMLESS = {
    "Connection",
    "connectionDone",
    "abortConnection",
    "loseConnection",
    "connectionLost",
    "loseWriteConnection",
    "makeConnection",
}
OFFER = "Connection: Upgrade\r\nUpgrade: p2pshare-relay\r\n"


class Transport(StringTransport):
    """A transport with a buffer that a test can call full, and with halves."""

    is_half_closed = False
    producer: Any

    def loseWriteConnection(self) -> None:  # noqa: N802 - ITransport
        self.is_half_closed = True

    def fill(self) -> None:
        self.producer.pauseProducing()

    def drain(self) -> None:
        self.producer.resumeProducing()


class End(Client):
    """A client of the relay."""

    nonces = 0

    def __init__(self, server: RelayServer, key: SigningKey, host: str = "192.0.2.1") -> None:
        super().__init__(server.site, host, Transport)
        self.key = key

    def ask(
        self,
        other: PublicKey,
        room: str = ROOM,
        *,
        head: str = OFFER,
        detail: str | None = None,
        data: bytes = b"",
    ) -> None:
        """Ask for a partner, and send `data` at once."""
        End.nonces += 1
        nonce = f"{End.nonces:016}"
        access = Access(
            "somebody",
            self.key.public,
            REGISTRY.public,
            0,
            nonce,
            Use.RELAY,
            detail_of_room(room, other) if detail is None else detail,
        )
        head += f"Authorization: {access.to_header(self.key)}\r\n"
        request = f"GET /v1/relay?room={room}&with={other} HTTP/1.1\r\nHost: x\r\n{head}\r\n"
        assert self.channel is not None
        self.channel.dataReceived(request.encode() + data)

    def say(self, data: bytes) -> None:
        """Send bytes."""
        assert self.channel is not None
        self.channel.dataReceived(data)

    def finish(self) -> None:
        """Send nothing more, as TCP tells it to a protocol with halves."""
        assert self.channel is not None
        self.channel.readConnectionLost()

    @property
    def status(self) -> int:
        """That of the reply; 0 if there is none."""
        head = self.transport.value()
        return int(head.split(b" ")[1]) if head else 0

    @property
    def got(self) -> bytes:
        """What came after the head."""
        _, _, body = self.transport.value().partition(b"\r\n\r\n")
        return bytes(body)

    @property
    def problem(self) -> str:
        """The word of the problem."""
        return Problem.parse(self.status, self.got).word

    @property
    def is_read(self) -> bool:
        """Whether the relay reads from it."""
        return bool(self.transport.producerState == "producing")


class RelayTestCase(SynchronousTestCase):
    """A server, and pairs of ends."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = self.make()

    def make(self, **limits: Any) -> RelayServer:
        server = RelayServer(self.clock, RelayLimits(**limits))
        server.site.doStart()
        server.relay.start()

        def stop() -> None:
            server.rooms.stop()
            server.relay.stop()
            server.site.doStop()

        self.addCleanup(stop)
        return server

    def pair(
        self,
        server: RelayServer | None = None,
        one: SigningKey = ALICE,
        two: SigningKey = BOB,
        room: str = ROOM,
    ) -> tuple[End, End]:
        """Return two ends that have met."""
        server = server or self.server
        ends = End(server, one), End(server, two, "198.51.100.2")
        ends[0].ask(two.public, room)
        ends[1].ask(one.public, room)
        return ends

    def assert_nothing_left(self, server: RelayServer) -> None:
        """Nothing is kept of pairs that are over."""
        relay = server.relay
        left = (len(relay), relay.places, len(server.rooms), relay._ends, relay._turns._of_key)
        self.assertEqual(left, (0, 0, 0, {}, {}))
        self.assertEqual(server.routes._of_address, {})


class RoomTests(RelayTestCase):
    """Two ends meet, and nobody else."""

    def test_meeting(self) -> None:
        """The reply comes when both ends are there; then bytes go both ways, with those that were sent too early."""
        alice, bob = End(self.server, ALICE), End(self.server, BOB)
        alice.ask(BOB.public, data=b"early ")
        self.assertEqual(alice.status, 0)
        bob.ask(ALICE.public, data=b"hi ")
        self.assertEqual([alice.status, bob.status], [101, 101])
        alice.say(b"one")
        bob.say(b"two")
        self.assertEqual((alice.got, bob.got), (b"hi two", b"early one"))

    def test_nobody_comes(self) -> None:
        """An end that waits in vain gets a problem, and can ask again on the same connection."""
        alice = End(self.server, ALICE)
        alice.ask(BOB.public)
        self.clock.advance(WAIT - 0.1)
        self.assertEqual(alice.status, 0)
        self.clock.advance(0.1)
        self.assertEqual((alice.status, alice.problem), (504, "nobody-came"))
        self.assert_nothing_left(self.server)
        alice.transport.clear()
        alice.ask(BOB.public)
        End(self.server, BOB).ask(ALICE.public)
        self.assertEqual(alice.status, 101)
        self.assertEqual(self.server.refused, ["nobody-came"])

    def test_an_end_that_leaves(self) -> None:
        """An end that leaves while it waits frees its place; its partner does not meet a dead connection."""
        alice, bob = End(self.server, ALICE), End(self.server, BOB)
        alice.ask(BOB.public)
        alice.leave()
        self.assert_nothing_left(self.server)
        bob.ask(ALICE.public)
        self.assertEqual(bob.status, 0)

    def test_asks_again(self) -> None:
        """A newer request of the same end takes the place of its older one."""
        old, new, bob = End(self.server, ALICE), End(self.server, ALICE), End(self.server, BOB)
        old.ask(BOB.public)
        new.ask(BOB.public)
        self.assertEqual((old.problem, new.status), ("nobody-came", 0))
        bob.ask(ALICE.public)
        self.assertEqual((new.status, bob.status), (101, 101))

    def test_third_party(self) -> None:
        """Threat 14: somebody who knows the room can neither enter it nor take it from the two that agreed on it."""
        alice, bob = End(self.server, ALICE), End(self.server, BOB)
        eves = [End(self.server, EVE) for _ in range(4)]
        eves[0].ask(ALICE.public)
        eves[1].ask(BOB.public)
        alice.ask(BOB.public)
        eves[2].ask(ALICE.public)
        eves[3].ask(BOB.public)
        bob.ask(ALICE.public)
        self.assertEqual([alice.status, bob.status], [101, 101])
        self.assertEqual([eve.status for eve in eves[2:]], [0, 0])
        eves[2].say(b"injected")
        alice.say(b"a")
        bob.say(b"b")
        self.assertEqual((alice.got, bob.got), (b"b", b"a"))

    def test_forged(self) -> None:
        """Threat 14: a statement for another room or partner, of another key, or none at all, joins nobody."""
        bob = End(self.server, BOB)
        bob.ask(ALICE.public)
        for detail in ("", detail_of_room("x" * 22, BOB.public), detail_of_room(ROOM, EVE.public)):
            forger = End(self.server, ALICE)
            forger.ask(BOB.public, detail=detail)
            self.assertEqual(forger.status, 401)
        self.assertEqual(bob.status, 0)

    def test_used_once(self) -> None:
        """Threat 14: a room is used once; only so many used rooms are remembered, for a while."""
        self.pair()
        again = End(self.server, ALICE)
        again.ask(BOB.public)
        self.assertEqual((again.status, again.problem), (409, "room-used"))
        self.server.rooms._used_max = 3
        for number in range(5):
            self.pair(room=f"{number:022}")
        self.assertEqual(len(self.server.rooms._used), 3)
        self.clock.advance(MEMORY)
        self.pair(room="y" * 22)
        self.assertEqual(len(self.server.rooms._used), 1)

    def test_malformed(self) -> None:
        """A wrong room or key, a request without an upgrade, and an end that wants to meet itself are refused."""
        for room, other, head, word in (
            ("short", str(BOB.public), OFFER, "malformed"),
            (ROOM, "x", OFFER, "malformed"),
            (ROOM, str(ALICE.public), OFFER, "malformed"),
            (ROOM, str(BOB.public), "", "upgrade-required"),
            (
                ROOM,
                str(BOB.public),
                "Connection: Upgrade\r\nUpgrade: websocket\r\n",
                "upgrade-required",
            ),
        ):
            alice = End(self.server, ALICE)
            alice.ask(other, room, head=head)  # type: ignore[arg-type]
            self.assertEqual(alice.problem, word, (room, other))
        self.assertIn(b"\r\nUpgrade: p2pshare-relay\r\n", alice.transport.value())

    def test_connects_nowhere(self) -> None:
        """Threat 14: no request makes the relay connect to an address, as it has nothing that connects."""
        for other in ("127.0.0.1:22", "[::1]:22", "localhost", "169.254.169.254"):
            eve = End(self.server, EVE)
            eve.ask(other)  # type: ignore[arg-type]
            self.assertEqual(eve.problem, "malformed")
        relay = modules("registry/relay")
        self.assertGreater(len(relay), 4)
        for module in relay:
            names = [*module.imports(), *(name for name, _ in module.calls())]
            if module.name.endswith(
                ".links"
            ):  # to other workers, on Unix sockets in the data folder
                names = [
                    name
                    for name in names
                    if not name.endswith(
                        ("connectProtocol", "UNIXClientEndpoint", "endpoints", "ConnectError")
                    )
                ]
            last = {name.rpartition(".")[2] for name in names}
            connecting = {each for each in last if "connect" in each.lower() or "Endpoint" in each}
            if module.name.endswith(".links"):  # to other workers, by Unix sockets
                connecting -= {"_connect", "connect", "adoptStreamConnection"}
            self.assertNotRegex(module.source, r"socket\.(AF_INET|create_connection)")
            self.assertLessEqual(connecting, HARMLESS, module.name)


class ForwardingTests(RelayTestCase):
    """Bytes, and the ends of pairs."""

    def test_back_pressure(self) -> None:
        """An end is not read while much waits for its partner, so little of a pair is in memory."""
        alice, bob = self.pair()
        bob.transport.fill()
        self.assertEqual((alice.is_read, bob.is_read), (False, True))
        bob.say(b"x")
        self.assertEqual(alice.got, b"x")
        bob.transport.drain()
        self.assertTrue(alice.is_read)

    def test_half_close(self) -> None:
        """An end that finishes sending finishes that direction of its partner, which may still send."""
        alice, bob = self.pair()
        alice.say(b"last")
        alice.finish()
        self.assertEqual(
            (bob.got, bob.transport.is_half_closed, bob.closed), (b"last", True, False)
        )
        bob.say(b"answer")
        self.assertEqual(alice.got, b"answer")
        bob.finish()
        self.assertEqual((alice.closed, bob.closed), (True, True))
        alice.leave()
        bob.leave()
        self.assert_nothing_left(self.server)

    def test_lost(self) -> None:
        """If an end is lost, its partner gets what was sent and is told; what it sends then is dropped, not kept."""
        alice, bob = self.pair()
        alice.transport.fill()
        self.assertFalse(bob.is_read)
        alice.say(b"last")
        alice.leave()
        self.assertEqual((bob.got, bob.transport.is_half_closed), (b"last", True))
        self.assertTrue(bob.is_read)
        for _ in range(100):
            bob.say(b"x" * TURN_MAX)
        self.assertTrue(bob.is_read)
        bob.leave()
        self.assert_nothing_left(self.server)

    def test_idle(self) -> None:
        """A pair without a byte for a while is cut, whatever state it is in; one that moves is not."""
        server = self.make(idle=20.0)
        pairs = [self.pair(server, room=f"{n:022}") for n in range(4)]
        pairs[1][0].leave()
        pairs[2][0].finish()
        for _ in range(21):
            self.clock.advance(1)
            pairs[3][0].say(b"x")
        cut = [each.transport.disconnected for pair in pairs[:3] for each in pair]
        self.assertEqual(cut, [True, True, False, True, True, True])
        self.assertFalse(pairs[3][1].transport.disconnected)
        for end in pairs[0]:
            end.leave()
        self.assertEqual(len(server.relay), 3)

    def test_stop(self) -> None:
        """When the registry stops, waiting ends get a reply, and pairs are cut."""
        alice, bob = self.pair()
        eve = End(self.server, EVE)
        eve.ask(BOB.public)
        self.server.rooms.stop()
        self.server.relay.stop()
        self.assertEqual(eve.problem, "nobody-came")
        self.assertTrue(alice.transport.disconnected and bob.transport.disconnected)


class LimitTests(RelayTestCase):
    """Threat 14: the relay is bounded."""

    def test_pairs_of_one_key(self) -> None:
        """Threat 14: a key has so many ends at once, waiting or paired; others are served."""
        server = self.make(pairs_per_key=2)
        pairs = [self.pair(server, ALICE, BOB, f"{n:022}") for n in range(2)]
        late = End(server, ALICE)
        late.ask(EVE.public)
        self.assertEqual((late.status, late.problem), (429, "too-many-requests"))
        self.assertIn(b"\r\nRetry-After: 5\r\n", late.transport.value())
        carol, dave = self.pair(server, EVE, SigningKey(b"d" * 32), "z" * 22)
        self.assertEqual([carol.status, dave.status], [101, 101])
        for end in pairs[0]:
            end.leave()
        late = End(server, ALICE)
        late.ask(EVE.public)
        self.assertEqual(late.status, 0)
        self.assertEqual(server.refused, ["too-many-requests"])

    def test_partner_without_a_place(self) -> None:
        """If the second end has no place, the first one goes on waiting."""
        server = self.make(pairs_per_key=1)
        self.pair(server, EVE, BOB, "z" * 22)
        alice, bob = End(server, ALICE), End(server, BOB)
        alice.ask(BOB.public)
        bob.ask(ALICE.public)
        self.assertEqual((alice.status, bob.status), (0, 429))

    def test_all_pairs(self) -> None:
        """Threat 14: when all places are taken, ends are told to come later; a pair that ends makes room."""
        server = self.make(pairs=1)
        alice, bob = self.pair(server)
        eve = End(server, EVE, "203.0.113.3")
        eve.ask(BOB.public, "z" * 22)
        self.assertEqual((eve.status, eve.problem), (503, "relay-full"))
        alice.leave()
        bob.leave()
        eve = End(server, EVE, "203.0.113.3")
        eve.ask(BOB.public, "z" * 22)
        self.assertEqual(eve.status, 0)

    def test_one_address(self) -> None:
        """Threat 14: one address with many keys gets half of the places, until its ends leave; others are served."""
        server = self.make(pairs=4)
        keys = [SigningKey(bytes([100 + n]) * 32) for n in range(6)]
        ends = [End(server, key) for key in keys]
        for end in ends:
            end.ask(BOB.public)
        self.assertEqual([end.status for end in ends], [0, 0, 0, 0, 429, 429])
        self.assertEqual(ends[5].problem, "too-many-requests")
        bob = End(server, BOB, "198.51.100.2")
        bob.ask(keys[0].public)
        self.assertEqual((bob.status, ends[0].status), (101, 101))
        ends[1].leave()
        ends[0].leave()
        late = [End(server, key) for key in keys[3:]]
        for end in late:
            end.ask(BOB.public, "z" * 22)
        self.assertEqual([end.status for end in late], [0, 0, 429])
        bob.leave()
        self.clock.advance(WAIT)
        self.assert_nothing_left(server)

    def test_rate(self) -> None:
        """Threat 14: pairs that send more than the total rate allows are read in turn."""
        server = self.make(rate=1e6)
        pairs = [
            self.pair(
                server, SigningKey(bytes([n, 1] * 16)), SigningKey(bytes([n, 2] * 16)), f"{n:022}"
            )
            for n in range(10)
        ]
        for _ in range(1000):
            for sender, _ in pairs:
                if sender.is_read:
                    sender.say(b"x" * TURN_MAX)
            self.clock.advance(0.01)
        sizes = [len(receiver.got) for _, receiver in pairs]
        self.assertLess(abs(sum(sizes) / 10.25e6 - 1), 0.1)
        self.assertLessEqual(max(sizes) - min(sizes), 2 * TURN_MAX)

    def test_log(self) -> None:
        """The log names the keys of a pair, and neither its addresses nor its room."""
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        alice, bob = self.pair()
        alice.say(b"secret")
        alice.leave()
        bob.leave()
        said = "\n".join(formatEvent(event) for event in observer)
        self.assertIn(f"relay began: pair=1 keys={ALICE.public},{BOB.public} pairs=1", said)
        self.assertIn("relay ended: pair=1 bytes=6 s=0.0", said)
        for each in ("192.0.2.1", "198.51.100.2", ROOM, "secret"):
            self.assertNotIn(each, said)

    def test_measured(self) -> None:
        """The metrics hear of pairs and bytes every second."""
        heard: list[tuple[int, int]] = []
        self.server.relay._measured = lambda pairs, size: heard.append((pairs, size))
        alice, _ = self.pair()
        alice.say(b"x" * 1000)
        self.clock.pump([1.0] * 2)
        self.assertEqual(heard, [(1, 1000), (1, 0)])


class CancelledTests(RelayTestCase):
    """An end that leaves before its proof was checked."""

    def test_leaves_early(self) -> None:
        """It takes no place."""
        slow = self.check_slowly()
        alice = End(self.server, ALICE)
        alice.ask(BOB.public)
        alice.leave()
        slow[0].callback(None)
        self.assert_nothing_left(self.server)

    def test_leaves_its_partner(self) -> None:
        """Its partner, which waited, is told at once: it does not stay in a pair with nobody."""
        bob = End(self.server, BOB)
        bob.ask(ALICE.public)
        slow = self.check_slowly()
        alice = End(self.server, ALICE)
        alice.ask(BOB.public)
        alice.leave()
        slow[0].callback(None)
        self.assertTrue(bob.transport.disconnected)
        bob.leave()
        self.assert_nothing_left(self.server)

    def check_slowly(self) -> list[Deferred[Any]]:
        """Let the check of each proof wait for a Deferred, which this list gets."""
        slow: list[Deferred[Any]] = []
        access = self.server._access.admit

        async def admit(*arguments: Any) -> Access:
            slow.append(Deferred())
            await slow[-1]
            return await access(*arguments)

        self.patch(self.server._access, "admit", admit)
        return slow
