"""Tests of `p2pshare.ui.invocation`."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RegistryUnreachable
from p2pshare.registry.client import TIMEOUT, RegistryClient
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import PATIENCE, Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal

URL = "http://192.0.2.1:8000"


class RegistryTests(SynchronousTestCase):
    """The registry of a command."""

    def setUp(self) -> None:
        self.stderr = io.StringIO()
        output = Output(Terminal.detect(io.StringIO(), {}), Terminal.detect(self.stderr, {}))
        self.reactor = MemoryReactorClock()
        settings = Settings(registry=URL)
        self.invocation = Invocation(
            cast(Any, self.reactor), random.Random(1), settings, output, Path(), lambda: 0.0
        )

    async def ask(self) -> None:
        async with self.invocation.registry() as registry:
            assert isinstance(registry, RegistryClient)
            await registry.info()

    def test_silent(self) -> None:
        """A command says that it waits for the registry, once, before it gives up."""
        asking = Deferred.fromCoroutine(self.ask())
        self.reactor.advance(PATIENCE - 0.1)
        self.assertEqual(self.stderr.getvalue(), "")
        self.reactor.advance(0.2)
        self.assertIn(URL, self.stderr.getvalue())
        self.reactor.pump([1.0] * int(TIMEOUT + 1))
        self.failureResultOf(asking, RegistryUnreachable)
        self.assertEqual(self.stderr.getvalue().count(URL), 1)

    def test_nothing_asked(self) -> None:
        """A command that does not ask the registry says nothing of it."""

        async def work() -> None:
            async with self.invocation.registry():
                await over

        over: Deferred[None] = Deferred()
        working = Deferred.fromCoroutine(work())
        self.reactor.advance(PATIENCE + 1)
        over.callback(None)
        self.successResultOf(working)
        self.assertEqual(self.stderr.getvalue(), "")
        self.assertEqual(self.reactor.getDelayedCalls(), [])
