"""Tests of `p2pshare.peer.browse.sessions` and `listing`, against a sharer in memory."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    ControlRefused,
    PeerOffline,
    PeerUnreachable,
    RemoteNotFound,
    RemoteProtocolError,
    WrongUsage,
)
from p2pshare.peer.browse.listing import ENTRIES_MAX, Listings
from p2pshare.peer.browse.sessions import IDLE_MAX, SESSIONS_MAX, RemoteSession, RemoteSessions
from p2pshare.peer.find.lookup import FoundPeer, PeerFinder
from p2pshare.peer.find.target import given
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.transfer_messages import List, Listing, Omitted
from tests.peer.memory_sharer import ADDRESS, ALICE, MTIME, MemorySession, MemorySharer

HELD_MAX = 20  # questions of one test


class Finder:
    """Finds alice."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.seen: str | None = None
        self.key = ALICE.public

    async def find(self, name: str) -> FoundPeer:
        self.asked.append(name)
        caps = frozenset({CAP_SESSIONS})
        return FoundPeer(name, given([ADDRESS]), self.key, caps, self.seen)


class BrowseTestCase(SynchronousTestCase):
    """Sessions with alice, in virtual time."""

    def setUp(self) -> None:
        self.alice = MemorySharer()
        self.clock = self.alice.reactor
        self.plain, self.pinning = Finder(), Finder()
        self.sessions = RemoteSessions(
            cast(Any, self.clock),
            random.Random(1),
            cast(PeerFinder, self.plain),
            cast(PeerFinder, self.pinning),
            cast(Any, self.alice),
        )

    def do(self, work: Coroutine[Deferred[Any], Any, Any], seconds: float = 1.0) -> Any:
        """Return the result of some work that takes some time."""
        doing = Deferred.fromCoroutine(work)
        self.alice.pass_time(seconds)
        return self.successResultOf(doing)

    def fail_with(
        self, kind: type[Exception], work: Coroutine[Deferred[Any], Any, Any], seconds: float = 1.0
    ) -> Any:
        """Return the error with which some work ends."""
        doing = Deferred.fromCoroutine(work)
        self.alice.pass_time(seconds)
        return self.failureResultOf(doing, kind).value


class SessionsTests(BrowseTestCase):
    """Sessions that are shared."""

    async def ask(self, peer: str = "alice", *, pins: bool = True) -> RemoteSession:
        async with self.sessions.use(peer, pins=pins) as session:
            await session.remote.list(())
            return session

    def test_idle(self) -> None:
        """One session serves several questions, and is closed when it has been idle for some time."""
        first = self.do(self.ask())
        self.clock.advance(IDLE_MAX - 2)
        self.assertIs(self.do(self.ask()), first)
        self.clock.advance(IDLE_MAX - 2)
        self.assertFalse(self.alice.sessions[0].is_over)
        self.clock.advance(2)
        self.assertTrue(self.alice.sessions[0].is_over)
        self.assertIsNot(self.do(self.ask()), first)
        self.assertEqual(len(self.alice.sessions), 2)

    def test_bounded(self) -> None:
        """Threat 31: a new peer takes the place of the session that was unused longest, and of none that is in use."""
        for number in range(SESSIONS_MAX + 1):
            self.do(self.ask(f"p{number}"))
        self.assertEqual([each.is_over for each in self.alice.sessions[:3]], [True, False, False])
        uses = [self.sessions.use(f"p{number}") for number in range(1, SESSIONS_MAX + 1)]
        for each in uses:
            self.do(each.__aenter__())
        self.fail_with(ControlRefused, self.ask("another"))
        for each in uses:
            self.do(each.__aexit__(None, None, None))
        self.do(self.ask("another"))

    def test_pins(self) -> None:
        """Completion pins no key. Who looks at files does, also in a session that completion opened, and once."""
        self.do(self.ask(pins=False))
        self.assertEqual((self.plain.asked, self.pinning.asked), (["alice"], []))
        for pins in (True, False, True):
            self.do(self.ask(pins=pins))
        self.assertEqual((self.plain.asked, self.pinning.asked), (["alice"], ["alice"]))

    def test_other_key(self) -> None:
        """A session that completion opened with another key than the pinned one shows no files."""
        first = self.do(self.ask(pins=False))
        self.pinning.key = SigningKey(bytes(32)).public
        self.assertIsNot(self.do(self.ask()), first)
        self.assertEqual([each.is_over for each in self.alice.sessions], [True, False])

    def test_explained(self) -> None:
        """An error says what the look-up knows: a peer that does not answer is offline."""
        self.pinning.seen = "2 h ago"
        self.alice.refusals.append(
            PeerUnreachable(name="alice", address=str(ADDRESS), reason="no answer")
        )
        self.fail_with(PeerOffline, self.ask())

    def test_broken_protocol(self) -> None:
        """After a violation of the protocol the next question opens another session."""

        def lie(session: MemorySession, question: List) -> None:
            session.say(Listing(question.id, (), True))

        honest, self.alice.list_answer = self.alice.list_answer, lie
        self.fail_with(RemoteProtocolError, self.ask())
        self.alice.list_answer = honest
        self.do(self.ask())
        self.assertEqual(len(self.alice.sessions), 2)

    def test_stop(self) -> None:
        """Stopping closes all sessions, also one that becomes idle meanwhile, and refuses further questions."""
        for peer in ("alice", "bob"):
            self.do(self.ask(peer))
        self.do(self.sessions.stop())
        self.assertTrue(all(each.is_over for each in self.alice.sessions))
        self.fail_with(ControlRefused, self.ask())


