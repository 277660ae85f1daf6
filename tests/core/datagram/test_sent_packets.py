"""The ledger of sent packets, against a model with one state for each packet."""

from __future__ import annotations

from enum import Enum, auto

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.sent_packets import SentPackets, TrainPart
from p2pshare.core.ranges import Range, RangeSet
from p2pshare.errors import RemoteProtocolError
from tests import examples


class Fate(Enum):
    IN_FLIGHT = auto()
    LOST = auto()
    ACKNOWLEDGED = auto()


def numbers(parts: list[TrainPart[str]]) -> list[int]:
    return [part.train.first + at for part in parts for run in part.runs for at in range(*run)]


class Model:
    """A ledger, and the fate of each packet."""

    def __init__(self) -> None:
        self.ledger = SentPackets[str]()
        self.fates: list[Fate] = []
        self.sizes: list[int] = []
        self.now = 0.0

    def send(self, count: int, last_size: int) -> None:
        train = self.ledger.add(count, 100, last_size, self.now, "data")
        assert train.first == len(self.fates)
        self.fates += [Fate.IN_FLIGHT] * count
        self.sizes += [100] * (count - 1) + [last_size]

    def acknowledge(self, ranges: list[Range]) -> tuple[list[int], list[int]]:
        """Return the packets that are expected to be newly acknowledged, and to be late."""
        covered = [each for run in ranges for each in range(*run)]
        new = [each for each in covered if self.fates[each] is Fate.IN_FLIGHT]
        late = [each for each in covered if self.fates[each] is Fate.LOST]
        for each in covered:
            self.fates[each] = Fate.ACKNOWLEDGED
        return new, late

    def lose(self, before: int) -> list[int]:
        """Lose what is in flight below a number, and return the numbers."""
        parts = [
            TrainPart(train, mask & ((1 << (before - train.first)) - 1))
            for train, mask in self.ledger.unresolved(before)
        ]
        return numbers([self.ledger.lose(*part, self.now) for part in parts if part.mask])


STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 64), st.integers(1, 100)),
    st.tuples(st.just("acknowledge"), st.lists(st.integers(0, 400), min_size=2), st.just(0)),
    st.tuples(st.just("lose"), st.integers(0, 400), st.just(0)),
)


