"""A connection that is upgraded from HTTP to another protocol."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2pshare.web.connections import PATIENCE
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.web.upgrade import UpgradeRequest
from tests import examples
from tests.registry.certificates import write_certificate
from tests.registry.connections import Client, SiteTestCase, SlowRoutes

reactor: Any = global_reactor
UPGRADE = b"Connection: keep-alive, Upgrade\r\nUpgrade: Echo, other\r\nHost: x\r\n\r\n"
ASK = b"GET /echo HTTP/1.1\r\n" + UPGRADE
PARTS = (
    b"HTTP/1.1 ", b"101 ", b"200 OK", b"100 x", b"\r\n", b"\r\n\r\n", b"Upgrade: echo", b"Content-Length: ", b"3",
    b":", b"\xff",
)  # fmt: skip
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n"
YEAR = 365 * 24 * 3600.0  # seconds


class Echo(Protocol):
    """Sends back what it receives, in upper case, and reads only as fast as that is read."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ends = 0

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self.transport.write(b"hi ")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.transport.write(data.upper())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ends += 1

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        pass


class EchoRoutes:
    """Upgrades every connection that offers it, at once."""

    def __init__(self) -> None:
        self.made: list[Echo] = []

    def make(self) -> Echo:
        self.made.append(Echo())
        return self.made[-1]

    @property
    def reply(self) -> Reply:
        return Reply(101, headers=((b"Upgrade", b"echo"),), upgrade=self.make)

    def answer(self, query: Query) -> Deferred[Reply]:
        return succeed(self.reply if "echo" in query.upgrades else Reply(426))


class UpgradeTests(SiteTestCase):
    """In memory."""

    def setUp(self) -> None:
        super().setUp()
        self.routes = EchoRoutes()
        self.site = self.make_site(self.routes)

    def test_head(self) -> None:
        """The reply has the status 101 and names the protocol; from then on the connection belongs to the protocol."""
        client = Client(self.site)
        head, _, rest = client.send(ASK).partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(SWITCHED))
        self.assertIn(b"\r\nConnection: Upgrade\r\nUpgrade: echo", head)
        self.assertNotIn(b"Content-", head)
        self.assertEqual(rest, b"hi ")
        self.assertEqual(client.send(b"GET / HTTP/1.1\r\n\r\n"), b"GET / HTTP/1.1\r\n\r\n")

    def test_bytes_that_follow_at_once(self) -> None:
        """Bytes directly behind the request reach the protocol, wherever they are split, also if the reply is late."""
        sent = ASK + b"abc\r\n\r\n\0"
        for cut in range(1, len(sent)):
            client = Client(self.site)
            got = client.send(sent[:cut]) + client.send(sent[cut:])
            self.assertEqual(got.partition(b"\r\n\r\n")[2], b"hi ABC\r\n\r\n\0", cut)
        routes = SlowRoutes()
        client = Client(self.make_site(routes))
        self.assertEqual(client.send(ASK + b"a") + client.send(b"b" * 20_000), b"")
        self.assertEqual(client.transport.producerState, "paused")
        routes.asked[0].callback(self.routes.reply)
        self.assertEqual(client.transport.producerState, "producing")
        got = client.transport.value().partition(b"\r\n\r\n")[2]
        self.assertEqual(got, b"hi A" + b"B" * 20_000)

    def test_after_another_request(self) -> None:
        """A connection can be upgraded after it has served other requests, also pipelined ones."""
        plain = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
        got = Client(self.site).send(plain + plain + ASK + b"x")
        self.assertEqual(got.count(b"HTTP/1.1 426"), 2)
        self.assertTrue(got.endswith(b"hi X"))

    def test_not_offered(self) -> None:
        """Without the offer in both headers, by HTTP/1.0 and by HEAD, nothing is upgraded (RFC 9110, section 7.8)."""
        for request in (
            b"GET /echo HTTP/1.0\r\n" + UPGRADE,
            b"HEAD /echo HTTP/1.1\r\n" + UPGRADE,
            b"GET /echo HTTP/1.1\r\nConnection: Upgrade\r\nHost: x\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nUpgrade: echo\r\nHost: x\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nConnection: upgraded\r\nUpgrade: echo\r\nHost: x\r\n\r\n",
            b"GET /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHost: x\r\n\r\n",
        ):
            self.assertIn(b" 426 ", Client(self.site).send(request), request)
        self.assertEqual(self.routes.made, [])

    def test_deadlines_end(self) -> None:
        """The deadlines of HTTP end with the upgrade; that of the reply holds until then."""
        routes = SlowRoutes()
        slow, upgraded = Client(self.make_site(routes)), Client(self.site)
        slow.send(ASK)
        upgraded.send(ASK)
        self.clock.pump([1.0] * 61)
        self.clock.advance(YEAR)
        self.assertEqual((slow.closed, upgraded.closed), (True, False))
        self.assertEqual(upgraded.send(b"a"), b"A")

    def test_counts(self) -> None:
        """An upgraded connection counts like any other, and never makes room for one."""
        self.limits = Limits(connections_max=2, connections_per_address_max=2)
        site = self.make_site(self.routes)
        clients = [Client(site) for _ in range(2)]
        for client in clients:
            client.send(ASK)
        self.clock.advance(2 * PATIENCE)
        self.assertIsNone(Client(site).channel)
        self.assertEqual(len(site.connections), 2)
        clients[0].leave()
        self.assertEqual(len(site.connections), 1)
        self.assertEqual([each.ends for each in self.routes.made], [1, 0])
        self.assertIsNotNone(Client(site).channel)

    def test_client_leaves(self) -> None:
        """A route hears of a client that leaves before the reply; then no protocol is made."""
        gone: list[bool] = []

        class Routes(SlowRoutes):
            def answer(self, query: Query) -> Deferred[Reply]:
                query.when_gone(lambda: gone.append(True))
                return super().answer(query)

        routes = Routes()
        client = Client(self.make_site(routes))
        client.send(ASK)
        self.assertEqual(gone, [])
        client.leave()
        self.assertEqual(gone, [True])
        routes.asked[0].callback(self.routes.reply)
        self.assertEqual(self.routes.made, [])

    def test_end_of_the_server(self) -> None:
        """When the server stops, upgraded connections are closed."""
        site = Site(self.routes, self.clock)
        site.doStart()
        client = Client(site)
        client.send(ASK)
        site.doStop()
        self.assertTrue(client.transport.disconnected)


