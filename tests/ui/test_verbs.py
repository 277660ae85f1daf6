"""Tests for `p2pshare.ui.verbs`, as far as nothing is fetched."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import NoSuchPeer, RegistryUnreachable, WrongUsage
from p2pshare.storage.settings import Settings
from p2pshare.ui import verbs
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal import Terminal


class _Registry:
    """Knows some names and nobody's address."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.error: Callable[[str], Exception] = lambda name: NoSuchPeer(name=name)

    async def list_names(self) -> list[str]:
        return self.names

    async def look_up(self, name: str) -> None:
        raise self.error(name)


class _Invocation:
    """As much of one as is needed, with a registry in memory."""

    def __init__(self, registry: _Registry, output: Output, cwd: Path) -> None:
        self._registry = registry
        self.settings = Settings(name="bob")
        self.output = output
        self.cwd = cwd

    @asynccontextmanager
    async def registry(self) -> AsyncIterator[_Registry]:
        yield self._registry


class VerbTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        output = Output(Terminal.detect(self.stdout, {}), Terminal.detect(self.stderr, {}))
        self.cwd = Path(self.mktemp()).absolute()
        self.cwd.mkdir()
        self.registry = _Registry(["carol", "alice"])
        self.invocation = cast(Invocation, _Invocation(self.registry, output, self.cwd))


class UsersTests(VerbTestCase):
    def run_users(self) -> int:
        return self.successResultOf(Deferred.fromCoroutine(verbs.users(self.invocation)))

    def test_sorted(self) -> None:
        """The names come in alphabetical order, wherever the registry has them."""
        self.assertEqual(self.run_users(), 0)
        self.assertEqual(self.stdout.getvalue(), "alice\ncarol\n")

    def test_nobody(self) -> None:
        """That there is nobody is said to people, and is no name in a pipe."""
        self.registry.names = []
        self.assertEqual(self.run_users(), 0)
        self.assertEqual(self.stdout.getvalue(), "")
        self.assertIn("p2pshare --name NAME", self.stderr.getvalue())


class GetTests(VerbTestCase):
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
