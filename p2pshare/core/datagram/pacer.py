"""Pacing: a congestion window leaves spread over the round trip, not in one burst (RFC 9002, section 7.7).

The pacer is a token bucket for timers that are coarse: a timer of a reactor fires to the millisecond at best, and late
when the process is busy. So the pacer never asks for single packets. It waits until a quantum may go, about what the
rate gives in a millisecond, which leaves as one train. What a late timer has missed may go at once only up to the size
of the bucket, which is a few milliseconds of the rate. The rest is lost: else each pause of the process would become a
burst into the queues of the network.
"""

from __future__ import annotations

from p2pshare.core.rate import RateLimit

QUANTUM_TIME = 0.001  # seconds of the rate in a quantum
QUANTUM_PACKETS_MIN = 2
QUANTUM_MAX = 64 * 1024  # bytes; a train has no more
BURST_TIME = 0.003  # seconds of the rate in the bucket: a timer, its rounding, and as much lateness
FIRST_PACKETS = 10  # that may leave at once at first: the initial window (RFC 9002, section 7.7)
BURST_PACKETS_MIN = 4  # in the bucket, whatever the rate; more overflow short queues of slow links


class Pacer:
    """The pacing of one path."""

    def __init__(self, rate: float, segment: int, now: float) -> None:
        """Begin with a bucket that holds the initial window.

        Args:
            rate: bytes per second, more than 0.
            segment: bytes of a full packet.
            now: in seconds.
        """
        self._bucket = RateLimit(rate, now)
        self._packets_min = FIRST_PACKETS
        self.change(rate, segment, now)
        self._bucket.spend(-self._bucket.burst, now)

    def change(self, rate: float, segment: int, now: float) -> None:
        """Pace with another rate in bytes per second, or other packets."""
        self._rate, self._segment = rate, segment
        self._quantum = int(
            max(QUANTUM_PACKETS_MIN * segment, min(rate * QUANTUM_TIME, QUANTUM_MAX))
        )
        burst = int(max(self._packets_min * segment, rate * BURST_TIME))
        self._bucket.change(rate, now, burst=burst)

    def budget(self, now: float) -> int:
        """Return the bytes that may leave now: 0, or at least a quantum."""
        available = self._bucket.available(now)
        return available if available >= self._quantum else 0

    def spend(self, size: int, now: float) -> None:
        """Note that `size` bytes leave. They may be more than the budget; later ones then wait for longer."""
        self._bucket.spend(size, now)
        if self._packets_min != BURST_PACKETS_MIN:
            self._packets_min = BURST_PACKETS_MIN
            self.change(self._rate, self._segment, now)

    def next_at(self, now: float) -> float:
        """Return the time in seconds from which `budget` is not 0."""
        return self._bucket.when(self._quantum + 1, now)  # a byte more than rounding costs
