"""Tests of the bytes of files on their way out."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.contents.held_memory import HeldMemory
from p2pshare.core.datagram.contents.outgoing import (
    EARLY,
    FRAGMENTS_MAX,
    Cargo,
    CargoSizes,
    Outgoing,
    Shipment,
)
from p2pshare.errors import LocalProtocolError, RemoteProtocolError
from p2pshare.wire.datagrams.frames import Fin, Size
from tests import examples

SIZES = CargoSizes(bare=10, with_size=20)
SEGMENT = 110  # bytes: 100 of a file in a bare packet, 90 with SIZE


class Sender(Outgoing):
    """With shorter calls for the tests."""

    def __init__(self) -> None:
        super().__init__(HeldMemory(2**30))

    def cargo(self, packets: int = 4) -> Cargo | None:
        return self.next_cargo(SEGMENT, packets, SIZES)

    def frames(self) -> list[Size | Fin]:
        found = []
        for frame in self.frames_due():
            found.append(frame)
            self.on_frame_sent(frame)
        return found

    def start(self, number: int, size: int, *, known: bool = True) -> None:
        self.begin(number, size)
        self.send_piece(number, 0, memoryview(bytes(size)))
        if known:
            self.on_size_acked(number)


def places(cargo: Cargo | None) -> list[tuple[int, int]]:
    return list(cargo.shipment().places) if cargo else []


class OutgoingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.outgoing = Sender()

    def test_trains_in_turn(self) -> None:
        """Transfers take turns, one train each, and a short one passes a long one."""
        self.outgoing.start(1, 1000)
        self.outgoing.start(2, 300)
        turns = [(each.transfer, places(each)) for each in iter(self.outgoing.cargo, None)]
        self.assertEqual(
            turns, [(1, [(0, 400)]), (2, [(0, 300)]), (1, [(400, 800)]), (1, [(800, 1000)])]
        )
        self.assertFalse(self.outgoing.is_due)

    def test_size_first(self) -> None:
        """Each packet has the SIZE until it is acknowledged, and at most `EARLY` bytes go before that."""
        self.outgoing.start(1, 2 * EARLY, known=False)
        cargos = list(iter(self.outgoing.cargo, None))
        self.assertEqual({each.size for each in cargos}, {Size(1, 2 * EARLY)})
        self.assertEqual(places(cargos[-1])[-1][1], EARLY)
        self.outgoing.on_lost(cargos[0].shipment(), 0, 4)
        again = self.outgoing.cargo()
        self.assertEqual(places(again), [(0, 360)])
        self.outgoing.on_size_acked(1)
        bare = self.outgoing.cargo()
        assert bare is not None
        self.assertIsNone(bare.size)
        self.assertEqual(places(bare), [(EARLY, EARLY + 400)])

    def test_size_alone(self) -> None:
        """The SIZE goes out by itself when a transfer begins, again if it is lost, and not after ACK_SIZE."""
        self.outgoing.begin(1, 50)
        self.assertEqual(self.outgoing.frames(), [Size(1, 50)])
        self.assertEqual(self.outgoing.frames(), [])
        self.outgoing.on_frame_lost(Size(1, 50))
        self.assertEqual(self.outgoing.frames(), [Size(1, 50)])
        self.outgoing.on_size_acked(1)
        self.outgoing.on_frame_lost(Size(1, 50))
        self.assertEqual(self.outgoing.frames(), [])

    def test_lost_packets_go_first(self) -> None:
        """Lost packets go before new ones, together in one train as long as they are full."""
        self.outgoing.start(1, 2050)
        first = self.outgoing.cargo(packets=10)
        assert first is not None
        self.outgoing.on_lost(first.shipment(), 2, 3)
        self.outgoing.on_lost(first.shipment(), 7, 9)
        self.assertEqual(places(self.outgoing.cargo()), [(200, 300), (700, 900), (1000, 1100)])

    def test_a_short_packet_ends_a_train(self) -> None:
        """Bytes that do not fill a packet end the train, since only its last segment may be shorter."""
        self.outgoing.begin(1, 1000)
        self.outgoing.on_size_acked(1)
        self.outgoing.send_piece(1, 0, memoryview(bytes(250)))
        self.outgoing.send_piece(1, 250, memoryview(bytes(750)))
        self.assertEqual(places(self.outgoing.cargo(10)), [(0, 250)])
        self.assertEqual(places(self.outgoing.cargo(10)), [(250, 1000)])

    def test_pieces_are_released(self) -> None:
        """A piece is held until its last byte is acknowledged; bytes that were resent count once."""
        self.outgoing.start(1, 1000)
        cargo = self.outgoing.cargo(packets=10)
        assert cargo is not None
        shipment = cargo.shipment()
        self.outgoing.on_acked(shipment, 0, 9)
        self.assertEqual((self.outgoing.unacked, self.outgoing.held), (100, 1000))
        self.outgoing.on_lost(shipment, 5, 10)
        self.assertEqual(places(self.outgoing.cargo()), [(900, 1000)])
        self.outgoing.on_acked(shipment, 0, 10)
        self.assertEqual((self.outgoing.unacked, self.outgoing.held), (0, 0))

    def test_fin(self) -> None:
        """FIN follows the last byte, goes again when it or bytes after it are lost, and ends with COMPLETE."""
        self.outgoing.start(1, 300)
        self.outgoing.finish(1)
        self.assertEqual(self.outgoing.frames(), [])
        cargo = self.outgoing.cargo()
        assert cargo is not None
        self.assertEqual(self.outgoing.frames(), [Fin(1, 300)])
        self.assertEqual(self.outgoing.frames(), [])
        self.outgoing.on_frame_lost(Fin(1, 300))
        self.assertEqual(self.outgoing.frames(), [Fin(1, 300)])
        self.outgoing.on_missing(1, [(100, 200)])
        self.assertEqual(self.outgoing.frames(), [])
        self.assertEqual(places(self.outgoing.cargo()), [(100, 200)])
        self.assertEqual(self.outgoing.frames(), [Fin(1, 300)])
        self.outgoing.on_complete(1)
        self.assertEqual((len(self.outgoing), self.outgoing.held, self.outgoing.unacked), (0, 0, 0))
        self.outgoing.on_lost(cargo.shipment(), 0, 3)
        self.outgoing.on_frame_lost(Fin(1, 300))
        self.assertEqual((self.outgoing.frames(), self.outgoing.cargo()), ([], None))

    def test_fin_overtakes(self) -> None:
        """A FIN that overtook the last bytes is repeated once they are acknowledged, and then no more."""
        self.outgoing.start(1, 300)
        self.outgoing.finish(1)
        cargo = self.outgoing.cargo()
        assert cargo is not None
        self.outgoing.frames()
        self.outgoing.on_acked(cargo.shipment(), 0, 3)
        self.outgoing.on_missing(1, [(200, 300)])
        self.assertEqual(self.outgoing.frames(), [Fin(1, 300)])
        self.outgoing.on_missing(1, [(200, 300)])
        self.assertEqual(self.outgoing.frames(), [])

    def test_missing_overtakes(self) -> None:
        """FIN is also repeated if the bytes that MISSING names are acknowledged before they go out again."""
        self.outgoing.start(1, 300)
        self.outgoing.finish(1)
        cargo = self.outgoing.cargo()
        assert cargo is not None
        self.outgoing.frames()
        self.outgoing.on_missing(1, [(200, 300)])
        self.assertEqual(self.outgoing.frames(), [])
        self.outgoing.on_acked(cargo.shipment(), 0, 3)
        self.assertEqual(self.outgoing.frames(), [Fin(1, 300)])

    def test_an_empty_file(self) -> None:
        """FIN of a file without bytes brings its SIZE along."""
        self.outgoing.begin(1, 0)
        self.outgoing.finish(1)
        self.assertEqual(self.outgoing.frames(), [Size(1, 0), Fin(1, 0)])
        self.outgoing.on_frame_lost(Fin(1, 0))
        self.assertEqual(self.outgoing.frames(), [Size(1, 0), Fin(1, 0)])

    def test_drop(self) -> None:
        """A dropped transfer leaves no bytes, turns or frames."""
        self.outgoing.start(1, 300, known=False)
        self.outgoing.start(2, 100)
        self.outgoing.frames()
        self.outgoing.drop(1)
        self.assertEqual((self.outgoing.held, self.outgoing.unacked), (100, 100))
        cargo = self.outgoing.cargo()
        assert cargo is not None
        self.assertEqual(cargo.transfer, 2)
        self.outgoing.send_piece(1, 0, memoryview(b"late"))
        self.outgoing.finish(1)
        self.assertEqual((self.outgoing.cargo(), self.outgoing.frames()), (None, []))

    def test_lies(self) -> None:
        """Threat 44: judgements before FIN are errors; bytes beyond the file, and unknown transfers, are ignored."""
        self.outgoing.start(1, 300)
        for judge in (
            lambda: self.outgoing.on_missing(1, [(0, 1)]),
            lambda: self.outgoing.on_complete(1),
        ):
            self.assertRaises(RemoteProtocolError, judge)
        self.outgoing.finish(1)
        self.outgoing.cargo()
        self.outgoing.frames()
        self.outgoing.on_missing(1, [(299, 2**50)])
        self.assertEqual(places(self.outgoing.cargo()), [(299, 300)])
        self.outgoing.on_missing(7, [(0, 1)])
        self.outgoing.on_complete(7)

    def test_fragments_are_bounded(self) -> None:
        """Threat 44: a receiver that misses every second byte causes a bounded number of ranges."""
        size = 4 * FRAGMENTS_MAX
        self.outgoing.start(1, size)
        self.outgoing.finish(1)
        while self.outgoing.cargo(1000):
            pass
        self.outgoing.frames()
        self.outgoing.on_missing(1, [(at, at + 1) for at in range(0, size, 2)])
        queued = sum(len(places(each)) for each in iter(self.outgoing.cargo, None))
        self.assertLessEqual(queued, FRAGMENTS_MAX)

    def test_repeated_answer(self) -> None:
        """Threat 44: a FIN has one answer, and further ones are ignored."""
        self.outgoing.start(1, 300)
        self.outgoing.finish(1)
        self.outgoing.cargo()
        self.outgoing.frames()
        for _ in range(2):
            self.outgoing.on_missing(1, [(100, 200)])
            self.assertEqual(places(self.outgoing.cargo()), [(100, 200)])
            self.outgoing.on_missing(1, [(0, 300)])
            self.assertIsNone(self.outgoing.cargo())
            self.assertEqual(self.outgoing.frames(), [Fin(1, 300)])

    def test_misuse(self) -> None:
        """Bytes beyond the file, or handed over twice, are a bug on this side."""
        self.outgoing.start(1, 100)
        self.assertRaises(LocalProtocolError, self.outgoing.begin, 1, 5)
        for offset in (50, 95, 100):
            with self.assertRaises(LocalProtocolError):
                self.outgoing.send_piece(1, offset, memoryview(bytes(10)))

    @settings(max_examples=examples(60), deadline=None)
    @given(st.data())
    def test_any_network(self, data: st.DataObject) -> None:
        """Every byte arrives, and nothing is held in the end, whatever is lost and acknowledged late."""
        size = data.draw(st.integers(1, 2000))
        file = bytes(at % 251 for at in range(size))
        cuts = data.draw(st.lists(st.integers(1, size), max_size=4))
        edges = sorted({0, size, *cuts})
        self.outgoing = Sender()
        self.outgoing.begin(1, size)
        arrived = bytearray(size)
        for first, end in pairwise(edges):
            self.outgoing.send_piece(1, first, memoryview(file)[first:end])
        late = list[tuple[Shipment, int]]()
        while self.outgoing.unacked:
            cargo = self.outgoing.cargo(data.draw(st.integers(1, 8)))
            if cargo is None:
                shipment, index = late.pop()
                self.outgoing.on_acked(shipment, index, index + 1)
                continue
            offset_of = {}
            index = 0
            for offset, view in cargo.runs:
                for at in range(0, len(view), cargo.payload):
                    offset_of[index] = offset + at, bytes(view[at : at + cargo.payload])
                    index += 1
            self.assertEqual(cargo.packets, index)
            for index, (offset, part) in offset_of.items():
                fate = data.draw(st.sampled_from(["arrive", "lose", "late"]))
                if fate != "lose":
                    arrived[offset : offset + len(part)] = part
                if fate == "arrive":
                    self.outgoing.on_acked(cargo.shipment(), index, index + 1)
                else:
                    self.outgoing.on_lost(cargo.shipment(), index, index + 1)
                    if fate == "late":
                        late.append((cargo.shipment(), index))
            if data.draw(st.booleans()):
                self.outgoing.on_size_acked(1)
        self.assertEqual(bytes(arrived), file)
        self.assertEqual(self.outgoing.held, 0)
