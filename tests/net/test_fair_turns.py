"""Tests of `p2pshare.net.fair_turns`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.fair_turns import FairTurns


class FairTurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns = FairTurns(3, 2)
        self.begun: list[str] = []
        self.going: dict[str, Deferred[str]] = {}

    def run_for(self, what: str) -> Deferred[str]:
        """Work for the party that is its first letter."""

        def work() -> Deferred[str]:
            self.begun.append(what)
            self.going[what] = Deferred()
            return self.going[what]

        return self.turns.run(what[0], work)

    def end(self, what: str) -> None:
        self.going.pop(what).callback(f"{what} done")

    def test_turns(self) -> None:
        """No party has more than its part of the places, and those that wait take turns."""
        done = {each: self.run_for(each) for each in ("a1", "a2", "a3", "a4", "b1", "b2", "c1")}
        self.assertEqual(self.begun, ["a1", "a2", "b1"])
        for ends, begins in (("a1", "a3"), ("b1", "b2"), ("a2", "c1"), ("b2", "a4")):
            self.end(ends)
            self.assertEqual(self.begun[-1], begins)
        for each in list(self.going):
            self.end(each)
        for each, result in done.items():
            self.assertEqual(self.successResultOf(result), f"{each} done")

    def test_failure(self) -> None:
        """What fails makes room, too."""
        failing = [self.run_for(each) for each in ("a1", "a2")]
        waiting = self.run_for("a3")
        for each in ("a1", "a2"):
            self.going.pop(each).errback(ValueError())
        for result in failing:
            self.failureResultOf(result, ValueError)
        self.end("a3")
        self.successResultOf(waiting)

    def test_cancelled(self) -> None:
        """What is cancelled while it waits is passed over; what is going on keeps its place until it is over."""
        results = [self.run_for(each) for each in ("a1", "a2", "a3", "a4")]
        for each in (0, 2):
            results[each].cancel()
            results[each].addErrback(lambda _: None)
        self.assertEqual(self.begun, ["a1", "a2"])
        self.end("a1")
        self.assertEqual(self.begun, ["a1", "a2", "a4"])
