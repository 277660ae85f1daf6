"""Questions to a requester, whose answers bear no number: one at a time, put again until it is answered."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2pshare.classic.core.rtt import RttEstimator


class Question(enum.Enum):
    """What a sharer may ask."""

    PROBE = enum.auto()
    """SIZE among the rows: what has got lost so far?"""
    END = enum.auto()
    """FIN: is there anything that you lack?"""


@dataclass(frozen=True, slots=True)
class Answered:
    """The open question was answered."""

    rtt: float | None
    """Seconds it took; None where that cannot be told."""


class Questions:
    """The one question that may be open, and how long its answer may take.

    One answer could be taken for that to another question. If a late one to an earlier question
    (that was put twice, say) passed for the next question's, that question's own would pass for the
    one's after it, and so on: the round trips would look shorter than they are, for ever. So an
    answer within half the shortest round trip is set aside. If the proper one follows, all is in
    step again; if none does until the question would be put again, it was the one.
    """

    def __init__(self, rtt: RttEstimator, *, measure: bool) -> None:
        """`measure`: answers come at once, so that they tell the round trip."""
        self._rtt = rtt
        self._measure = measure
        self._shortest = 0.0  # seconds, or more than that
        self._asked_at = 0.0
        self._repeated = False
        self._hasty: Answered | None = None
        self.open: Question | None = None
        """The question that waits for its answer."""
        self.again_at = 0.0
        """Seconds: when to put it again."""

    def announced(self, seconds: float, *, once: bool) -> None:
        """The first SIZE was answered after so long; `once`: it was said once only."""
        if self._measure:
            self._shortest = seconds
            if once:
                self._rtt.add_sample(seconds)

    def put(self, question: Question, now: float) -> None:
        """A question goes out."""
        self.open = question
        self._repeated = False
        self._asked_at = now
        self.again_at = now + self._rtt.rto

    def put_again(self, now: float) -> None:
        """The open question goes out again, since no answer came."""
        self._repeated = True
        self._rtt.back_off()
        self.again_at = now + self._rtt.rto

    def postpone(self, now: float) -> None:
        """The open question was answered, but the answer said nothing: put it again, though not at once."""
        self._repeated = True
        self.again_at = now + self._rtt.rto

    def answer(self, now: float) -> Answered | None:
        """What may be an answer came; None if it is set aside."""
        rtt = now - self._asked_at
        if not self._measure or self._repeated:
            return self._settle(Answered(None))
        if rtt < self._shortest / 2 and self._hasty is None:
            self._hasty = Answered(rtt)
            return None
        return self._settle(Answered(rtt))

    def answer_untimed(self) -> Answered:
        """The open question counts as answered."""
        return self._settle(Answered(None))

    def overdue(self) -> Answered | None:
        """No proper answer came in time: the one that was set aside, if there is one."""
        return self._settle(self._hasty) if self._hasty is not None else None

    def close(self) -> None:
        """Nothing is asked any more."""
        self.open = None

    def _settle(self, answered: Answered) -> Answered:
        self._hasty = None
        if answered.rtt is None:
            self._rtt.reset_backoff()
        else:
            self._rtt.add_sample(answered.rtt)
            self._shortest = min(self._shortest, answered.rtt)
        return answered
