"""Tests for `p2pshare.ui.dialog.visit`; process tests show what it lists and fetches."""

from __future__ import annotations

import io
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.settings import Settings
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.ui.dialog import visit as visits
from p2pshare.ui.dialog.visit import KEPT, Visit
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal


class StoppedTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """A user who stops a fetch is told how to resume it."""
        stderr = io.StringIO()
        terminal = Terminal.detect(stderr, {})
        invocation: Any = SimpleNamespace(
            reactor=ThreadlessReactor(),
            rng=random.Random(1),
            settings=Settings(),
            output=Output(Terminal.detect(io.StringIO(), {}), terminal),
            cwd=Path("/home/bob"),
        )
        found: Any = SimpleNamespace(name="alice", takes_sessions=True, speaks_classic=False)
        finder: Any = SimpleNamespace(target=lambda name, found: None)
        key: Any = None

        class EndlessJob:
            def __init__(self, *_: object, **__: object) -> None: ...

            async def run(self, *_: object) -> None:
                await Deferred()

        self.patch(visits, "WatchedJob", EndlessJob)
        fetching = Deferred.fromCoroutine(
            Visit(invocation, "bob", key, finder, found, lambda: invocation.cwd).fetch(
                ("film.mp4",)
            )
        )
        self.assertNoResult(fetching)
        fetching.cancel()
        self.failureResultOf(fetching, CancelledError)
        self.assertEqual(stderr.getvalue(), f"{KEPT}\n")