class ListingTests(BrowseTestCase):
    """The action `list`."""

    def setUp(self) -> None:
        super().setUp()
        self.listings = Listings(self.sessions)

    def ask(self, **fields: Any) -> Any:
        return self.do(self.listings.list({"name": "alice", **fields}))

    def test_entries(self) -> None:
        """An entry has what a row shows; a file has a version and a type."""
        self.alice.put("s/cat.JPG", b"123")
        self.alice.put("s/sub/x", b"")
        self.alice.omitted[("s", "pipe")] = Omitted.SPECIAL
        page = self.ask(path="s")
        cat, sub = page.pop("entries")
        self.assertEqual(
            cat,
            {
                "name": "cat.JPG",
                "kind": "file",
                "bytes": 3,
                "modified": MTIME // 10**9,
                "version": "v1",
                "type": "picture",
            },
        )
        self.assertEqual((sub["kind"], sub["bytes"], sub["type"]), ("folder", None, None))
        left_out = [{"name": "pipe", "why": "special"}]
        self.assertEqual(page, {"more": False, "left_out": left_out, "unnamed": 0})
        (top,) = self.ask()["entries"]
        self.assertEqual((top["name"], top["kind"]), ("s", "folder"))

    def test_pages(self) -> None:
        """Each page begins behind the last entry of the one before."""
        names = [f"{number:04}" for number in range(25)]
        for name in names:
            self.alice.put(f"s/{name}", b"")
        found, after, more = list[str](), "", True
        while more:
            page = self.ask(path="s", after=after, limit=10)
            found += [each["name"] for each in page["entries"]]
            after, more = found[-1], page["more"]
        self.assertEqual(found, names)
        self.assertEqual(len(self.alice.heard_of(List)), 3)
        self.ask(path="s")
        self.assertEqual(self.alice.heard_of(List)[-1].limit, ENTRIES_MAX)

    def test_together(self) -> None:
        """Many pages that are wanted at once are asked for a few at a time."""
        open_at_once, most = SimpleNamespace(now=0), list[int]()

        def count(session: MemorySession, question: List) -> None:
            open_at_once.now += 1
            most.append(open_at_once.now)

            def answer() -> None:
                open_at_once.now -= 1
                session.say(Listing(question.id, (), False))

            self.clock.callLater(0.1, answer)

        self.alice.list_answer = count
        asked = [
            Deferred.fromCoroutine(self.listings.list({"name": "alice"})) for _ in range(HELD_MAX)
        ]
        self.alice.pass_time(2)
        for each in asked:
            self.successResultOf(each)
        self.assertEqual((len(most), max(most)), (HELD_MAX, 4))

    def test_errors(self) -> None:
        """A folder that does not exist, and a request that means none: threat 6."""
        self.fail_with(RemoteNotFound, self.listings.list({"name": "alice", "path": "x"}))
        unusable: tuple[dict[str, Any], ...] = (
            {"path": "../x"}, {"path": 1}, {"limit": 0}, {"limit": 1001}, {"after": {}}, {"name": "a b"},
        )  # fmt: skip
        for fields in unusable:
            self.fail_with(WrongUsage, self.listings.list({"name": "alice", **fields}))
        self.fail_with(WrongUsage, self.listings.list({}))
        self.assertEqual(len(self.alice.heard_of(List)), 1)
