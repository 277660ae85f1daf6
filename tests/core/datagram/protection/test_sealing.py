"""Sealing trains: they are what single packets would be, and no nonce is used twice."""

from __future__ import annotations

from typing import Any, ClassVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.protection.keys import Aead
from p2pshare.core.datagram.protection.matrices import ROWS_MAX, SEGMENT_MIN, SIZES_MAX
from p2pshare.core.datagram.protection.sealing import TrainSealer, seal_packet
from p2pshare.core.datagram.trains import TRAIN_MAX
from p2pshare.errors import LocalProtocolError
from p2pshare.wire.datagrams.frames import Data, serialize
from tests.core.datagram.protection.ends import AEADS, CID, key_phases

OVERHEAD = 44  # bytes of a DATA packet: header 16, tag 16, head of DATA 12
SEALER = TrainSealer()

segments = st.one_of(st.integers(SEGMENT_MIN, 70), st.sampled_from([1452, 65_507]))


@st.composite
def trains(draw: st.DrawFn) -> tuple[int, list[tuple[int, bytes]]]:
    """A segment size, and runs that fit into one train."""
    segment = draw(segments)
    width = segment - OVERHEAD
    room = SEALER.segments_max(segment)
    runs: list[tuple[int, bytes]] = []
    while room and draw(st.booleans() if runs else st.just(True)):
        count = draw(st.integers(1, room))
        room -= count
        offset = draw(st.integers(0, 2**50 - count * width))
        runs.append((offset, draw(st.integers(0, 255)).to_bytes() * (count * width)))
    offset, data = runs[-1]
    runs[-1] = offset, data[: len(data) - draw(st.integers(0, width - 1))]
    return segment, runs


class RecordingCipher:
    """AES-GCM that records the nonces of one key."""

    used: ClassVar[dict[bytes, list[bytes]]] = {}

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._nonces = self.used.setdefault(key, [])

    def encrypt(self, nonce: bytes, data: Any, header: Any) -> bytes:
        self._nonces.append(bytes(nonce))
        return self._cipher.encrypt(nonce, data, header)

    def encrypt_into(self, nonce: bytes, data: Any, header: Any, out: Any) -> int:
        self._nonces.append(bytes(nonce))
        return self._cipher.encrypt_into(nonce, data, header, out)


class TrainTests(SynchronousTestCase):
    @given(st.sampled_from(AEADS), trains(), st.integers(0, 2**60), st.integers(0, 2**32 - 1))
    def test_like_packets(
        self, aead: Aead, train: tuple[int, list[tuple[int, bytes]]], first: int, transfer: int
    ) -> None:
        """A train is its packets, sealed one by one and put together."""
        segment, runs = train
        width = segment - OVERHEAD
        frames = [
            Data(transfer, offset + at, data[at : at + width])
            for offset, data in runs
            for at in range(0, len(data), width)
        ]
        alone = key_phases(aead=aead, sealed_max=2**62)
        packets = []
        for number, frame in enumerate(frames, first):
            payload = b"\x10" + frame.offset.to_bytes(7) + transfer.to_bytes(4) + frame.data
            packets.append(seal_packet(alone, CID, number, payload))
        phases = key_phases(aead=aead, sealed_max=2**62)
        views = [(offset, memoryview(data)) for offset, data in runs]
        sealed = SEALER.seal(phases, CID, first, transfer, views, segment)
        self.assertEqual(sealed, b"".join(packets))
        self.assertRaises(LocalProtocolError, phases.reserve, first + len(frames) - 1, 1)

    def test_payload(self) -> None:
        """The payload of each packet is what the codec of frames writes."""
        phases, plain = key_phases(), key_phases()
        payload = serialize(Data(7, 4096, b"row" * 5))
        sealed = SEALER.seal(phases, CID, 3, 7, [(4096, b"row" * 5)], 1200)
        self.assertEqual(sealed, seal_packet(plain, CID, 3, payload))

    def test_does_not_fit(self) -> None:
        """Runs that do not fill segments, are empty or too long are a bug, and use no packet number."""
        phases, width = key_phases(), 1452 - OVERHEAD
        most = SEALER.segments_max(1452)
        for runs in (
            [],
            [(0, b"")],
            [(0, b"short"), (5000, b"x")],
            [(0, bytes(width)), (5000, b"")],
            [(0, bytes(most * width + 1))],
            [(0, bytes(most * width)), (2**30, b"x")],
        ):
            self.assertRaises(LocalProtocolError, SEALER.seal, phases, CID, 0, 1, runs, 1452)
        self.assertRaises(
            LocalProtocolError, SEALER.seal, phases, CID, 0, 1, [(0, b"x")], SEGMENT_MIN - 1
        )
        SEALER.seal(phases, CID, 0, 1, [(0, bytes(most * width))], 1452)

    def test_trains_are_bounded(self) -> None:
        """Trains have a bound in bytes and in segments, whatever size the other end chooses for them."""
        for segment in (SEGMENT_MIN, 1200, 1452, 9000, 40_000, 65_507):
            most = SEALER.segments_max(segment)
            self.assertTrue(1 <= most <= ROWS_MAX and most * segment <= TRAIN_MAX, segment)

    def test_memory(self) -> None:
        """Matrices of few sizes are kept."""
        sealer = TrainSealer()
        for segment in range(1200, 1220):
            sealer.seal(key_phases(), CID, 0, 1, [(0, b"x")], segment)
        self.assertEqual(len(sealer._cache._kept), SIZES_MAX)

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(0, 3)), max_size=25))
    def test_nonces(self, steps: list[tuple[bool, int, int]]) -> None:
        """Threat 42: no nonce is used twice with one key, in trains, packets and key updates alike."""
        RecordingCipher.used.clear()
        aead = Aead(RecordingCipher, 16)  # type: ignore[arg-type]
        phases = key_phases(aead=aead, update_after=7)
        number = 0
        for is_train, count, skip in steps:
            number += skip
            if is_train:
                SEALER.seal(phases, CID, number, 1, [(0, bytes(count * 10))], OVERHEAD + 10)
                number += count
            else:
                seal_packet(phases, CID, number, b"x")
                number += 1
            if count % 2:
                phases.acknowledged(number - 1)
                if phases.sealing_bit != phases.opening_bit:  # the other end follows
                    phases.opened(phases.keys_for(phases.sealing_bit, 0, 0.0), 0, 0.0, 1.0)  # type: ignore[arg-type]
        for nonces in RecordingCipher.used.values():
            self.assertEqual(len(set(nonces)), len(nonces))
        self.assertEqual(
            sum(map(len, RecordingCipher.used.values())),
            sum(count if is_train else 1 for is_train, count, _ in steps),
        )
