"""Path MTU discovery over paths with any MTU, with the numbers of RFC 8899."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.path_mtu import (
    BASE,
    BLACK_HOLE_LOSSES,
    COOL_OFF,
    PROBES_MAX,
    RAISE_TIME,
    STEP_MIN,
    PathMtu,
)
from p2pshare.core.datagram.sent_packets import SentPackets, TrainPart

ETHERNET = 1472  # bytes of UDP payload


def search(mtu: PathMtu, carried: int, now: float = 0.0) -> list[int]:
    """Probe a path that carries `carried` bytes until the search ends, and return the probed sizes."""
    probed = []
    while (size := mtu.probe(now)) is not None:
        probed.append(size)
        mtu.probe_sent(size)
        assert mtu.probe(now) is None  # one at a time
        if size <= carried:
            mtu.probe_acked(now)
        else:
            mtu.probe_lost(now)
    return probed


def train(size: int) -> list[TrainPart[None]]:
    row = SentPackets[None]().add(4, size, size, 0.0, None)
    return [TrainPart(row, row.unresolved)]


class SearchTests(SynchronousTestCase):
    def test_likely(self) -> None:
        """The limit is tried first, and then the likely sizes."""
        mtu = PathMtu(ETHERNET)
        self.assertEqual((mtu.size, search(mtu, ETHERNET), mtu.size), (BASE, [1472], 1472))
        mtu = PathMtu(ETHERNET)
        self.assertEqual(search(mtu, 1452), [1472] * PROBES_MAX + [1452])
        self.assertEqual(mtu.size, 1452)
        mtu = PathMtu(65507)
        self.assertEqual((search(mtu, 65507), mtu.size), ([65507], 65507))

    @given(st.integers(BASE, 10_000), st.integers(BASE, 10_000))
    def test_any_path(self, limit: int, carried: int) -> None:
        """The search finds what the path carries, within a step, and never exceeds it or the limit."""
        mtu = PathMtu(limit)
        probed = search(mtu, carried)
        best = min(limit, carried)
        self.assertLessEqual(mtu.size, best)
        self.assertLess(best - mtu.size, STEP_MIN)
        self.assertLessEqual(max(probed, default=0), limit)
        self.assertLessEqual(len(probed), 60)

    def test_refused(self) -> None:
        """A size that the kernel refuses is not tried again."""
        mtu = PathMtu(9000)
        mtu.probe_sent(9000)
        mtu.probe_refused(0.0)
        self.assertEqual(mtu.probe(0.0), 1472)

    def test_lost_by_chance(self) -> None:
        """A size works if one of three probes arrives."""
        mtu = PathMtu(ETHERNET)
        for _ in range(PROBES_MAX - 1):
            mtu.probe_sent(ETHERNET)
            mtu.probe_lost(0.0)
        mtu.probe_sent(ETHERNET)
        mtu.probe_acked(0.0)
        self.assertEqual(mtu.size, ETHERNET)

    def test_no_room(self) -> None:
        """Where nothing is to be won, nothing is probed."""
        self.assertIsNone(PathMtu(BASE + STEP_MIN - 1).probe(0.0))
        self.assertEqual(PathMtu(500).size, BASE)

    def test_raised_again(self) -> None:
        """A path whose MTU has grown is found out after ten minutes."""
        mtu = PathMtu(ETHERNET)
        search(mtu, 1300)
        self.assertIsNone(mtu.probe(RAISE_TIME - 1))
        self.assertEqual(search(mtu, ETHERNET, RAISE_TIME), [ETHERNET])
        self.assertEqual(mtu.size, ETHERNET)


class BlackHoleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mtu = PathMtu(ETHERNET)
        search(self.mtu, ETHERNET)

    def test_full_size_vanishes(self) -> None:
        """Three loss events of full-size packets in a row, while smaller ones arrive, are a black hole."""
        for _ in range(BLACK_HOLE_LOSSES):
            self.assertEqual(self.mtu.size, ETHERNET)
            self.mtu.on_acked(train(60))
            self.mtu.on_lost(train(ETHERNET), 1.0)
        self.assertEqual(self.mtu.size, BASE)
        self.assertIsNone(self.mtu.probe(COOL_OFF))
        self.assertEqual(search(self.mtu, 1300, 1.0 + COOL_OFF)[0], ETHERNET)
        self.assertLess(1300 - self.mtu.size, STEP_MIN)

    def test_congestion(self) -> None:
        """Losses are no black hole while full-size packets arrive in between, or if small ones are lost."""
        for _ in range(9):
            self.mtu.on_lost(train(ETHERNET), 1.0)
            self.mtu.on_lost(train(ETHERNET), 1.0)
            self.mtu.on_acked(train(60))
            self.mtu.on_acked(train(ETHERNET))
            self.mtu.on_lost(train(60), 1.0)
        self.assertEqual(self.mtu.size, ETHERNET)

    def test_silence(self) -> None:
        """Two probe timeouts in a row are a black hole, and two with an ACK between them are not."""
        self.mtu.on_probe_timeout(1.0)
        self.mtu.on_acked(train(60))
        self.mtu.on_probe_timeout(2.0)
        self.assertEqual(self.mtu.size, ETHERNET)
        self.mtu.on_probe_timeout(3.0)
        self.assertEqual(self.mtu.size, BASE)

    def test_busy_receiver(self) -> None:
        """A fall-back is undone when packets of the size before have arrived after all; then nothing is probed."""
        self.mtu.on_probe_timeout(1.0)
        self.mtu.on_probe_timeout(2.0)
        self.mtu.on_acked(train(BASE))
        self.assertEqual(self.mtu.size, BASE)
        self.mtu.on_acked(train(ETHERNET))
        self.assertEqual((self.mtu.size, self.mtu.probe(2.0 + COOL_OFF)), (ETHERNET, None))

    def test_late_answer(self) -> None:
        """What becomes of a probe from before a black hole does not count."""
        mtu = PathMtu(9000)
        search(mtu, ETHERNET)
        mtu.probe_sent(9000)
        mtu.on_probe_timeout(1.0)
        mtu.on_probe_timeout(2.0)
        mtu.probe_acked(3.0)
        mtu.probe_lost(3.0)
        self.assertEqual((mtu.size, mtu.probe(3.0)), (BASE, None))

    def test_at_the_base(self) -> None:
        """A path that carries the base only is not punished for losses: the search goes on."""
        mtu = PathMtu(ETHERNET)
        for _ in range(5):
            mtu.on_acked(train(60))
            mtu.on_lost(train(BASE), 1.0)
            mtu.on_probe_timeout(1.0)
        self.assertEqual(mtu.probe(1.0), ETHERNET)
