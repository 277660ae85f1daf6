"""The client of a registry: classic requests, invalid answers, connections and TLS."""

from __future__ import annotations

import errno
import json
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from service_identity import VerificationError
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock, StringTransport
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from p2pshare.classic.registration import Registration
from p2pshare.errors import (
    NameTaken,
    NoSuchPeer,
    P2pshareError,
    RegistryUnavailable,
    RegistryUnreachable,
)
from p2pshare.registry.client import NOT_A_REGISTRY, RegistryClient, pooled_agent
from p2pshare.web.client import BROKEN_OFF, LATE, NO_HTTP, TOO_LONG, TRY_HTTP, UNTRUSTED
from p2pshare.web.upgrade import HEAD_MAX
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.registry_answers import PAGE_MAX, Problem

URL = "http://registry.example:8000"
HERE, TOKEN = PeerAddress("10.0.0.5", 50000), "s" * 16
BOB = ("bob", HERE, TOKEN, 90)


class Canned(Resource):
    """A server that gives one reply, and records the requests."""

    isLeaf = True

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__()
        self.status, self.body = status, body
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def render(self, request: Request) -> bytes:
        assert request.content is not None
        self.asked.append((request.method, request.uri, request.content.read()))
        request.setResponseCode(self.status)
        return self.body


class Silent(Resource):
    """A server that never answers."""

    isLeaf = True

    def render(self, request: Request) -> int:
        return NOT_DONE_YET


