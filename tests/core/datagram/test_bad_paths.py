"""Connections over paths that change, break and lie, in virtual time; after the cases of the QUIC interop runner."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.connection import ConnectionSettings
from p2pshare.core.datagram.contents.held_memory import SHARE_MIN
from p2pshare.core.datagram.endpoint import CLOSING_MAX, ConnectionEvent, EndpointSettings
from p2pshare.core.datagram.events import ConnectionMade
from p2pshare.core.datagram.trains import Address
from p2pshare.errors import Unreachable
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import Fate
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.datagrams.packets import PacketType
from tests.core.datagram.pair import _TLS, HERE, KEYS, PIECE, THERE, Pair, User
from tests.strategies import seeds

MBIT = 125_000.0  # bytes per second
MERGING = 0.001  # seconds
FILE = random.Random(3).randbytes(300_000)
PATH = Conditions(
    rate=10 * MBIT, queue=64_000, delay=0.015
)  # of the interop runner, with a longer queue
STRANGER: Address = ("192.0.2.66", 666)


class PathCase(SynchronousTestCase):
    """Sends a file from the acceptor to the opener while something happens."""

    def pair(self, conditions: Conditions = PATH, seed: int = 1, **settings: int) -> Pair:
        endpoint = EndpointSettings(ConnectionSettings(**settings))
        return Pair(conditions, seed=seed, settings=endpoint, merging=MERGING).open()

    def finish(self, pair: Pair, file: bytes = FILE, seconds: float = 300.0) -> float:
        """Send a file, unless one is on its way; check it, and return the time at its end."""
        if not pair.acceptor.up.pieces_held and 1 not in pair.opener.files:
            pair.acceptor.send_file(1, file)
        self.assertTrue(pair.run(seconds, lambda: 1 in pair.opener.done))
        self.assertEqual(bytes(pair.opener.files[1].data), file)
        self.assertEqual(pair.opener.errors + pair.acceptor.errors, [])
        return pair.network.now


class LossTests(PathCase):
    def test_corruption(self) -> None:
        """A transfer is exact although 2 % of the packets are corrupted: they count as lost."""
        for seed in range(1, 3):
            self.finish(self.pair(dataclasses.replace(PATH, corruption=0.02), seed))

    def test_duplicates(self) -> None:
        """Packets that arrive twice change nothing, and cost no retransmission."""
        file = FILE * 2
        pair = self.pair(dataclasses.replace(PATH, duplication=0.5))
        once = self.finish(self.pair(), file)
        self.assertApproximates(self.finish(pair, file), once, 0.05)
        self.assertLess(pair.network.link(THERE[0], HERE[0]).counts.bytes_sent, 1.1 * len(file))

    def test_reordering(self) -> None:
        """Over a path where packets overtake each other a transfer is exact, and little is sent again."""
        conditions = dataclasses.replace(PATH, reordering=0.3, reordering_delay=0.02)
        pair = self.pair(conditions)
        self.finish(pair)
        self.assertLess(pair.network.link(THERE[0], HERE[0]).counts.bytes_sent, 1.4 * len(FILE))

    def test_jitter(self) -> None:
        """A path whose delay varies between 15 and 65 ms costs little more than one of 65 ms."""
        slow = self.finish(self.pair(dataclasses.replace(PATH, delay=0.065)))
        self.assertLess(self.finish(self.pair(dataclasses.replace(PATH, jitter=0.05))), 1.5 * slow)

    def test_long_round_trip(self) -> None:
        """A connection over a round trip of 1.5 s opens and carries a file, and nothing is sent again."""
        pair = self.pair(dataclasses.replace(PATH, delay=0.75, queue=1e6))
        self.finish(pair)
        self.assertLess(pair.network.link(THERE[0], HERE[0]).counts.bytes_sent, 1.1 * len(FILE))

    @settings(max_examples=25)
    @given(
        st.builds(
            Conditions,
            rate=st.sampled_from([MBIT, 10 * MBIT, None]),
            queue=st.sampled_from([20_000.0, 200_000.0]),
            delay=st.sampled_from([0.0, 0.002, 0.1]),
            jitter=st.sampled_from([0.0, 0.03]),
            loss=st.floats(0, 0.2),
            corruption=st.floats(0, 0.05),
            duplication=st.floats(0, 0.2),
            reordering=st.floats(0, 0.3),
            reordering_delay=st.sampled_from([0.001, 0.05]),
        ),
        st.integers(0, 100_000),
        seeds,
    )
    def test_any_path(self, conditions: Conditions, size: int, seed: int) -> None:
        """Files in both directions are exact over paths that do all of this at once, with key updates."""
        pair = self.pair(PATH, seed, update_after=20)
        pair.network.change(conditions)
        pair.opener.send_file(7, FILE[-size:] if size else b"")
        pair.acceptor.send_file(1, FILE[:size])
        done = pair.run(600.0, lambda: 7 in pair.acceptor.done and 1 in pair.opener.done)
        if size:
            self.assertTrue(done)
            self.assertEqual(bytes(pair.opener.files[1].data), FILE[:size])
            self.assertEqual(bytes(pair.acceptor.files[7].data), FILE[-size:])
        self.assertEqual(pair.opener.errors + pair.acceptor.errors, [])


class BlackHoleTests(PathCase):
    def test_outage(self) -> None:
        """A path that carries nothing for 10 s is used again soon after it is back."""
        pair = self.pair()
        pair.acceptor.send_file(1, FILE)
        pair.run(0.2)
        pair.network.change(dataclasses.replace(PATH, loss=1.0))
        pair.run(10.0)
        back = pair.network.now
        pair.network.change(PATH)
        self.assertLess(self.finish(pair) - back, 12.0)

    def test_smaller_mtu(self) -> None:
        """A path that stops to carry packets above 1280 bytes still carries the file."""
        pair = self.pair(dataclasses.replace(PATH, mtu=1500))
        pair.run(5.0)
        pair.acceptor.send_file(1, FILE)
        pair.run(0.2)
        pair.network.change(dataclasses.replace(PATH, mtu=1280))
        self.finish(pair)

    def test_small_mtu(self) -> None:
        """A path carries a file whatever its MTU from 1280 bytes on, and whether or not it refuses."""
        for mtu in (1280, 1400, 1500, 9000):
            for refuses in (False, True):
                conditions = dataclasses.replace(PATH, mtu=mtu, refuses_larger=refuses)
                self.finish(self.pair(conditions), FILE[:100_000])


class DeadPathTests(PathCase):
    """An opener that wants to know soon whether its path is dead."""

    def begin(self, pair: Pair, *, sends: bool) -> None:
        pair.opener.up.unanswered_timeout = 4.0
        user, other = (pair.opener, pair.acceptor) if sends else (pair.acceptor, pair.opener)
        user.send_file(1, FILE)
        self.assertTrue(pair.run(30.0, lambda: 1 in other.files))

    def test_dead(self) -> None:
        """A path that carries nothing any more is given up within seconds, whoever sends."""
        for sends in (False, True):
            pair = self.pair()
            self.begin(pair, sends=sends)
            pair.detach()
            cut = pair.network.now
            self.assertTrue(pair.run(60.0, lambda: bool(pair.opener.errors)))  # noqa: B023
            self.assertIsInstance(pair.opener.errors[0], Unreachable)
            self.assertLess(pair.network.now - cut, 6.0)
            self.assertGreater(pair.network.now - cut, 3.5)

    def test_alive(self) -> None:
        """Heavy loss, long round trips, a rebinding and an outage of 2 s are not taken for a dead path."""
        for loss, delay in ((0.2, 0.015), (0.1, 0.3)):
            pair = self.pair(dataclasses.replace(PATH, loss=loss, delay=delay))
            self.begin(pair, sends=False)
            self.finish(pair)
        pair = self.pair()
        self.begin(pair, sends=False)
        pair.rebind((HERE[0], 7001))
        pair.run(0.1)
        pair.network.change(dataclasses.replace(PATH, loss=1.0))
        pair.run(2.0)
        pair.network.change(PATH)
        self.finish(pair)

    def test_idle(self) -> None:
        """An idle connection stays."""
        pair = self.pair()
        self.begin(pair, sends=False)
        self.finish(pair)
        pair.run(600.0)
        pair.opener.up.send_control(b"x", pair.network.now)
        pair.run(10.0)
        self.assertEqual(pair.opener.errors, [])


class RebindingTests(PathCase):
    def check_rebinding(self, *addresses: Address, sends: bool) -> None:
        """Move the opener in the middle of a transfer again and again."""
        pair = self.pair()
        user, other = (pair.opener, pair.acceptor) if sends else (pair.acceptor, pair.opener)
        user.send_file(1, FILE)
        for address in addresses:
            pair.run(0.1)
            self.assertNotIn(1, other.done)
            pair.rebind(address)
        self.assertTrue(pair.run(60.0, lambda: 1 in other.done))
        self.assertEqual(bytes(other.files[1].data), FILE)
        self.assertEqual(pair.acceptor.up.remote, addresses[-1])

    def test_ports(self) -> None:
        """A transfer goes on, in both directions, although a NAT changes the port three times."""
        ports = [(HERE[0], port) for port in (7001, 7002, 7003)]
        self.check_rebinding(*ports, sends=False)
        self.check_rebinding(*ports, sends=True)

    def test_addresses(self) -> None:
        """A transfer goes on, in both directions, although the address changes, and changes back."""
        addresses = [("198.51.100.7", 7001), HERE]
        self.check_rebinding(*addresses, sends=False)
        self.check_rebinding(*addresses, sends=True)

    def test_lossy(self) -> None:
        """A rebinding over a path with 20 % loss costs no file."""
        for seed in range(1, 6):
            pair = self.pair(dataclasses.replace(PATH, loss=0.2), seed)
            pair.acceptor.send_file(1, FILE[:200_000])
            pair.run(0.1)
            pair.rebind((HERE[0], 7001))
            self.finish(pair, FILE[:200_000])

    def test_amplification(self) -> None:
        """Threat 45: a new address gets at most three times the bytes that came from it, until it has answered."""
        new = (HERE[0], 7001)
        pair = self.pair()
        came, went = 0, 0
        is_proved = False

        def rule(_: int, data: bytes, source: Address, to: Address) -> Fate | None:
            nonlocal came, went, is_proved
            came += len(data) * (source == new)
            went += len(data) * (to == new)
            is_proved |= pair.acceptor.up.remote == new
            self.assertTrue(is_proved or went <= 3 * came, (went, came))
            return None

        pair.acceptor.send_file(1, FILE)
        pair.run(0.1)
        pair.network.rule = rule
        pair.rebind(new)
        self.finish(pair)
        self.assertTrue(is_proved)


class AmplificationTests(PathCase):
    def check_counts(self, conditions: Conditions, seed: int) -> Counter[Address]:
        """Open a connection; until its cookie comes back, the acceptor sends no more than it has received."""
        sizes: Counter[Address] = Counter()
        is_back = False

        def rule(_: int, data: bytes, source: Address, to: Address) -> Fate | None:
            nonlocal is_back
            sizes[source] += len(data)
            is_back |= source == HERE and data[0] == PacketType.HANDSHAKE_OF_OPENER
            self.assertTrue(is_back or sizes[THERE] <= sizes[HERE], sizes)
            return None

        pair = Pair(conditions, seed=seed, rule=rule)
        self.assertTrue(pair.run(10.0, lambda: pair.is_open))
        return sizes

    def test_handshake(self) -> None:
        """The acceptor of a connection sends less than it receives until the cookie is back, under loss, too."""
        for seed in range(1, 11):
            self.check_counts(dataclasses.replace(PATH, loss=0.3), seed)

    def test_opens_of_a_stranger(self) -> None:
        """A thousand OPENs of strangers leave no state, and each gets one smaller answer."""
        sent: list[tuple[bytes, Address, Address]] = []
        pair = Pair(rule=lambda _, *datagram: sent.append(datagram)).open()
        opening = next(data for data, _, _ in sent if data[0] == PacketType.OPEN)
        sent.clear()
        for number in range(1000):
            address = (f"198.51.100.{number % 200}", number + 1)
            pair.network.send_at(pair.network.now, opening, address, THERE)
        pair.run(1.0)
        answers = [data for data, source, to in sent if source == THERE and to != HERE]
        self.assertLessEqual(len(answers), 1000)
        self.assertLess(max(map(len, answers)), len(opening))
        self.assertEqual(pair.connections, 2)
        pair.run(60.0)
        self.assertLessEqual(
            sum(source == THERE and to != HERE for _, source, to in sent), len(answers)
        )


class KeyUpdateTests(PathCase):
    def test_disorder(self) -> None:
        """Keys change every 50 packets while packets are lost, repeated and late; the file is exact."""
        conditions = dataclasses.replace(
            PATH, loss=0.02, duplication=0.1, reordering=0.2, reordering_delay=0.03
        )
        pair = self.pair(conditions, update_after=50)
        self.finish(pair)
        self.assertGreater(pair.acceptor.up.key_phase, 3)

    def test_rebinding(self) -> None:
        """Keys change and the address changes at the same time."""
        pair = self.pair(dataclasses.replace(PATH, loss=0.02), update_after=30)
        pair.acceptor.send_file(1, FILE)
        for port in range(7001, 7004):
            pair.run(0.1)
            pair.rebind((HERE[0], port))
        self.finish(pair)


class EcnTests(PathCase):
    def test_marks_prevent_loss(self) -> None:
        """A sender slows down for marks, so that a queue that marks early does not overflow; without marks it does."""
        file = FILE * 3
        conditions = dataclasses.replace(PATH, queue=100_000)
        unmarked, marked = (
            self.pair(conditions),
            self.pair(dataclasses.replace(conditions, mark_above=30_000)),
        )
        link = marked.network.link(THERE[0], HERE[0])
        self.finish(unmarked, file)
        seconds = self.finish(marked, file)
        self.assertGreater(unmarked.network.link(THERE[0], HERE[0]).counts.dropped, 0)
        self.assertGreater(link.counts.marked, 0)
        self.assertEqual(link.counts.dropped, 0)
        self.assertGreater(len(file) / seconds, 0.75 * 10 * MBIT)


class HostileTests(PathCase):
    def test_copies(self) -> None:
        """Threat 45: datagrams that a stranger repeats, cuts and changes have no effect, whatever source they claim."""
        rng = random.Random(9)

        def rule(_: int, data: bytes, source: Address, to: Address) -> Fate | None:
            when = pair.network.now + rng.uniform(0.0, 0.2)
            cut = data[: rng.randrange(1, len(data) + 1)]
            changed = bytearray(data)
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            forged = rng.choice([cut, bytes(changed), rng.randbytes(len(data)), data])
            pair.network.send_at(when, forged, rng.choice([source, STRANGER]), to)
            return None

        pair = Pair(PATH, merging=MERGING)
        pair.network.rule = rule
        self.finish(pair.open(), FILE[:200_000])
        self.assertEqual(pair.connections, 2)
        self.assertEqual(pair.acceptor.up.remote, HERE)


class Crowd(Pair):
    """Many connections between two endpoints; the acceptor sends a file over each."""

    def __init__(
        self,
        conditions: Conditions,
        count: int,
        file: bytes,
        settings: EndpointSettings | None = None,
    ) -> None:
        super().__init__(conditions, merging=MERGING, settings=settings)
        self._file = file
        self.openers = [self.opener]
        for _ in range(count - 1):
            opener = User(self)
            tls = _TLS[HERE].connect(KEYS[THERE])
            opener.connection = self.endpoints[HERE].open(THERE, tls, 0.0)
            self.users[opener.connection] = opener
            self.openers.append(opener)

    @property
    def arrived(self) -> list[int]:
        """Bytes of each file so far."""
        return [each.files[1].there.total if 1 in each.files else 0 for each in self.openers]

    def on_event(self, happened: ConnectionEvent) -> None:
        """Begin a file on each new connection."""
        if isinstance(happened.event, ConnectionMade):
            user = self.users[happened.connection] = User(self)
            user.connection = happened.connection
            user.send_file(1, self._file)
        self.users[happened.connection].on_event(happened.event)


class HeldMemoryTests(SynchronousTestCase):
    def test_many_silent_receivers(self) -> None:
        """Threat 44: if many receivers acknowledge nothing any more, what is held for them together is bounded, and
        one that goes on reading gets its file.
        """
        limit, count = 2 * BLOCK_SIZE, 6
        file = bytes(3 * BLOCK_SIZE)
        pair = Crowd(Conditions(delay=0.015), count, file, EndpointSettings(held_max=limit))
        sender = pair.endpoints[THERE]
        self.assertTrue(pair.run(60.0, lambda: min(pair.arrived) > BLOCK_SIZE))
        senders = [each for each in pair.users if not each.ids.is_opener]
        for opener in pair.openers[1:]:
            opener.up.receive_protected = lambda *_: []  # type: ignore[method-assign]
        held = [0]

        def is_done() -> bool:
            held.append(sum(each.pieces_held for each in senders))
            return pair.arrived[0] == len(file)

        self.assertTrue(pair.run(120.0, is_done))
        self.assertGreater(max(held), limit // 2)
        self.assertLess(max(held), limit + count * (SHARE_MIN + PIECE))
        self.assertEqual(sender.held, held[-1])
        for each in senders:
            each.abort()
        self.assertEqual(sender.held, 0)


class ClosingTests(SynchronousTestCase):
    def test_many_closed_at_once(self) -> None:
        """Of many connections that are closed at once each other end hears; only some are kept to repeat that."""
        pair = Crowd(Conditions(delay=0.05), CLOSING_MAX + 5, b"x")
        acceptor = pair.endpoints[THERE]
        self.assertTrue(pair.run(60.0, lambda: min(pair.arrived) == 1))
        for each in [each for each in pair.users if not each.ids.is_opener]:
            each.abort()
        pair.run(0.02)
        self.assertEqual(acceptor.connections, CLOSING_MAX)
        pair.run(60.0)
        self.assertEqual([each.errors for each in pair.openers], [[None]] * len(pair.openers))
        self.assertEqual(pair.connections, 0)


class SharedLinkTests(SynchronousTestCase):
    def test_many_connections(self) -> None:
        """Thirty connections that open at once over a link with loss carry their files."""
        file = FILE[:20_000]
        crowd = Crowd(dataclasses.replace(PATH, loss=0.02), 30, file)
        self.assertTrue(crowd.run(60.0, lambda: all(1 in each.done for each in crowd.openers)))
        self.assertEqual({bytes(each.files[1].data) for each in crowd.openers}, {file})

    def test_fair_shares(self) -> None:
        """Two connections share a link: the fairness index of Jain is at least 0.75 after 10 s."""
        crowd = Crowd(dataclasses.replace(PATH, rate=2 * MBIT), 2, bytes(3_000_000))
        crowd.run(10.0)
        arrived = crowd.arrived
        fairness = sum(arrived) ** 2 / len(arrived) / sum(each**2 for each in arrived)
        self.assertGreater(fairness, 0.75)
        self.assertGreater(sum(arrived), 0.8 * 10.0 * 2 * MBIT)
