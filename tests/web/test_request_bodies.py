"""Bodies that are passed on as they arrive."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.web.exchange import Query, Reply
from p2pshare.web.limits import Limits
from p2pshare.web.request_bodies import BUFFER_MAX, ClientLeft, IncomingBody
from p2pshare.web.site import Site
from tests.registry.connections import Client, SiteTestCase

PUT = b"PUT /up/x HTTP/1.1\r\nHost: x\r\n"


class Uploads:
    """Answers requests with what their bodies have; the test says when it reads."""

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self.answers: list[Deferred[Reply]] = []
        self.body = b""
        self.reads_all = True
        self.has_left = False

    def answer(self, query: Query) -> Deferred[Reply]:
        self.queries.append(query)
        self.answers.append(Deferred())
        if self.reads_all and query.incoming is not None:
            reading = Deferred.fromCoroutine(self.read_all(query.incoming))
            reading.addErrback(lambda failure: failure.trap(ClientLeft))
        return self.answers[-1]

    async def read_all(self, incoming: IncomingBody) -> None:
        try:
            while piece := await incoming.read():
                self.body += piece
        except ClientLeft:
            self.has_left = True
            raise
        self.answers[-1].callback(Reply(200, (b"%d" % len(self.body),)))


class IncomingBodyTests(SiteTestCase):
    """Uploads to a site in memory."""

    limits = Limits(body_max=10, upload_stalled_max=30)

    def setUp(self) -> None:
        super().setUp()
        self.routes = Uploads()
        self.site = self.make_upload_site()

    def make_upload_site(self) -> Site:
        streams = lambda method, path: method == b"PUT" and path.startswith(b"up/")  # noqa: E731
        site = Site(self.routes, self.clock, self.limits, streams=streams)
        site.doStart()
        self.addCleanup(site.doStop)
        return site

    def test_parts(self) -> None:
        """A body is passed on as it arrives, of any length; the connection can be used again."""
        client = Client(self.site)
        self.assertEqual(client.send(PUT + b"Content-Length: 30\r\n\r\n" + b"a" * 10), b"")
        self.assertEqual(self.routes.body, b"a" * 10)
        incoming = self.routes.queries[0].incoming
        assert incoming is not None
        self.assertEqual(incoming.length, 30)
        self.assertIn(b"200 OK", client.send(b"b" * 20))
        self.assertEqual(self.routes.body, b"a" * 10 + b"b" * 20)
        chunked = b"Transfer-Encoding: chunked\r\n\r\n5\r\nccccc\r\n"
        self.assertEqual(client.send(PUT + chunked), b"")
        self.assertIn(b"200 OK", client.send(b"0\r\n\r\n"))
        self.assertEqual(self.routes.body[-5:], b"ccccc")
        self.assertFalse(client.closed)

    def test_others(self) -> None:
        """Other requests, and empty bodies, are answered when they are complete."""
        client = Client(self.site)
        client.send(PUT + b"Content-Length: 0\r\n\r\n")
        self.assertEqual(
            (self.routes.queries[-1].incoming, self.routes.queries[-1].body), (None, b"")
        )
        other = Client(self.site)
        other.send(b"POST /up/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
        self.assertEqual(self.routes.queries[-1].body, b"ab")
        self.assertIn(
            b" 413 ",
            Client(self.site).send(PUT.replace(b"up", b"no") + b"Content-Length: 11\r\n\r\n"),
        )

    def test_slow_reader(self) -> None:
        """Threat 108: the client has to wait while the route does not read; only a bounded part is in memory."""
        self.routes.reads_all = False
        client = Client(self.site)
        client.send(PUT + b"Content-Length: %d\r\n\r\n" % (4 * BUFFER_MAX))
        client.send(b"x" * (BUFFER_MAX - 1))
        self.assertEqual(client.transport.producerState, "producing")
        client.send(b"x")
        self.assertEqual(client.transport.producerState, "paused")
        self.clock.pump([1.0] * 100)
        self.assertFalse(client.closed)
        incoming = self.routes.queries[0].incoming
        assert incoming is not None
        self.assertEqual(len(self.successResultOf(incoming.read())), BUFFER_MAX)
        self.assertEqual(client.transport.producerState, "producing")
        reading = incoming.read()
        self.assertNoResult(reading)
        client.send(b"y")
        self.assertEqual(self.successResultOf(reading), b"y")

    def test_stalled(self) -> None:
        """Threat 108: a client that sends a body slowly is broken off after a while without a byte, not before."""
        client = Client(self.site)
        client.send(PUT + b"Content-Length: 1000\r\n\r\n")
        for _ in range(5):
            self.clock.pump([1.0] * 20)
            client.send(b"x")
        self.assertFalse(client.closed)
        self.clock.pump([1.0] * 32)
        self.assertTrue(client.closed)
        client.leave()
        self.assertTrue(self.routes.has_left)

    def test_leaving(self) -> None:
        """A client that leaves in the middle ends the reading."""
        client = Client(self.site)
        client.send(PUT + b"Content-Length: 1000\r\n\r\nabc")
        client.leave()
        self.assertTrue(self.routes.has_left)
        self.assertEqual(self.routes.body, b"abc")

    def test_early_reply(self) -> None:
        """A reply before the end of the body ends the connection, which reads on for a moment."""
        self.routes.reads_all = False
        client = Client(self.site)
        client.send(PUT + b"Content-Length: 1000\r\n\r\nabc")
        client.transport.clear()
        self.routes.answers[0].callback(Reply(507, (b"full",), b"text/plain", ((b"X-Own", b"1"),)))
        head, _, body = client.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"507", head)
        self.assertIn(b"X-Own: 1", head)
        self.assertIn(b"Connection: close", head)
        self.assertEqual(body, b"full")
        self.assertEqual(client.send(b"more"), b"")


class BufferTests(SynchronousTestCase):
    """An incoming body by itself."""

    def test_cancelled(self) -> None:
        """A reader that gives up loses nothing."""
        incoming = IncomingBody(None, lambda _: None)
        reading = incoming.read()
        reading.cancel()
        self.failureResultOf(reading)
        incoming.feed(b"a")
        self.assertEqual(self.successResultOf(incoming.read()), b"a")
        incoming.complete()
        incoming.leave()
        self.assertEqual(self.successResultOf(incoming.read()), b"")
