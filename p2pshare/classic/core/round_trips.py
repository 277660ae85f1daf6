"""Round-trip times: their estimate (RFC 6298, section 2), and the one question that a sharer may have open.

The classic protocol has no sequence numbers: an answer does not say to which question it belongs. If a late answer to
one question passed for a prompt answer to the next, that question's own answer would pass for an answer to the one
after it, and so on: the measured round trips would be too short for the rest of the transfer. Two rules prevent this:

* One question is open at a time, and a repeated question gives no sample (Karn's algorithm).
* An answer within half the shortest round trip is set aside. If a second answer follows, that one counts and all is in
  step again. If none follows within the retransmission timeout, the answer that was set aside counts.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

BACKOFF_MAX = 4.0  # times the timeout; a question has a few bytes, so asking too often costs less than a stall


class RttEstimator:
    """The smoothed round-trip time, its variation, and the retransmission timeout (RTO) that follows from them."""

    def __init__(self, *, initial: float, rto_min: float, rto_max: float) -> None:
        """All values are in seconds; `initial` is the timeout before the first sample."""
        self._initial = initial
        self._rto_min = rto_min
        self._rto_max = rto_max
        self._variation = 0.0
        self._backoff = 1.0
        self.smoothed: float | None = None
        """Seconds; None before the first sample."""
        self.smallest = float("inf")
        """The smallest sample, in seconds."""

    def add_sample(self, rtt: float) -> None:
        """Add a measured round trip of `rtt` seconds, and end the back-off."""
        self._backoff = 1.0
        self.smallest = min(self.smallest, rtt)
        if self.smoothed is None or rtt < self.smoothed / 4:
            # Either this is the first sample, or the earlier samples were not round trips: a sample that began with a
            # lost answer is far too long, and many more would be needed to average it out.
            self.smoothed, self._variation = rtt, rtt / 2
        else:
            self._variation += (abs(self.smoothed - rtt) - self._variation) / 4
            self.smoothed += (rtt - self.smoothed) / 8

    def back_off(self) -> None:
        """Double the timeout after it has expired."""
        self._backoff = min(2 * self._backoff, BACKOFF_MAX)

    def reset_backoff(self) -> None:
        """End the back-off after an answer that gives no sample.

        Before the first sample the back-off stays, as the round trip may be longer than `initial`.
        """
        if self.smoothed is not None:
            self._backoff = 1.0

    @property
    def rto(self) -> float:
        """Seconds to wait for an answer before the question is repeated."""
        base = self._initial
        if self.smoothed is not None:
            base = max(self._rto_min, self.smoothed + 4 * self._variation)
        return min(self._rto_max, base * self._backoff)


class Question(enum.Enum):
    """A datagram of the sharer that the requester answers."""

    PROBE = enum.auto()
    """SIZE among the rows: which rows were lost so far?"""
    END = enum.auto()
    """FIN: is any row missing?"""


@dataclass(frozen=True, slots=True)
class Answered:
    """The open question was answered."""

    rtt: float | None
    """The round trip in seconds; None if it could not be measured."""


class Questions:
    """The question that is open, and when to repeat it; the module docstring says which answers count."""

    def __init__(self, rtt: RttEstimator, *, measure: bool) -> None:
        """`measure`: the requester answers at once, so an answer gives a sample."""
        self._rtt = rtt
        self._measure = measure
        self._shortest = 0.0  # seconds; no round trip is shorter than half of this
        self._asked_at = 0.0
        self._repeated = False
        self._set_aside: Answered | None = None
        self.open: Question | None = None
        """The question that waits for its answer."""
        self.again_at = 0.0
        """When to repeat it, in seconds."""

    def announced(self, seconds: float, *, once: bool) -> None:
        """Note that the first SIZE was answered after `seconds`; `once`: it was sent only once."""
        if self._measure:
            self._shortest = seconds
            if once:
                self._rtt.add_sample(seconds)

    def ask(self, question: Question, now: float) -> None:
        """Open a question that is sent now."""
        self.open = question
        self._repeated = False
        self._asked_at = now
        self.again_at = now + self._rtt.rto

    def repeat(self, now: float) -> None:
        """Note that the open question is sent again, as no answer came in time."""
        self._rtt.back_off()
        self.postpone(now)

    def postpone(self, now: float) -> None:
        """Keep the question open, to repeat it later: it was answered, but the answer said nothing."""
        self._repeated = True
        self.again_at = now + self._rtt.rto

    def answer(self, now: float) -> Answered | None:
        """Process an answer; return None if it is set aside."""
        if not self._measure or self._repeated:
            return self.answer_untimed()
        rtt = now - self._asked_at
        if rtt < self._shortest / 2 and self._set_aside is None:
            self._set_aside = Answered(rtt)
            return None
        return self._settle(Answered(rtt))

    def answer_untimed(self) -> Answered:
        """Process an answer that gives no sample."""
        return self._settle(Answered(None))

    def overdue(self) -> Answered | None:
        """Return the answer that was set aside, if the question has one: no better answer came in time."""
        return None if self._set_aside is None else self._settle(self._set_aside)

    def close(self) -> None:
        """Close the question."""
        self.open = None

    def _settle(self, answered: Answered) -> Answered:
        self._set_aside = None
        if answered.rtt is None:
            self._rtt.reset_backoff()
        else:
            self._rtt.add_sample(answered.rtt)
            self._shortest = min(self._shortest, answered.rtt)
        return answered
