"""Opening PROTECTED packets: all segments of a received train at once where possible, else one by one.

A train is what one system call received: equal segments, and perhaps a shorter one behind them. Any of them may be
corrupt, forged, repeated, of another connection or of another key phase. Each segment stands alone: a bad one is
skipped and counted, and does no harm to its neighbours.

**The short way** opens a whole train with a few calls of numpy and one `map`. It is taken if all segments belong to the
connection and the present key phase, and no number occurs twice. Lost, reordered and corrupt segments do not prevent
it. `InvalidTag` ends a `map` in the middle, but the same `map` goes on with the next segment, and the length of the
iterator behind it tells which segment was bad.

**The long way** opens one segment after the other. It defines what the short way must return, and tests hold the two
together. Single packets take it, too: for them it is the faster one, and attackers cannot make it build matrices.

**Order of the checks.** The replay window is asked before a packet is opened, so a repeated packet costs little. Only
the numbers of opened packets are returned. The caller enters them into the window before it opens the next train.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import length_hint

import numpy as np
from cryptography.exceptions import InvalidTag
from numpy.typing import NDArray

from p2pshare.core.datagram.protection.keys import DirectionKeys
from p2pshare.core.datagram.protection.matrices import (
    PHASE_BIT,
    SEGMENT_MIN,
    MatrixCache,
    Numbers,
    TrainMatrices,
    head_of,
)
from p2pshare.core.datagram.protection.phases import KeyPhases
from p2pshare.core.ranges import RangeSet
from p2pshare.wire.blocks import BLOCK_SIZE, FILE_SIZE_MAX
from p2pshare.wire.datagrams.frames import (
    DATA_OFFSET_BITS,
    Data,
)
from p2pshare.wire.datagrams.packets import (
    PACKET_NUMBER_MAX,
    PROTECTED_HEADER_SIZE,
    SEALED_MIN,
)

ROWS_MIN = 4  # segments for which the short way is the faster one

OFFSET_MASK = np.uint64((1 << DATA_OFFSET_BITS) - 1)
BLOCK_BITS = np.uint64(BLOCK_SIZE.bit_length() - 1)
FILE_SIZE_BITS = np.uint64(FILE_SIZE_MAX.bit_length() - 1)
DATA_MARK = np.uint64(Data.TYPE << DATA_OFFSET_BITS >> int(FILE_SIZE_BITS))  # with a legal offset
ONE = np.uint64(1)
_HEADER = struct.Struct(">QQ")  # type and CID, packet number

Mask = NDArray[np.bool_]

Span = tuple[int, int]
"""The first of consecutive numbers, and the one behind the last."""

IsNew = Callable[[int, int], bool]
"""Whether no packet from the first number to before the second one has been received."""


@dataclass(frozen=True, slots=True)
class DataRun:
    """Bytes of a file from consecutive packets that held nothing else. They lie within one block."""

    transfer: int
    offset: int
    data: memoryview
    """A copy of its own."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The frames of one packet."""

    number: int
    data: memoryview
    """A copy of its own."""


@dataclass(slots=True)
class OpenedTrain:
    """What was in a train."""

    contents: list[DataRun | Payload] = field(default_factory=list)
    """In the order of arrival."""
    numbers: list[Span] = field(default_factory=list)
    """The packets that were opened, in the order of arrival."""
    foreign: list[int] = field(default_factory=list)
    """The indexes of segments that are no PROTECTED packets of this connection. They were skipped."""
    repeated: int = 0
    """The number of packets that the replay window rejected."""
    rejected: int = 0
    """The number of packets that are too short, or that the other end has not sealed."""

    _opened: RangeSet = field(default_factory=RangeSet)  # the same numbers, for the look-up

    def holds(self, number: int) -> bool:
        """Whether a packet with this number was opened."""
        return number in self._opened

    def add(self, first: int, end: int) -> None:
        """Note that packets were opened."""
        self._opened.add(first, end)
        if self.numbers and self.numbers[-1][1] == first:
            first, _ = self.numbers.pop()
        self.numbers.append((first, end))


