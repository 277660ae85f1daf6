"""Tests of `p2pshare.ui.verbs.get`."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    ClassicOnly,
    DiskFull,
    LinkGivenUp,
    NoSuchPeer,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    RegistryUnreachable,
    WrongUsage,
)
from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.remote import LinkLimits
from p2pshare.peer.find.own_identity import OwnIdentity, OwnName
from p2pshare.peer.find.target import Target
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import connection as connections
from p2pshare.ui.verbs import get as verbs
from p2pshare.ui.verbs.classic import get_classic
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import Presence
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC
from tests.ui.registries import REGISTRY_KEY, URL, MemoryInvocation, MemoryRegistry, view_of

ALICE, CAROL, EVIL = (SigningKey(bytes([n]) * 32).public for n in (1, 2, 3))
PROGRESS = JobProgress(0, 0, 0, 0, 0, 0, ())


class FakeRemote:
    """A connection to a peer that records its arguments."""

    made: list[FakeRemote]

    def __init__(
        self,
        reactor: object,
        rng: object,
        name: str,
        find: Any,
        dialler: Any,
        limits: LinkLimits,
        **_: object,
    ) -> None:
        self.dialler, self.name, self.find, self.limits = dialler, name, find, limits
        self.is_closed = False
        self.made.append(self)

    async def close(self) -> None:
        self.is_closed = True


class FakeJob:
    """A job that records what it fetches, and from which peer."""

    errors: dict[str, P2pshareError]
    ran: list[tuple[str, list[tuple[str, ...]]]]

    failures: ClassVar[dict[str, list[P2pshareError]]] = {}
    """Errors of items."""

    made_with: list[dict[str, Any]]

    def __init__(
        self,
        invocation: Invocation,
        peer: str,
        results: Any,
        *,
        make_job: partial[Any],
        draw: object,
    ) -> None:
        self.peer, self.results = peer, results
        self.made_with.append(make_job.keywords)
        self.link = lambda change: None
        self.progress = PROGRESS

    async def run(self, remote: FakeRemote, items: Any) -> JobProgress:
        self.ran.append((self.peer, [item.path for item in items]))
        for error in self.failures.get(self.peer, ()):
            self.results.failed(error, self.peer)
        if self.peer in self.errors:
            raise self.errors[self.peer]
        self.results.files += len(items)
        return PROGRESS


class VerbTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        output = Output(Terminal.detect(io.StringIO(), {}), Terminal.detect(self.stderr, {}))
        self.cwd = Path(self.mktemp()).absolute()
        self.cwd.mkdir()
        self.registry = MemoryRegistry(view_of("alice", ALICE), view_of("carol", CAROL))
        self.fake = MemoryInvocation(self.registry, output, self.cwd)
        self.invocation = cast(Invocation, self.fake)


class GetCase(VerbTestCase):
    """`get` with connections and jobs that only record what they are told."""

    def setUp(self) -> None:
        super().setUp()
        FakeRemote.made, FakeJob.errors, FakeJob.ran = [], {}, []
        FakeJob.made_with = []
        self.patch(connections, "RemotePeer", FakeRemote)
        self.patch(verbs, "WatchedJob", FakeJob)
        self.key = SigningKey(bytes([9]) * 32)

        async def identity(*_: object, **__: object) -> OwnIdentity:
            return OwnIdentity("bob", self.key)

        self.patch(OwnName, "identity", identity)


class GetTests(GetCase):
    def get(
        self, *words: str, files_max: int | None = None, at: str | None = None
    ) -> Deferred[int]:
        return Deferred.fromCoroutine(
            verbs.get(self.invocation, words, overwrite=False, files_max=files_max, at=at)
        )

    def test_files_max(self) -> None:
        """All jobs share the limit on files and the function that opens folders."""
        self.assertEqual(self.successResultOf(self.get("alice:a", "carol:b", files_max=7)), 0)
        alice, carol = FakeJob.made_with
        self.assertEqual((alice["files_max"], carol["files_max"]), (7, 7))
        self.assertIs(alice["open_folder"], carol["open_folder"])

    def code(self, *words: str, at: str | None = None) -> int:
        return self.successResultOf(self.get(*words, at=at))

    def test_session(self) -> None:
        """The session uses the user's key, the settings and the address that was found, and is closed."""
        self.fake.settings = Settings(
            registry=URL, name="bob", data=self.cwd / "data", limit=5e6, timeout=20.0
        )
        self.assertEqual(self.code("alice:photos/cat.jpg"), 0)
        (remote,) = FakeRemote.made
        self.assertEqual((remote.dialler._key(), remote.name), (self.key, "alice"))
        self.assertEqual((remote.limits.silence, remote.limits.rate), (20.0, 5e6))
        target = self.successResultOf(Deferred.fromCoroutine(remote.find()))
        place = PeerAddress("192.0.2.7", 50000)
        self.assertEqual((target.candidates[0].address, target.key), (place, ALICE))
        self.assertTrue(remote.is_closed)

    def test_several_peers(self) -> None:
        """Peers are asked one after the other, each for all of its items."""
        self.assertEqual(self.code("alice:a", "carol:b", "alice:c"), 0)
        self.assertEqual(FakeJob.ran, [("alice", [("a",), ("c",)]), ("carol", [("b",)])])

    def test_one_fails(self) -> None:
        """A peer that fails does not stop the next one."""
        self.assertEqual(self.code("dave:x", "alice:a"), 1)
        self.assertEqual(FakeJob.ran, [("alice", [("a",)])])
        FakeJob.errors = {"alice": LinkGivenUp(name="alice", reason="x", patience=120)}
        self.assertEqual(self.code("alice:a", "carol:b"), 1)
        self.assertEqual(self.code("alice:a"), 5)
        self.assertEqual(self.code("dave:x"), 4)
        self.assertTrue(all(remote.is_closed for remote in FakeRemote.made))

    def test_offline(self) -> None:
        """A peer that is offline is tried at its last address; the error says when it was seen."""
        self.assertEqual(self.code("alice:a"), 0)
        self.registry.views["alice"] = view_of("alice", ALICE, Presence.OFFLINE, 300)
        FakeJob.errors = {"alice": PeerUnreachable(name="alice", address="x")}
        self.assertEqual(self.code("alice:a"), 5)
        self.assertEqual(self.stderr.getvalue().count("last seen 5 min ago"), 2)

    def test_hard_stop(self) -> None:
        """A changed key stops everything, and the error shows both keys (threat 15)."""
        KnownPeers(self.cwd / "data", str(REGISTRY_KEY)).pin("alice", EVIL, None)
        self.assertEqual(self.code("alice:a", "carol:b"), 3)
        self.assertEqual(FakeJob.ran, [])
        for key in (ALICE, EVIL):
            self.assertIn(key.grouped, self.stderr.getvalue())
        there = OtherKeyThere(name="carol", address="x", known="a", there="b")
        FakeJob.errors = {"carol": there}
        self.registry.views["dave"] = view_of("dave", ALICE)
        self.assertEqual(self.code("carol:b", "dave:a"), 3)
        self.assertEqual([peer for peer, _ in FakeJob.ran], ["carol"])

    def test_no_use(self) -> None:
        """A full disk stops everything."""
        full = DiskFull(path="x", needed="1 GiB", free="1 MiB")
        FakeJob.errors = {"alice": full}
        self.assertEqual(self.code("alice:a", "carol:b"), 1)
        self.assertEqual([peer for peer, _ in FakeJob.ran], ["alice"])

    def test_registry_away(self) -> None:
        """Without a registry a known peer is tried at its last address; each unknown peer is an error."""
        self.assertEqual(self.code("carol:b"), 0)
        self.registry.error = lambda _: RegistryUnreachable(registry=URL, reason="x")
        self.assertEqual(self.code("alice:a"), 5)
        self.assertEqual(self.code("alice:a", "carol:b"), 1)
        self.assertEqual([peer for peer, _ in FakeJob.ran], ["carol", "carol"])
        self.assertIn("carol at 192.0.2.7:50000, last seen", self.stderr.getvalue())

    def test_new_folder(self) -> None:
        """A folder with a slash at its end is made after its first peer was found."""
        self.assertEqual(self.code("nobody:a", "new/"), 4)
        self.assertFalse((self.cwd / "new").exists())
        self.assertEqual(self.code("alice:a", "alice:b", "new/"), 0)
        self.assertTrue((self.cwd / "new").is_dir())

    def test_at(self) -> None:
        """The address of `--at` belongs to one peer, and needs no registry for a known key."""
        self.assertEqual(self.code("alice:a"), 0)
        self.registry.error = AssertionError
        self.assertEqual(self.code("alice:a", at="192.0.2.9:1"), 0)
        where = Deferred.fromCoroutine(FakeRemote.made[-1].find())
        self.assertEqual(
            self.successResultOf(where), Target.at("alice", ALICE, PeerAddress("192.0.2.9", 1))
        )
        self.assertEqual(self.code("alice:a", at="169.254.1.9:1"), 0, "the user knows the cable")
        self.assertEqual(self.code("alice:a", at="[2001:db8::9]:1"), 0)
        for at in (
            *(
                "192.0.2.9",
                "192.0.2.9:0",
                "[fe80::1]:1",
                "::1:1",
                "0.0.0.0:1",
                "host:1",
                ":1",
                "1.2.3.4:٣",
            ),
            *("224.0.0.1:1", "255.255.255.255:1"),
        ):
            self.failureResultOf(self.get("alice:a", at=at), WrongUsage)
        self.failureResultOf(self.get("alice:a", "carol:b", at="192.0.2.9:1"), WrongUsage)

    def test_not_in_the_clear(self) -> None:
        """Without the flag the classic protocol is never used, whatever registry and settings say (threat 36)."""
        self.fake.settings = Settings(
            registry=URL, name="bob", data=self.cwd / "data", classic=True
        )
        for view in (view_of("alice", None), view_of("alice", ALICE, caps=(CAP_CLASSIC,))):
            self.registry.views["alice"] = view
            self.assertEqual(self.code("alice:my_file.txt"), ClassicOnly.exit_code)
        self.assertEqual(FakeRemote.made, [])

    def test_judged_first(self) -> None:
        """Invalid words are rejected before the registry is asked."""
        self.registry.error = AssertionError
        for words in (["alice:x", "bob:x"], ["alice"], ["alice:x", "no/such/folder"]):
            self.failureResultOf(self.get(*words), WrongUsage)
        self.fake.settings = Settings(registry=URL)
        self.failureResultOf(self.get("alice:x"), WrongUsage)


