"""Matrices with a row for each segment of a train, and the views of their rows that a cipher takes.

In Python a call per segment costs as much as the cipher itself. So numpy fills the headers, nonces and payloads of all
rows at once, and `map` gives the rows to the cipher, all in C. A view costs as much to make as a row to copy; therefore
the views are made once for each segment size, and trains are copied into and out of the matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pshare.core.datagram.protection.keys import IV_SIZE
from p2pshare.core.datagram.trains import TRAIN_MAX
from p2pshare.wire.datagrams.frames import DATA_HEAD_SIZE, DATA_PLACE_AT, DATA_TRANSFER_AT
from p2pshare.wire.datagrams.packets import (
    CID_SIZE,
    PROTECTED_HEADER_SIZE,
    PROTECTED_NUMBER_AT,
    PROTECTED_OVERHEAD,
    PacketType,
)

ROWS_MAX = 256  # segments; a train of the smallest packets that a path may ask for has fewer
SIZES_MAX = 4  # segment sizes whose matrices are kept: those of the paths in use
SEGMENT_MIN = PROTECTED_OVERHEAD + DATA_HEAD_SIZE + 1  # bytes of the smallest packet with DATA

TYPE_SHIFT = 8 * CID_SIZE  # bits: the type and the CID are the first u64 of a header
PHASE_BIT = 1 << TYPE_SHIFT

Matrix = NDArray[np.uint8]
Numbers = NDArray[np.uint64]
"""Packet numbers, one for each row."""


def head_of(cid: bytes, phase: int = 0) -> int:
    """Return the first u64 of the header of a PROTECTED packet."""
    return (PacketType.PROTECTED | phase) << TYPE_SHIFT | int.from_bytes(cid, "big")


class TrainMatrices:
    """The matrices for trains of one segment size. Columns and rows are views: to write one changes the matrix."""

    def __init__(self, segment: int) -> None:
        """Make them for segments of this size, in bytes, at least `SEGMENT_MIN`."""
        self.rows = min(ROWS_MAX, max(1, TRAIN_MAX // segment))
        """The number of segments that they hold."""
        self.width = segment - PROTECTED_OVERHEAD - DATA_HEAD_SIZE
        """Bytes of a file in a packet that holds only DATA."""
        self.steps: Numbers = np.arange(self.rows, dtype=np.uint64) * np.uint64(self.width)
        """The distance of each row's bytes from the first row's, if they are consecutive in a file."""

        self.packets: Matrix = np.zeros((self.rows, segment), np.uint8)
        self.heads = _column(self.packets, 0, ">u8")
        self.numbers = _column(self.packets, PROTECTED_NUMBER_AT, ">u8")

        self.payloads: Matrix = np.zeros((self.rows, segment - PROTECTED_OVERHEAD), np.uint8)
        self.places = _column(self.payloads, DATA_PLACE_AT, ">u8")
        self.transfers = _column(self.payloads, DATA_TRANSFER_AT, ">u4")
        self.data = self.payloads[:, DATA_HEAD_SIZE:]

        self._nonces: Matrix = np.zeros((self.rows, IV_SIZE), np.uint8)
        self._nonce_heads = _column(self._nonces, 0, ">u4")
        self._nonce_numbers = _column(self._nonces, IV_SIZE - 8, ">u8")

        packets = [memoryview(row) for row in self.packets]
        self.headers_of_rows = [row[:PROTECTED_HEADER_SIZE] for row in packets]
        self.sealed_of_rows = [row[PROTECTED_HEADER_SIZE:] for row in packets]
        self.payloads_of_rows = [memoryview(row) for row in self.payloads]
        self.nonces_of_rows = [memoryview(row) for row in self._nonces]

    def set_nonces(self, iv: bytes, numbers: Numbers) -> None:
        """Write the nonces of the first rows, which have these packet numbers."""
        count = len(numbers)
        self._nonce_heads[:count] = int.from_bytes(iv[:-8], "big")
        self._nonce_numbers[:count] = numbers ^ np.uint64(int.from_bytes(iv[-8:], "big"))


class MatrixCache:
    """The matrices of the segment sizes that were used last."""

    def __init__(self, sizes_max: int = SIZES_MAX) -> None:
        self._sizes_max = sizes_max
        self._kept: dict[int, TrainMatrices] = {}  # last used last

    def matrices(self, segment: int) -> TrainMatrices:
        """Return the matrices for a segment size, in bytes; others may be dropped."""
        found = self._kept.pop(segment, None) or TrainMatrices(segment)
        self._kept[segment] = found
        if len(self._kept) > self._sizes_max:
            del self._kept[next(iter(self._kept))]
        return found


def _column(matrix: Matrix, at: int, kind: str) -> NDArray[np.unsignedinteger]:
    """Return the numbers that begin at one byte of each row."""
    rows, width = matrix.shape
    return np.ndarray((rows,), np.dtype(kind), matrix.data, at, (width,))
