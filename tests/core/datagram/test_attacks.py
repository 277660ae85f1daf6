"""Tests of what strangers and lying peers can cost: memory, time, datagrams to third parties, places of others."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.paths import AMPLIFICATION
from p2pshare.core.datagram.protection.sealing import seal_packet
from p2pshare.core.datagram.trains import Address
from p2pshare.testing.links import Conditions
from p2pshare.wire.datagrams.frames import Challenge, Frame, Ping, serialize
from tests.core.datagram.pair import HERE, THERE, Pair

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
    """The other end's packets are copied to a third party's address."""

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
        """An address from which too few bytes came for all challenges costs no timer."""
        size = self.copy(Ping())
        self.assertGreater(self.pair.sent_to(NEW), 0)
        self.assertLessEqual(self.pair.sent_to(NEW), AMPLIFICATION * size)
        self.assertEqual(self.pair.timers(), [None, None])

    def test_answers_count(self) -> None:
        """Answers to challenges count for the limit of an unproved address, too."""
        size = self.copy(Challenge(b"first..."), Challenge(b"second.."))
        self.assertGreater(self.pair.sent_to(NEW), 0)
        self.assertLessEqual(self.pair.sent_to(NEW), AMPLIFICATION * size)
        self.assertEqual(self.pair.timers(), [None, None])


class LiarTests(SynchronousTestCase):
    """A peer that has proved a key lies."""

    def test_challenges_without_acknowledgement(self) -> None:
        """A peer that sends challenges and acknowledges nothing costs a bounded amount of memory."""
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