@implementer(IAgent)
class Unreachable:
    """An agent that cannot connect."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[IResponse]:
        return fail(self.error)


class ClientTestCase(SynchronousTestCase):
    """A client of a registry with one reply."""

    def ask(self, status: int, body: bytes) -> tuple[RegistryClient, RequestTraversalAgent]:
        self.canned = Canned(status, body)
        agent = RequestTraversalAgent(self.canned)
        return RegistryClient(agent, URL, Clock()), agent

    def error_of(self, running: object) -> P2pshareError:
        failure = self.failureResultOf(Deferred.fromCoroutine(running), P2pshareError)  # type: ignore[arg-type]
        error = failure.value
        assert isinstance(error, P2pshareError)
        return error

    def reason_of(self, running: object) -> str:
        return str(self.error_of(running).fields["reason"])


class RegistryClientTests(ClientTestCase):
    """Valid answers."""

    def test_register(self) -> None:
        """The registration is sent unchanged."""
        client, _ = self.ask(200, b"")
        self.successResultOf(Deferred.fromCoroutine(client.register(*BOB)))
        self.assertEqual(self.canned.asked, [(b"POST", b"/name", Registration(*BOB).to_json())])

    def test_taken(self) -> None:
        """400 means that the name is taken."""
        client, _ = self.ask(400, b"")
        self.assertIsInstance(self.error_of(client.register(*BOB)), NameTaken)

    def test_look_up(self) -> None:
        """A look-up returns an address, or raises `NoSuchPeer`."""
        client, _ = self.ask(200, HERE.to_json())
        found = self.successResultOf(Deferred.fromCoroutine(client.look_up("bob")))
        self.assertEqual(found, HERE)
        self.assertEqual(self.canned.asked, [(b"GET", b"/user/bob", b"")])
        client, _ = self.ask(400, b"")
        self.assertIsInstance(self.error_of(client.look_up("bob")), NoSuchPeer)

    def test_list(self) -> None:
        """The list has every name."""
        client, _ = self.ask(200, b'["alice", "bob"]')
        names = self.successResultOf(Deferred.fromCoroutine(client.list_names()))
        self.assertEqual(names, ["alice", "bob"])
        self.assertEqual(self.canned.asked, [(b"GET", b"/list", b"")])


class WrongAnswerTests(ClientTestCase):
    """Any other answer is one of two errors."""

    def test_unavailable(self) -> None:
        """503 is `RegistryUnavailable`."""
        client, _ = self.ask(503, b"")
        for running in (client.register(*BOB), client.look_up("bob"), client.list_names()):
            self.assertIsInstance(self.error_of(running), RegistryUnavailable)

    def test_other_statuses(self) -> None:
        """A status that no registry sends is `RegistryUnreachable`."""
        client, _ = self.ask(404, b"<html>")
        for running in (client.register(*BOB), client.look_up("bob"), client.list_names()):
            self.assertIn("HTTP 404", self.reason_of(running))

    @given(st.binary(), st.sampled_from([200, 204, 301, 400, 418, 500, 503]))
    def test_any_body(self, body: bytes, status: int) -> None:
        """Any answer is a value or an error of ours."""
        client, _ = self.ask(status, body)
        for running in (client.register(*BOB), client.look_up("bob"), client.list_names()):
            done: list[object] = []
            asked: Deferred[object] = Deferred.fromCoroutine(running)
            asked.addErrback(lambda failure: failure.trap(P2pshareError))
            asked.addBoth(done.append)
            self.assertFalse(isinstance(done[0], Failure), done)

    def test_too_long(self) -> None:
        """A reply of a megabyte to a look-up is not read to its end."""
        client, agent = self.ask(200, b" " * 1_000_000)
        looking = Deferred.fromCoroutine(client.look_up("bob"))
        agent.flush()
        self.failureResultOf(looking, RegistryUnreachable)

    def test_silent(self) -> None:
        """A registry that does not answer in time is unreachable."""
        clock = Clock()
        agent = RequestTraversalAgent(Silent())
        client = RegistryClient(agent, URL, clock, timeout=5)
        looking = Deferred.fromCoroutine(client.look_up("bob"))
        clock.advance(4.9)
        self.assertNoResult(looking)
        clock.advance(0.2)
        agent.flush()
        failure = self.failureResultOf(looking, RegistryUnreachable)
        self.assertEqual(cast(P2pshareError, failure.value).fields["reason"], LATE)

    def test_silent_about_the_list(self) -> None:
        """The list may take 30 s, but has to begin as soon as other replies."""
        clock = Clock()
        agent = RequestTraversalAgent(Silent())
        client = RegistryClient(agent, URL, clock, timeout=5)
        listing = Deferred.fromCoroutine(client.list_names())
        clock.advance(4.9)
        self.assertNoResult(listing)
        clock.advance(0.2)
        agent.flush()
        self.failureResultOf(listing, RegistryUnreachable)

    def test_slow_list(self) -> None:
        """A list that has begun may take 30 s, and not more."""
        reactor = MemoryReactorClock()
        agent, _ = pooled_agent(reactor)
        client = RegistryClient(agent, "http://127.0.0.1:8000", reactor, timeout=5)
        listing = Deferred.fromCoroutine(client.list_names())
        protocol = cast(Protocol, reactor.tcpClients[0][2].buildProtocol(None))
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[")
        reactor.advance(29)
        self.assertNoResult(listing)
        reactor.advance(2)
        self.failureResultOf(listing, RegistryUnreachable)

    def test_another_server(self) -> None:
        """A web page is recognized as no answer of a registry."""
        client, _ = self.ask(200, b"<html>")
        for running in (client.look_up("bob"), client.list_names()):
            self.assertEqual(self.reason_of(running), NOT_A_REGISTRY)

    def test_cancelled(self) -> None:
        """A request that is cancelled fails with `CancelledError`, not with an error of the registry."""
        agent = RequestTraversalAgent(Silent())
        looking = Deferred.fromCoroutine(RegistryClient(agent, URL, Clock()).look_up("bob"))
        looking.cancel()
        self.failureResultOf(looking, CancelledError)
        agent.flush()

    def test_cancelled_while_looking_for_the_host(self) -> None:
        """The same applies during the look-up of the host, which Twisted reports as failed."""

        class Resolving(Unreachable):
            def request(self, *_: object) -> Deferred[IResponse]:
                return Deferred(lambda d: d.errback(DNSLookupError()))

        client = RegistryClient(Resolving(DNSLookupError()), URL, Clock())
        looking = Deferred.fromCoroutine(client.look_up("bob"))
        looking.cancel()
        self.failureResultOf(looking, CancelledError)

    def test_refused(self) -> None:
        """A refused connection has its own reason, with the port if the URL has none."""
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        client = RegistryClient(Unreachable(refused), URL, Clock())
        reason = self.reason_of(client.look_up("bob"))
        self.assertEqual(reason, "nothing listens there")
        for url, port in (("http://nas.lan", 80), ("https://nas.lan", 443)):
            client = RegistryClient(Unreachable(refused), url, Clock())
            self.assertEqual(self.reason_of(client.look_up("bob")), f"{reason}, at port {port}")

    def test_logged(self) -> None:
        """Requests are logged for `--debug` with status, problem and cause, and without their body."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        self.error_of(RegistryClient(Unreachable(refused), URL, Clock()).look_up("bob"))
        problem = Problem(503, "x", "Not now", "Redis is away").to_json()
        client, agent = self.ask(503, problem)
        looking = Deferred.fromCoroutine(client.register(*BOB))
        agent.flush()
        self.failureResultOf(looking, RegistryUnavailable)
        first, second = [str(formatEvent(each)) for each in observer]
        self.assertRegex(first, rf"^not answered: request='GET {URL}/user/bob' s=0.000 .*111: Conn")
        self.assertEqual(
            second.partition(" bytes")[0], f"answered: request='POST {URL}/name' status=503 s=0.000"
        )
        self.assertIn("detail='Redis is away'", second)
        self.assertNotIn(TOKEN, f"{first}{second}")

    def test_unreachable(self) -> None:
        """Every failure of a connection is `RegistryUnreachable`."""
        for error in (
            ConnectionRefusedError(),
            DNSLookupError(),
            ResponseNeverReceived([Failure(ConnectionRefusedError())]),
        ):
            client = RegistryClient(Unreachable(error), URL, Clock())
            self.assertIsInstance(self.error_of(client.look_up("bob")), RegistryUnreachable)


