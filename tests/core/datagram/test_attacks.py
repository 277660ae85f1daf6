"""Tests of what strangers and lying peers can cost: memory, time, datagrams to third parties, places of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.connection import ConnectionSettings, State
from p2pshare.core.datagram.endpoint import EndpointSettings
from p2pshare.core.datagram.events import Writable
from p2pshare.core.datagram.paths import AMPLIFICATION
from p2pshare.core.datagram.protection.handshake import Handshake, HandshakeFailed
from p2pshare.core.datagram.protection.sealing import seal_packet
from p2pshare.core.datagram.trains import Address
from p2pshare.errors import Unreachable
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import Fate
from p2pshare.wire.datagrams.frames import Challenge, Frame, Ping, serialize
from tests.core.datagram.pair import _TLS, HERE, KEYS, THERE, Pair, _accept
from tests.core.datagram.test_endpoint import take_all

MB = 2**20
NEW: Address = ("198.51.100.7", 7000)


class Tapped(Pair):
    """A pair whose datagrams are kept, and lost from the sources in `cut`."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        self.sent: list[tuple[bytes, Address, Address]] = []
        self.cut: set[Address] = set()
        super().__init__(conditions or Conditions(delay=0.01), rule=self._tap)

    def _tap(
        self, _number: int, data: bytes, source: Address, to: Address
    ) -> tuple[float, ...] | None:
        self.sent.append((data, source, to))
        return () if source in self.cut else None

    def sent_to(self, address: Address) -> int:
        """Return the bytes that were sent to an address."""
        return sum(len(data) for data, _, to in self.sent if to == address)

    def steal(self, *frames: Frame) -> bytes:
        """Let the opener send a packet, and return it instead of delivering it."""
        packets = self.opener.up._packets
        assert packets is not None
        payload = b"".join(map(serialize, frames))
        number = packets._sent.take_number()
        return seal_packet(packets._phases, packets._ids.other, number, payload)

    def timers(self) -> Sequence[float | None]:
        return [each.get_timer() for each in self.endpoints.values()]


class PathTests(SynchronousTestCase):
    """Packets of the other end are sent again from the address of a third party."""

    def setUp(self) -> None:
        self.pair = Tapped()
        self.pair.open().run(2.0)

    def copy(self, *frames: Frame) -> int:
        """Deliver a packet of the opener from another address only; return its size."""
        stolen = self.pair.steal(*frames)
        self.pair.network.send_at(self.pair.network.now, stolen, NEW, THERE)
        self.pair.run(30.0)
        return len(stolen)

    def test_smallest_packet(self) -> None:
        """Threat 45: an address from which too few bytes came for all challenges costs no timer."""
        size = self.copy(Ping())
        self.assertGreater(self.pair.sent_to(NEW), 0)
        self.assertLessEqual(self.pair.sent_to(NEW), AMPLIFICATION * size)
        self.assertEqual(self.pair.timers(), [None, None])

    def test_answers_count(self) -> None:
        """Threat 45: answers to challenges count for the limit of an unproved address, too."""
        size = self.copy(Challenge(b"first..."), Challenge(b"second.."))
        self.assertGreater(self.pair.sent_to(NEW), 0)
        self.assertLessEqual(self.pair.sent_to(NEW), AMPLIFICATION * size)
        self.assertEqual(self.pair.timers(), [None, None])


class LiarTests(SynchronousTestCase):
    """A peer that has proved a key lies."""

    def test_challenges_without_acknowledgement(self) -> None:
        """Threat 44: a peer that sends challenges and acknowledges nothing costs a bounded amount of memory."""
        pair = Tapped()
        pair.open().run(2.0)
        packets = pair.acceptor.up._packets
        assert packets is not None
        pair.cut.add(THERE)
        for number in range(500):
            pair.send_frames(pair.opener, Challenge(number.to_bytes(8)))
            pair.run(0.001)
        self.assertGreater(pair.sent_to(HERE), 500 * 33)
        self.assertLess(packets._sent.rows, 50)

    def test_key_that_nothing_confirms(self) -> None:
        """Threat 44: a peer that acknowledges nothing until a key is used up ends its own connection only."""
        pair = Tapped()
        pair.open().run(2.0)
        endpoint = pair.endpoints[THERE]
        packets = pair.acceptor.up._packets
        assert packets is not None
        packets._phases._sealed_max = 50
        pair.cut.add(THERE)
        for _ in range(100):
            pair.send_frames(pair.opener, Ping())
            pair.run(0.001)
        self.assertEqual(len(pair.acceptor.errors), 1)
        self.assertIsInstance(pair.acceptor.errors[0], Unreachable)
        self.assertEqual(endpoint.connections, 0)

    def test_keep_alive_with_a_full_window(self) -> None:
        """An end whose window is full waits for the probe timeout, and not for room for a PING."""
        settings = EndpointSettings(ConnectionSettings(keep_alive=1.0))
        pair = Pair(Conditions(delay=0.2), settings=settings)
        pair.open().run(5.0)
        pair.acceptor.send_file(1, bytes(100_000))
        lost: list[bytes] = []

        def lose(_: int, data: bytes, *_ends: Address) -> Fate:
            lost.append(data)
            return ()

        pair.network.rule = lose
        pair.run(60.0)
        self.assertTrue(0 < len(lost) < 1000, len(lost))

    def test_a_dropped_transfer_makes_room(self) -> None:
        """A user that waits for room hears of it when it drops a transfer that the other end ignores."""
        pair = Tapped()
        pair.open().run(2.0)
        pair.cut.add(HERE)
        pair.acceptor.piece = MB
        pair.acceptor.send_file(1, bytes(3 * MB))
        self.assertTrue(pair.acceptor.up.is_full)
        del pair.acceptor.sending[1]
        pair.acceptor.up.drop(1)
        self.assertTrue(pair.run(0.0, lambda: bool(pair.acceptor.happened(Writable))))


