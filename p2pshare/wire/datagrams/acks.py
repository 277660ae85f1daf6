"""The two encodings of the packets that an ACK acknowledges: ranges and a bitmap.

Both describe packets downwards from the largest acknowledged number. Ranges take 8 bytes for each run of packets, a
bitmap one bit for each packet. So ranges are shorter as long as fewer than about one packet in 60 is lost, and a bitmap
is shorter on lossy paths. What does not fit is dropped at the old end: every ACK repeats the recent past, and a packet
that is never acknowledged is only sent again.

Runs are half-open: (first packet, packet behind the last), ascending, with a gap between any two of them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.fields import U32_MAX, FieldReader

Run = tuple[int, int]

RANGE_SIZE = 8  # bytes: gap u32, length u32
COUNT_MAX = 0xFFFF  # of ranges, or of bytes of a bitmap

_ONES = re.compile("1+")


class AckKind(IntEnum):
    """The encoding of the body of an ACK."""

    RANGES = 0
    BITMAP = 1


@dataclass(frozen=True, slots=True)
class AckBody:
    """Acknowledged packets, encoded."""

    kind: AckKind
    count: int
    """Ranges, or bytes of the bitmap."""
    data: bytes
    first: int
    """The smallest packet number in it. Acknowledgements of packets before it were dropped."""


def encode_runs(runs: Sequence[Run], room: int) -> AckBody:
    """Return the encoding that keeps the most packets, and the shorter of the two if both keep as many.

    Args:
        runs: at least one.
        room: bytes that the body may have, at least `RANGE_SIZE`.
    """
    assert room >= RANGE_SIZE
    ranges, bitmap = _encode_ranges(runs, room), _encode_bitmap(runs, room)
    return min(ranges, bitmap, key=lambda each: (each.first, len(each.data)))


def decode_ranges(reader: FieldReader, largest: int, count: int) -> tuple[Run, ...]:
    """Read `count` ranges of packets up to `largest`."""
    numbers = reader.numbers(2 * count, "I")
    runs = list[Run]()
    end = largest + 1
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        end -= gap
        first = end - length
        if not length or bool(gap) != bool(runs) or first < 0:
            raise RemoteProtocolError(reason="an ACK frame has an invalid range")
        runs.append((first, end))
        end = first
    return tuple(reversed(runs))


def decode_bitmap(reader: FieldReader, largest: int, count: int) -> tuple[Run, ...]:
    """Read `count` bytes of a bitmap of packets from `largest` downwards."""
    bits = int.from_bytes(reader.take(count))
    shown = f"{bits:0{8 * count}b}"
    runs = [
        (largest + 1 - each.end(), largest + 1 - each.start()) for each in _ONES.finditer(shown)
    ]
    if not runs or runs[0][1] != largest + 1 or runs[-1][0] < 0:
        raise RemoteProtocolError(reason="an ACK frame has an invalid bitmap")
    return tuple(reversed(runs))


def _encode_ranges(runs: Sequence[Run], room: int) -> AckBody:
    """Encode the newest runs that fit, and of a run or gap beyond 32 bits what is newer."""
    most = min(room // RANGE_SIZE, COUNT_MAX)
    numbers = list[int]()
    end = first = runs[-1][1]
    for first_of_run, end_of_run in reversed(runs[-most:]):
        if end - end_of_run > U32_MAX:
            break
        first = max(first_of_run, end_of_run - U32_MAX)
        numbers += (end - end_of_run, end_of_run - first)
        end = first
        if first > first_of_run:
            break
    data = struct.pack(f">{len(numbers)}I", *numbers)
    return AckBody(AckKind.RANGES, len(numbers) // 2, data, first)


def _encode_bitmap(runs: Sequence[Run], room: int) -> AckBody:
    """Encode the packets from the largest downwards that fit."""
    end = runs[-1][1]
    count = min(-(-(end - runs[0][0]) // 8), room, COUNT_MAX)
    floor = end - 8 * count  # the packet of the last bit; below 0 there are no packets
    bits = 0
    first = end
    for first_of_run, end_of_run in reversed(runs):
        if end_of_run <= floor:
            break
        first = max(first_of_run, floor)
        bits |= ((1 << (end_of_run - first)) - 1) << (first - floor)
    return AckBody(AckKind.BITMAP, count, bits.to_bytes(count), first)