class GetClassicTests(VerbTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry.error = lambda name: NoSuchPeer(name=name)

    def get(self, *words: str) -> Deferred[int]:
        return Deferred.fromCoroutine(get_classic(self.invocation, words, overwrite=False))

    def test_each_failure_is_said(self) -> None:
        """A failure does not stop the next file; if all fail for one reason, it gives the exit code."""
        done = self.get("alice:my_file.txt", "carol:my_file.jpg")
        self.assertEqual(self.successResultOf(done), 4)
        self.assertEqual(self.stderr.getvalue().count("Nobody is registered"), 2)

    def test_no_registry(self) -> None:
        """Without a registry the first failure stops everything."""
        self.registry.error = lambda name: RegistryUnreachable(registry="x", reason=name)
        done = self.get("alice:my_file.txt", "carol:my_file.jpg")
        self.assertEqual(self.successResultOf(done), 5)
        self.assertEqual(self.stderr.getvalue().count("\n"), 1)

    def test_not_switched_on(self) -> None:
        """A peer whose owner has not enabled the protocol is not asked."""
        self.registry.error = None
        self.registry.views["alice"] = view_of("alice", ALICE, caps=(CAP_SESSIONS,))
        self.assertEqual(self.successResultOf(self.get("alice:my_file.txt")), 3)
        self.assertIn("Omit --classic", self.stderr.getvalue())

    def test_judged_first(self) -> None:
        """Invalid words are rejected before the registry is asked."""
        self.registry.error = AssertionError
        for words in (["alice:my_file.txt", "bob:my_file.txt"], ["alice:my_file.jpg", "x.gif"]):
            self.failureResultOf(self.get(*words), WrongUsage)
