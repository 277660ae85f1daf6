"""Tests of `p2pshare.peer.browse.completion`."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import ControlRefused, RemoteNotFound
from p2pshare.peer.browse import sessions
from p2pshare.peer.browse.completion import (
    ANSWER_BYTES_MAX,
    ANSWERS_MAX,
    KEPT_FOR,
    NAMES_MAX,
    PATIENCE,
    Completion,
)
from p2pshare.peer.browse.sessions import RemoteSessions
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence
from p2pshare.wire.transfer_messages import Entry, EntryKind, Listing


class Pool:
    """A thread pool without threads."""

    def callInThreadWithCallback(self, done: Any, work: Any, *args: Any) -> None:
        done(True, work(*args))


class ThreadClock(Clock):
    """A clock that does the work of threads at once."""

    def getThreadPool(self) -> Pool:
        return Pool()

    def callFromThread(self, work: Any, *args: Any) -> None:
        work(*args)


class FakeRemote:
    """A peer with some entries in every folder."""

    is_up = has_ended = False

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self.asked: list[tuple[RemotePath, RemotePath]] = []
        self.closed = 0
        self.closing: Deferred[None] | None = None
        self.waiting: Deferred[None] | None = None
        self.error: Exception | None = None

    async def list(
        self, path: RemotePath, after: RemotePath = (), limit: int = 0, *, recursive: bool = False
    ) -> Listing:
        self.asked.append((path, after))
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error
        behind = tuple(each for each in self.entries if each.path > after)
        return Listing(1, behind[:limit], len(behind) > limit)

    async def close(self) -> None:
        self.closed += 1
        if self.closing is not None:
            await self.closing


def entries(*names: str) -> tuple[Entry, ...]:
    """Files, and folders where a name ends with a slash."""
    return tuple(
        Entry((name.rstrip("/"),), EntryKind.FOLDER if "/" in name else EntryKind.FILE, 0, 0)
        for name in sorted(names)
    )


class CompletionTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.clock = ThreadClock()
        self.seen = Seen(Path(folder.name))
        self.remotes: dict[str, FakeRemote] = {}
        self.names = ["alice", "albert", "bob"]
        self.entries = entries("cat.jpg", "car", "dog/", "zoo")
        self.asked_names = 0
        self.patch(sessions, "RemotePeer", self.remote)
        reactor: Any = self.clock
        registry: Any = SimpleNamespace(peers=self.list_names)
        self.sessions = RemoteSessions(reactor, Random(1), Mock(), Mock(), Mock())
        self.completion = Completion(registry, self.sessions, Path(folder.name))

    async def list_names(self, prefix: str, online: bool) -> AsyncIterator[PeerSummary]:
        self.asked_names += 1
        for name in self.names:
            if name.startswith(prefix):
                yield PeerSummary(name, NameKind.OWNED, Presence.ONLINE, None)

    def remote(self, reactor: object, rng: object, name: str, *_: object) -> FakeRemote:
        assert name not in self.remotes or self.remotes[name].closed
        self.remotes[name] = FakeRemote(self.entries)
        return self.remotes[name]

    def ask(self, **request: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.completion.complete(request)))

    def test_names(self) -> None:
        """Names come from the registry, are used again for some seconds, and are remembered."""
        for _ in range(2):
            self.assertEqual(self.ask(prefix="al"), {"entries": ["alice", "albert"]})
        self.assertEqual((self.asked_names, self.seen.names()), (1, ("alice", "albert")))
        self.clock.advance(KEPT_FOR)
        self.ask(prefix="al")
        self.assertEqual(self.asked_names, 2)

    def test_entries(self) -> None:
        """Entries with the prefix come from the peer, which is asked from the prefix on; they are remembered."""
        self.assertEqual(
            self.ask(peer="bob", path="x", prefix="ca"), {"entries": ["car", "cat.jpg"]}
        )
        ((path, after),) = self.remotes["bob"].asked
        self.assertEqual(path, ("x",))
        self.assertTrue(("c",) < after < ("ca",))
        self.assertEqual(self.ask(peer="bob", prefix="d"), {"entries": ["dog/"]})
        self.ask(peer="bob", prefix="")
        self.assertEqual(self.seen.entries("bob", ())["dog"], True)

    def test_bounded(self) -> None:
        """Answers and the size of an answer are bounded: threat 31."""
        self.names = [f"n{n}" for n in range(NAMES_MAX + 9)]
        self.assertEqual(len(self.ask(prefix="n")["entries"]), NAMES_MAX)
        self.entries = entries(*(f"{n:0250}" for n in range(299)))
        told = self.ask(peer="long", prefix="0")["entries"]
        self.assertLessEqual(sum(map(len, told)), ANSWER_BYTES_MAX)
        for number in range(ANSWERS_MAX + 5):
            self.ask(prefix=f"n{number}")
        self.assertEqual(len(self.completion._answers), ANSWERS_MAX)

    def test_together(self) -> None:
        """Callers with the same question share one answer. An error is not kept."""
        self.ask(peer="bob", prefix="")
        remote = self.remotes["bob"]
        remote.waiting = Deferred()
        remote.error = RemoteNotFound(name="bob", path="x")
        request = {"peer": "bob", "path": "x", "prefix": ""}
        asked = [Deferred.fromCoroutine(self.completion.complete(request)) for _ in range(2)]
        remote.waiting.callback(None)
        for each in asked:
            self.failureResultOf(each, RemoteNotFound)
        self.assertEqual(len(remote.asked), 2)
        remote.error, remote.waiting = None, succeed(None)
        self.assertEqual(len(self.ask(**request)["entries"]), 4)

    def test_refused(self) -> None:
        """A request that can mean no name is refused without a look-up: threat 6."""
        for request in (
            {},
            {"prefix": 1},
            {"prefix": "A"},
            {"prefix": "\x01", "peer": "bob"},
            {"prefix": "a/b", "peer": "bob"},
            {"prefix": "a", "peer": "B"},
            {"prefix": "a", "peer": "bob", "path": "../x"},
        ):
            asked = Deferred.fromCoroutine(self.completion.complete(request))
            self.failureResultOf(asked, ControlRefused)
        self.assertEqual((self.remotes, self.asked_names), ({}, 0))

    def test_patience(self) -> None:
        """A user who completes a word does not wait long; the answer is kept for the next try."""
        self.ask(peer="bob", prefix="")
        remote = self.remotes["bob"]
        remote.waiting = Deferred()
        request = {"peer": "bob", "prefix": "c"}
        asked = Deferred.fromCoroutine(self.completion.complete(request))
        self.clock.advance(PATIENCE)
        self.failureResultOf(asked, ControlRefused)
        remote.waiting.callback(None)
        remote.waiting = None
        self.assertEqual(self.ask(**request), {"entries": ["car", "cat.jpg"]})

    def test_stop(self) -> None:
        """Stopping refuses further requests."""
        self.ask(peer="bob", prefix="")
        self.completion.stop()
        asked = Deferred.fromCoroutine(self.completion.complete({"prefix": ""}))
        self.failureResultOf(asked, ControlRefused)
