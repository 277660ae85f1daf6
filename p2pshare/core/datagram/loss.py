"""Loss detection (RFC 9002, section 6), for trains.

A packet is lost when a packet that was sent later has been acknowledged, and it was sent long enough ago. "Long enough"
is measured in two ways, and either suffices.

**By time**: 9/8 of the round trip. All packets of a train were sent at the same time, so this is one comparison for a
train.

**By packets**: 3 packets behind the largest acknowledged one. That rule assumes that a network reorders single packets.
But the kernel hands a train to the network as a whole (UDP_SEGMENT), and several queues of an interface can reorder
whole trains: then 64 packets arrive late by 64, and none is lost. So the rule distinguishes:

* A later packet of the same train was acknowledged. The train has arrived, and only its order inside is in question.
  The threshold of 3 applies.
* No later packet of the train was acknowledged. The train may have been overtaken, so the gap must exceed one more
  train: it is counted from the end of the train, and its number of packets is added to the threshold.

For trains of one packet both are the rule of the RFC.

**Spurious losses.** If a lost packet is acknowledged later, the path reorders more than the thresholds allow. They grow
to what was observed, up to a bound, and never shrink: paths do not change their nature often, and the time threshold
bounds the cost. The congestion controller hears of it, because it may have reduced its window without need.

**Probe timeout.** When the newest packets are lost, no ACK tells. After a probe timeout the sender sends something
ack-eliciting, whatever the congestion window says. An expired timer declares nothing lost (RFC 9002, section 6.2).

**Persistent congestion.** When all packets over three probe timeouts are lost, the path has changed, and the window
falls to its minimum (RFC 9002, section 7.6). An acknowledged packet between two lost ones ends such a period.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from p2pshare.core.datagram.rtt import GRANULARITY, RttEstimator
from p2pshare.core.datagram.sent_packets import SentPackets, SentTrain, TrainPart
from p2pshare.wire.datagrams.frames import Ack

PACKET_THRESHOLD = 3  # packets (RFC 9002, section 6.1.1)
UNANSWERED_PROBES = 3  # timeouts, each twice the one before, until a path may count as dead
PACKET_THRESHOLD_MAX = 256  # packets; four whole trains
TIME_THRESHOLD = 9 / 8  # round trips (RFC 9002, section 6.1.2)
TIME_THRESHOLD_MAX = 2.0  # round trips
PERSISTENT_CONGESTION_THRESHOLD = 3  # probe timeouts (RFC 9002, section 7.6.1)
LATE_ACK_TIME = 3  # probe timeouts during which a lost packet is remembered
CE_MODULUS = 2**32  # the counter in an ACK has 32 bits

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What an ACK or a timer has told about sent packets."""

    acked: Sequence[TrainPart[T]] = ()
    """Packets that have arrived, and were in flight until now."""
    late: Sequence[TrainPart[T]] = ()
    """Packets that have arrived, and had been declared lost."""
    lost: Sequence[TrainPart[T]] = ()
    """Packets that were declared lost now."""
    is_congestion_persistent: bool = False
    """Whether nothing of what was sent over three probe timeouts has arrived."""
    ce: int = 0
    """Packets that were newly reported as marked "congestion experienced"."""
    must_probe: bool = False
    """The probe timeout has expired: send one or two ack-eliciting packets, whatever the window says."""


