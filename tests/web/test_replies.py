"""Bodies that are read while they are sent: byte ranges, slow readers, and sources that fail."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, cast
from unittest import skipUnless

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.http_headers import Headers

from p2pshare.errors import SharerLied
from p2pshare.web.client import HttpClient, pooled_agent
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.limits import Limits
from p2pshare.web.ranges import apply_range
from p2pshare.web.reply_bodies import PIECE_MAX, READ_TIMEOUT, BytesSource, Outlet
from p2pshare.web.site import Channel, Site
from tests.registry.connections import HOST, Client, NarrowTransport, SiteTestCase

TAG = b'"v1"'
CONTENT = bytes(range(256)) * 1000


class RecordingSource(BytesSource):
    """A source that records what is read, and holds reads back if the test says so."""

    def __init__(self, content: bytes = CONTENT) -> None:
        super().__init__(content)
        self.reads: list[tuple[int, int]] = []
        self.held: list[Deferred[bytes]] | None = None
        self.closed = 0

    def read(self, start: int, size: int) -> Deferred[bytes]:
        self.reads.append((start, size))
        if self.held is None:
            return super().read(start, size)
        self.held.append(Deferred())
        return self.held[-1]

    def close(self) -> None:
        self.closed += 1


class SourceRoutes:
    """Answers everything with a source."""

    def __init__(self) -> None:
        self.source = RecordingSource()
        self.tag = TAG

    def answer(self, query: Query) -> Deferred[Reply]:
        reply = Reply(200, (), b"image/png", ((b"ETag", self.tag),), source=self.source)
        return succeed(reply)


class SourceTestCase(SiteTestCase):
    limits = Limits(long_replies_max=2)

    def setUp(self) -> None:
        super().setUp()
        self.routes = SourceRoutes()
        self.source = self.routes.source
        self.site = self.make_site(self.routes)

    def get(self, head: bytes = b"", method: bytes = b"GET") -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body of a reply to a request with these further header lines."""
        request = method + b" /x HTTP/1.1\r\n" + head + HOST
        lines, _, body = Client(self.site).send(request).partition(b"\r\n\r\n")
        status, *fields = lines.decode().split("\r\n")
        return int(status.split(" ")[1]), dict(each.split(": ", 1) for each in fields), body


