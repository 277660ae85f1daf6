"""The HTTP server for strangers: framing, refusals, deadlines."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pshare.web.exchange import Reply
from p2pshare.web.site import (
    CHUNKS,
    HEADERS,
    NO_FOLDING,
    ONE_HOST,
    ONE_LENGTH,
    REQUEST_LINE,
    TARGET,
)
from tests import examples
from tests.registry.connections import HOST, Client, SiteTestCase, SlowRoutes

BODY = b'{"name": "bob", "ip": "10.0.0.5", "port": 50000}'


class FramingTests(SiteTestCase):
    """Requests of originals and of others."""

    def test_original(self) -> None:
        """Without a slash, the reply has `Connection: close` and a length, and the connection ends."""
        client = Client(self.site)
        post = b"POST name HTTP/1.1\r\nContent-Length: %d\r\n" % len(BODY)
        reply = client.send(post + HOST + BODY)
        self.assertEqual(
            reply,
            b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n",
        )
        self.assertTrue(client.closed)
        self.assertEqual(
            self.one(b"GET user/bob HTTP/1.1\r\n" + HOST),
            (200, b'{"ip": "10.0.0.5", "port": 50000}', True),
        )
        self.assertEqual(self.one(b"GET list HTTP/1.1\r\n" + HOST), (200, b'["bob"]', True))
        self.assertEqual(self.one(b"GET user/eve HTTP/1.1\r\n" + HOST), (400, b"", True))
        self.assertEqual(self.one(b"GET nothing HTTP/1.1\r\n" + HOST), (404, b"", True))

    def test_kept_alive(self) -> None:
        """With a slash, one connection serves one request after the other, pipelined or not."""
        client = Client(self.site)
        request = b"GET /list HTTP/1.1\r\n" + HOST
        for times in (1, 1, 5):
            reply = client.send(request * times)
            self.assertEqual(reply.count(b"HTTP/1.1 200 OK"), times)
            self.assertEqual(reply.count(b"[]"), times)
        self.assertFalse(client.closed)

    def test_split_anywhere(self) -> None:
        """A request may arrive in any pieces; the reply is the same."""
        request = b"POST /name HTTP/1.1\r\nContent-Length: %d\r\n" % len(BODY) + HOST + BODY
        whole = Client(self.site).send(request)
        for cut in range(1, len(request)):
            client = Client(self.site)
            self.assertEqual(client.send(request[:cut]) + client.send(request[cut:]), whole, cut)

    def test_head(self) -> None:
        """HEAD has the head of GET and no body."""
        self.assertEqual(self.one(b"HEAD /list HTTP/1.1\r\n" + HOST), (200, b"", False))
        self.assertIn(
            b"Content-Length: 2\r\n", Client(self.site).send(b"HEAD /list HTTP/1.1\r\n" + HOST)
        )

    def test_chunked(self) -> None:
        """A chunked body is accepted."""
        head = b"POST /name HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        self.assertEqual(self.one(head + chunks)[0], 200)

    def test_query_is_ignored(self) -> None:
        """Arguments after the question mark are ignored."""
        self.assertEqual(self.one(b"GET /list?x=%ff&&& HTTP/1.1\r\n" + HOST)[:2], (200, b"[]"))

    def test_http_1_0(self) -> None:
        """An HTTP/1.0 client is served, and the connection ends."""
        self.assertEqual(self.one(b"GET /list HTTP/1.0\r\n\r\n"), (200, b"[]", True))

    def test_client_leaves_early(self) -> None:
        """A reply for a client that has left is discarded."""
        routes = SlowRoutes()
        client = Client(self.make_site(routes))
        client.send(b"GET /list HTTP/1.1\r\n" + HOST)
        client.leave()
        routes.asked[0].callback(Reply(200))
        self.assertEqual(client.transport.value(), b"")


class RefusalTests(SiteTestCase):
    """A malformed request gets a 4xx with a problem, and the connection ends (threats 6, 27: request smuggling)."""

    def assert_refused(self, request: bytes, status: int) -> None:
        """Assert that the reply is a problem without further requests; an original gets no body."""
        answered, body, closed = self.one(request)
        self.assertEqual((answered, closed), (status, True), request[:60])
        self.assertEqual(json.loads(body)["status"], status)
        for method in (b"GET", b"POST"):
            if request.startswith(method + b" /") and status != 414:
                of_original = request.replace(method + b" /", method + b" ", 1)
                self.assertEqual(self.one(of_original), (status, b"", True), of_original[:60])

    def test_refused(self) -> None:
        """Malformed framing, targets and heads are rejected (threat 27)."""
        long = b"a" * 9000
        for request, status in (
            (b"nonsense\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
            (b"GET /list HTTP/2.0\r\n" + HOST, 400),
            (b"GET http://x/list HTTP/1.1\r\n" + HOST, 400),
            (b"GET /user/\xa1 HTTP/1.1\r\n" + HOST, 400),
            (b"GET /user/a\x00b HTTP/1.1\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\r\n\r\n", 400),
            (b"GET /list HTTP/1.1\r\nHost: y\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\r\nno colon\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\r\nX: y\r\n z\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\r\n X: y\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\nX: y\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\r\nX: y\nZ: w\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\r\nX: y\rZ: w\r\n" + HOST, 400),
            (b"GET /list HTTP/1.1\r\nX : y\r\n" + HOST, 400),
            (b"POST /name HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n" + HOST, 400),
            (b"POST /name HTTP/1.1\r\nContent-Length: -1\r\n" + HOST, 400),
            (
                b"POST /name HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n"
                + HOST,
                400,
            ),
            (b"POST /name HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + HOST, 400),
            (b"POST /name HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"zz\r\n", 400),
            (b"GET /" + long + b" HTTP/1.1\r\n" + HOST, 414),
            (b"GET /list HTTP/1.1\r\nX: " + long + b"\r\n" + HOST, 431),
            (b"GET /list HTTP/1.1\r\n" + b"X: y\r\n" * 600 + HOST, 400),
            (b"POST /name HTTP/1.1\r\nContent-Length: 16385\r\n" + HOST, 413),
            (b"POST /name HTTP/1.1\r\nContent-Length: 99999999999999999\r\n" + HOST, 413),
            (b"POST /name HTTP/1.1\r\ncontent-length:" + b"9" * 5000 + b"\r\n" + HOST, 400),
            (
                b"POST /name HTTP/1.1\r\n"
                + HOST[:-2]
                + b"Content-Length: "
                + b"0" * 20
                + b"\r\n\r\n",
                400,
            ),
        ):
            self.assert_refused(request, status)

    def test_which(self) -> None:
        """The detail of the problem says what the request must be."""
        length = b"Content-Length: 2\r\n"
        get, post = b"GET /list HTTP/1.1\r\n", b"POST /name HTTP/1.1\r\n"
        for request, detail in (
            (b"nonsense\r\n", REQUEST_LINE),
            (b"GET /list HTTP/2.0\r\n" + HOST, REQUEST_LINE),
            (b"GET http://x/list HTTP/1.1\r\n" + HOST, TARGET),
            (get + b"\r\n", ONE_HOST),
            (get + b"Host: y\r\n" + HOST, ONE_HOST),
            (get + b"no colon\r\n" + HOST, HEADERS),
            (get + b"X: y\r\n z\r\n" + HOST, NO_FOLDING),
            (get + b"X: y\r\n" * 600 + HOST, HEADERS),
            (post + length + length + HOST, ONE_LENGTH),
            (post + b"Content-Length: 99999999999999999999\r\n" + HOST, ONE_LENGTH),
            (post + b"Transfer-Encoding: gzip\r\n" + HOST, ONE_LENGTH),
            (post + length + b"X y\r\n" + HOST, HEADERS),
            (post + b"Transfer-Encoding: chunked\r\n" + HOST + b"zz\r\n", CHUNKS),
        ):
            self.assertEqual(json.loads(self.one(request)[1])["detail"], detail, request[:60])

    def test_wrong_names(self) -> None:
        """An invalid name gets an ordinary 400, and the connection stays open."""
        for name in (b"a%2Fb", b"..", b"%00", b"b%C3%B6b", b"a" * 33):
            self.assertEqual(
                self.one(b"GET /user/" + name + b" HTTP/1.1\r\n" + HOST), (400, b"", False), name
            )

    def test_expectation_of_a_long_body(self) -> None:
        """A client that expects `100 Continue` gets 413 for a body that is too long."""
        reply = Client(self.site).send(
            b"POST /name HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20000\r\n" + HOST
        )
        self.assertTrue(reply.startswith(b"HTTP/1.1 413"))
        self.assertNotIn(b"100 Continue", reply)

    def test_long_chunked_body(self) -> None:
        """Chunks are counted: 16 KiB are accepted, one byte more is not (threat 26)."""
        head = b"POST /name HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST
        full = head + b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        self.assertEqual(self.one(full + b"0\r\n\r\n")[0], 400)  # it is no JSON
        self.assert_refused(full + b"1\r\n \r\n0\r\n\r\n", 413)

    def test_nothing_after_a_refusal(self) -> None:
        """Bytes after a refused request are ignored."""
        client = Client(self.site)
        reply = client.send(b"nonsense\r\nGET /list HTTP/1.1\r\n" + HOST)
        self.assertEqual(reply.count(b"HTTP/1.1 "), 1)

    def test_nothing_after_an_original(self) -> None:
        """Bytes after a request that ends its connection are ignored."""
        client = Client(self.site)
        reply = client.send((b"GET list HTTP/1.1\r\n" + HOST) * 2)
        self.assertEqual(reply.count(b"HTTP/1.1"), 1)

    @settings(max_examples=examples(300))
    @given(
        st.lists(
            st.sampled_from(
                b"GET |POST |/list|name| HTTP/1.1|\r\n|\n|Host: x|Content-Length: 5|"
                b"Transfer-Encoding: chunked|: |\r\n\r\n|0|{}".split(b"|")
            )
            | st.binary(max_size=20)
        )
    )
    def test_any_bytes(self, parts: list[bytes]) -> None:
        """Any bytes are answered with HTTP, and nothing is raised or logged."""
        client = Client(self.site)
        for part in parts:
            reply = client.send(part)
            if reply:
                self.assertRegex(reply, rb"\AHTTP/1\.1 (1|2|4)\d\d ")
                self.assertNotIn(b"html", reply)
        client.leave()
        self.assertEqual(self.flushLoggedErrors(), [])


class DeadlineTests(SiteTestCase):
    """Every wait has an end (threat 25: slowloris, idle connections)."""

    def drip(self, client: Client, data: bytes, seconds: int) -> float:
        """Send a byte a second; return the seconds until the server closed the connection."""
        for second in range(seconds):
            client.send(data[second : second + 1])
            self.clock.advance(1)
            if client.closed:
                return second + 1
        return float("inf")

    def test_dripping_headers(self) -> None:
        """Headers have to arrive within 10 s; dripping bytes do not extend that, and the reply is 408."""
        client = Client(self.site)
        self.assertLessEqual(self.drip(client, b"GET /list HTTP/1.1\r\nX: " + b"y" * 99, 60), 11)
        self.assertTrue(client.transport.value().startswith(b"HTTP/1.1 408"))

    def test_dripping_body(self) -> None:
        """The whole request has to arrive within 20 s."""
        client = Client(self.site)
        client.send(b"POST /name HTTP/1.1\r\nContent-Length: 99\r\n" + HOST)
        self.assertLessEqual(self.drip(client, b" " * 99, 60), 21)

    def test_stalled_body(self) -> None:
        """The 20 s count from the request's first byte, wherever it stalls."""
        for seconds in (0, 9):
            client = Client(self.site)
            client.send(b"POST /name HTTP/1.1\r\nContent-Length: 99\r\n")
            self.clock.pump([1] * seconds)
            client.send(HOST)
            self.clock.pump([1] * (19 - seconds))
            self.assertFalse(client.closed)
            self.clock.pump([1] * 2)
            self.assertTrue(client.transport.value().startswith(b"HTTP/1.1 408"))

    def test_silence(self) -> None:
        """A connection without any request is closed, too."""
        client = Client(self.site)
        self.assertLessEqual(self.drip(client, b"", 60), 11)

    def test_idle(self) -> None:
        """A connection is closed after a minute without a request."""
        client = Client(self.site)
        for _ in range(3):
            client.send(b"GET /list HTTP/1.1\r\n" + HOST)
            self.clock.pump([1] * 59)
            self.assertFalse(client.closed)
        self.clock.pump([1] * 2)
        self.assertTrue(client.closed)

    def test_not_taking_the_reply(self) -> None:
        """A client that neither reads nor closes is disconnected."""
        client = Client(self.site)
        client.send(b"GET list HTTP/1.1\r\n" + HOST)
        self.assertFalse(client.transport.disconnected)
        self.clock.pump([1] * 6)
        self.assertTrue(client.transport.disconnected)

    def test_reply_that_never_comes(self) -> None:
        """A request that is never answered ends, too."""
        client = Client(self.make_site(SlowRoutes()))
        client.send(b"GET /list HTTP/1.1\r\n" + HOST)
        self.clock.pump([1] * 61)
        self.assertTrue(client.transport.disconnected)
