"""Tests of `p2pshare.peer.find.presence`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.back_off import JITTER
from p2pshare.errors import P2pshareError, Refused, RegistryRefused, RegistryUnreachable
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.presence import (
    LIST_AGAIN,
    REFUSED_RETRY,
    RESTART_GAP,
    PresenceWatch,
)
from p2pshare.registry.api.event_streams import presence_text
from p2pshare.registry.client import RegistryClient, pooled_agent
from p2pshare.registry.event_client import RETRY_FIRST, RETRY_MAX, OnLink
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence
from tests.peer.lan.network import announced
from tests.peer.lan.test_directory import LanCase


def peer(name: str, presence: Presence = Presence.ONLINE, mark: str = "") -> PeerSummary:
    return PeerSummary(name, NameKind.OWNED, presence, 1, mark)


class Streams:
    """A directory that only streams: `online` are the peers that are."""

    def __init__(self) -> None:
        self.online: set[str] = set()
        self.clock_ahead_s: float | None = None
        self.asked: list[tuple[str, ...]] = []
        self.open: list[tuple[str, ...]] = []
        self.listed = 0
        self.errors: list[P2pshareError] = []
        self.say: Callable[[PeerSummary], object] = lambda _: None
        self.reset: Callable[[], object] = lambda: None

    async def watch(
        self,
        names: Sequence[str],
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object] = lambda: None,
        *,
        on_link: OnLink = lambda *_: None,
        **_: Any,
    ) -> None:
        self.asked.append(tuple(names))
        if self.errors:
            raise self.errors.pop()
        self.open.append(tuple(names))
        self.say, self.reset = on_event, on_reset
        on_link(True, None)
        try:
            on_reset()
            for name in names:
                on_event(peer(name, Presence.ONLINE if name in self.online else Presence.OFFLINE))
            await Deferred[None]()
        finally:
            self.open.remove(tuple(names))

    async def peers(self, prefix: str = "", online: bool = False) -> AsyncIterator[PeerSummary]:
        self.listed += 1
        if self.errors:
            raise self.errors.pop()
        for name in sorted(self.online):
            yield peer(name)


class PresenceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.streams = Streams()
        self.presence = PresenceWatch(
            self.clock,
            random.Random(1),
            cast(Directory, self.streams),
            names_max=4,
            stream_names_max=2,
        )
        self.seen: list[tuple[str, bool]] = []

    def tearDown(self) -> None:
        self.presence.stop()
        self.assertEqual((self.streams.open, self.clock.getDelayedCalls()), ([], []))

    def watch(self, name: str) -> Callable[[], None]:
        return self.presence.watch(name, lambda online: self.seen.append((name, online)))

    def until(self, name: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self.presence.until_online(name))


class WatchTests(PresenceCase):
    def test_changes(self) -> None:
        """A watcher hears the state first and then changes only; nothing is requested before the first name."""
        self.clock.advance(1)
        self.assertEqual(self.streams.asked, [])
        stop = self.watch("bob")
        self.assertIsNone(self.presence.is_online("bob"))
        self.clock.advance(0)
        for presence in (Presence.OFFLINE, Presence.ONLINE, Presence.ONLINE, Presence.GONE):
            self.streams.say(peer("bob", presence))
        self.assertEqual(self.seen, [("bob", False), ("bob", True), ("bob", False)])
        stop()
        stop()
        self.assertEqual(self.streams.open, [])

    def test_one_stream(self) -> None:
        """Names of one turn share a stream; a new name restarts it after `RESTART_GAP`, with no false change."""
        self.streams.online = {"alice", "bob"}
        self.watch("bob"), self.watch("alice")
        self.clock.advance(0)
        self.assertEqual(self.streams.asked, [("alice", "bob")])
        stop = self.watch("alice")
        self.clock.advance(0)
        self.assertEqual(len(self.streams.asked), 1)
        self.assertEqual(self.seen, [("alice", True), ("bob", True), ("alice", True)])
        stop()
        self.presence.watch("alice", lambda _: None)
        self.clock.advance(0)
        self.watch("carol")
        self.clock.advance(RESTART_GAP / 2)
        self.assertEqual(len(self.streams.asked), 1)
        self.clock.advance(RESTART_GAP / 2)
        self.assertEqual((len(self.streams.asked), self.seen[3:]), (2, [("carol", False)]))

    def test_again(self) -> None:
        """A name that was given up and is watched again is still in the stream, and so is its state."""
        self.watch("bob")
        self.clock.advance(0)
        self.watch("alice")()
        self.watch("bob")()
        self.streams.say(peer("bob"))
        self.watch("bob")
        self.clock.advance(0)
        self.assertEqual(self.seen, [("bob", False), ("bob", True), ("bob", True)])

    def test_another_key(self) -> None:
        """Threat 62: a peer with another key than the known one does not count as the peer."""
        self.watch("bob")
        self.clock.advance(0)
        self.streams.say(peer("bob", mark="another key: abcd..."))
        self.assertEqual(self.seen, [("bob", False)])

    def test_callback_fails(self) -> None:
        """A callback that fails is logged, and the others are called."""
        self.presence.watch("bob", lambda _: 1 / 0)
        self.watch("bob")
        self.clock.advance(0)
        self.assertEqual(self.seen, [("bob", False)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_bounded(self) -> None:
        """At most `names_max` names are watched."""
        stops = [self.watch(name) for name in "abcd"]
        self.assertRaises(Refused, self.watch, "e")
        self.watch("a")
        stops[1]()
        self.watch("e")

    def test_many(self) -> None:
        """With more names than a stream takes, all changes are followed, and a list tells the state at each reset."""
        self.streams.online = {"a", "z"}
        for name in "abc":
            self.watch(name)
        self.clock.advance(0)
        self.assertEqual((self.streams.asked, self.streams.listed), ([()], 1))
        self.assertEqual(sorted(self.seen), [("a", True), ("b", False), ("c", False)])
        self.streams.say(peer("b"))
        self.streams.say(peer("z"))
        self.streams.online = {"b", "c"}
        self.streams.errors = [RegistryUnreachable(registry="r", reason="away")]
        self.streams.reset()
        self.streams.say(peer("b", Presence.OFFLINE))  # newer than the list
        self.clock.advance(LIST_AGAIN)
        self.assertEqual(self.streams.listed, 3)
        self.assertEqual(
            sorted(self.seen[3:]), [("a", False), ("b", False), ("b", True), ("c", True)]
        )

    def test_refused(self) -> None:
        """A stream that is refused fails those who wait, and is tried again later for watchers."""
        self.streams.errors = [RegistryRefused(registry="r", reason="no")]
        waiting = self.until("alice")
        self.watch("bob")
        self.clock.advance(0)
        self.failureResultOf(waiting, RegistryRefused)
        self.clock.advance(REFUSED_RETRY)
        self.assertEqual(self.seen, [("bob", False)])


class UntilTests(PresenceCase):
    def test_waits(self) -> None:
        """It returns when the peer comes, and the stream ends with the last who waits."""
        waiting, other = self.until("bob"), self.until("bob")
        self.clock.advance(0)
        self.assertNoResult(waiting)
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.streams.say(peer("bob"))
        self.successResultOf(waiting)
        self.assertEqual(self.streams.open, [])

    def test_at_once(self) -> None:
        """A peer that is online is not waited for."""
        self.streams.online = {"bob"}
        waiting = self.until("bob")
        self.clock.advance(0)
        self.successResultOf(waiting)
        self.watch("bob")
        self.clock.advance(RESTART_GAP)
        waiting = self.until("bob")
        self.clock.advance(0)
        self.successResultOf(waiting)

    def test_stopped(self) -> None:
        """Those who wait are told when the watch ends."""
        waiting = self.until("bob")
        self.clock.advance(0)
        self.presence.stop()
        self.failureResultOf(waiting, CancelledError)


class RegistryTests(SynchronousTestCase):
    """With the client of a registry, on a network in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        client = RegistryClient(
            pooled_agent(self.reactor)[0], "http://127.0.0.1:8000", self.reactor
        )
        self.presence = PresenceWatch(self.reactor, random.Random(1), client)

    def accept(self) -> None:
        """Accept the newest connection, and begin a stream on it."""
        self.protocol = cast(Protocol, self.reactor.tcpClients[-1][2].buildProtocol(None))
        self.transport = StringTransport()
        self.transport.abortConnection = self.break_off  # type: ignore[method-assign]
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    def say(self, presence: Presence) -> None:
        data = presence_text(peer("bob", presence), "5-1")
        self.protocol.dataReceived(b"%x\r\n%b\r\n" % (len(data), data))

    def break_off(self) -> None:
        self.protocol.connectionLost(Failure(CONNECTION_LOST))

    def test_until_online(self) -> None:
        """The wait survives a break of the stream, which is closed within the event that ends the wait."""
        waiting = Deferred.fromCoroutine(self.presence.until_online("bob"))
        self.reactor.advance(0)
        self.accept()
        self.assertIn(b"GET /v1/events?names=bob ", self.transport.value())
        self.say(Presence.OFFLINE)
        self.break_off()
        self.reactor.advance(RETRY_FIRST * (1 + JITTER))
        self.accept()
        self.assertIn(b"Last-Event-Id: 5-1", self.transport.value().title())
        self.assertNoResult(waiting)
        self.say(Presence.ONLINE)
        self.successResultOf(waiting)
        self.reactor.advance(RETRY_MAX)
        self.assertEqual((len(self.reactor.tcpClients), self.reactor.getDelayedCalls()), (2, []))


class LanTests(LanCase):
    def test_lan(self) -> None:
        """On the local network the state comes from announcements, also from those that were heard before."""
        self.listed()
        self.network.say(announced("bob", 7))
        seen: list[bool] = []
        presence = PresenceWatch(self.clock, random.Random(1), self.directory)
        presence.watch("bob", seen.append)
        self.clock.advance(0)
        self.network.say(announced("bob", 8))
        self.network.leave(announced("bob", 8).instance)
        self.network.leave(announced("bob", 7).instance)
        self.network.say(announced("bob", 7))
        presence.stop()
        self.network.leave(announced("bob", 7).instance)
        self.assertEqual(seen, [True, False, True])

    def test_one_of_two(self) -> None:
        """Of two peers with a name that is not known, the one that is left counts again."""
        self.listed()
        for number in (7, 8):
            self.network.say(announced("bob", number))
        seen: list[bool] = []
        presence = PresenceWatch(self.clock, random.Random(1), self.directory)
        presence.watch("bob", seen.append)
        self.clock.advance(0)
        self.assertEqual(seen, [])  # ambiguous
        self.network.leave(announced("bob", 8).instance)
        self.assertEqual(seen[-1], True)
        presence.stop()
