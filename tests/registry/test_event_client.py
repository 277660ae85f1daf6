"""The client of an event stream, through every break of its connection."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.back_off import JITTER
from p2pshare.errors import RegistryRefused, RegistryUnreachable, RemoteProtocolError
from p2pshare.registry.api.event_streams import event_text, presence_text
from p2pshare.registry.client import RegistryClient, pooled_agent
from p2pshare.registry.event_client import (
    EVENT_MAX,
    RETRY_FIRST,
    RETRY_MAX,
    SILENCE_MAX,
    Event,
    EventParser,
)
from p2pshare.web.problems import problem
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence

BOB = PeerSummary("bob", NameKind.OWNED, Presence.ONLINE, 1_800_000_000)
GONE = PeerSummary("bob", NameKind.OWNED, Presence.OFFLINE, 1_800_000_001)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class ParserTests(SynchronousTestCase):
    def test_events(self) -> None:
        """An event has a kind, an id and lines of data; comments and unknown fields are ignored."""
        stream = b": alive\n\nevent: presence\nid: 1-0\ndata: a\ndata: b\n\nretry: 3000\n\ndata:c\r\n\r\n"
        self.assertEqual(
            EventParser().receive(stream),
            [Event("presence", "1-0", "a\nb"), Event("message", "1-0", "c")],
        )

    def test_id_alone(self) -> None:
        """An id without data is remembered for resuming."""
        parser = EventParser()
        self.assertEqual(parser.receive(b"id: 5-1\n\n: alive\nid: 6-0\n"), [])
        self.assertEqual(parser.last_id, "5-1")
        parser.receive(b"\n")
        self.assertEqual(parser.last_id, "6-0")

    @given(st.lists(st.integers(0, 200), max_size=5))
    def test_cut_anywhere(self, cuts: list[int]) -> None:
        """The events are the same however the stream is cut."""
        stream = presence_text(BOB, "1-0") + b": alive\r\n\r\n" + event_text("reset", {}, "2-0")
        whole = EventParser().receive(stream)
        parser, found, at = EventParser(), [], 0
        for cut in [*sorted(cuts), len(stream)]:
            found += parser.receive(stream[at:cut])
            at = max(at, cut)
        self.assertEqual((found, len(whole)), (whole, 2))

    @given(st.binary())
    def test_noise(self, data: bytes) -> None:
        """Any bytes are events or an error of ours."""
        try:
            found = EventParser().receive(data)
        except RemoteProtocolError:
            return
        self.assertLessEqual(len(found), len(data))

    def test_bounded(self) -> None:
        """Lines and events have a bound; comments are unlimited."""
        self.assertRaises(RemoteProtocolError, EventParser().receive, b"x" * (EVENT_MAX + 1))
        parser = EventParser()
        with self.assertRaises(RemoteProtocolError):
            for _ in range(EVENT_MAX):
                parser.receive(b"data: xxxx\n")
        parser = EventParser()
        for _ in range(EVENT_MAX):
            parser.receive(b": alive\n")
        self.assertEqual(len(parser.receive(b"data: x\n\n")), 1)


class FollowerTests(SynchronousTestCase):
    """`RegistryClient.watch`, on a network in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        agent, _ = pooled_agent(self.reactor)
        client = RegistryClient(agent, "http://127.0.0.1:8000", self.reactor)
        self.seen: list[Any] = []
        self.watching: Deferred[None] = Deferred.fromCoroutine(
            client.watch(
                ["bob", "alice"],
                self.seen.append,
                lambda: self.seen.append("reset"),
                on_link=lambda is_up, _: self.seen.append(is_up),
                rng=random.Random(1),
            )
        )
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if not self.watching.called:
            self.watching.cancel()
            self.failureResultOf(self.watching, CancelledError)

    def accept(self) -> bytes:
        """Accept the newest connection, and return the request."""
        factory = self.reactor.tcpClients[-1][2]
        self.protocol = cast(Protocol, factory.buildProtocol(None))
        self.transport = StringTransport()
        self.transport.abortConnection = lambda: self.protocol.connectionLost(  # type: ignore[method-assign]
            Failure(CONNECTION_LOST)
        )
        self.protocol.makeConnection(self.transport)
        asked: bytes = self.transport.value()
        return asked

    def say(self, data: bytes) -> None:
        """Send a piece of the body."""
        self.protocol.dataReceived(b"%x\r\n%b\r\n" % (len(data), data))

    def begin(self) -> bytes:
        asked = self.accept()
        self.protocol.dataReceived(HEAD)
        return asked

    def break_off(self) -> None:
        self.protocol.connectionLost(Failure(CONNECTION_LOST))

    def test_followed(self) -> None:
        """The first stream begins with a reset; then every change is passed on."""
        asked = self.begin()
        self.assertIn(b"GET /v1/events?names=bob,alice HTTP/1.1", asked)
        self.assertNotIn(b"Last-Event-ID", asked.title())
        self.say(b"retry: 3000\n\nid: 1-0\n\n")
        self.say(presence_text(BOB, "1-1"))
        self.assertEqual(self.seen, [True, "reset", BOB])

    def test_broken_off(self) -> None:
        """After a break the stream resumes with the last id, without a reset."""
        self.begin()
        self.say(presence_text(BOB, "5-1"))
        self.break_off()
        self.assertEqual(self.seen, [True, "reset", BOB, False])
        self.reactor.advance(RETRY_FIRST * (1 + JITTER))
        self.assertIn(b"Last-Event-Id: 5-1", self.begin().title())
        self.say(presence_text(GONE, "5-2"))
        self.assertEqual(self.seen[4:], [True, GONE])

    def test_place_without_event(self) -> None:
        """It also resumes with an id that came without an event."""
        self.begin()
        self.say(b"id: 7-0\n\n")
        self.break_off()
        self.reactor.advance(RETRY_FIRST * (1 + JITTER))
        self.assertIn(b"Last-Event-Id: 7-0", self.begin().title())

    def test_missed(self) -> None:
        """A reset of the registry is passed on."""
        self.begin()
        self.say(event_text("reset", {}, "9-0") + presence_text(GONE, "9-0"))
        self.assertEqual(self.seen, [True, "reset", "reset", GONE])

    def test_silence(self) -> None:
        """A silent stream is closed, and opened again."""
        self.begin()
        for _ in range(10):
            self.reactor.advance(SILENCE_MAX - 1)
            self.say(event_text("alive", {}))
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.reactor.advance(SILENCE_MAX + 1)
        self.reactor.advance(RETRY_FIRST * (1 + JITTER))
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_away(self) -> None:
        """An unreachable registry is retried with growing, bounded delays."""
        asked_at = []
        for _ in range(10):
            asked_at.append(self.reactor.seconds())
            _, _, factory, _, _ = self.reactor.tcpClients[-1]
            connector = self.reactor.connectors[-1]
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
            count = len(self.reactor.tcpClients)
            while len(self.reactor.tcpClients) == count:
                self.reactor.advance(0.125)
        pauses = [after - before for before, after in pairwise(asked_at)]
        self.assertLessEqual(pauses[0], 1.0)
        self.assertGreater(pauses[3], pauses[0])
        self.assertLessEqual(max(pauses), RETRY_MAX * (1 + JITTER) + 0.25)
        self.assertNoResult(self.watching)

    def test_too_many(self) -> None:
        """A registry without room is retried after its `Retry-After`."""
        self.accept()
        self.protocol.dataReceived(
            b"HTTP/1.1 429 X\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"
        )
        self.transport.clear()
        self.reactor.advance(29)
        self.assertEqual(self.transport.value(), b"")
        self.reactor.advance(30 * JITTER + 1)
        self.assertIn(b"GET /v1/events", self.transport.value())

    def test_nonsense(self) -> None:
        """After a malformed stream, the client reconnects."""
        for nonsense in (
            b"data: " + b"x" * EVENT_MAX,
            presence_text(BOB, "1").replace(b"bob", b"!"),
        ):
            self.begin()
            self.say(nonsense + b"\n\n")
            self.assertIs(self.seen[-1], False)
            self.reactor.advance(4 * RETRY_FIRST)
        self.assertEqual(len(self.reactor.tcpClients), 3)
        self.begin()
        self.say(presence_text(BOB, "2-0"))
        self.assertEqual(self.seen[-1], BOB)

    def test_no_such_thing(self) -> None:
        """An original registry, and one that rejects the names, end the watching with an error."""
        body = b"".join(problem("malformed", "no names").body)
        for answer, kind in (
            (b"HTTP/1.1 404 X\r\nContent-Length: 4\r\n\r\n<h1>", RegistryUnreachable),
            (
                b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
                RegistryRefused,
            ),
        ):
            self.setUp()
            self.accept()
            self.protocol.dataReceived(answer)
            self.failureResultOf(self.watching, kind)

    def test_cancelled(self) -> None:
        """After a cancellation in any state, nothing is left running, and no stream is left open at the registry."""
        for prepare in (lambda: None, self.begin, self.accept):
            self.setUp()
            prepare()
            self.watching.cancel()
            self.failureResultOf(self.watching, CancelledError)
            if prepare == self.begin:
                self.assertTrue(self.transport.disconnecting)
            self.reactor.advance(200)
            self.assertEqual(len(self.reactor.tcpClients), 1)
