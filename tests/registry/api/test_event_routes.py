"""Event streams over HTTP: their head, their end, and slow readers."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError, StoreUnavailable
from p2pshare.registry.api.event_streams import StreamLimits, Wanted
from p2pshare.registry.api.events import EventHub
from p2pshare.web.client_addresses import origin_of
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.limits import Limits
from p2pshare.web.problems import AWAY, NOT_FOUND, RequestError, problem
from p2pshare.web.reply_bodies import Outlet
from p2pshare.web.site import Site
from tests.registry.connections import Client
from tests.registry.watching import Events, EventStore

HEAD = b" HTTP/1.1\r\nHost: x\r\n\r\n"


class EventsOnly:
    """Answers `GET /v1/events` and `GET /`."""

    def __init__(self, hub: EventHub) -> None:
        (self._route,) = hub.table(lambda query: origin_of(query.source)).values()

    def answer(self, query: Query) -> Deferred[Reply]:
        if query.path == b"":
            return succeed(Reply(200, (b"hello",)))
        if query.path != b"v1/events":
            return succeed(NOT_FOUND)
        answer: Any = self._route.methods[query.method]
        return Deferred.fromCoroutine(answer(query)).addErrback(refused)


def refused(failure: Failure) -> Reply:
    if failure.check(StoreUnavailable):
        return AWAY
    if isinstance(failure.value, RequestError):
        return failure.value.reply
    failure.trap(RemoteProtocolError)
    return problem("malformed", str(failure.value))


class WideTransport(StringTransport):
    """A transport that pauses its producer when the test says so."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def stall(self) -> None:
        producer: Any = self.producer
        producer.pauseProducing()

    def drain(self) -> None:
        producer: Any = self.producer
        producer.resumeProducing()


