"""The queue of downloads, with series that do nothing: slots, order, back-off of people, ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import DiskFull, LocalProtocolError, P2pshareError, PeerOffline
from p2pshare.peer.download_queue import (
    RATE_MIN,
    RETRY_MAX,
    RUNNING_MAX,
    RUNNING_OF_PERSON_MAX,
    TICK,
    DownloadQueue,
)
from p2pshare.peer.fetch.tally import JobProgress


class Presence:
    """Tells who comes."""

    def __init__(self) -> None:
        self.watchers: dict[str, list[Callable[[bool], object]]] = {}

    def watch(self, name: str, on_change: Callable[[bool], object]) -> Callable[[], None]:
        """Note a watcher."""
        self.watchers.setdefault(name, []).append(on_change)
        return lambda: self.watchers[name].remove(on_change)

    def come(self, name: str) -> None:
        """Let somebody come online."""
        for each in tuple(self.watchers[name]):
            each(True)


class Task:
    """A series whose tries end when the test says so."""

    def __init__(self, task_id: str, person: str = "alice") -> None:
        self.id = task_id
        self.peer = self.person = person
        self.tries = self.changes = 0
        self.is_over = False
        self.limited_to: float | None = None
        self.trying: Deferred[None] | None = None
        self.winding = Deferred[None]()
        self.error: P2pshareError | None = None
        """With which each try ends at once."""

    def progress(self) -> JobProgress | None:
        """There is none."""

    def changed(self) -> None:
        """Count it."""
        self.changes += 1

    def limit(self, bytes_per_second: float | None) -> None:
        """Note the limit."""
        self.limited_to = bytes_per_second

    async def attempt(self) -> Callable[[], object]:
        """Wait until the test says what happens."""
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.trying = Deferred()
        try:
            await self.trying
        except CancelledError:
            await self.winding
            raise
        return lambda: setattr(self, "is_over", True)

    def end(self) -> None:
        """Let the try succeed."""
        assert self.trying is not None
        self.trying.callback(None)


class QueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.presence = Clock(), Presence()
        self.queue = DownloadQueue(self.clock, random.Random(1), cast("Any", self.presence))

    def add(
        self, count: int, person: str = "alice", error: P2pshareError | None = None
    ) -> list[Task]:
        """Add series."""
        tasks = [Task(f"{person} {number:04}", person) for number in range(count)]
        for each in tasks:
            each.error = error
            self.queue.add(each)
        self.clock.advance(0)
        return tasks

    def running(self, tasks: list[Task]) -> list[str]:
        """Return the IDs of those that run."""
        return [each.id for each in tasks if self.queue.is_running(each.id)]

    def offline(self) -> PeerOffline:
        return PeerOffline(name="alice", seen="now", tried="")

    def test_slots(self) -> None:
        """Threat 161: two run of each person, four in all; the others follow in order."""
        tasks = [each for person in ("a", "b", "c") for each in self.add(3, person)]
        self.assertEqual(self.running(tasks), ["a 0000", "a 0001", "b 0000", "b 0001"])
        self.assertEqual((RUNNING_MAX, RUNNING_OF_PERSON_MAX), (4, 2))
        tasks[0].end()
        self.clock.advance(0)
        self.assertTrue(tasks[0].is_over)
        self.assertEqual(self.running(tasks), ["a 0001", "a 0002", "b 0000", "b 0001"])
        self.assertIsNone(self.queue.standing("a 0000"))

    def test_looks_share_the_limit(self) -> None:
        """What the user looks at has a part of the rate limit: all of it while nothing else runs."""
        parts: list[float | None] = []
        self.queue.share_limit(parts.append)
        self.queue.limit = 1e6
        self.assertEqual(parts, [None, 1e6])
        (task,) = self.add(1)
        self.clock.advance(TICK)
        self.assertEqual(parts[-1], RATE_MIN)
        self.assertEqual(task.limited_to, 1e6 - RATE_MIN)
        for _ in range(10):
            self.queue.looked(int(0.2e6 * TICK))
            self.clock.advance(TICK)
        self.assertGreater(parts[-1] or 0, 0.25e6)
        self.assertAlmostEqual((parts[-1] or 0) + (task.limited_to or 0), 1e6)
        task.end()
        self.assertEqual(parts[-1], 1e6)
        self.queue.limit = None
        self.assertIsNone(parts[-1])

    def test_person_away(self) -> None:
        """Threat 161: an error of a person costs all of their downloads one pause; each has the trouble."""
        tasks = self.add(1000, error=self.offline())
        for each in tasks:
            standing = self.queue.standing(each.id)
            assert standing is not None
            self.assertIsInstance(standing.trouble, PeerOffline)
            self.assertGreater(standing.retry_in or 0, 4)
        self.clock.pump([1.0] * 7200)
        tries = sum(each.tries for each in tasks)
        self.assertLess(tries, 7200 / RETRY_MAX * 2 + 20)
        for each in tasks:
            each.error = None
        self.presence.come("alice")
        self.clock.advance(0)
        self.assertEqual(len(self.running(tasks)), RUNNING_OF_PERSON_MAX)

    def test_no_try_is_kept(self) -> None:
        """The error for which a series waits does not keep its try in memory."""
        (task,) = self.add(1, error=self.offline())
        standing = self.queue.standing(task.id)
        assert standing is not None and standing.trouble is not None
        self.assertIsNone(standing.trouble.__traceback__)
        self.assertIsNone(standing.trouble.__context__)

    def test_few_at_once(self) -> None:
        """However many fail at once, few tries begin in one turn of the reactor."""
        tasks = [each for n in range(100) for each in self.add(1, str(n), self.offline())]
        for each in tasks:
            self.presence.come(each.peer)
        before = sum(each.tries for each in tasks)
        self.clock.advance(0)
        self.assertEqual(sum(each.tries for each in tasks) - before, RUNNING_MAX)
        self.clock.pump([0.01] * 40)
        self.assertGreaterEqual(sum(each.tries for each in tasks) - before, 100)

    def test_others_go_on(self) -> None:
        """A person who is away holds up nobody else; a full disk delays one series, and not the person."""
        self.add(3, "away", self.offline())
        here = self.add(3, "here")
        self.assertEqual(len(self.running(here)), 2)
        (full,) = self.add(1, "full", DiskFull(path="x", needed="2 B", free="1 B"))
        full.error = None
        other = Task("full 0001", "full")
        self.queue.add(other)
        self.clock.advance(0)
        self.assertEqual(self.running([full, other]), ["full 0001"])

    def test_try_now(self) -> None:
        """A user ends the pause of one download, and with it that of the person."""
        tasks = self.add(2, error=self.offline())
        for each in tasks:
            each.error = None
        self.queue.try_now(tasks[1].id)
        self.clock.advance(0)
        self.assertEqual(len(self.running(tasks)), 2)

    def test_removed(self) -> None:
        """A series that is removed keeps its slot until its try has wound up; added again, it waits for that."""
        tasks = self.add(3)
        ended: list[object] = []
        self.queue.remove(tasks[0].id).addCallback(ended.append)
        again = Task(tasks[0].id)
        self.queue.add(again)
        self.clock.advance(0)
        self.assertEqual((ended, self.running(tasks)), ([], [tasks[1].id]))
        tasks[0].winding.callback(None)
        self.clock.advance(0)
        self.assertEqual((len(ended), tasks[0].is_over), (1, False))
        self.assertEqual(self.running([*tasks[1:], again]), [tasks[1].id, tasks[2].id])
        tasks[1].end()
        self.clock.advance(0)
        self.assertTrue(self.queue.is_running(again.id))

    def test_defect(self) -> None:
        """A try that fails by a defect is logged, and repeated after a pause; it does not seem to wait for its turn."""
        (task,) = self.add(1)
        assert task.trying is not None
        task.winding.callback(None)
        task.trying.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        standing = self.queue.standing(task.id)
        assert standing is not None
        self.assertIsInstance(standing.trouble, LocalProtocolError)
        self.clock.advance(60)
        self.assertEqual(task.tries, 2)

    def test_stop(self) -> None:
        """The end waits until all have wound up, and leaves no timer."""
        tasks = self.add(3) + self.add(2, "away", self.offline())
        stopping = Deferred.fromCoroutine(self.queue.stop())
        self.assertNoResult(stopping)
        for each in tasks[:2]:
            each.winding.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(any(self.presence.watchers.values()))
        self.queue.add(Task("late"))
        self.assertIsNone(self.queue.standing("late"))
