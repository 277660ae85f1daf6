"""Tests for `p2pshare.wire.datagrams.acks`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.acks import (
    RANGE_SIZE,
    AckKind,
    Run,
    decode_bitmap,
    decode_ranges,
    encode_runs,
)
from p2pshare.wire.datagrams.fields import U32_MAX, FieldReader
from tests.wire.datagrams.values import runs

STEPS = st.sampled_from([3, 40, 2**20])
RUNS = STEPS.flatmap(lambda step: runs(count_max=30, step_max=step))


def coded(given_runs: tuple[Run, ...], room: int) -> tuple[Run, ...]:
    """Return runs as they arrive after they were encoded within `room` bytes."""
    body = encode_runs(given_runs, room)
    assert len(body.data) <= room
    decode = decode_ranges if body.kind is AckKind.RANGES else decode_bitmap
    reader = FieldReader(memoryview(body.data))
    found = decode(reader, given_runs[-1][1] - 1, body.count)
    assert not reader.left and found[0][0] == body.first
    return found


class AckTests(SynchronousTestCase):
    @given(RUNS)
    def test_round_trip(self, given_runs: tuple[Run, ...]) -> None:
        """With enough room, all packets arrive."""
        self.assertEqual(coded(given_runs, 30 * RANGE_SIZE), given_runs)

    @given(RUNS, st.integers(RANGE_SIZE, 100))
    def test_room(self, given_runs: tuple[Run, ...], room: int) -> None:
        """With too little room, the newest packets arrive and no others; at least as many as fit as ranges."""
        found = coded(given_runs, room)
        floor = found[0][0]
        self.assertEqual(
            found, tuple((max(first, floor), end) for first, end in given_runs if end > floor)
        )
        self.assertLessEqual(floor, given_runs[-min(len(given_runs), room // RANGE_SIZE)][0])

    def test_shorter(self) -> None:
        """Few ranges are sent as ranges, many short ones as a bitmap."""
        few = ((0, 1000), (1001, 2000))
        many = tuple((first, first + 1) for first in range(0, 2000, 2))
        self.assertEqual(encode_runs(few, 1000).kind, AckKind.RANGES)
        self.assertEqual(encode_runs(many, 1000).kind, AckKind.BITMAP)
        self.assertEqual(len(encode_runs(many, 1000).data), 250)

    def test_far_apart(self) -> None:
        """Of a run, or behind a gap, that 32 bits cannot tell the older packets are left out."""
        end = 2**40
        self.assertEqual(coded(((0, end),), 8), ((end - U32_MAX, end),))
        self.assertEqual(coded(((0, 1), (end, end + 1)), 16), ((end, end + 1),))
        self.assertEqual(coded(((0, 1), (5, end)), 16), ((end - U32_MAX, end),))

    def test_invalid_ranges(self) -> None:
        """Threat 6: no empty run, no gap before the first, none left out, and no packet below 0."""
        for largest, numbers in (
            (9, [0, 0]),
            (9, [1, 1]),
            (9, [0, 2, 0, 1]),
            (9, [0, 2, 3, 0]),
            (9, [0, 11]),
            (9, [0, 2, 9, 1]),
        ):
            data = b"".join(number.to_bytes(4) for number in numbers)
            reader = FieldReader(memoryview(data))
            with self.assertRaises(RemoteProtocolError, msg=str(numbers)):
                decode_ranges(reader, largest, len(numbers) // 2)

    def test_invalid_bitmaps(self) -> None:
        """Threat 6: the largest packet is in the bitmap, and no packet below 0."""
        for largest, data in ((9, b"\x7f\x00"), (9, b"\x00"), (9, b"\xff\xff"), (0, b"\xc0")):
            with self.assertRaises(RemoteProtocolError, msg=data.hex()):
                decode_bitmap(FieldReader(memoryview(data)), largest, len(data))
        self.assertEqual(decode_bitmap(FieldReader(memoryview(b"\x80")), 0, 1), ((0, 1),))
