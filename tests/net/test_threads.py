"""Tests of `p2pshare.net.threads`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.threads import FairLimit, TurnLock


class FairLimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.limit = FairLimit(3, 2)
        self.begun: list[str] = []
        self.going: dict[str, Deferred[str]] = {}

    def run_for(self, what: str) -> Deferred[str]:
        """Work for the party that is its first letter."""

        def work() -> Deferred[str]:
            self.begun.append(what)
            self.going[what] = Deferred()
            return self.going[what]

        return self.limit.run(what[0], work)

    def end(self, what: str) -> None:
        self.going.pop(what).callback(f"{what} done")

    def test_turns(self) -> None:
        """No party has more than its part of the places, and one that wants many does not keep the others waiting."""
        done = {each: self.run_for(each) for each in ("a1", "a2", "a3", "a4", "b1", "b2", "c1")}
        self.assertEqual(self.begun, ["a1", "a2", "b1"])
        for ends, begins in (("a1", "b2"), ("b1", "c1"), ("a2", "a3"), ("b2", "a4")):
            self.end(ends)
            self.assertEqual(self.begun[-1], begins)
        for each in list(self.going):
            self.end(each)
        self.assertEqual(self.limit._parties, {})
        for each, result in done.items():
            self.assertEqual(self.successResultOf(result), f"{each} done")

    def test_failure(self) -> None:
        """Work that fails gives its place up."""
        failing = [self.run_for(each) for each in ("a1", "a2")]
        waiting = self.run_for("a3")
        for each in ("a1", "a2"):
            self.going.pop(each).errback(ValueError())
        for result in failing:
            self.failureResultOf(result, ValueError)
        self.end("a3")
        self.successResultOf(waiting)


class TurnLockTests(SynchronousTestCase):
    """A lock for many who wait."""

    def test_many(self) -> None:
        """A thousand that wait, and release at once, get it one after the other."""
        clock, got = Clock(), list[int]()
        lock = TurnLock(clock)

        async def hold(number: int) -> None:
            async with lock:
                got.append(number)

        self.successResultOf(lock.acquire())
        held = [Deferred.fromCoroutine(hold(number)) for number in range(1000)]
        lock.release()
        clock.advance(0)
        for each in held:
            self.successResultOf(each)
        self.assertEqual(got, [*range(1000)])
        self.assertFalse(lock.locked)
