"""Tests for `p2pshare.ui.verbs`, as far as nothing is fetched."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import NoSuchPeer, RegistryUnreachable, WrongUsage
from p2pshare.ui import verbs
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal import Terminal
from tests.ui.registries import MemoryInvocation, MemoryRegistry


class GetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        output = Output(Terminal.detect(io.StringIO(), {}), Terminal.detect(self.stderr, {}))
        cwd = Path(self.mktemp()).absolute()
        cwd.mkdir()
        self.registry = MemoryRegistry()
        self.registry.error = lambda name: NoSuchPeer(name=name)
        self.invocation = cast(Invocation, MemoryInvocation(self.registry, output, cwd))

    def run_get(self, *words: str) -> Deferred[int]:
        return Deferred.fromCoroutine(verbs.get(self.invocation, words, overwrite=False))

    def test_each_failure_is_said(self) -> None:
        """One failure does not stop the next file; the first one gives the exit code."""
        done = self.run_get("alice:my_file.txt", "carol:my_file.jpg")
        self.assertEqual(self.successResultOf(done), 4)
        self.assertEqual(self.stderr.getvalue().count("Nobody is registered"), 2)

    def test_no_registry(self) -> None:
        """Without a registry there is no use in going on."""
        self.registry.error = lambda name: RegistryUnreachable(registry="x", reason=name)
        done = self.run_get("alice:my_file.txt", "carol:my_file.jpg")
        error = self.failureResultOf(done, RegistryUnreachable).value
        self.assertIn("alice", str(error))
        self.assertEqual(self.stderr.getvalue(), "")

    def test_judged_first(self) -> None:
        """What cannot be meant is refused before the registry is asked for anything."""
        self.registry.error = AssertionError
        for words in (["alice:my_file.txt", "bob:my_file.txt"], ["alice:my_file.jpg", "x.gif"]):
            self.failureResultOf(self.run_get(*words), WrongUsage)