class SentPacketsTests(SynchronousTestCase):
    @settings(max_examples=examples(200))
    @given(st.lists(STEPS, max_size=20))
    def test_model(self, steps: list[tuple[str, object, int]]) -> None:
        """In any order of sends, ACKs and losses each packet is resolved once, and the bytes in flight are right."""
        model = Model()
        ledger = model.ledger
        for what, value, last_size in steps:
            model.now += 1
            sent = len(model.fates)
            if what == "send":
                assert isinstance(value, int)
                model.send(value, last_size)
            elif what == "acknowledge" and sent:
                assert isinstance(value, list)
                edges = sorted({edge % (sent + 1) for edge in value})
                if ranges := list(zip(edges[::2], edges[1::2], strict=False)):
                    new, late = model.acknowledge(ranges)
                    result = ledger.acknowledge(ranges)
                    self.assertEqual(numbers(result.parts), new)
                    self.assertEqual(sorted(numbers(result.late)), late)
                    largest = ranges[-1][1] - 1
                    self.assertEqual(result.sampled_at is not None, largest in {*new, *late})
            elif what == "lose" and sent:
                assert isinstance(value, int)
                expected = [
                    number
                    for number, fate in enumerate(model.fates[: value % (sent + 1)])
                    if fate is Fate.IN_FLIGHT
                ]
                self.assertEqual(model.lose(value % (sent + 1)), expected)
                for number in expected:
                    model.fates[number] = Fate.LOST
            flying = [n for n, fate in enumerate(model.fates) if fate is Fate.IN_FLIGHT]
            self.assertEqual(numbers(list(ledger.unresolved())), flying)
            self.assertEqual(ledger.packets_in_flight, len(flying))
            self.assertEqual(ledger.bytes_in_flight, sum(model.sizes[n] for n in flying))
        if model.fates:
            everything = [(0, len(model.fates))]
            ledger.acknowledge(everything)
        self.assertEqual((ledger.rows, ledger.bytes_in_flight), (0, 0))

    def test_never_sent(self) -> None:
        """An ACK of a packet that was never sent is an error of the peer, and changes nothing."""
        ledger = SentPackets[str]()
        ledger.add(3, 100, 50, 0.0, "")
        for ranges in ([(0, 4)], [(0, 1), (2**63, 2**63 + 1)], [(0, 2**64)], []):
            with self.assertRaises(RemoteProtocolError):
                ledger.acknowledge(ranges)
        self.assertEqual(ledger.bytes_in_flight, 250)
        self.assertEqual(ledger.largest_acknowledged, -1)

    def test_late(self) -> None:
        """A lost packet that is acknowledged after all is reported once, and what it carried is known."""
        ledger = SentPackets[str]()
        train = ledger.add(4, 100, 100, 1.0, "rows")
        ledger.add(1, 100, 100, 2.0, "more")
        ledger.acknowledge([(0, 1), (3, 5)])
        ledger.lose(train, 0b0110, 3.0)
        self.assertEqual(ledger.bytes_in_flight, 0)
        result = ledger.acknowledge([(0, 2), (3, 5)])
        self.assertEqual((result.parts, result.late), ([], [(train, 0b0010)]))
        self.assertEqual(ledger.acknowledge([(0, 2), (3, 5)]).late, [])
        self.assertEqual(ledger.acknowledge([(0, 5)]).late, [(train, 0b0100)])
        self.assertEqual(ledger.rows, 0)

    def test_forgotten(self) -> None:
        """Lost rows are kept for a time, and never more than the bound."""
        ledger = SentPackets[str](lost_rows_max=3)
        for now in range(5):
            train = ledger.add(2, 100, 100, float(now), "")
            ledger.lose(train, 0b11, float(now))
        self.assertEqual(ledger.rows, 3)
        ledger.forget_lost(4.0)
        self.assertEqual(ledger.rows, 1)
        self.assertEqual(numbers(ledger.acknowledge([(0, 10)]).late), [8, 9])
        for _ in range(9):  # late ACKs of one row do not use up the bound
            train = ledger.add(64, 100, 100, 9.0, "")
            ledger.lose(train, train.unresolved, 9.0)
            for at in range(0, 64, 2):
                ledger.acknowledge([(train.first + at, train.first + at + 1)])
        self.assertEqual(ledger.rows, 3)

    def test_sample(self) -> None:
        """Only an ACK whose largest packet is new gives an RTT sample, that of the packet's own train."""
        ledger = SentPackets[str]()
        for now in (1.0, 2.0, 3.0):
            ledger.add(2, 100, 100, now, "")
        self.assertEqual(ledger.acknowledge([(3, 4)]).sampled_at, 2.0)
        self.assertIsNone(ledger.acknowledge([(0, 4)]).sampled_at)
        self.assertEqual(ledger.acknowledge([(0, 6)]).sampled_at, 3.0)

    def test_not_counted(self) -> None:
        """Probes of the path MTU are not in flight; packets that only have ACKs have no row."""
        ledger = SentPackets[str]()
        self.assertEqual(ledger.take_number(), 0)
        probe = ledger.add(1, 1472, 1472, 1.0, "probe", in_flight=False)
        self.assertEqual(ledger.take_number(), 2)
        self.assertEqual((ledger.bytes_in_flight, ledger.packets_in_flight), (0, 0))
        self.assertEqual(ledger.acknowledge([(0, 3)]).parts, [(probe, 1)])
        self.assertEqual((ledger.rows, ledger.next_number), (0, 3))

    def test_sizes(self) -> None:
        """The bytes of a part count its last packet with its own size."""
        train = SentPackets[str]().add(3, 100, 7, 0.0, "")
        self.assertEqual(
            [train.size(mask) for mask in (0b001, 0b011, 0b100, 0b111)], [100, 200, 7, 207]
        )
        part = TrainPart(train, 0b101)
        self.assertEqual((part.size, part.packets, list(part.runs)), (107, 2, [(0, 1), (2, 3)]))

    @given(st.sets(st.integers(0, 63), min_size=1))
    def test_runs(self, positions: set[int]) -> None:
        """The runs of a mask cover exactly its packets."""
        train = SentPackets[str]().add(64, 100, 100, 0.0, "")
        part = TrainPart(train, sum(1 << at for at in positions))
        self.assertEqual(list(part.runs), list(RangeSet((at, at + 1) for at in positions)))