@dataclass(frozen=True, slots=True)
class Opening:
    """What the opener must know of a connection, and the time."""

    phases: KeyPhases
    cid: bytes
    """The own connection ID, to which the packets are addressed."""
    is_new: IsNew
    now: float
    """In seconds."""
    pto: float
    """The present probe timeout in seconds."""


class TrainOpener:
    """Opens trains. One serves all connections of an endpoint: it keeps matrices, but no keys."""

    def __init__(self) -> None:
        self._cache = MatrixCache()

    def open(self, train: memoryview, segment: int, opening: Opening) -> OpenedTrain:
        """Open all segments of a train.

        Args:
            train: what was received.
            segment: size in bytes of all segments but the last one, which may be shorter.
            opening: the connection.
        """
        opened = OpenedTrain()
        start = 0
        if segment >= SEGMENT_MIN:
            start = self._open_rows(train, segment, opening, opened)
        for at in range(start, len(train), segment):
            _open_one(train[at : at + segment], at // segment, opening, opened)
        opening.phases.rejected += opened.rejected
        return opened

    def _open_rows(
        self, train: memoryview, segment: int, opening: Opening, opened: OpenedTrain
    ) -> int:
        """Open segments the short way as far as possible; return where the other ones begin."""
        start = 0
        while (count := (len(train) - start) // segment) >= ROWS_MIN:
            matrices = self._cache.matrices(segment)
            end = start + min(count, matrices.rows) * segment
            if not _Rows(matrices, train[start:end]).open(opening, opened):
                break
            start = end
        return start


def _open_one(segment: memoryview, index: int, opening: Opening, opened: OpenedTrain) -> None:
    """Open a segment by itself."""
    header, sealed = segment[:PROTECTED_HEADER_SIZE], segment[PROTECTED_HEADER_SIZE:]
    head, number = _HEADER.unpack(header) if len(header) == PROTECTED_HEADER_SIZE else (0, 0)
    phase = head ^ head_of(opening.cid)
    if phase not in (0, PHASE_BIT):
        opened.foreign.append(index)
    elif len(sealed) < SEALED_MIN or number > PACKET_NUMBER_MAX:
        opened.rejected += 1
    elif opened.holds(number) or not opening.is_new(number, number + 1):
        opened.repeated += 1
    else:
        keys = opening.phases.keys_for(int(phase == PHASE_BIT), number, opening.now)
        payload = None if keys is None else keys.open(number, sealed, header)
        if keys is None or payload is None:
            opened.rejected += 1
            return
        opening.phases.opened(keys, number, opening.now, opening.pto)
        opened.add(number, number + 1)
        opened.contents.append(Payload(number, memoryview(payload)))


class _Rows:
    """Segments of equal size, which take the short way."""

    def __init__(self, matrices: TrainMatrices, segments: memoryview) -> None:
        source = np.frombuffer(segments, np.uint8).reshape(-1, matrices.packets.shape[1])
        self._matrices = matrices
        self._count = len(source)
        matrices.packets[: self._count] = source
        self._numbers: Numbers = matrices.numbers[: self._count].astype(np.uint64)

    def open(self, opening: Opening, opened: OpenedTrain) -> bool:
        """Open them, unless they need the long way: then return False."""
        bit = opening.phases.opening_bit
        keys = opening.phases.keys_for(bit, 0, opening.now)
        heads = self._matrices.heads[: self._count]
        if keys is None or not (heads == np.uint64(head_of(opening.cid, bit))).all():
            return False
        spans = _spans(self._numbers)
        if not _are_distinct(spans + opened.numbers):
            return False
        repeated = _repeated(spans, opening.is_new)
        bad = self._decrypt(keys, repeated)
        opened.repeated += len(repeated)
        opened.rejected += len(bad)
        is_good = np.ones(self._count, np.bool_)
        if repeated or bad:
            is_good[repeated + bad] = False
            spans = _spans(self._numbers[is_good])
        for span in spans:
            opened.add(*span)
        opened.contents += self._contents(is_good)
        return True

    def _decrypt(self, keys: DirectionKeys, omitted: list[int]) -> list[int]:
        """Open all rows but some into the payloads; return those that are bad."""
        matrices = self._matrices
        matrices.set_nonces(keys.iv, self._numbers)
        rows: Sequence[int] = range(self._count)
        columns: Iterable[Sequence[memoryview]] = (
            matrices.nonces_of_rows,
            matrices.sealed_of_rows,
            matrices.headers_of_rows,
            matrices.payloads_of_rows,
        )
        if omitted:
            rows = sorted(set(rows).difference(omitted))
            columns = [[column[row] for row in rows] for column in columns]
        nonces, *others = columns
        remaining = iter(nonces[: len(rows)])
        attempts = map(keys.cipher.decrypt_into, remaining, *others)
        return [rows[len(rows) - left - 1] for left in _failures(attempts, remaining)]

    def _contents(self, is_good: Mask) -> Iterator[DataRun | Payload]:
        """Yield what the good rows hold. Consecutive DATA is one run if it lies within one block."""
        matrices, count = self._matrices, self._count
        places = matrices.places[:count].astype(np.uint64)
        transfers = matrices.transfers[:count]
        is_data = is_good & (places >> FILE_SIZE_BITS == DATA_MARK)
        blocks = places >> BLOCK_BITS  # with the type, which is the same for all DATA
        is_data &= (places + np.uint64(matrices.width - 1)) >> BLOCK_BITS == blocks
        starts = places - matrices.steps[:count]  # equal in all rows of a run
        joins = is_data[1:] & is_data[:-1]
        for column in (starts, blocks, transfers):
            joins &= column[1:] == column[:-1]
        for row, end in _runs(joins):
            if is_data[row]:
                data = memoryview(matrices.data[row:end].tobytes())
                yield DataRun(int(transfers[row]), int(places[row] & OFFSET_MASK), data)
            elif is_good[row]:
                payload = memoryview(matrices.payloads[row].tobytes())
                yield Payload(int(self._numbers[row]), payload)


def _spans(numbers: Numbers) -> list[Span]:
    """Return the runs of consecutive packet numbers: each first number, and the one behind the last."""
    if not len(numbers):
        return []
    runs = _runs(numbers[1:] - numbers[:-1] == ONE)
    return [(int(numbers[first]), int(numbers[end - 1]) + 1) for first, end in runs]


def _runs(joins: Mask) -> Iterator[Span]:
    """Yield the index of each run's first item, and the one behind its last.

    Args:
        joins: for each item but the first one whether it belongs to the run of the item before.
    """
    breaks = (np.flatnonzero(~joins) + 1).tolist()
    yield from zip([0, *breaks], [*breaks, len(joins) + 1], strict=True)


def _are_distinct(spans: list[Span]) -> bool:
    """Whether the spans hold no packet number twice, and only valid ones."""
    spans = sorted(spans)
    is_valid = spans[-1][1] - 1 <= PACKET_NUMBER_MAX
    return is_valid and all(first[1] <= second[0] for first, second in pairwise(spans))


def _repeated(spans: list[Span], is_new: IsNew) -> list[int]:
    """Return the rows that the replay window rejects. It is asked row by row only where it rejects some."""
    found, row = [], 0
    for first, end in spans:
        if not is_new(first, end):
            found += [row + n - first for n in range(first, end) if not is_new(n, n + 1)]
        row += end - first
    return found


def _failures(attempts: Iterator[object], remaining: Iterator[object]) -> Iterator[int]:
    """Make all attempts. After each one that fails, yield how many items remain for the other ones."""
    while True:
        try:
            deque(attempts, maxlen=0)
        except InvalidTag:
            yield length_hint(remaining)
        else:
            return