class RangeTests(SourceTestCase):
    """Byte ranges (RFC 9110, section 14)."""

    def test_whole(self) -> None:
        """Without a range the whole body is sent, and the reply says that ranges are possible."""
        status, headers, body = self.get()
        self.assertEqual((status, body), (200, CONTENT))
        self.assertEqual(headers["Accept-Ranges"], "bytes")
        self.assertEqual(headers["Content-Length"], str(len(CONTENT)))

    def test_part(self) -> None:
        """One range is answered with 206 and these bytes; no others are read."""
        size = len(CONTENT)
        for text, start, stop in (
            (b"0-0", 0, 1),
            (b"5-9", 5, 10),
            (b"100-", 100, size),
            (b"-7", size - 7, size),
            (b"5-99999999", 5, size),
            (b"-99999999", 0, size),
        ):
            self.source.reads.clear()
            status, headers, body = self.get(b"Range: bytes=" + text + b"\r\n")
            self.assertEqual((status, body), (206, CONTENT[start:stop]), text)
            self.assertEqual(headers["Content-Range"], f"bytes {start}-{stop - 1}/{size}")
            self.assertEqual(headers["Content-Length"], str(stop - start))
            self.assertEqual(headers["ETag"], TAG.decode())
            self.assertEqual(sum(read for _, read in self.source.reads), stop - start)

    def test_beyond_the_end(self) -> None:
        """A range without a byte is 416, with the length that there is."""
        for text in (b"256000-", b"256000-256001", b"-0"):
            status, headers, body = self.get(b"Range: bytes=" + text + b"\r\n")
            self.assertEqual((status, json.loads(body)["status"]), (416, 416), text)
            self.assertEqual(headers["Content-Range"], f"bytes */{len(CONTENT)}")
        self.assertEqual(self.source.reads, [])

    def test_ignored(self) -> None:
        """Malformed ranges, several ranges and other units are ignored: the body is sent whole."""
        for text in (
            b"bytes=9-5",
            b"bytes=-",
            b"bytes=",
            b"bytes=1",
            b"bytes=1-2,5-6",
            b"bytes=a-b",
            b"bytes=" + b"9" * 30 + b"-",
            b"lines=1-2",
            b"bytes=0-1\r\nRange: bytes=0-1",
        ):
            self.assertEqual(self.get(b"Range: " + text + b"\r\n")[0], 200, text)

    def test_weak_tag(self) -> None:
        """With `If-Range` and a weak entity tag, the whole body is sent (RFC 9110, section 13.1.5)."""
        weak = b'W/"v1"'
        self.patch(self.routes, "tag", weak)
        self.assertEqual(self.get(b"Range: bytes=0-1\r\nIf-Range: " + weak + b"\r\n")[0], 200)

    def test_only_if_unchanged(self) -> None:
        """With `If-Range`, a part is sent only if the entity tag is that of the body (strong comparison)."""
        for condition, status in (
            (TAG, 206),
            (b'"v2"', 200),
            (b"W/" + TAG, 200),
            (b"Sun, 15 Jun 2025 15:06:40 GMT", 200),
        ):
            head = b"Range: bytes=0-1\r\nIf-Range: " + condition + b"\r\n"
            self.assertEqual(self.get(head)[0], status, condition)

    def test_head(self) -> None:
        """HEAD has the head of the whole body, and reads nothing."""
        status, headers, body = self.get(b"Range: bytes=0-1\r\n", b"HEAD")
        self.assertEqual((status, body, self.source.reads), (200, b"", []))
        self.assertEqual(headers["Content-Length"], str(len(CONTENT)))

    def test_source_in_order(self) -> None:
        """A source that cannot seek is sent whole."""
        self.source.can_seek = False
        status, headers, body = self.get(b"Range: bytes=5-9\r\n")
        self.assertEqual((status, body), (200, CONTENT))
        self.assertNotIn("Accept-Ranges", headers)

    @given(st.binary(max_size=30), st.integers(0, 50))
    def test_any_header(self, text: bytes, length: int) -> None:
        """Any `Range` gives a part of the body, or 416."""
        reply = Reply(200, source=BytesSource(b"x" * length))
        for value in (text, b"bytes=" + text, b"bytes=%d-%d" % (len(text), length)):
            found, part = apply_range(reply, Headers({b"Range": [value]}))
            self.assertIn(found.status, (200, 206, 416))
            self.assertEqual(
                bool(part), found.status == 206 or (found.status == 200 and length > 0)
            )
            self.assertLessEqual(set(part), set(range(length)))


