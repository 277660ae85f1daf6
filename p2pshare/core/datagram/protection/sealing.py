"""Sealing PROTECTED packets, one by one or a whole train of equal DATA packets at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import numpy as np

from p2pshare.core.datagram.protection.keys import Bytes, DirectionKeys
from p2pshare.core.datagram.protection.matrices import (
    SEGMENT_MIN,
    MatrixCache,
    TrainMatrices,
    head_of,
)
from p2pshare.core.datagram.protection.phases import KeyPhases
from p2pshare.errors import LocalProtocolError
from p2pshare.wire.datagrams.fields import U64
from p2pshare.wire.datagrams.frames import DATA_HEAD_SIZE, DATA_OFFSET_BITS, Data
from p2pshare.wire.datagrams.packets import TAG_SIZE

DATA_PLACE = Data.TYPE << DATA_OFFSET_BITS

Run = tuple[int, Bytes]
"""Bytes of a file without a gap: the offset of the first one, and all of them."""


def seal_packet(phases: KeyPhases, cid: bytes, number: int, payload: Bytes) -> bytes:
    """Return a packet.

    Args:
        phases: keys of the connection.
        cid: the receiver's connection ID.
        number: the packet number.
        payload: the frames.

    Raises:
        LocalProtocolError: see `KeyPhases.reserve`.
    """
    keys = phases.reserve(number, 1)
    header = U64.pack(head_of(cid, phases.sealing_bit)) + U64.pack(number)
    return header + keys.seal(number, payload, header)


class TrainSealer:
    """Seals trains. One serves all connections of an endpoint: it keeps matrices, but no keys."""

    def __init__(self) -> None:
        self._cache = MatrixCache()

    def segments_max(self, segment: int) -> int:
        """Return how many segments of this size, in bytes, fit into a train."""
        return self._cache.matrices(segment).rows

    def seal(
        self,
        phases: KeyPhases,
        cid: bytes,
        first: int,
        transfer: int,
        runs: Sequence[Run],
        segment: int,
    ) -> bytes:
        """Return a train of packets with bare DATA, all of one size except perhaps the last.

        Args:
            phases: keys of the connection.
            cid: the receiver's connection ID.
            first: number of the first packet.
            transfer: number of the transfer.
            runs: what to send. Every run but the last one fills whole segments; each segment lies within one block.
            segment: size of a packet in bytes.

        Raises:
            LocalProtocolError: the runs do not fit into the segments, or see `KeyPhases.reserve`.
        """
        if segment < SEGMENT_MIN:
            raise LocalProtocolError(reason=f"a segment of {segment} bytes has no room for DATA")
        matrices = self._cache.matrices(segment)
        count, last = _fill_payloads(matrices, runs)
        matrices.transfers[:count] = transfer
        keys = phases.reserve(first, count)
        numbers = np.arange(first, first + count, dtype=np.uint64)
        matrices.heads[:count] = head_of(cid, phases.sealing_bit)
        matrices.numbers[:count] = numbers
        matrices.set_nonces(keys.iv, numbers)
        _encrypt(matrices, keys, count, last)
        size = count * segment - (matrices.width - last)
        return bytes(matrices.packets.reshape(-1)[:size])


def _fill_payloads(matrices: TrainMatrices, runs: Sequence[Run]) -> tuple[int, int]:
    """Write the places and the bytes of DATA frames into the payloads.

    Returns:
        The number of segments, and the bytes of the file in the last one.
    """
    width = matrices.width
    row, rest = 0, 0
    for offset, data in runs:
        full, rest_before = len(data) // width, rest
        rest = len(data) % width
        stop = row + full
        end = stop + bool(rest)
        if rest_before or not data or end > matrices.rows:
            raise LocalProtocolError(reason="the runs of a train do not fit into its segments")
        matrices.places[row:end] = matrices.steps[: end - row] + np.uint64(DATA_PLACE | offset)
        source = np.frombuffer(data, np.uint8)
        matrices.data[row:stop] = source[: full * width].reshape(full, width)
        matrices.data[stop:end, :rest] = source[full * width :]
        row = end
    if not row:
        raise LocalProtocolError(reason="a train has no runs")
    return row, rest or width


def _encrypt(matrices: TrainMatrices, keys: DirectionKeys, count: int, last: int) -> None:
    """Seal the first `count` rows, of which the last has `last` bytes of the file."""
    encrypt = keys.cipher.encrypt_into
    rows = (
        matrices.nonces_of_rows,
        matrices.payloads_of_rows,
        matrices.headers_of_rows,
        matrices.sealed_of_rows,
    )
    deque(map(encrypt, *(islice(each, count - 1) for each in rows)), maxlen=0)
    nonce, payload, header, sealed = (each[count - 1] for each in rows)
    size = DATA_HEAD_SIZE + last
    encrypt(nonce, payload[:size], header, sealed[: size + TAG_SIZE])