class HandshakeTests(SynchronousTestCase):
    """A stranger proves its address, but no key."""

    def shaking(self) -> Tapped:
        """Return a pair whose acceptor has made a connection and waits for the rest of the handshake."""
        pair = Tapped(Conditions(delay=0.05))
        self.assertTrue(pair.run(1.0, lambda: pair.acceptor.connection is not None))
        return pair

    def test_fragments(self) -> None:
        """Threat 43: bytes of TLS in many parts end the handshake: putting them in order would cost more and more."""
        handshake = Handshake(_accept(THERE, HERE), is_opener=False)
        with self.assertRaises(HandshakeFailed):
            for number in range(100):
                handshake.receive(2 * number + 1, b"x")

    def test_forged_packets_after_the_end(self) -> None:
        """Threat 43: a connection that was closed in its handshake does not answer packets that it cannot open."""
        pair = self.shaking()
        forged = next(data for data, source, _ in reversed(pair.sent) if source == HERE)
        forged = forged[:-1] + bytes([forged[-1] ^ 1])
        pair.acceptor.up.abort()
        pair.cut.update((HERE, THERE))
        pair.network.pump(THERE)
        before = pair.sent_to(HERE)
        for _ in range(10):
            pair.network.send_at(pair.network.now, forged, HERE, THERE)
        pair.run(0.5)
        self.assertEqual(pair.sent_to(HERE), before)

    def test_one_end(self) -> None:
        """Nothing follows `Closed`, even if TLS fails after the user has given up."""
        pair = Pair(Conditions(delay=0.05), expected=KEYS[HERE])
        self.assertTrue(pair.run(1.0, lambda: pair.acceptor.connection is not None))
        pair.opener.up.abort()
        pair.run(30.0)
        self.assertEqual(pair.opener.errors, [None])

    def test_repeated_cookie(self) -> None:
        """A COOKIE that comes again later says nothing about the round trip."""
        pair = Tapped(Conditions(delay=0.05))
        self.assertTrue(pair.run(1.0, lambda: pair.opener.up.state is State.SHAKING))
        cookie = next(data for data, source, _ in pair.sent if source == THERE)
        pair.cut.add(THERE)
        before = pair.opener.up.rtt
        pair.network.send_at(pair.network.now + 0.2, cookie, THERE, HERE)
        pair.run(0.25)
        self.assertEqual(pair.opener.up.rtt, before)

    def test_places(self) -> None:
        """Threat 43: an address that takes all places for handshakes loses some of them to other addresses."""
        settings = EndpointSettings(half_open_max=8)
        crowd = [Pair(seed=seed) for seed in range(20)]
        acceptor = Pair(settings=settings).endpoints[THERE]
        places = [("10.1.1.1", port) for port in range(1, 17)]
        places += [("10.2.2.2", 1), ("10.3.3.3", 1), ("10.2.2.2", 2), ("10.3.3.3", 2)]
        for pair, address in zip(crowd, places, strict=True):
            opener = pair.endpoints[HERE]
            for _ in range(2):
                for data, _ in take_all(opener, 0.0):
                    acceptor.receive_train(memoryview(data), len(data), address, 0.0)
                for data, _ in take_all(acceptor, 0.0):
                    opener.receive_train(memoryview(data), len(data), THERE, 0.0)
        held = Counter(each.remote[0] for each in acceptor._by_cid.values())
        self.assertEqual(held, {"10.1.1.1": 4, "10.2.2.2": 2, "10.3.3.3": 2})

    def test_places_of_failed_handshakes(self) -> None:
        """Threat 43: a handshake that has failed keeps its place while its CLOSE may be repeated."""
        pair = self.shaking()
        pair.acceptor.up.abort()
        pair.network.pump(THERE)
        self.assertIs(pair.acceptor.up.state, State.CLOSING)
        self.assertTrue(pair.acceptor.up.is_half_open)


class TrainTests(SynchronousTestCase):
    def test_neighbours_of_unknown_packets(self) -> None:
        """Packets that came in one train with those of a connection that cannot open them are not lost."""
        pair = Tapped()
        pair.open().run(2.0)
        other = pair.endpoints[HERE].open(THERE, _TLS[HERE].connect(KEYS[THERE]), 2.0)
        stolen = pair.steal(Ping())
        unknown = stolen[:1] + other.ids.own + stolen[8:]
        mine = pair.opener.up
        packets = pair.acceptor.up._packets
        assert packets is not None
        genuine = packets._send_once(Challenge(b"answer!!"), HERE).data
        unknown = unknown[: len(genuine)].ljust(len(genuine), b"0")
        endpoint = pair.endpoints[HERE]
        take_all(endpoint, 2.0)
        endpoint.receive_train(memoryview(unknown + genuine), len(genuine), THERE, 2.0)
        self.assertEqual(mine._paths.responses[-1], (THERE, b"answer!!"))
