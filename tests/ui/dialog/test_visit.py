"""Tests for `p2pshare.ui.dialog.visit`; what it shows and fetches is tested as a process."""

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
from p2pshare.ui.dialog import visit as guest
from p2pshare.ui.dialog.visit import KEPT, Guest
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal


class StoppedTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """Who stops a fetch is told that it can go on from where it is."""
        stderr = io.StringIO()
        terminal = Terminal.detect(stderr, {})
        invocation: Any = SimpleNamespace(
            reactor=ThreadlessReactor(),
            rng=random.Random(1),
            settings=Settings(),
            output=Output(Terminal.detect(io.StringIO(), {}), terminal),
            cwd=Path("/home/bob"),
        )
        met: Any = SimpleNamespace(name="alice")
        meetings: Any = SimpleNamespace(finder=lambda met: None)
        key: Any = None

        class EndlessErrand:
            def __init__(self, *_: object, **__: object) -> None: ...

            async def run(self, *_: object) -> None:
                await Deferred()

        self.patch(guest, "Errand", EndlessErrand)
        fetching = Deferred.fromCoroutine(
            Guest(invocation, "bob", key, meetings, met).fetch(("film.mp4",))
        )
        self.assertNoResult(fetching)
        fetching.cancel()
        self.failureResultOf(fetching, CancelledError)
        self.assertEqual(stderr.getvalue(), f"{KEPT}\n")
