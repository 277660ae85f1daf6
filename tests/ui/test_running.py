"""Tests for `p2pshare.ui.running`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import NoSuchPeer
from p2pshare.net.process_end import SIGNALS
from p2pshare.ui.running import GRACE, Stopped, run_to_end


class _Reactor(MemoryReactorClock):
    """A reactor that runs until it is stopped, a hundredth of a second at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def callFromThread(self, call: Callable[..., object], *arguments: Any) -> None:
        self._calls.append((call, arguments))

    def run(self, installSignalHandlers: bool = True) -> None:  # noqa: N803
        self.running = True
        for hook, args, kwargs in self.whenRunningHooks:
            hook(*args, **kwargs)
        while self.running:
            calls, self._calls = self._calls, []
            for call, arguments in calls:
                call(*arguments)
            self.advance(0.01)

    def crash(self) -> None:
        self.running = False


class RunTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = _Reactor()
        for number in SIGNALS:
            # A signal that is ignored here, as SIGHUP is under nohup, would never come.
            self.addCleanup(signal.signal, number, signal.signal(number, signal.SIG_DFL))

    def test_result(self) -> None:
        """The result of the work is the result of the run."""

        async def work() -> int:
            await Deferred.fromCoroutine(self.pause(3))
            return 4

        self.assertEqual(run_to_end(self.reactor, work), 4)

    async def pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, over.callback, None)
        await over

    def test_error(self) -> None:
        """An exception of the work is an exception of the run."""

        async def work() -> int:
            raise NoSuchPeer(name="x")

        self.assertRaises(NoSuchPeer, run_to_end, self.reactor, work)

    def test_signals(self) -> None:
        """A signal ends the work, which has time to clean up."""
        for number in SIGNALS:
            tidied: list[int] = []
            self.reactor = _Reactor()

            async def work(number: int = number, tidied: list[int] = tidied) -> int:
                os.kill(os.getpid(), number)
                try:
                    await Deferred()
                finally:
                    await self.pause(GRACE / 2)
                    tidied.append(number)
                return 0

            stopped = self.assertRaises(Stopped, run_to_end, self.reactor, work)
            self.assertEqual(stopped.exit_code, 128 + number)
            self.assertEqual(tidied, [number])

    def test_again(self) -> None:
        """A second signal ends the run at once, unless it is another SIGHUP."""
        for number, is_tidied in ((signal.SIGINT, False), (signal.SIGHUP, True)):
            tidied: list[bool] = []
            self.reactor = _Reactor()

            async def work(number: int = number, tidied: list[bool] = tidied) -> int:
                os.kill(os.getpid(), number)
                try:
                    await Deferred()
                finally:
                    os.kill(os.getpid(), number)
                    await self.pause(GRACE / 2)
                    tidied.append(True)
                return 0

            self.assertRaises(Stopped, run_to_end, self.reactor, work)
            self.assertEqual(bool(tidied), is_tidied)

    def test_no_longer_than_that(self) -> None:
        """Work that does not end in time is abandoned."""

        async def work() -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await Deferred()
            finally:
                await self.pause(1000)
            return 0

        self.assertRaises(Stopped, run_to_end, self.reactor, work)
        self.assertLess(self.reactor.seconds(), GRACE + 0.3)

    def test_on_running(self) -> None:
        """The callback runs when the reactor has installed its handlers."""
        handlers: list[object] = []

        async def work() -> int:
            return len(handlers)

        def running() -> None:
            handlers.append(signal.getsignal(signal.SIGINT))

        before = signal.getsignal(signal.SIGINT)
        self.assertEqual(run_to_end(self.reactor, work, running), 1)
        self.assertNotEqual(handlers, [before])

    def test_ignored(self) -> None:
        """A signal that was ignored before stays ignored."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        async def work() -> int:
            os.kill(os.getpid(), signal.SIGHUP)
            await self.pause(1)
            return 0

        self.assertEqual(run_to_end(self.reactor, work), 0)
