"""CUBIC, with the numbers of RFC 9438 and RFC 9002."""

from __future__ import annotations

from math import cbrt, inf

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.congestion.controller import initial_window, report
from p2pshare.core.datagram.congestion.cubic import ALPHA, BETA, C, Cubic
from p2pshare.core.datagram.loss import Outcome
from p2pshare.core.datagram.rtt import RttEstimator
from p2pshare.core.datagram.sent_packets import SentPackets, TrainPart
from tests import examples

SEGMENT = 1000  # bytes
RTT = 0.1  # seconds


class Path:
    """A sender that fills its window, in rounds of one RTT."""

    def __init__(self, packets: int = 10, train: int = 1) -> None:
        self.cubic = Cubic(SEGMENT)
        self.train = train
        self.sent = SentPackets[None]()
        self.rtt = RttEstimator()
        self.rtt.add_sample(0.0, 0.0, RTT)
        self.now = 1.0
        while self.window < packets:
            self.round()

    @property
    def window(self) -> float:
        return self.cubic.window / SEGMENT

    def fill(self, packets: int | None = None) -> list[TrainPart[None]]:
        """Send a window, or some packets, and return them."""
        parts = []
        left = int(self.window) if packets is None else packets
        while left:
            count = min(self.train, left)
            left -= count
            train = self.sent.add(count, SEGMENT, SEGMENT, self.now, None)
            self.cubic.on_sent(count * SEGMENT, self.sent.bytes_in_flight, self.now)
            parts.append(TrainPart(train, train.unresolved))
        return parts

    def ack(self, parts: list[TrainPart[None]]) -> None:
        for part in parts:
            self.sent.acknowledge([(part.train.first, part.train.end)])
            report(Outcome(acked=[part]), self.cubic, self.rtt, self.now)

    def lose(self, *parts: TrainPart[None]) -> None:
        for train, mask in parts:
            self.sent.lose(train, mask, self.now)
        report(Outcome(lost=parts), self.cubic, self.rtt, self.now)

    def round(self, packets: int | None = None, lose: bool = False) -> list[TrainPart[None]]:
        """Send a window; after one RTT its first train is lost or not, and all others arrive."""
        parts = self.fill(packets)
        self.now += RTT
        if lose:
            self.lose(parts[0])
        self.ack(parts[1:] if lose else parts)
        return parts


class SlowStartTests(SynchronousTestCase):
    def test_initial_window(self) -> None:
        """The first window has 10 packets, with a bound for large ones (RFC 9002, section 7.2)."""
        self.assertEqual(
            [initial_window(each) for each in (1200, 1472, 9000)], [12000, 14720, 18000]
        )
        self.assertEqual(Cubic(1200).window, 12000)

    def test_doubles(self) -> None:
        """The window doubles in each round trip, and so does the paced rate."""
        path = Path()
        windows = []
        for _ in range(4):
            windows.append(path.window)
            path.round()
        self.assertEqual(windows, [10, 20, 40, 80])
        self.assertAlmostEqual(path.cubic.pacing_rate(RTT), 2 * 160 * SEGMENT / RTT)

    def test_limited_by_application(self) -> None:
        """A window that is not used does not grow."""
        path = Path(80)
        path.round(packets=30)
        self.assertEqual(path.window, 80)
        path.round(packets=40)
        self.assertEqual(path.window, 120)


class ReductionTests(SynchronousTestCase):
    def test_loss(self) -> None:
        """A loss ends slow start and leaves 0.7 of the window; the rest of that round changes nothing."""
        path = Path(160)
        self.assertTrue(path.cubic.in_slow_start)
        parts = path.fill()
        path.now += RTT
        path.lose(parts[0])
        path.lose(*parts[5:9])
        path.ack(parts[1:5])
        self.assertAlmostEqual(path.window, BETA * 160)
        self.assertFalse(path.cubic.in_slow_start)
        self.assertAlmostEqual(path.cubic.pacing_rate(RTT), 1.25 * BETA * 160 * SEGMENT / RTT)

    def test_next_round(self) -> None:
        """Losses of packets that were sent after a reduction are another congestion event."""
        path = Path(160)
        path.round(lose=True)
        path.now += 0.001
        path.round(lose=True)
        self.assertApproximates(path.window, BETA * BETA * 160, 2)

    def test_minimum(self) -> None:
        """The window never falls below two packets."""
        path = Path()
        for _ in range(20):
            path.now += 0.001
            path.round(lose=True)
        self.assertGreaterEqual(path.window, 2)
        self.assertLess(path.window, 3)

    def test_marks(self) -> None:
        """A mark counts as a loss, at most once in a round trip."""
        path = Path(160)
        parts = path.fill()
        path.now += RTT
        for part in parts[:3]:
            report(Outcome(acked=[part], ce=1), path.cubic, path.rtt, path.now)
        self.assertAlmostEqual(path.window, BETA * 160)

    def test_persistent_congestion(self) -> None:
        """After persistent congestion the window begins with two packets, in slow start up to 0.7 of what it was."""
        path = Path(160)
        parts = path.fill()
        path.now += 10
        outcome = Outcome(lost=parts, is_congestion_persistent=True)
        for train, mask in parts:
            path.sent.lose(train, mask, path.now)
        report(outcome, path.cubic, path.rtt, path.now)
        self.assertEqual(path.window, 2)
        path.now += 0.001
        for _ in range(10):
            path.round()
        self.assertFalse(path.cubic.in_slow_start)
        self.assertApproximates(path.window, BETA * 160, 12)

    def test_mtu_probe(self) -> None:
        """The loss of a probe of the path MTU is not congestion."""
        path = Path(160)
        train = path.sent.add(1, 1472, 1472, path.now, None, in_flight=False)
        report(Outcome(lost=[TrainPart(train, 1)]), path.cubic, path.rtt, path.now)
        self.assertEqual(path.window, 160)


class UndoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(160)
        self.parts = self.path.fill()
        self.path.now += RTT
        self.path.lose(self.parts[0], self.parts[1])

    def late(self, part: TrainPart[None]) -> None:
        report(Outcome(late=[part]), self.path.cubic, self.path.rtt, self.path.now)

    def test_all_spurious(self) -> None:
        """When all lost packets arrive after all, the window and slow start are as before."""
        self.late(self.parts[0])
        self.assertAlmostEqual(self.path.window, BETA * 160)
        self.late(self.parts[1])
        self.assertEqual(self.path.window, 160)
        self.assertTrue(self.path.cubic.in_slow_start)

    def test_one_real(self) -> None:
        """One packet that stays lost keeps the reduction, also one that was declared lost later."""
        self.path.lose(self.parts[2])
        self.late(self.parts[0])
        self.late(self.parts[1])
        self.assertAlmostEqual(self.path.window, BETA * 160)

    def test_marked(self) -> None:
        """A mark of congestion is not spurious."""
        report(Outcome(acked=[self.parts[3]], ce=1), self.path.cubic, self.path.rtt, self.path.now)
        self.late(self.parts[0])
        self.late(self.parts[1])
        self.assertAlmostEqual(self.path.window, BETA * 160)


class AvoidanceTests(SynchronousTestCase):
    def test_cubic_curve(self) -> None:
        """With large windows the window follows W(t) = C (t - K)^3 + W_max (RFC 9438, section 4.2)."""
        path = Path(10 * 2**9, 64)
        before = path.window
        path.round(lose=True)
        path.now += 0.001
        start = path.now + RTT
        k = cbrt(before * (1 - BETA) / C)
        while (t := path.now + RTT - start) < 1.3 * k:
            path.round()
            if t > 3 * RTT:
                expected = C * (t + RTT - k) ** 3 + before
                self.assertApproximates(path.window / expected, 1, 0.02)
        self.assertGreater(path.window, before)

    def test_reno_friendly(self) -> None:
        """With small windows it grows by ALPHA packets in a round trip, and by one above the old window."""
        path = Path(20)
        path.round(lose=True)
        path.now += 0.001
        windows = []
        for _ in range(20):
            windows.append(path.window)
            path.round()
        self.assertApproximates(windows[4] - windows[1], 3 * ALPHA, 0.15)
        self.assertApproximates(path.window - windows[-3], 3, 0.3)

    def test_fast_convergence(self) -> None:
        """A flow whose window shrinks aims lower than before, to make room (RFC 9438, section 4.7)."""
        path = Path(10 * 2**9, 64)
        path.round(lose=True)
        path.now += 0.001
        before = path.window
        path.round(lose=True)
        plateau = before * (1 + BETA) / 2
        path.now += 0.001
        k = cbrt((plateau - path.window) / C)
        for _ in range(round(k / RTT)):
            path.round()
        self.assertApproximates(path.window / plateau, 1, 0.03)

    def test_idle(self) -> None:
        """Time without traffic, or with little, is no time on the curve."""
        for packets in (0, 3):
            path, other = Path(10 * 2**7, 16), Path(10 * 2**7, 16)
            for each in (path, other):
                each.round(lose=True)
                each.now += 0.001
                for _ in range(8):
                    each.round()
            for _ in range(100):
                if packets:
                    path.round(packets)
                else:
                    path.now += RTT
            for _ in range(20):
                path.round()
                other.round()
            self.assertApproximates(path.window / other.window, 1, 0.03)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "ack", "lose", "late", "mark", "persistent", "wait", "mtu"]),
        st.integers(1, 64),
    ),
    max_size=60,
)


class InvariantTests(SynchronousTestCase):
    @settings(max_examples=examples(150))
    @given(STEPS)
    def test_invariants(self, steps: list[tuple[str, int]]) -> None:
        """In any order of events the window has at least two packets and a finite rate."""
        path = Path()
        flying: list[TrainPart[None]] = []
        lost: list[TrainPart[None]] = []
        for what, number in steps:
            some = flying[:number]
            if what == "send":
                flying += path.fill(number)
            elif what == "wait":
                path.now += number * RTT
            elif what == "mtu":
                path.cubic.segment = 500 + 100 * number
            elif what == "persistent":
                path.cubic.on_persistent_congestion()
            elif what == "late" and lost:
                report(Outcome(late=lost[:number]), path.cubic, path.rtt, path.now)
                del lost[:number]
            elif what in ("ack", "mark") and some:
                outcome = Outcome(acked=some, ce=int(what == "mark"))
                report(outcome, path.cubic, path.rtt, path.now)
                del flying[:number]
            elif what == "lose" and some:
                path.lose(*some)
                lost += some
                del flying[:number]
            self.assertGreaterEqual(path.cubic.window, 2 * path.cubic.segment)
            self.assertTrue(0 < path.cubic.pacing_rate(RTT) < inf)
