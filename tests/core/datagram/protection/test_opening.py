"""Opening trains: whatever happens to some segments, the others are opened, as if each had come alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.protection.keys import Aead, KeyPair
from p2pshare.core.datagram.protection.opening import DataRun, OpenedTrain, Payload
from p2pshare.core.datagram.protection.phases import KeyPhases
from p2pshare.core.datagram.protection.sealing import TrainSealer, seal_packet
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.datagrams.packets import PACKET_NUMBER_MAX
from tests.core.datagram.protection.ends import (
    AEADS,
    CID,
    SECRET,
    Receiver,
    data_of,
    key_phases,
    numbers_of,
    payloads_of,
)

SEALER = TrainSealer()
SEGMENT = 64  # bytes
WIDTH = SEGMENT - 44  # bytes of a file in each


def packets_of(train: bytes, segment: int = SEGMENT) -> list[bytes]:
    return [train[at : at + segment] for at in range(0, len(train), segment)]


def receiver(phases: KeyPhases | None = None, aead: Aead = AEADS[0]) -> Receiver:
    return Receiver(phases or key_phases(is_opener=False, aead=aead))


def coalesced(opened: OpenedTrain) -> list[tuple[int, int, bytes]]:
    """Return all DATA, with neighbours within a block put together."""
    found: list[tuple[int, int, bytes]] = []
    for transfer, offset, data in data_of(opened):
        if found:
            other, start, before = found[-1]
            joins = other == transfer and start + len(before) == offset
            if joins and start // BLOCK_SIZE == offset // BLOCK_SIZE:
                found[-1] = other, start, before + data
                continue
        found.append((transfer, offset, data))
    return found


@st.composite
def sealed(draw: st.DrawFn, aead: Aead) -> list[bytes]:
    """Packets of equal size, of several transfers, runs, blocks and perhaps key phases."""
    phases = key_phases(aead=aead, update_after=draw(st.sampled_from([8, 1000])))
    first, packets = draw(st.integers(0, 2**20)), []
    for _ in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 30))
        offset = draw(st.integers(0, 10)) * BLOCK_SIZE - draw(st.integers(-1, 4)) * WIDTH
        data = bytes(range(WIDTH)) * count
        runs = [(max(0, offset), data)]
        train = SEALER.seal(phases, CID, first, draw(st.integers(0, 2)), runs, SEGMENT)
        packets += packets_of(train)
        first += count + draw(st.integers(0, 2))
        phases.acknowledged(first)
    return packets


@st.composite
def damaged(draw: st.DrawFn, packets: list[bytes]) -> list[bytes]:
    """The packets, of which some are lost, corrupt, repeated, reordered, or replaced by those of others."""
    faults = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(packets) - 1),
                st.sampled_from(["bit", "lost", "twice", "late", "foreign", "noise"]),
                st.integers(0, 8 * SEGMENT - 1),
            ),
            max_size=6,
        )
    )
    arrived = list(packets)
    for at, fault, where in faults:
        packet = bytearray(arrived[at % len(arrived)])
        at %= len(arrived)
        if fault == "bit":
            packet[where // 8] ^= 1 << where % 8
            arrived[at] = bytes(packet)
        elif fault == "lost" and len(arrived) > 1:
            del arrived[at]
        elif fault == "twice":
            arrived.insert(where % len(arrived), bytes(packet))
        elif fault == "late":
            arrived.insert(where % len(arrived), arrived.pop(at))
        elif fault == "foreign":
            arrived[at] = bytes([packet[0]]) + b"another" + bytes(packet[8:])
        elif fault == "noise":
            arrived[at] = bytes([where % 256]) * SEGMENT
    return arrived


class TrainTests(SynchronousTestCase):
    @given(st.data(), st.sampled_from(AEADS), st.integers(0, SEGMENT - 1))
    def test_like_packets(self, data: st.DataObject, aead: Aead, cut: int) -> None:
        """A train gives what its packets give one by one, however they are damaged."""
        packets = data.draw(damaged(data.draw(sealed(aead))))
        if cut:
            packets[-1] = packets[-1][:cut]
        together, alone = receiver(aead=aead), receiver(aead=aead)
        seen = data.draw(st.sets(st.sampled_from(range(3)), max_size=3))
        for each in together, alone:
            each.seen |= seen
        train = together.open(b"".join(packets), SEGMENT)
        expected = OpenedTrain()
        for index, packet in enumerate(packets):
            one = alone.open(packet)
            expected.contents += one.contents
            expected.numbers += one.numbers
            expected.foreign += [index] * len(one.foreign)
            expected.rejected += one.rejected
            expected.repeated += one.repeated
        self.assertEqual(coalesced(train), coalesced(expected))
        self.assertEqual(numbers_of(train), numbers_of(expected))
        self.assertEqual(train.foreign, expected.foreign)
        self.assertEqual(train.repeated, expected.repeated)
        self.assertEqual(train.rejected, expected.rejected)
        self.assertEqual(together.phases.opening_bit, alone.phases.opening_bit)

    @given(st.sampled_from(AEADS), st.sets(st.integers(0, 29)), st.integers(1, WIDTH))
    def test_corrupt_segments(self, aead: Aead, corrupt: set[int], last: int) -> None:
        """Exactly the corrupt segments are missing, and counted."""
        data = bytes(n % 251 for n in range(29 * WIDTH + last))
        train = SEALER.seal(key_phases(aead=aead), CID, 5, 9, [(100, data)], SEGMENT)
        packets = packets_of(train)
        for index in corrupt:
            packets[index] = packets[index][:-1] + bytes([packets[index][-1] ^ 0x80])
        end = receiver(aead=aead)
        opened = end.open(b"".join(packets), SEGMENT)
        good = [index for index in range(30) if index not in corrupt]
        self.assertEqual(numbers_of(opened), [5 + index for index in good])
        self.assertEqual((opened.rejected, end.phases.rejected), (len(corrupt), len(corrupt)))
        found = b"".join(data for _, _, data in data_of(opened))
        self.assertEqual(found, b"".join(data[at * WIDTH : (at + 1) * WIDTH] for at in good))

    def test_one_run(self) -> None:
        """Consecutive DATA arrives as one run, and the shorter last segment after it."""
        data = bytes(range(200)) * 6
        train = SEALER.seal(key_phases(), CID, 0, 4, [(7, data)], 144)
        opened = receiver().open(train, 144)
        self.assertEqual(opened.numbers, [(0, 12)])
        self.assertEqual(opened.contents, [DataRun(4, 7, memoryview(data))])
        train = SEALER.seal(key_phases(), CID, 0, 4, [(7, data[:-1])], 144)
        opened = receiver().open(train, 144)
        run, rest = opened.contents
        self.assertEqual(run, DataRun(4, 7, memoryview(data[:1100])))
        self.assertIsInstance(rest, Payload)
        self.assertEqual(data_of(opened)[1], (4, 1107, data[1100:-1]))

    def test_runs(self) -> None:
        """A run ends where the transfer, the block or the continuity ends; illegal DATA is left to the codec."""
        phases, packets = key_phases(), []
        size = 32  # bytes that a block holds a whole number of times
        last = 2**50 - size
        for number, (transfer, offset) in enumerate(
            [
                *[(1, 0), (1, size), (2, 2 * size), (2, 4 * size)],
                *[(3, BLOCK_SIZE - size), (3, BLOCK_SIZE), (3, BLOCK_SIZE + size)],
                *[(3, 2 * BLOCK_SIZE - 1), (3, last), (3, last + size), (3, 2**56 - size), (3, 0)],
            ]
        ):
            payload = b"\x10" + offset.to_bytes(7) + transfer.to_bytes(4) + bytes(size)
            packets.append(seal_packet(phases, CID, number, payload))
        opened = receiver().open(b"".join(packets), len(packets[0]))
        runs = [
            (each.transfer, each.offset, len(each.data))
            if isinstance(each, DataRun)
            else each.number
            for each in opened.contents
        ]
        self.assertEqual(
            runs,
            [
                *[(1, 0, 2 * size), (2, 2 * size, size), (2, 4 * size, size)],
                *[(3, BLOCK_SIZE - size, size), (3, BLOCK_SIZE, 2 * size)],
                *[7, (3, last, size), 9, 10, (3, 0, size)],
            ],
        )

    def test_other_frames(self) -> None:
        """Packets with other frames are payloads, between the runs of DATA."""
        phases = key_phases()
        data = [
            SEALER.seal(phases, CID, n, 1, [(n * WIDTH, bytes(WIDTH))], SEGMENT) for n in (0, 1)
        ]
        ping = seal_packet(phases, CID, 2, b"\x01" * (WIDTH + 12))
        more = SEALER.seal(phases, CID, 3, 1, [(2 * WIDTH, bytes(2 * WIDTH))], SEGMENT)
        opened = receiver().open(b"".join([*data, ping, more]), SEGMENT)
        kinds = [type(each) for each in opened.contents]
        self.assertEqual(kinds, [DataRun, Payload, DataRun])
        self.assertEqual(opened.contents[1], Payload(2, memoryview(b"\x01" * (WIDTH + 12))))
        self.assertEqual(opened.numbers, [(0, 5)])

    def test_several_matrices(self) -> None:
        """A train longer than the matrices is opened in parts; a number in two parts counts once."""
        phases = key_phases()
        trains = [
            SEALER.seal(phases, CID, n * 64, 1, [(n * 64 * WIDTH, bytes(64 * WIDTH))], SEGMENT)
            for n in range(3)
        ]
        for order in ([0, 1, 2], [2, 0, 1], [0, 1, 0, 2]):
            opened = receiver().open(b"".join(trains[n] for n in order), SEGMENT)
            self.assertEqual(sorted(numbers_of(opened)), list(range(192)))
            self.assertEqual(opened.repeated, 64 * (len(order) - 3))

    def test_replay(self) -> None:
        """Threat 41: a repeated train is not opened again; of a train that is partly new, the new packets are."""
        train = SEALER.seal(key_phases(), CID, 0, 1, [(0, bytes(10 * WIDTH))], SEGMENT)
        end = receiver()
        self.assertEqual(end.open(train[: 5 * SEGMENT], SEGMENT).numbers, [(0, 5)])
        opened = end.open(train, SEGMENT)
        self.assertEqual((opened.numbers, opened.repeated), ([(5, 10)], 5))
        opened = end.open(train, SEGMENT)
        self.assertEqual((opened.numbers, opened.repeated, opened.contents), ([], 10, []))

    def test_forgery_blocks_nothing(self) -> None:
        """Threat 41: a forged packet does not replace a good one with the same number later in the train."""
        packets = packets_of(
            SEALER.seal(key_phases(), CID, 0, 1, [(0, bytes(10 * WIDTH))], SEGMENT)
        )
        forged = packets[3][:16] + bytes(SEGMENT - 16)
        opened = receiver().open(b"".join([forged, *packets]), SEGMENT)
        self.assertEqual(sorted(numbers_of(opened)), list(range(10)))
        self.assertEqual((opened.rejected, opened.repeated), (1, 0))

    def test_every_bit(self) -> None:
        """Threat 41: a packet with any single bit flipped is not opened, alone or in a train."""
        for aead in AEADS:
            packets = packets_of(
                SEALER.seal(key_phases(aead=aead), CID, 0, 1, [(0, bytes(5 * WIDTH))], SEGMENT)
            )
            for bit in range(8 * SEGMENT):
                wrong = bytearray(packets[2])
                wrong[bit // 8] ^= 1 << bit % 8
                end = receiver(aead=aead)
                self.assertEqual(end.open(bytes(wrong)).contents, [])
                if bit % 3:  # a train takes another way, which costs more
                    continue
                opened = end.open(b"".join([*packets[:2], wrong, *packets[3:]]), SEGMENT)
                self.assertEqual(sorted(numbers_of(opened)), [0, 1, 3, 4])

    def test_last_number(self) -> None:
        """Packets with a number beyond the last one are rejected, whoever sealed them."""
        keys = KeyPair.for_session(SECRET, AEADS[0], is_opener=True).sealing
        packets = []
        for number in range(PACKET_NUMBER_MAX - 3, PACKET_NUMBER_MAX + 3):
            header = b"\xe0" + CID + number.to_bytes(8)
            packets.append(header + keys.seal(number, bytes(SEGMENT - 32), header))
        for arrived in (packets[:4], packets):
            opened = receiver().open(b"".join(arrived), SEGMENT)
            self.assertEqual(opened.numbers, [(PACKET_NUMBER_MAX - 3, PACKET_NUMBER_MAX + 1)])
            self.assertEqual(opened.rejected, len(arrived) - 4)

    def test_keys_change_within(self) -> None:
        """A train in which the keys change is opened completely."""
        phases = key_phases(update_after=5)
        train = SEALER.seal(phases, CID, 0, 1, [(0, bytes(5 * WIDTH))], SEGMENT)
        phases.acknowledged(2)
        train += SEALER.seal(phases, CID, 5, 1, [(5 * WIDTH, bytes(5 * WIDTH))], SEGMENT)
        end = receiver()
        self.assertEqual(end.open(train, SEGMENT).numbers, [(0, 10)])
        self.assertEqual((end.phases.opening_bit, end.phases.sealing_bit), (1, 1))

    @given(st.binary(max_size=400), st.integers(1, 70), st.booleans())
    def test_anything(self, noise: bytes, segment: int, with_header: bool) -> None:
        """Any bytes are counted and change nothing."""
        end = receiver()
        if with_header:
            noise = b"".join(b"\xe0" + CID + each[8:] for each in packets_of(noise, segment))
        opened = end.open(noise, segment)
        self.assertEqual((opened.contents, opened.numbers), ([], []))
        self.assertEqual(len(opened.foreign) + opened.rejected, len(packets_of(noise, segment)))
        packet = seal_packet(key_phases(), CID, 0, b"x")
        self.assertEqual(payloads_of(end.open(packet)), {0: b"x"})

    def test_short(self) -> None:
        """Packets without a frame and packets of another connection are skipped."""
        end = receiver()
        empty = seal_packet(key_phases(), CID, 0, b"")
        self.assertEqual(end.open(empty).rejected, 1)
        for other in (b"", b"\xe0", seal_packet(key_phases(), b"another", 0, b"x"), b"\x00" * 40):
            self.assertEqual(end.open(other or b"\xe0" * 3).foreign, [0])
