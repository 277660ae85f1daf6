"""The ledger of sent packets: what is in flight, acknowledged and lost (RFC 9002, appendix A.1).

**Rows.** A sender in Python cannot afford an object for each packet. Packets leave in trains of up to 64 equal
segments, so the ledger has one row per train. The state of its packets is kept in two integers that serve as bit masks:
`acknowledged` and `lost`. An ACK range becomes a mask with two shifts, whatever it covers, and all counts of packets
and bytes follow from `int.bit_count`. The time of an ACK is that of a bisection for each of its ranges, and of the rows
that they touch. It does not depend on the numbers in the ranges, which the peer chooses.

**The life of a packet.** It is in flight until it is acknowledged or declared lost. Each packet leaves the count of
bytes in flight exactly once. A lost packet may still be acknowledged later: then the loss was spurious. It is
reported as late, for whoever reduced its congestion window or queued the same bytes again.

**The life of a row.** A row with packets in flight is open. When its last packet is acknowledged, it is dropped. When
its packets are resolved and some are lost, it moves to a second table, where late ACKs find it until it is forgotten.
That table has a bound. The loss detection goes through the open rows only, so it does not pay for old losses.

All packets in rows are ack-eliciting. A packet that only has ACKs gets a number and no row: the peer has no reason to
acknowledge it, so its row would stay forever. The same applies to packets whose loss does not matter.

Packet numbers are assigned here and nowhere else, in sequence, because they are also the nonces of packet protection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, NamedTuple, TypeVar

from p2pshare.core.ranges import Range
from p2pshare.errors import RemoteProtocolError

TRAIN_PACKETS_MAX = 64  # packets in a row; the bits of a mask
LOST_ROWS_MAX = 1024  # rows with lost packets that a late ACK can still find

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class SentTrain(Generic[T]):
    """A row: packets with consecutive numbers that left at the same time."""

    first: int
    """The number of the first packet."""
    count: int
    """Packets, 1 to `TRAIN_PACKETS_MAX`."""
    sent_at: float
    """Seconds."""
    segment: int
    """Bytes of each packet but the last."""
    last_size: int
    """Bytes of the last packet."""
    in_flight: bool
    """Whether these packets count for congestion control and arm the PTO. Probes of the path MTU do not."""
    carried: T
    """What the packets carried, for their owner."""
    acknowledged: int = 0
    """Mask of the packets that were acknowledged, in time or late."""
    lost: int = 0
    """Mask of the packets that were declared lost, also of those that were acknowledged later."""
    lost_at: float = 0.0
    """The time of the last declaration of a loss, in seconds."""

    @property
    def end(self) -> int:
        """Return the number behind the last packet."""
        return self.first + self.count

    @property
    def unresolved(self) -> int:
        """Return the mask of the packets that are neither acknowledged nor declared lost."""
        return ((1 << self.count) - 1) & ~(self.acknowledged | self.lost)

    def size(self, mask: int) -> int:
        """Return the bytes of the packets in `mask`."""
        size = mask.bit_count() * self.segment
        return size + self.last_size - self.segment if mask >> (self.count - 1) else size


class TrainPart(NamedTuple, Generic[T]):
    """Some packets of a train."""

    train: SentTrain[T]
    mask: int
    """Bit i stands for packet `train.first + i`; never 0."""

    @property
    def size(self) -> int:
        """Return the bytes of these packets."""
        return self.train.size(self.mask)

    @property
    def packets(self) -> int:
        """Return the number of these packets."""
        return self.mask.bit_count()

    @property
    def runs(self) -> Iterator[Range]:
        """Yield the runs of these packets, ascending, as positions in the train: (first, behind the last)."""
        mask, at = self.mask, 0
        while mask:
            zeros = (mask & -mask).bit_length() - 1
            mask >>= zeros
            ones = (~mask & (mask + 1)).bit_length() - 1
            yield at + zeros, at + zeros + ones
            mask >>= ones
            at += zeros + ones


@dataclass(frozen=True, slots=True)
class Acknowledged(Generic[T]):
    """The packets that an ACK acknowledges for the first time."""

    parts: list[TrainPart[T]]
    """Those that were in flight, ascending."""
    late: list[TrainPart[T]]
    """Those that had been declared lost: the losses were spurious."""
    sampled_at: float | None
    """When the largest packet of the ACK was sent, in s, if it is among these (RFC 9002, section 5.1); else None."""


class SentPackets(Generic[T]):
    """The sent packets of one packet number space."""

    def __init__(self, lost_rows_max: int = LOST_ROWS_MAX) -> None:
        """Keep at most `lost_rows_max` rows with lost packets for late ACKs."""
        self._open = _Rows[T]()
        self._lost = _Rows[T]()
        self._lost_order = deque[SentTrain[T]]()  # those of `_lost`, and some that were dropped
        self._lost_rows_max = lost_rows_max
        self.next_number = 0
        """The number of the next packet."""
        self.largest_acknowledged = -1
        """The largest packet number that was acknowledged; -1 before the first ACK."""
        self.bytes_in_flight = 0
        """Bytes of all unresolved packets that count for congestion control."""
        self.packets_in_flight = 0
        """The number of these packets; while it is 0, no PTO is armed."""
        self.last_sent_at = 0.0
        """The time when the last packet that counts for congestion control was sent, in seconds."""

    def add(
        self,
        count: int,
        segment: int,
        last_size: int,
        now: float,
        carried: T,
        *,
        in_flight: bool = True,
    ) -> SentTrain[T]:
        """Enter a train that leaves now, and return its row, which has its packet numbers.

        Args:
            count: packets, 1 to `TRAIN_PACKETS_MAX`, all of them ack-eliciting.
            segment: bytes of each packet but the last.
            last_size: bytes of the last packet, at most `segment`.
            now: in seconds.
            carried: what the owner needs to know if the train is acknowledged or lost.
            in_flight: whether it counts for congestion control.
        """
        assert 1 <= count <= TRAIN_PACKETS_MAX and last_size <= segment
        train = SentTrain(self.next_number, count, now, segment, last_size, in_flight, carried)
        self.next_number += count
        self._open.append(train)
        if in_flight:
            self.bytes_in_flight += segment * (count - 1) + last_size
            self.packets_in_flight += count
            self.last_sent_at = now
        return train

    def take_number(self) -> int:
        """Return the number of a packet that the peer need not acknowledge, such as one that only has an ACK."""
        self.next_number += 1
        return self.next_number - 1

    def acknowledge(self, ranges: Sequence[Range]) -> Acknowledged[T]:
        """Process the ranges of an ACK, ascending, and return what is new.

        Raises:
            RemoteProtocolError: a packet is acknowledged that was never sent.
        """
        if not ranges or ranges[-1][1] > self.next_number:
            raise RemoteProtocolError(reason="a packet was acknowledged that was never sent")
        largest = ranges[-1][1] - 1
        parts: list[TrainPart[T]] = []
        late: list[TrainPart[T]] = []
        sampled_at: float | None = None
        for rows in (self._open, self._lost):
            for train, covered in rows.covered(ranges):
                new = covered & ~train.acknowledged
                if not new:
                    continue
                train.acknowledged |= new
                if train.first <= largest < train.end and new >> (largest - train.first):
                    sampled_at = train.sent_at
                if spurious := new & train.lost:
                    late.append(TrainPart(train, spurious))
                if timely := new & ~train.lost:
                    parts.append(TrainPart(train, timely))
                    self._leave_flight(train, timely)
                self._settle(train)
        self.largest_acknowledged = max(self.largest_acknowledged, largest)
        return Acknowledged(parts, late, sampled_at)

    def lose(self, train: SentTrain[T], mask: int, now: float) -> TrainPart[T]:
        """Declare the packets in `mask`, all of them unresolved, lost."""
        assert mask and mask & ~train.unresolved == 0
        train.lost |= mask
        train.lost_at = now
        self._leave_flight(train, mask)
        self._settle(train)
        return TrainPart(train, mask)

    def forget_lost(self, before: float) -> None:
        """Drop the rows whose last loss was declared before the time `before`, in seconds."""
        while self._lost_order and (
            self._lost_order[0].lost_at < before or len(self._lost_order) > self._lost_rows_max
        ):
            self._lost.discard(self._lost_order.popleft())

    def unresolved(self, end: int | None = None) -> Iterator[TrainPart[T]]:
        """Yield what is in flight of the trains that begin below number `end`, oldest first.

        The caller may declare losses meanwhile.
        """
        for train in self._open.until(self.next_number if end is None else end):
            yield TrainPart(train, train.unresolved)

    @property
    def rows(self) -> int:
        """Return the number of rows in memory."""
        return len(self._open) + len(self._lost)

    def _leave_flight(self, train: SentTrain[T], mask: int) -> None:
        if train.in_flight:
            self.bytes_in_flight -= train.size(mask)
            self.packets_in_flight -= mask.bit_count()

    def _settle(self, train: SentTrain[T]) -> None:
        """Move or drop a row that has no packets in flight."""
        if train.unresolved:
            return
        self._open.discard(train)
        if train.lost & ~train.acknowledged and train.in_flight:
            if self._lost.insert(train):
                self._lost_order.append(train)
                self.forget_lost(-inf)
        else:
            self._lost.discard(train)


class _Rows(Generic[T]):
    """Rows, ascending by packet number."""

    def __init__(self) -> None:
        self._rows: list[SentTrain[T]] = []
        self._firsts: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, train: SentTrain[T]) -> None:
        """Add a row with numbers above all others."""
        self._rows.append(train)
        self._firsts.append(train.first)

    def insert(self, train: SentTrain[T]) -> bool:
        """Add a row, unless it is there; return whether it was added."""
        at = bisect_left(self._firsts, train.first)
        if at < len(self._firsts) and self._firsts[at] == train.first:
            return False
        self._rows.insert(at, train)
        self._firsts.insert(at, train.first)
        return True

    def discard(self, train: SentTrain[T]) -> None:
        """Remove a row, if it is there."""
        at = bisect_left(self._firsts, train.first)
        if at < len(self._firsts) and self._firsts[at] == train.first:
            del self._rows[at], self._firsts[at]

    def until(self, end: int) -> list[SentTrain[T]]:
        """Return the rows that begin below number `end`."""
        return self._rows[: bisect_left(self._firsts, end)]

    def covered(self, ranges: Sequence[Range]) -> list[tuple[SentTrain[T], int]]:
        """Return the rows that have packets in `ranges`, ascending, each with the mask of these packets."""
        rows, firsts = self._rows, self._firsts
        found: list[tuple[SentTrain[T], int]] = []
        if not rows:
            return found
        at, begin, end_of_row, mask = -1, 0, 0, 0  # the row whose mask is being made
        for first, end in ranges[max(0, bisect_right(ranges, (firsts[0],)) - 1) :]:
            while True:
                if first < end_of_row:
                    low, high = max(first - begin, 0), min(end, end_of_row) - begin
                    if low < high:
                        mask |= (1 << high) - (1 << low)
                if end <= end_of_row:
                    break  # the next range may begin in the same row
                if mask:
                    found.append((rows[at], mask))
                    mask = 0
                at = max(at + 1, bisect_right(firsts, first, at + 1) - 1)
                if at == len(rows):
                    return found
                begin = firsts[at]
                end_of_row = begin + rows[at].count
        if mask:
            found.append((rows[at], mask))
        return found
