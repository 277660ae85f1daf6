"""The ledger of received packets: the replay window, and the acknowledgements that are due (RFC 9000, section 13.2).

**Two sets of packet numbers.** `_seen` decides which packets are new. It always begins with a range that reaches below
0, and the end of that range is the floor of the replay window: all numbers below count as seen. `_reported` holds the
packets that ACKs report. Both have a bound on their ranges. If `_seen` has too many, its oldest gap is closed, which
raises the floor: the packets in that gap are treated as lost, and their content comes again under a new number. If
`_reported` has too many, its oldest range is dropped. It was in many ACKs by then.

A replayed packet is rejected before it is opened, so `is_new` only asks. A number is recorded by `received` once its
packet has been authenticated. Otherwise a forged packet would block the genuine one.

**When an ACK is due.** Each ACK costs a packet and time at both ends, and a sender needs only a few per round trip to
keep its window moving. So an ACK waits for the second train, or for an eighth of the round trip. It is sent at once
where delay would cost something: a gap or a packet out of order, by which the sender detects losses; a frame that asks
for it; and many packets at once. Only ack-eliciting packets make an ACK due.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from p2pshare.core.datagram.rtt import ACK_DELAY_MAX, GRANULARITY
from p2pshare.core.ranges import Range, RangeSet
from p2pshare.wire.datagrams.frames import Ack

SEEN_RANGES_MAX = 1024  # ranges of the replay window
REPORTED_RANGES_MAX = 256  # ranges that ACKs report; a frame drops the oldest that do not fit
TRAINS_MAX = 2  # trains without an ACK (RFC 9000, section 13.2.2, with trains for packets)
PACKETS_MAX = 256  # packets without an ACK
RTT_FRACTION = 8  # an ACK waits for at most this part of the round trip
CE_MODULUS = 2**32  # the counter of marks has 32 bits


class ReceivedPackets:
    """The received packets of one packet number space."""

    def __init__(
        self,
        seen_ranges_max: int = SEEN_RANGES_MAX,
        reported_ranges_max: int = REPORTED_RANGES_MAX,
    ) -> None:
        """Begin with nothing received, and with bounds on the ranges that are remembered and reported."""
        self._seen = RangeSet([(-1, 0)])
        self._reported = RangeSet()
        self._seen_max = seen_ranges_max
        self._reported_max = reported_ranges_max
        self._largest_at = 0.0  # when the packet with the largest number arrived
        self._ce = 0
        self._trains = 0  # ack-eliciting and not acknowledged
        self._packets = 0
        self.ack_at: float | None = None
        """The time at which an ACK is due, in seconds; None if there is nothing to acknowledge."""

    @property
    def largest(self) -> int:
        """Return the largest packet number that was received; -1 before the first."""
        return self._seen.last

    @property
    def floor(self) -> int:
        """Return the floor of the replay window: packets with smaller numbers are rejected."""
        return next(iter(self._seen))[1]

    @property
    def reported_ranges(self) -> int:
        """Return the number of ranges in the next ACK. They become fewer when an ACK is acknowledged."""
        return len(self._reported)

    def is_new(self, first: int, end: int | None = None) -> bool:
        """Return whether no packet from `first` to below `end` is below the replay window or was received already.

        Without `end` it is about one packet.
        """
        if end is None:
            return first not in self._seen
        return next(self._seen.missing(first, end), None) == (first, end)

    def received(
        self,
        runs: Iterable[Range],
        now: float,
        rtt: float,
        *,
        ack_eliciting: bool,
        at_once: bool = False,
        ce: int = 0,
    ) -> None:
        """Record the packets of one train that are new and were authenticated.

        Args:
            runs: their numbers, as half-open ranges.
            now: the time of their arrival in seconds.
            rtt: the smoothed round-trip time in seconds.
            ack_eliciting: whether one of them has another frame than ACK, PADDING or CLOSE.
            at_once: whether one of them has a frame that is to be acknowledged without delay: FIN, PING, CHALLENGE.
            ce: how many of them were marked "congestion experienced".
        """
        self._ce = (self._ce + ce) % CE_MODULUS
        count = 0
        out_of_order = False
        for first, end in runs:
            out_of_order |= first != self.largest + 1
            if end > self.largest:
                self._largest_at = now
            count += self._seen.add(first, end)
            self._reported.add(first, end)
        self._bound()
        if not count or not ack_eliciting:
            return
        self._trains += 1
        self._packets += count
        urgent = at_once or out_of_order or ce
        if urgent or self._trains >= TRAINS_MAX or self._packets >= PACKETS_MAX:
            self.ack_at = now
        elif self.ack_at is None:
            self.ack_at = now + min(ACK_DELAY_MAX, max(GRANULARITY, rtt / RTT_FRACTION))

    def ack(self, now: float) -> Ack | None:
        """Return the ACK to send now, which settles what was due; None if no packet was received yet."""
        if not self._reported:
            return None
        self._trains = self._packets = 0
        self.ack_at = None
        delay = max(0, round((now - self._largest_at) * 1e6))
        return Ack(self.largest, min(delay, 2**32 - 1), self._ce, tuple(self._reported))

    def ack_acknowledged(self, ack: Ack) -> None:
        """Forget what `ack` reported, because the peer has received it.

        The largest number stays: it is the one in each ACK whose delay is known.
        """
        for first, end in ack.ranges:
            self._reported.remove(first, min(end, self.largest))

    def _bound(self) -> None:
        """Keep the bounds on the ranges of both sets."""
        while len(self._seen) > self._seen_max:
            (_, floor), (end, _) = islice(self._seen, 2)
            self._seen.add(floor, end)
        while len(self._reported) > self._reported_max:
            self._reported.remove(*next(iter(self._reported)))