class LossDetector(Generic[T]):
    """The loss detection of one packet number space."""

    def __init__(self, sent: SentPackets[T], rtt: RttEstimator) -> None:
        """Watch over `sent`. `rtt` gets a sample from each ACK that has one, and holds the back-off of the timer."""
        self._sent = sent
        self._rtt = rtt
        self._loss_at: float | None = None  # when the next packet is lost by time
        self._expired_at = 0.0  # when the probe timeout last expired
        self._acked_sent_at = 0.0  # when the latest acknowledged packet had been sent
        self._ce = 0
        self.packet_threshold = PACKET_THRESHOLD
        """Packets by which a packet may be overtaken."""
        self.time_threshold = TIME_THRESHOLD
        """Round trips after which an overtaken packet is lost."""

    def acknowledge(self, ack: Ack, now: float) -> Outcome[T]:
        """Process an ACK that arrived at `now`, in seconds.

        Raises:
            RemoteProtocolError: it acknowledges a packet that was never sent.
        """
        largest_before = self._sent.largest_acknowledged
        result = self._sent.acknowledge(ack.ranges)
        if not result.parts and not result.late:
            return Outcome()
        if result.sampled_at is not None:
            self._rtt.add_sample(result.sampled_at, ack.delay_us / 1e6, now)
        self._rtt.reset_back_off()
        for part in result.late:
            self._tolerate(part, now)
        lost = self._detect(now)
        acked_sent_at = sorted(part.train.sent_at for part in (*result.parts, *result.late))
        is_persistent = self._is_congestion_persistent(lost, acked_sent_at)
        self._acked_sent_at = max(self._acked_sent_at, acked_sent_at[-1])
        self._sent.forget_lost(now - LATE_ACK_TIME * self._rtt.probe_timeout)
        ce = 0
        if (
            self._sent.largest_acknowledged > largest_before
        ):  # else it may be older than the ACK before
            new = sum(part.packets for part in result.parts)
            ce = min((ack.ce - self._ce) % CE_MODULUS, new)
            self._ce = ack.ce
        return Outcome(result.parts, result.late, lost, is_persistent, ce)

    def get_timer(self) -> float | None:
        """Return the time in seconds at which `handle_timer` is due; None while nothing is in flight."""
        if self._loss_at is not None:
            return self._loss_at
        if not self._sent.packets_in_flight:
            return None
        return max(self._sent.last_sent_at, self._expired_at) + self._rtt.backed_off_timeout

    @property
    def unanswered_since(self) -> float | None:
        """When the oldest packet in flight was sent, if several probes have had no answer since; else None."""
        if self._rtt.expirations < UNANSWERED_PROBES:
            return None
        oldest = next(self._sent.unresolved(), None)
        return None if oldest is None else oldest.train.sent_at

    def handle_timer(self, now: float) -> Outcome[T]:
        """Declare losses, or ask for a probe, if the timer has expired at `now`, in seconds."""
        timer = self.get_timer()
        if timer is None or now < timer:
            return Outcome()
        if self._loss_at is not None:
            lost = self._detect(now)
            is_persistent = self._is_congestion_persistent(lost, [])
            return Outcome(lost=lost, is_congestion_persistent=is_persistent)
        self._rtt.back_off()
        self._expired_at = now
        return Outcome(must_probe=True)

    def _detect(self, now: float) -> list[TrainPart[T]]:
        """Declare packets lost, and set the time at which the next one will be."""
        largest = self._sent.largest_acknowledged
        round_trip = max(self._rtt.smoothed, self._rtt.latest)
        delay = max(self.time_threshold * round_trip, GRANULARITY)
        self._loss_at = None
        lost: list[TrainPart[T]] = []
        for train, unresolved in self._sent.unresolved(largest):
            passed = unresolved & ((1 << min(train.count, largest - train.first)) - 1)
            gone = passed
            if train.sent_at + delay > now:
                gone &= self._overtaken(train, largest)
                if gone != passed and (
                    self._loss_at is None or train.sent_at + delay < self._loss_at
                ):
                    self._loss_at = train.sent_at + delay
            if gone:
                lost.append(self._sent.lose(train, gone, now))
        return lost

    def _overtaken(self, train: SentTrain[T], largest: int) -> int:
        """Return the mask of the packets that are lost by the packet threshold."""
        whole = (1 << train.count) - 1
        if largest - (train.end - 1) >= self.packet_threshold + train.count - 1:
            return whole
        before_acknowledged = train.acknowledged.bit_length() - 1
        before_threshold = largest - self.packet_threshold + 1 - train.first
        return whole & ((1 << max(0, min(before_acknowledged, before_threshold))) - 1)

    def _tolerate(self, part: TrainPart[T], now: float) -> None:
        """Raise the thresholds so that this packet, which arrived after all, would not have been declared lost."""
        lowest = part.train.first + next(part.runs)[0]
        distance = self._sent.largest_acknowledged - lowest
        self.packet_threshold = min(PACKET_THRESHOLD_MAX, max(self.packet_threshold, distance + 1))
        round_trips = (now - part.train.sent_at) / max(self._rtt.smoothed, GRANULARITY)
        self.time_threshold = min(TIME_THRESHOLD_MAX, max(self.time_threshold, round_trips))

    def _is_congestion_persistent(
        self, lost: Sequence[TrainPart[T]], acked_sent_at: Sequence[float]
    ) -> bool:
        """Return whether lost packets cover a period of persistent congestion.

        Args:
            lost: what was just declared lost, ascending.
            acked_sent_at: when the packets had been sent that were just acknowledged, ascending.
        """
        if self._rtt.first_sample_at is None:
            return False
        since = max(self._rtt.first_sample_at, self._acked_sent_at)
        times = [
            part.train.sent_at
            for part in lost
            if part.train.in_flight and part.train.sent_at > since
        ]
        duration = PERSISTENT_CONGESTION_THRESHOLD * self._rtt.probe_timeout
        start = times[0] if times else 0.0
        for time in times:
            between = bisect_left(acked_sent_at, start)
            if between < len(acked_sent_at) and acked_sent_at[between] <= time:
                start = time
            elif time - start > duration:
                return True
        return False