class TlsTests(ClientTestCase):
    """Failures of TLS, as pyOpenSSL and service_identity raise them."""

    def test_told_as_such(self) -> None:
        """An untrusted certificate, one for another host, and a server without TLS have their own reasons."""
        untrusted = SSL.Error([("SSL routines", "", "certificate verify failed")])
        for error, told in (
            (untrusted, UNTRUSTED),
            (VerificationError([]), "its certificate is for another host"),
            (SSL.Error([("SSL routines", "", "wrong version number")]), TRY_HTTP),
            (SSL.Error(), TRY_HTTP),
        ):
            never = ResponseNeverReceived([Failure(error)])
            client = RegistryClient(Unreachable(never), URL, Clock())
            self.assertIn(told, self.reason_of(client.look_up("bob")))

    def test_silent(self) -> None:
        """A plain HTTP server may never answer the hello of TLS; the error mentions http://."""
        clock = Clock()
        agent = RequestTraversalAgent(Silent())
        client = RegistryClient(agent, "https://registry.example:8000", clock, timeout=5)
        looking = Deferred.fromCoroutine(client.look_up("bob"))
        clock.advance(5.1)
        agent.flush()
        failure = self.failureResultOf(looking, RegistryUnreachable)
        self.assertIn("http://", str(cast(P2pshareError, failure.value).fields["reason"]))


