"""Tests for `p2pshare.ui.children`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.children import LAST_LINES, LINE_MAX, STOP_TIMEOUT, Child


class _SpawningClock(Clock):
    """A clock that remembers what was spawned: itself is the process, which ends at some signal."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_at = "TERM"

    def spawnProcess(self, protocol: Any, *arguments: Any) -> None:  # noqa: N802
        self._protocol = protocol
        self.command, self.environ, self.folder = arguments[1:4]
        protocol.transport = self

    def signalProcess(self, name: str) -> None:  # noqa: N802
        if self._protocol.has_ended:
            raise ProcessExitedAlready
        if name == self.ends_at:
            self._protocol.processEnded(Failure(ProcessDone(0)))


class ChildTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = cast(Any, _SpawningClock())
        words = ["p2ppeer", "--name", "bob"]
        self.child = Child.twistd(self.reactor, words, Path("/x"), {"A": "b"})

    def end(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.child.end())

    def test_started(self) -> None:
        """It is a `twistd -n` of these words, in this folder and environment."""
        self.assertEqual(self.reactor.command[-4:], ["-n", "p2ppeer", "--name", "bob"])
        self.assertEqual((self.reactor.environ, self.reactor.folder), ({"A": "b"}, "/x"))

    def test_ends(self) -> None:
        """It is asked to end, and waited for; ending it again does nothing."""
        self.successResultOf(self.end())
        self.assertTrue(self.child.has_ended)
        self.successResultOf(self.end())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_killed(self) -> None:
        """One that does not end by itself is killed."""
        self.reactor.ends_at = "KILL"
        ended = self.end()
        self.reactor.advance(STOP_TIMEOUT - 0.1)
        self.assertNoResult(ended)
        self.reactor.advance(0.2)
        self.successResultOf(ended)

    def test_last_lines(self) -> None:
        """The last lines are kept, however they came, and no more of them."""
        for part in (b"no", b"\n1\n2\n3", b"\n4\n5\nsix"):
            self.child.outReceived(part)
        self.assertEqual(self.child.last_lines, "1\n2\n3\n4\n5\nsix")
        self.child.errReceived(b"x" * 9999 + b"\n" + b"y" * 9999)
        self.assertLessEqual(len(self.child.last_lines), (LAST_LINES + 1) * (LINE_MAX + 1))
