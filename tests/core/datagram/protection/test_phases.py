"""Key phases: both ends update, repeatedly and at once, while packets are late, lost and forged."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.protection import phases as phases_module
from p2pshare.core.datagram.protection.keys import AES_128_GCM, Aead
from p2pshare.core.datagram.protection.phases import RETAINED, KeyPhases
from p2pshare.core.datagram.protection.sealing import seal_packet
from p2pshare.errors import LocalProtocolError
from p2pshare.wire.datagrams.packets import PACKET_NUMBER_MAX
from tests.core.datagram.protection.ends import AEADS, CID, PTO, End, key_phases

AFTER = 4  # packets of a phase in these tests


def flip_phase(packet: bytes) -> bytes:
    return bytes([packet[0] ^ 1]) + packet[1:]


class UpdateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one = End(is_opener=True, aead=AES_128_GCM, update_after=AFTER)
        self.other = End(is_opener=False, aead=AES_128_GCM, update_after=AFTER)

    def send_phase(self) -> list[bytes]:
        """Return all packets of one phase of the first end, except the first packet of the next phase."""
        return [self.one.send(b"%d" % number) for number in range(AFTER)]

    def exchange(self) -> None:
        """Let a packet of each end arrive and be acknowledged."""
        for sender, receiver in ((self.one, self.other), (self.other, self.one)):
            assert receiver.receive(sender.send(b"x")) == b"x"
            sender.phases.acknowledged(sender.number - 1)

    def test_update(self) -> None:
        """An end changes its keys after so many packets, and the other end opens both phases and follows."""
        packets = self.send_phase()
        self.one.phases.acknowledged(0)
        packets.append(self.one.send(b"new"))
        self.assertEqual([packet[0] for packet in packets], [0xE0] * AFTER + [0xE1])
        self.assertEqual(self.other.send(b"")[0], 0xE0)
        for packet in packets:
            self.assertIsNotNone(self.other.receive(packet))
        follow = self.other.send(b"follows")
        self.assertEqual(follow[0], 0xE1)
        self.assertEqual(self.one.receive(follow), b"follows")

    def test_not_acknowledged(self) -> None:
        """An end keeps its keys until a packet of the present phase is acknowledged."""
        packets = self.send_phase() + self.send_phase()
        self.assertEqual({packet[0] for packet in packets}, {0xE0})
        self.one.phases.acknowledged(0)
        new = self.one.send(b"new")
        self.assertEqual(new[0], 0xE1)
        self.one.phases.acknowledged(self.one.number - 2)  # of the phase before
        self.assertEqual({packet[0] for packet in self.send_phase() + self.send_phase()}, {0xE1})

    def test_not_followed(self) -> None:
        """An end keeps its keys until the other end has the same phase."""
        self.send_phase()
        self.one.phases.acknowledged(0)
        self.one.send(b"new")
        self.one.phases.acknowledged(self.one.number - 1)
        self.assertEqual({packet[0] for packet in self.send_phase() + self.send_phase()}, {0xE1})

    def test_both_at_once(self) -> None:
        """Both ends change their keys at the same time, and end in the same phase."""
        self.exchange()
        sent = []
        for sender in (self.one, self.other):
            packets = [sender.send(b"%d" % number) for number in range(AFTER)]
            self.assertEqual((packets[0][0], packets[-1][0]), (0xE0, 0xE1))
            sent.append(packets)
        for receiver, packets in ((self.other, sent[0]), (self.one, sent[1])):
            for packet in packets:
                self.assertIsNotNone(receiver.receive(packet))
        self.exchange()
        self.assertEqual({end.phases.sealing_bit for end in (self.one, self.other)}, {1})
        self.assertEqual({end.phases.opening_bit for end in (self.one, self.other)}, {1})

    def test_repeatedly(self) -> None:
        """The keys change again and again."""
        bits = []
        for _ in range(10 * AFTER):
            self.exchange()
            bits.append((self.one.phases.sealing_bit, self.other.phases.sealing_bit))
        changes = sum(first != second for first, second in pairwise(bits))
        self.assertGreaterEqual(changes, 9)

    def test_late(self) -> None:
        """Packets of the phase before are opened for `RETAINED` PTO, and no longer."""
        late = self.send_phase()
        self.one.phases.acknowledged(0)
        self.assertIsNotNone(self.other.receive(self.one.send(b"new"), 10.0))
        end = 10.0 + RETAINED * PTO
        self.assertEqual(self.other.receive(late[1], end - 0.01), b"1")
        self.assertIsNone(self.other.receive(late[2], end))
        self.assertIsNone(self.other.receive(late[3], end - 0.01))
        self.assertIsNotNone(self.other.receive(self.one.send(b"newer"), end))

    def test_reordered(self) -> None:
        """The first packets of a new phase may overtake each other and those of the old phase."""
        old = self.send_phase()
        self.one.phases.acknowledged(0)
        new = [self.one.send(b"new") for _ in range(3)]
        for packet in (new[2], old[3], new[0], old[0], new[1], old[1], old[2]):
            self.assertIsNotNone(self.other.receive(packet))

    def test_forged_bit(self) -> None:
        """Threat 41: a packet with a forged phase bit is rejected, and changes no keys."""
        packets = self.send_phase()
        for packet in packets:
            self.assertIsNone(self.other.receive(flip_phase(packet)))
        self.assertEqual(self.other.phases.opening_bit, 0)
        for packet in packets:
            self.assertIsNotNone(self.other.receive(packet))
        self.assertEqual(self.other.phases.rejected, AFTER)

    @given(st.sampled_from(AEADS), st.integers(0, 2**32), st.integers(1, 6))
    def test_any_network(self, aead: Aead, seed: int, update_after: int) -> None:
        """Whatever is lost, repeated and late: a packet is opened once, if its phase is at most one old."""
        random = Random(seed)
        ends = [End(is_opener=each, aead=aead, update_after=update_after) for each in (True, False)]
        flights: list[list[tuple[int, int, bytes]]] = [[], []]  # number, phase and packet
        for _ in range(150):
            side, choice, is_repeated = (
                random.random() < 0.5,
                random.randint(-4, 3),
                random.random() < 0.3,
            )
            sender, receiver, flight = ends[side], ends[not side], flights[side]
            if choice < 0 or choice >= len(flight):
                packet = sender.send(b"payload")
                flight.append((sender.number - 1, sender.phases._sealing_phase, packet))
                del flight[:-6]
                continue
            number, phase, packet = flight[choice] if is_repeated else flight.pop(choice)
            present = receiver.phases._opening_phase
            self.assertLessEqual(phase, present + 1)
            is_new = number not in receiver.receiver.seen and phase >= present - 1
            self.assertEqual(receiver.receive(packet), b"payload" if is_new else None)
            if is_new:
                sender.phases.acknowledged(number)
            phases = [end.phases._sealing_phase for end in ends]
            self.assertLessEqual(abs(phases[0] - phases[1]), 1)


class NumberTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(-3, 5), st.integers(1, 20)), max_size=20))
    def test_ascend(self, steps: list[tuple[int, int]]) -> None:
        """Threat 42: no packet number is reserved twice: one that was used, or lies before one, is a bug."""
        phases, end = key_phases(update_after=10), 0
        for skip, count in steps:
            first = max(0, end + skip)
            if first < end:
                self.assertRaises(LocalProtocolError, phases.reserve, first, count)
            else:
                phases.reserve(first, count)
                phases.acknowledged(first)
                end = first + count

    def test_last(self) -> None:
        """The last packet number ends a connection."""
        phases = key_phases(sealed_max=2**63)
        self.assertRaises(LocalProtocolError, phases.reserve, PACKET_NUMBER_MAX, 2)
        phases.reserve(PACKET_NUMBER_MAX, 1)
        self.assertRaises(LocalProtocolError, phases.reserve, PACKET_NUMBER_MAX + 1, 1)

    def test_sealed_max(self) -> None:
        """Threat 42: a key seals no more packets than its limit; an update makes room again."""
        phases = key_phases(update_after=5, sealed_max=10)
        phases.reserve(0, 8)
        self.assertEqual(phases.room, 2)
        self.assertRaises(LocalProtocolError, phases.reserve, 8, 3)
        phases.reserve(8, 2)
        self.assertRaises(LocalProtocolError, phases.reserve, 10, 1)
        phases.acknowledged(3)
        phases.reserve(10, 10)
        self.assertEqual((phases.sealing_bit, phases.room), (1, 0))

    def test_rejected_max(self) -> None:
        """Threat 41: after too many forgeries nothing is opened any more."""
        one = End(is_opener=True, aead=AES_128_GCM)
        other = End(is_opener=False, aead=AES_128_GCM)
        packets = [one.send(b"x") for _ in range(4)]
        with mock.patch.object(phases_module, "REJECTED_MAX", 2):
            self.assertEqual(other.receive(packets[0]), b"x")
            for packet in packets[1:3]:
                self.assertIsNone(other.receive(packet[:-1] + bytes([packet[-1] ^ 1])))
            self.assertIsNone(other.receive(packets[3]))

    def test_nonces(self) -> None:
        """Packets of the same number in different phases and directions have different bytes."""
        packets = set()
        for is_opener in (True, False):
            for updates in range(3):
                phases = key_phases(is_opener=is_opener)
                for _ in range(updates):
                    self._update(phases)
                packets.add(seal_packet(phases, CID, 7, b"x")[1:])
        self.assertEqual(len(packets), 6)

    def _update(self, phases: KeyPhases) -> None:
        phases._update(0)
