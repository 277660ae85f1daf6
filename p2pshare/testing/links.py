"""A model of one direction of a network path: which packets arrive, when, and in which state.

A `Link` is told when a packet of some size enters it, and answers at once with the fate of that packet. It moves no
bytes and owns no clock, so the same model serves a network in memory (`p2pshare.testing.network`) and one between real
kernels (`benchmarks/tun_link.py`). The stages of a link, in the order in which a packet meets them:

1. The maximum transmission unit. A larger packet disappears, or is refused (`fits`).
2. The queue, and behind it a line that sends `rate` bytes per second. The queue is a single number: the time at which
   the line has sent all that it has accepted. That is exact, because packets leave in the order in which they came. A
   packet is dropped if more than `queue` bytes wait before it (tail drop), and marked if more than `mark_above` do.
3. Loss, of single packets and of bursts. It comes behind the line: a packet that is lost here has used capacity.
4. Corruption, duplication, delay, jitter and reordering.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

JITTER_PERIOD = 0.02  # seconds for which packets share a jitter: with one for each, the order would keep the largest


@dataclass(frozen=True, slots=True)
class Bursts:
    """Loss in bursts, after Gilbert and Elliott: a chain of a good state, without loss, and a bad one.

    E. N. Gilbert, "Capacity of a burst-noise channel", 1960; E. O. Elliott, "Estimates of error rates for codes on
    burst-noise channels", 1963. A bad state lasts 1 / `end` packets on average.
    """

    begin: float
    """The probability, per packet, that the good state changes to the bad one."""
    end: float
    """The probability, per packet, that the bad state changes to the good one."""
    loss: float = 1.0
    """The probability that a packet is lost in the bad state."""

    @property
    def mean_loss(self) -> float:
        """The fraction of all packets that is lost in the long run."""
        return self.begin / (self.begin + self.end) * self.loss


@dataclass(frozen=True, slots=True)
class Conditions:
    """The quality of a link. Without arguments it is perfect, but for a delay of 1 ms.

    Each packet meets the probabilities independently of all others. Sizes are in bytes on the line, with headers.
    """

    rate: float | None = None
    """Bytes per second that the line sends; None: any number, at once."""
    queue: float = float("inf")
    """Bytes that may wait for the line, with the rest of the packet that it sends; a packet behind more is dropped."""
    mark_above: float = float("inf")
    """Bytes; a packet behind more than that is marked "congestion experienced" (ECN, RFC 3168)."""
    mtu: int = 65_535
    """The size of the largest packet that passes."""
    refuses_larger: bool = False
    """Whether the sender is told of a packet above `mtu`. If not, the link is a black hole for such packets."""
    loss: float = 0.0
    """The probability that a packet is lost."""
    bursts: Bursts | None = None
    """Loss in bursts, besides `loss`."""
    corruption: float = 0.0
    """The probability that a bit of a packet is flipped."""
    duplication: float = 0.0
    """The probability that a packet arrives twice."""
    delay: float = 0.001
    """Seconds that each packet is on its way, after the line has sent it."""
    jitter: float = 0.0
    """Seconds; a random time up to this is added to the delay, another one each `JITTER_PERIOD`, in order."""
    reordering: float = 0.0
    """The probability that a packet is held back, so that packets behind it overtake it."""
    reordering_delay: float = 0.0
    """Seconds; a packet that is held back arrives later by a random time up to this."""


class Arrival(NamedTuple):
    """One copy of a packet at the end of a link."""

    when: float
    """Seconds."""
    is_marked: bool
    """Whether the link has marked it "congestion experienced"."""
    is_corrupted: bool
    """Whether a bit is to be flipped."""


@dataclass(slots=True)
class LinkCounts:
    """What has happened to the packets that entered a link."""

    entered: int = 0
    too_large: int = 0
    """Packets above the MTU."""
    dropped: int = 0
    """Packets that found the queue full."""
    lost: int = 0
    """Packets that were lost behind the line."""
    marked: int = 0
    corrupted: int = 0
    duplicated: int = 0
    bytes_sent: int = 0
    """Bytes that the line has accepted, with those of packets that were lost behind it."""


class Link:
    """One direction of a path; the same source of randomness and the same packets give the same arrivals."""

    def __init__(self, conditions: Conditions, rng: random.Random) -> None:
        self.conditions = conditions
        """The quality from now on; it may be replaced at any time. Packets in the queue stay there."""
        self.counts = LinkCounts()
        self._rng = rng
        self._free_at = 0.0  # when the line has sent all that it has accepted
        self._jitter = 0.0
        self._jitter_until = float("-inf")
        self._last_arrival = 0.0  # of the packets in order: jitter does not reorder
        self._is_bad = False  # the state of the chain of bursts

    def backlog(self, now: float) -> float:
        """Return the bytes that have not left the line yet."""
        rate = self.conditions.rate
        return max(0.0, self._free_at - now) * rate if rate is not None else 0.0

    def fits(self, size: int) -> bool:
        """Whether a packet passes without fragmentation."""
        return size <= self.conditions.mtu

    def send(self, size: int, now: float) -> tuple[Arrival, ...]:
        """Return the arrivals of a packet that enters the link: none, one or two, the first one first.

        Args:
            size: bytes of the packet, with headers.
            now: seconds; never before the packet that entered last.
        """
        conditions, counts = self.conditions, self.counts
        counts.entered += 1
        if size > conditions.mtu:
            counts.too_large += 1
            return ()
        left, is_marked = now, False
        if conditions.rate is not None:
            backlog = self.backlog(now)
            if backlog > conditions.queue:
                counts.dropped += 1
                return ()
            is_marked = backlog > conditions.mark_above
            self._free_at = left = max(now, self._free_at) + size / conditions.rate
        counts.bytes_sent += size
        counts.marked += is_marked
        if self._is_lost():
            counts.lost += 1
            return ()
        first = self._arrival(left, is_marked)
        if not self._happens(conditions.duplication):
            return (first,)
        counts.duplicated += 1
        return tuple(sorted((first, self._arrival(left, is_marked))))

    def _is_lost(self) -> bool:
        conditions = self.conditions
        is_lost = self._happens(conditions.loss)
        if (bursts := conditions.bursts) is not None:
            is_lost |= self._is_bad and self._happens(bursts.loss)
            if self._happens(bursts.end if self._is_bad else bursts.begin):
                self._is_bad = not self._is_bad
        return is_lost

    def _arrival(self, left: float, is_marked: bool) -> Arrival:
        conditions = self.conditions
        when = left + conditions.delay
        if conditions.jitter:
            when += self._jitter_at(left)
            self._last_arrival = when = max(when, self._last_arrival)
        if self._happens(conditions.reordering):
            when += self._rng.uniform(0.0, conditions.reordering_delay)
        is_corrupted = self._happens(conditions.corruption)
        self.counts.corrupted += is_corrupted
        return Arrival(when, is_marked, is_corrupted)

    def _jitter_at(self, left: float) -> float:
        if left >= self._jitter_until:
            self._jitter = self._rng.uniform(0.0, self.conditions.jitter)
            self._jitter_until = left + JITTER_PERIOD
        return self._jitter

    def _happens(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability
