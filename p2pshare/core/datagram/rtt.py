"""The round-trip time, and the probe timeout that follows from it (RFC 9002, sections 5 and 6.2)."""

from __future__ import annotations

from math import inf

INITIAL_RTT = 0.333  # seconds (RFC 9002, section 6.2.2): the first probe timeout is 1 s
GRANULARITY = 0.001  # seconds; of timers (RFC 9002, section 6.1.2)
ACK_DELAY_MAX = (
    0.025  # seconds by which an ACK is delayed on purpose (RFC 9000, section 18.2: max_ack_delay)
)
BACK_OFF_MAX = 64  # times the probe timeout


class RttEstimator:
    """The round-trip time of a path. Both packet number spaces of a connection share it."""

    def __init__(self, initial: float = INITIAL_RTT) -> None:
        """Begin with an estimate of `initial` seconds, until there is a sample."""
        self.latest = initial
        """The last sample in seconds, without the delay of the ACK."""
        self.smoothed = initial
        """Seconds."""
        self.variation = initial / 2
        """The mean deviation in seconds."""
        self.smallest = inf
        """The smallest sample in seconds, with the delay of its ACK."""
        self.first_sample_at: float | None = None
        """The time of the first sample in seconds; None before it."""
        self._back_off = 1

    def restart(self) -> None:
        """Begin again, because the path is another one."""
        fresh = RttEstimator()
        self.latest, self.smoothed, self.variation = fresh.latest, fresh.smoothed, fresh.variation
        self.smallest, self.first_sample_at, self._back_off = inf, None, 1

    def add_sample(self, sent_at: float, ack_delay: float, now: float) -> None:
        """Add the round trip of the largest newly acknowledged packet.

        Args:
            sent_at: when it was sent, in seconds.
            ack_delay: seconds by which the peer says that it delayed the ACK.
            now: in seconds.
        """
        sample = max(now - sent_at, 0.0)
        self.smallest = min(self.smallest, sample)
        ack_delay = min(ack_delay, ACK_DELAY_MAX)
        if sample >= self.smallest + ack_delay:  # else the peer claims more delay than there was
            sample -= ack_delay
        self.latest = sample
        if self.first_sample_at is None:
            self.first_sample_at = now
            self.smoothed, self.variation = sample, sample / 2
        else:
            self.variation += (abs(self.smoothed - sample) - self.variation) / 4
            self.smoothed += (sample - self.smoothed) / 8

    @property
    def probe_timeout(self) -> float:
        """Return the seconds without an ACK after which a probe is sent, without the back-off."""
        return self.smoothed + max(4 * self.variation, GRANULARITY) + ACK_DELAY_MAX

    @property
    def backed_off_timeout(self) -> float:
        """Return the seconds until the next probe, with the back-off."""
        return self.probe_timeout * self._back_off

    @property
    def expirations(self) -> int:
        """Return how often the timeout has expired since the last acknowledgement, as far as it is counted."""
        return self._back_off.bit_length() - 1

    def back_off(self) -> None:
        """Double the timeout, because it has expired."""
        self._back_off = min(2 * self._back_off, BACK_OFF_MAX)

    def reset_back_off(self) -> None:
        """End the back-off, because a packet was acknowledged."""
        self._back_off = 1