class SlowTransport(WideTransport):
    """A transport that pauses its producer after every write, until it is drained."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.stall()

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802 - Twisted calls it
        self.write(b"".join(data))


class StreamTestCase(SynchronousTestCase):
    limits = StreamLimits(streams_max=3, streams_per_address_max=2, unsent_max=2000)

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = EventStore()
        self.hub = EventHub(self.store.as_store, self.clock, self.limits)
        routes: Any = EventsOnly(self.hub)
        self.site = Site(routes, self.clock, Limits())
        self.site.doStart()
        self.addCleanup(self.site.doStop)

    def watch(self, arguments: str = "", host: str = "10.0.0.1", head: bytes = HEAD) -> Client:
        client = Client(self.site, host, WideTransport)
        client.send(f"GET /v1/events{arguments}".encode() + head)
        return client

    def status(self, arguments: str = "", host: str = "10.0.0.1", head: bytes = HEAD) -> int:
        return int(self.watch(arguments, host, head).transport.value().split(b" ")[1])

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)


def chunks(body: bytes) -> tuple[bytes, bytes]:
    """Return the content of a chunked body, and the bytes after its end (RFC 9112, section 7.1)."""
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]
        if int(size, 16) == 0:
            break
    return content, body


class StreamTests(StreamTestCase):
    """A stream from its head to its end."""

    def test_head(self) -> None:
        """The head has the content type and `no-store`, and the body is chunked."""
        head, _, body = self.watch().transport.value().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        lines = head.split(b"\r\n")
        for line in (
            b"Content-Type: text/event-stream",
            b"Transfer-Encoding: chunked",
            b"Cache-Control: no-store",
            b"X-Accel-Buffering: no",
        ):
            self.assertIn(line, lines)
        self.assertNotIn(b"Content-Length", head)
        self.assertTrue(chunks(body)[0].startswith(b"retry: "))

    def test_events(self) -> None:
        """Events arrive as they happen, long after the deadline of other replies."""
        client = self.watch()
        self.pass_time(1000.0)
        id = self.store.happen("bob")
        self.pass_time(1.0)
        content, _ = chunks(client.transport.value().partition(b"\r\n\r\n")[2])
        self.assertEqual([id for _, id, _ in Events(content)], [id])
        self.assertFalse(client.closed)

    def test_end(self) -> None:
        """A stream ends regularly after its life, and the connection can be used again."""
        client = self.watch()
        self.pass_time(self.limits.life + self.limits.keep_alive)
        self.assertTrue(client.transport.value().endswith(b"\r\n0\r\n\r\n"))
        self.assertTrue(client.send(b"GET /" + HEAD).endswith(b"hello"))

    def test_old_http(self) -> None:
        """HTTP/1.0 has no chunks: the stream ends with its connection."""
        client = self.watch(head=b" HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, _, body = client.transport.value().partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertIn(b"Connection: close", head)
        self.assertTrue(body.startswith(b"retry: "))
        self.hub.stop()
        self.assertTrue(client.closed)
        self.clock.advance(1.0)

    def test_head_only(self) -> None:
        """HEAD gets the head of GET, and no stream begins."""
        client = Client(self.site)
        answer = client.send(b"HEAD /v1/events" + HEAD)
        self.assertIn(b"Content-Type: text/event-stream", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertEqual((len(self.hub), client.closed), (0, False))

    def test_going_on(self) -> None:
        """The id of the last event comes in a header, or in the URL from clients that cannot set one."""
        after = self.store.happen("a")
        missed = self.store.happen("b")
        header = b" HTTP/1.1\r\nHost: x\r\nLast-Event-ID: " + after.encode() + b"\r\n\r\n"
        for client in (self.watch(head=header), self.watch(f"?after={after}")):
            content, _ = chunks(client.transport.value().partition(b"\r\n\r\n")[2])
            self.assertEqual([id for _, id, _ in Events(content)], [missed])

    def test_store_away(self) -> None:
        """While the store is unavailable, no stream begins, and the client gets 503."""
        self.store.away = True
        self.assertEqual(self.status(), 503)
        self.assertEqual(len(self.hub), 0)


class RefusalTests(StreamTestCase):
    """Requests that are rejected."""

    def test_malformed(self) -> None:
        """Malformed arguments are rejected."""
        for arguments in (
            "?names=",
            "?names=A",
            "?names=a,,b",
            "?names=a&names=b",
            "?name=a",
            "?names=" + quote("\u0430"),
            "?prefix=%00",
            "?prefix=A",
            "?prefix=" + quote("\u0430"),
            "?prefix=" + "a" * 33,
            "?prefix=%ff",
            "?after=%ff",
            "?after=1-0&after=1-0",
            "?%6eames=a&names=a",
            "?names=" + ",".join(f"n{n}" for n in range(self.limits.names_max + 1)),
        ):
            self.assertEqual(self.status(arguments), 400, arguments)
        self.assertEqual(len(self.hub), 0)

    def test_too_many(self) -> None:
        """One stream too many is rejected with `Retry-After`: 429 for an address, 503 for all."""
        first = self.watch()
        self.watch()
        self.assertEqual(self.status(), 429)
        self.assertEqual(self.status(host="10.0.0.2"), 200)
        refusal = self.watch(host="10.0.0.3")
        self.assertTrue(refusal.transport.value().startswith(b"HTTP/1.1 503"))
        self.assertIn(b"Retry-After: 30", refusal.transport.value())
        first.leave()
        self.assertEqual(self.status(host="10.0.0.3"), 200)

    def test_one_client(self) -> None:
        """All addresses of a /64 are one client, and so is an IPv4 address that is written as one of IPv6."""
        hosts = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "10.0.0.1", "::ffff:10.0.0.1")
        self.hub.limits = StreamLimits(streams_per_address_max=2)
        statuses = [self.status(host=host) for host in (*hosts, "10.0.0.1")]
        self.assertEqual(statuses, [200, 200, 429, 200, 200, 429])

    def test_many_while_the_store_thinks(self) -> None:
        """The bound also holds for clients that connect while the store has not answered yet."""
        self.store.held = []
        clients = [self.watch() for _ in range(4)]
        self.store.release()
        statuses = [client.transport.value().split(b" ")[1] for client in clients]
        self.assertEqual(statuses, [b"200", b"200", b"429", b"429"])

    def test_arguments(self) -> None:
        """Names, a prefix and an id are parsed."""
        wanted = Wanted.parse(Query(b"GET", b"", b"", "", b"names=a,b.c&prefix=a&after=1-2"), 100)
        self.assertEqual(
            (wanted.names, wanted.prefix, wanted.after), (frozenset({"a", "b.c"}), "a", "1-2")
        )
        self.assertTrue(wanted.includes("a"))
        self.assertFalse(wanted.includes("b.c") or wanted.includes("ab"))


class SlowReaderTests(StreamTestCase):
    """Threat: clients that do not read what they ask for."""

    def test_dropped(self) -> None:
        """A client for which too many bytes wait is dropped."""
        client = self.watch()
        client.transport.stall()
        for n in range(100):
            self.store.happen(f"n{n}")
        self.pass_time(1.0)
        self.assertTrue(client.transport.aborted)
        self.assertEqual(len(self.hub), 0)

    def test_reads_in_time(self) -> None:
        """A client that reads in time gets all events that have accumulated."""
        client = self.watch()
        client.transport.stall()
        before = len(client.transport.value())
        ids = [self.store.happen(f"n{n}") for n in range(5)]
        self.pass_time(1.0)
        self.assertEqual(len(client.transport.value()), before)
        client.transport.drain()
        content, _ = chunks(client.transport.value().partition(b"\r\n\r\n")[2])
        self.assertEqual([id for _, id, _ in Events(content)], ids)

    def test_missed_as_it_reads(self) -> None:
        """Missed events are read from the store and written only as fast as the client reads."""
        after = self.store.happen("a")
        ids = [self.store.happen(f"n{n}") for n in range(3 * self.limits.events_max)]
        client = Client(self.site, "10.0.0.1", SlowTransport)
        client.send(f"GET /v1/events?after={after}".encode() + HEAD)
        counts = set[int]()
        for _ in range(10):
            content, _ = chunks(client.transport.value().partition(b"\r\n\r\n")[2])
            counts.add(len(Events(content)))
            client.transport.drain()
        self.assertEqual([id for _, id, _ in Events(content)], ids)
        self.assertGreater(len(counts), 2)

    def test_leaves_instead_of_reading(self) -> None:
        """A client that leaves while it reads missed events leaves nothing behind."""
        after = self.store.happen("a")
        for n in range(3 * self.limits.events_max):
            self.store.happen(f"n{n}")
        client = Client(self.site, "10.0.0.1", SlowTransport)
        client.send(f"GET /v1/events?after={after}".encode() + HEAD)
        asked = self.store.asked
        client.leave()
        self.assertEqual((len(self.hub), self.store.asked), (0, asked))

    def test_end_while_it_does_not_read(self) -> None:
        """When the process stops, the bytes that wait for a client are sent before the end of its stream."""
        client = self.watch()
        client.transport.stall()
        id = self.store.happen("bob")
        self.pass_time(1.0)
        self.hub.stop()
        content, rest = chunks(client.transport.value().partition(b"\r\n\r\n")[2])
        self.assertEqual(([id for _, id, _ in Events(content)], rest), ([id], b""))
        self.assertTrue(client.transport.value().endswith(b"\r\n0\r\n\r\n"))
        self.clock.advance(1.0)

    def test_deaf(self) -> None:
        """A client that reads nothing is dropped, even if few bytes wait for it."""
        client = self.watch()
        client.transport.stall()
        self.pass_time(self.limits.stalled_max + 2 * self.limits.keep_alive)
        self.assertTrue(client.transport.aborted)

    def test_nothing_is_left(self) -> None:
        """After 200 streams have come and gone, none of their objects is left."""
        before = outlets()
        for n in range(200):
            client = self.watch("?names=bob", f"10.1.0.{n}")
            if n % 2:
                client.transport.stall()
            client.leave()
        del client
        self.assertEqual((outlets(), len(self.hub)), (before, 0))


def outlets() -> int:
    """Return the number of outlets in memory."""
    gc.collect()
    return sum(isinstance(each, Outlet) for each in gc.get_objects())