class ClientTests(SynchronousTestCase):
    """The client's side of an upgrade; `tests.registry.test_relay_client` has it on sockets."""

    def request(self) -> tuple[UpgradeRequest, StringTransport, list[Echo]]:
        """Return a request, its transport, and the protocols that were made."""
        made: list[Echo] = []

        def make() -> Echo:
            made.append(Echo())
            return made[-1]

        request, transport = UpgradeRequest(ASK, "echo", make), StringTransport()
        request.makeConnection(transport)
        self.assertEqual(transport.value(), ASK)
        return request, transport, made

    def test_split_anywhere(self) -> None:
        """The reply may come in any pieces, after interim ones, and with bytes for the other protocol behind it."""
        reply = (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            + SWITCHED
            + b"upgrade: Echo\r\n\r\n\r\nab"
        )
        for cut in range(1, len(reply)):
            request, _, made = self.request()
            request.dataReceived(reply[:cut])
            request.dataReceived(reply[cut:])
            self.assertIsNone(self.successResultOf(request.done))
            self.assertEqual(made[0].received, b"\r\nab")
            request.connectionLost()
            self.assertEqual(made[0].ends, 1)

    @settings(max_examples=examples(50), deadline=None)
    @given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=9), max_size=12))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Threat 6: whatever a server answers, the request is upgraded, refused or broken, once, and raises nothing."""
        request, transport, made = self.request()
        results: list[object] = []
        request.done.addBoth(results.append)
        for piece in pieces:
            if not transport.disconnected:
                request.dataReceived(piece)
        request.connectionLost()
        self.assertEqual(len(results), 1)
        self.assertEqual(bool(made), results == [None])


class Collector(Protocol):
    """A client that waits for so many bytes after the head."""

    transport: Any

    def __init__(self, size: int) -> None:
        self.size = size
        self.head = self.body = b""
        self.done: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.body += data
        if not self.head and b"\r\n\r\n" in self.body:
            self.head, _, self.body = self.body.partition(b"\r\n\r\n")
        if self.head and len(self.body) >= self.size and not self.done.called:
            self.done.callback(None)


class TlsTests(TestCase):
    """On a real socket, with TLS."""

    timeout = 20

    async def test_tls(self) -> None:
        """Over an endpoint with TLS, bytes behind the request arrive, and nothing is lost in either direction."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        pem = write_certificate(folder / "both.pem").read_bytes()
        key: Any = load_pem_private_key(pem, None)
        certificate: Any = x509.load_pem_x509_certificate(pem)
        options = CertificateOptions(key, certificate)
        listening = SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1")
        port = await listening.listen(Site(EchoRoutes(), reactor))
        self.addCleanup(port.stopListening)
        sent = bytes(range(97, 123)) * 40_000
        collector = Collector(len(sent) + 3)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await connectProtocol(wrapClientTLS(CertificateOptions(), endpoint), collector)
        collector.transport.write(ASK + sent)
        await collector.done
        self.assertTrue(collector.head.startswith(SWITCHED))
        self.assertEqual(collector.body, b"hi " + sent.upper())
        ended: Deferred[None] = Deferred()
        collector.connectionLost = lambda reason=None: ended.callback(None)  # type: ignore[method-assign]
        collector.transport.abortConnection()
        await ended