class SendingTests(SourceTestCase):
    """Bounded memory: the next piece is read when the client has read the one before."""

    def client(self) -> Client:
        """A client that reads one piece at a time."""
        client = Client(self.site, transport=NarrowTransport)
        client.send(b"GET /x HTTP/1.1\r\n" + HOST)
        return client

    def test_as_fast_as_it_is_read(self) -> None:
        """One piece is read for each that the client takes; the source is closed at the end."""
        client, pieces = self.client(), -(-len(CONTENT) // PIECE_MAX)
        for n in range(1, pieces + 1):
            self.assertEqual((len(self.source.reads), self.source.closed), (n, 0))
            client.transport.drain()
        self.assertEqual((len(self.source.reads), self.source.closed), (pieces, 1))
        self.assertTrue(client.transport.value().endswith(CONTENT))
        self.assertTrue(client.send(b"GET /x HTTP/1.1\r\n" + HOST).startswith(b"HTTP/1.1 200"))

    def test_full_before(self) -> None:
        """A transport that is full at the start, and tells that only once as over TLS, is not filled further."""
        client = Client(self.site)
        assert client.channel is not None
        client.channel.pauseProducing()
        client.send(b"GET /x HTTP/1.1\r\n" + HOST)
        self.assertLessEqual(len(self.source.reads), 1)
        client.channel.resumeProducing()
        self.assertTrue(client.transport.value().endswith(CONTENT))

    def test_long_download(self) -> None:
        """A body that is read slowly may take longer than other replies; each piece has to be read in time."""
        client = self.client()
        for _ in range(2):
            self.clock.pump([1.0] * 9)
            client.transport.drain()
        self.assertFalse(client.closed)
        self.clock.pump([1.0] * 11)
        self.assertTrue(client.closed)
        self.assertEqual(self.source.closed, 1)

    def test_short_body_that_is_not_read(self) -> None:
        """A short body has the deadline of other replies."""
        self.source.content, self.source.length = b"short", 5
        client = self.client()
        self.clock.pump([1.0] * 59)
        self.assertFalse(client.closed)
        self.clock.pump([1.0] * 3)
        self.assertTrue(client.closed)
        client.leave()
        self.assertEqual(self.source.closed, 1)

    def test_leaving(self) -> None:
        """A client that leaves ends the reading, also if a read is under way."""
        client = self.client()
        client.leave()
        self.assertEqual(self.source.closed, 1)
        self.source.held = []
        client = self.client()
        client.leave()
        self.assertEqual((self.source.closed, len(self.source.held)), (2, 1))
        self.assertTrue(self.source.held[0].called, "it was cancelled")

    def test_not_read(self) -> None:
        """A source of which nothing is read is closed, too."""
        for count, (method, line) in enumerate(
            ((b"HEAD", b""), (b"GET", b"Range: bytes=%d-\r\n" % len(CONTENT))), 1
        ):
            self.get(line, method)
            self.assertEqual((self.source.closed, self.source.reads), (count, []))
        clients = [self.client() for _ in range(3)]
        self.assertEqual(clients[-1].transport.value()[9:12], b"503")
        self.assertEqual(self.source.closed, 3)

    def test_failing_source(self) -> None:
        """A read that fails, is late or has the wrong size breaks the connection off: a length was promised."""
        for error, act in (
            (OSError, lambda held: held[0].errback(OSError("gone"))),
            (EOFError, lambda held: held[0].callback(b"short")),
            (None, lambda held: held[0].errback(SharerLied(name="bob", path="x"))),
            (None, lambda _held: self.clock.pump([1.0] * (int(READ_TIMEOUT) + 1))),
        ):
            self.source.held = []
            closed = self.source.closed
            client = self.client()
            act(self.source.held)
            self.assertTrue(client.transport.disconnected, error)
            self.assertEqual(self.source.closed, closed + 1)
            if error is not None:  # else the fault of another machine, which leaves no traceback
                self.assertEqual(len(self.flushLoggedErrors(error)), 1)

    def test_number(self) -> None:
        """Long bodies count among the long replies, short ones do not."""
        clients = [self.client() for _ in range(3)]
        statuses = [client.transport.value()[9:12] for client in clients]
        self.assertEqual(statuses, [b"200", b"200", b"503"])
        self.source.content, self.source.length = b"short", 5
        self.assertEqual(self.get()[2], b"short")

    def test_originals(self) -> None:
        """An original gets the whole body, whatever range it asks for."""
        client = Client(self.site)
        reply = client.send(b"GET x HTTP/1.1\r\nRange: bytes=0-1\r\n" + HOST)
        self.assertTrue(reply.startswith(b"HTTP/1.1 200"))
        self.assertTrue(reply.endswith(CONTENT))


class UnacknowledgedTests(TestCase):
    """A bound on what the machine of a client does not acknowledge."""

    @skipUnless(hasattr(socket, "TCP_USER_TIMEOUT"), "only Linux can do it")
    async def test_set(self) -> None:
        """It is set on the socket of the connection, also under TLS; other connections have none."""
        reactor: Any = global_reactor
        option = getattr(socket, "TCP_USER_TIMEOUT", 0)
        found: list[int] = []

        def begin(outlet: Outlet) -> None:
            outlet.limit_unacknowledged(7.0)
            (channel,) = site.connections
            transport: Any = cast(Channel, channel).transport
            found.append(transport.socket.getsockopt(socket.IPPROTO_TCP, option))
            outlet.finish()

        routes: Any = StreamRoutes(begin)
        site = Site(routes, reactor)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        agent, pool = pooled_agent(reactor)
        client = HttpClient(agent, f"http://127.0.0.1:{port.getHost().port}", reactor)
        await client.stream("", lambda: None, lambda _: None, 5.0, {})
        self.assertEqual(found, [7000])
        await pool.closeCachedConnections()
        await port.stopListening()

    def test_none(self) -> None:
        """A connection in memory, or a Unix socket, is left as it is."""
        site = Site(
            cast(Any, StreamRoutes(lambda outlet: outlet.limit_unacknowledged(1.0))), Clock()
        )
        site.doStart()
        self.addCleanup(site.doStop)
        self.assertIn(b"200 OK", Client(site).send(b"GET / HTTP/1.1\r\n" + HOST))


class StreamRoutes:
    """Answers every request with a stream."""

    def __init__(self, begin: Callable[[Outlet], object]) -> None:
        self._begin = begin

    def answer(self, _query: Query) -> Deferred[Reply]:
        return succeed(Reply(200, stream=self._begin))