class ConnectionTests(SynchronousTestCase):
    """The client over its own agent, on a network in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.pool_agent, self.pool = pooled_agent(self.reactor)
        client = RegistryClient(self.pool_agent, "http://127.0.0.1:8000", self.reactor, timeout=2)
        self.looking = Deferred.fromCoroutine(client.look_up("bob"))

    def test_quiet(self) -> None:
        """Twisted's factories do not log each connection."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        self.reactor.tcpClients[0][2].doStart()
        self.assertEqual([formatEvent(event) for event in observer], [])

    def connected(self) -> Protocol:
        """Accept the connection of the client, and return its protocol."""
        factory = self.reactor.tcpClients[0][2]
        protocol = cast(Protocol, factory.buildProtocol(None))
        protocol.makeConnection(StringTransport())
        return protocol

    def reason(self) -> str:
        error = self.failureResultOf(self.looking, RegistryUnreachable).value
        assert isinstance(error, RegistryUnreachable)
        return str(error.fields["reason"])

    def test_connections_logged(self) -> None:
        """Connections are logged at debug level with address and outcome."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        self.connected()
        self.assertEqual([each["log_level"] for each in observer], [LogLevel.debug])
        self.assertRegex(
            str(formatEvent(observer[0])), "^connected: to=http://127.0.0.1:8000 address="
        )

    def test_never_connected(self) -> None:
        """A machine that does not accept the connection in time is unreachable."""
        self.reactor.advance(1.9)
        self.assertNoResult(self.looking)
        self.reactor.advance(0.2)
        self.assertEqual(self.reason(), LATE)

    def test_cancelled_while_connecting(self) -> None:
        """A request that is cancelled during the connection fails with `CancelledError`."""
        self.looking.cancel()
        self.failureResultOf(self.looking, CancelledError)

    def test_broken_off(self) -> None:
        """A connection that ends too early has one reason, wherever and however it ends."""
        for begun, ended in (
            (b"", CONNECTION_DONE),
            (b"", CONNECTION_LOST),
            (b"HTTP/1.1 20", CONNECTION_LOST),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", CONNECTION_DONE),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", CONNECTION_DONE),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", CONNECTION_LOST),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", CONNECTION_LOST),
            (b"HTTP/1.1 200 OK\r\n\r\n{", CONNECTION_LOST),
        ):
            self.setUp()
            protocol = self.connected()
            protocol.dataReceived(begun)
            protocol.connectionLost(Failure(ended))
            self.assertEqual(self.reason(), BROKEN_OFF, begun)

    def test_long_head(self) -> None:
        """A reply whose head does not end is cut off."""
        for said in (b"X: " + b"y" * 1000 + b"\r\n", b" folded" * 100 + b"\r\n"):
            self.setUp()
            protocol = self.connected()
            protocol.dataReceived(b"HTTP/1.1 200 OK\r\nA: b\r\n")
            transport = cast(StringTransport, protocol.transport)
            sent = 0
            while not transport.disconnecting and sent < 10 * HEAD_MAX:
                protocol.dataReceived(said)
                sent += len(said)
            self.assertLess(sent, HEAD_MAX + len(said))
            protocol.connectionLost(Failure(CONNECTION_LOST))
            self.assertEqual(self.reason(), TOO_LONG)

    def test_pages(self) -> None:
        """A list of many pages comes over one connection, also if each page arrives in one piece."""
        client = RegistryClient(self.pool_agent, "http://127.0.0.1:8000", self.reactor, timeout=2)
        self.looking.cancel()
        self.failureResultOf(self.looking, CancelledError)
        self.reactor.tcpClients.clear()
        names: list[str] = []

        async def read() -> None:
            names.extend([each.name async for each in client.peers()])

        reading = Deferred.fromCoroutine(read())
        protocol = self.connected()
        pages = [[f"peer-{page}-{number:03}" for number in range(PAGE_MAX)] for page in range(3)]
        for page in pages:
            self.assertNoResult(reading)
            rows = [
                {"name": name, "kind": "owned", "presence": "online", "since": 1} for name in page
            ]
            body = json.dumps({"peers": rows, "next": page[-1] if page is not pages[-1] else None})
            self.assertGreater(len(body), HEAD_MAX)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            protocol.dataReceived((head + body).encode())
        self.successResultOf(reading)
        self.assertEqual(names, [name for page in pages for name in page])
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_no_http(self) -> None:
        """A server of another protocol is recognized."""
        for said in (b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 ok\r\n", b"220 mail ready\r\n"):
            self.setUp()
            protocol = self.connected()
            protocol.dataReceived(said)
            protocol.connectionLost(Failure(CONNECTION_DONE))
            self.assertEqual(self.reason(), NO_HTTP, said)
