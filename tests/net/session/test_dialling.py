"""Tests of `p2pshare.net.session.dialling`, against honest and other servers on the loopback interface."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import (
    ClientFactory,
    Factory,
    Protocol,
    ServerFactory,
    connectionDone,
)
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    NoSessionThere,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    SessionLost,
    SessionPostponed,
    SessionRefused,
)
from p2pshare.net.session.dialling import NO_TLS, accept_session, open_session
from p2pshare.net.session.interfaces import OwnedSession
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tcp import MESSAGE_READ, TcpCarrier
from p2pshare.net.session.tls import (
    RECORD_MAX,
    SessionTls,
    TlsClosed,
    TlsFailed,
    TlsPump,
    certificate_of,
)
from p2pshare.testing.sessions import RecordingOwner, RecordingUser
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import Refusal
from p2pshare.wire.transfer_messages import Get
from tests.net.session.test_tls import AnyPeer, private, stranger, with_certificate
from tests.net.session_pairs import ALICE, BOB, EVE

reactor: Any = global_reactor


class Collecting(Protocol):
    """A server that records what it receives, and sends what a test wants."""

    def __init__(self, test: ClientTests) -> None:
        self._test = test

    def connectionMade(self) -> None:
        self._test.connections.append(self)
        self.write(self._test.greeting)

    def dataReceived(self, data: bytes) -> None:
        self._test.received += data
        self.write(self._test.answer(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._test.lost.append(reason)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def end(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class ClientTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.connections: list[Collecting] = []
        self.received = b""
        self.lost: list[Failure] = []
        self.greeting = b""
        self.answer: Callable[[bytes], bytes] = lambda _: b""
        self.owner = RecordingOwner()

    def listen(self, build: Callable[[], Protocol]) -> PeerAddress:
        """Return the address of a new server."""

        class Building(ServerFactory):
            def buildProtocol(self, addr: object) -> Protocol:
                return build()

        port = reactor.listenTCP(0, Building(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return PeerAddress("127.0.0.1", port.getHost().port)

    def plain(self) -> PeerAddress:
        """Return the address of a server without TLS."""
        return self.listen(lambda: Collecting(self))

    def tls_server(self, context: SSL.Context) -> tuple[PeerAddress, bytearray]:
        """Return the address of a server with another TLS, and the plaintext that it reads."""
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        pump, read = TlsPump(connection, AnyPeer(None)), bytearray()
        buffer = memoryview(bytearray(RECORD_MAX))

        def answer(data: bytes) -> bytes:
            pump.receive_data(data)
            try:
                if not pump.is_ready:
                    pump.shake_hands()
                while pump.is_ready and (size := pump.read_into(buffer)):
                    read.extend(buffer[:size])
            except (TlsFailed, TlsClosed):
                self.connections[0].end()
            return pump.data_to_send()

        self.answer = answer
        return self.plain(), read

    def sharer(self, key: SigningKey = ALICE) -> PeerAddress:
        """Return the address of an honest acceptor."""

        def build() -> Protocol:
            driver = accept_session(reactor, self.owner, silence=60.0, idle=600.0, greeting=10.0)
            return TcpCarrier(
                StreamChannel(reactor, SessionTls(key).accept(), driver), MESSAGE_READ
            )

        return self.listen(build)

    def open(
        self, address: PeerAddress, key: SigningKey = BOB, **settings: Any
    ) -> Deferred[Session]:
        opening = open_session(
            reactor, key, "alice", address, ALICE.public, credit=1000, **settings
        )
        return Deferred.fromCoroutine(opening)

    async def fails(self, opening: Deferred[Session], kind: type[P2pshareError]) -> P2pshareError:
        """Wait for a failure, and return the error."""
        with self.assertRaises(kind) as caught:
            await opening
        error: P2pshareError = caught.exception
        return error

    async def failed(self, address: PeerAddress, kind: type[P2pshareError]) -> P2pshareError:
        """Open a session that fails, and return the error."""
        return await self.fails(self.open(address), kind)

    async def ended(self, session: Session) -> None:
        """Close a session, and wait until it is over."""
        over: Deferred[None] = Deferred()
        listener = RecordingUser(session)
        listener.on_end = lambda: over.callback(None)
        session.begin(listener)
        session.close()
        await over
        self.assertEqual(listener.ends, [None])

    async def test_open(self) -> None:
        """A session is open once the other end has welcomed it."""
        session = await self.open(self.sharer())
        self.assertEqual((session.name, session.key), ("alice", ALICE.public))
        self.assertEqual([each.credit for each in self.owner.hellos], [1000])
        self.assertEqual(self.owner.sessions, 1)
        await self.ended(session)

    async def test_impostor(self) -> None:
        """Threats 15 and 16: another key at the address is an error with both keys, and reads nothing."""
        for context in (
            stranger(with_certificate(certificate_of(EVE), private(EVE))),
            SessionTls(EVE)._context,
        ):
            self.connections.clear()
            address, read = self.tls_server(context)
            observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
            error = await self.failed(address, OtherKeyThere)
            told = [str(formatEvent(each)) for each in observer if "peer" in each]
            self.assertRegex(told[0], rf"^connected: peer=alice carrier=tcp address={address} s=")
            self.assertRegex(told[-1], rf"^session ended: .*key there: {EVE.public}")
            keys = ALICE.public.grouped, EVE.public.grouped
            self.assertEqual((error.fields["known"], error.fields["there"]), keys)
            self.assertEqual(OtherKeyThere.exit_code, 3)
            self.assertEqual(read, b"")
            self.assertNotIn(BOB.public.raw, self.received)
            self.assertNotIn(b"hello", self.received)

    async def test_not_before_welcome(self) -> None:
        """Threat 17: a handshake without a welcome is not a session."""
        context = stranger(with_certificate(certificate_of(ALICE), private(ALICE)))
        address, read = self.tls_server(context)
        answer, heard = self.answer, Deferred[None]()

        def listen(data: bytes) -> bytes:
            reply = answer(data)
            if b"hello" in read and not heard.called:
                heard.callback(None)
            return reply

        self.answer = listen
        opening = self.open(address)
        await heard
        self.assertFalse(opening.called)
        self.connections[0].end()
        await self.fails(opening, SessionLost)

    async def test_judged_late(self) -> None:
        """Threat 17: an opener whose certificate is refused after its own handshake learns of it."""

        def strict(context: SSL.Context) -> None:
            with_certificate(certificate_of(ALICE), private(ALICE))(context)
            context.set_min_proto_version(SSL.TLS1_3_VERSION)
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: False)

        address, read = self.tls_server(stranger(strict))
        await self.failed(address, SessionLost)
        self.assertEqual(read, b"")

    async def test_refusals(self) -> None:
        """Each refusal has its error."""
        address = self.sharer()
        for why, kind in (
            (Refusal.STRANGER, SessionRefused),
            (Refusal.CHANGED, SessionRefused),
            (Refusal.BUSY, SessionPostponed),
            (Refusal.LATER, SessionPostponed),
        ):
            self.owner.on_greeted = lambda stream, why=why: stream.refuse(why, 9)  # type: ignore[misc]
            await self.failed(address, kind)

    async def test_plaintext(self) -> None:
        """Threat 36: a server without TLS receives a handshake and nothing else."""
        self.greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        address = self.plain()
        error = await self.failed(address, NoSessionThere)
        self.assertEqual(error.fields["reason"], NO_TLS)
        self.assertNotIn(b'hello"', self.received)

    async def test_no_alpn(self) -> None:
        """A TLS server with the right key but another protocol accepts no sessions."""
        context = stranger(with_certificate(certificate_of(ALICE), private(ALICE)))
        context.set_alpn_select_callback(lambda *_: SSL.NO_OVERLAPPING_PROTOCOLS)
        address, read = self.tls_server(context)
        await self.failed(address, NoSessionThere)
        self.assertEqual(read, b"")

    async def test_old_tls(self) -> None:
        """Threat 36: a server without TLS 1.3 accepts no sessions."""
        context = stranger(with_certificate(certificate_of(ALICE), private(ALICE)))
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        address, _ = self.tls_server(context)
        await self.failed(address, NoSessionThere)

    async def test_hangs_up(self) -> None:
        """A server that hangs up at once accepts no sessions."""
        address = self.plain()

        def hang_up(_: bytes) -> bytes:
            self.connections[0].end()
            return b""

        self.answer = hang_up
        await self.failed(address, NoSessionThere)

    async def test_nobody(self) -> None:
        """A port on which nothing listens is unreachable."""
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        address = PeerAddress("127.0.0.1", port.getHost().port)
        await port.stopListening()
        await self.failed(address, PeerUnreachable)

    async def test_reset_at_once(self) -> None:
        """Threat 32: a reset during connection, as in a crowd, does not count as unreachable."""

        class Resetting:
            seconds = staticmethod(reactor.seconds)

            def connectTCP(  # noqa: N802
                self, _ip: str, _port: int, factory: ClientFactory, **_options: Any
            ) -> None:
                failed = Failure(ConnectError(errno.ECONNRESET, "reset"))
                factory.clientConnectionFailed(cast("Any", None), failed)

        with self.assertRaises(NoSessionThere):
            await open_session(
                cast("Any", Resetting()),
                BOB,
                "alice",
                PeerAddress("127.0.0.1", 1),
                ALICE.public,
                credit=1,
            )

    async def test_cancelled(self) -> None:
        """Cancelling leaves no connection behind."""
        address = self.plain()
        arrived: Deferred[None] = Deferred()

        def arrive(_: bytes) -> bytes:
            arrived.callback(None)
            return b""

        self.answer = arrive
        opening = self.open(address)
        await arrived
        opening.cancel()
        with self.assertRaises(CancelledError):
            await opening
        gone: Deferred[None] = Deferred()
        self.connections[0].connectionLost = lambda *_: gone.callback(None)  # type: ignore[method-assign]
        await gone
        self.assertFalse([each for each in reactor.getDelayedCalls() if "_timer_due" in str(each)])

    async def test_large(self) -> None:
        """Megabytes arrive complete through a kernel that takes them in parts."""
        block = memoryview(bytes(range(256)) * 4096)
        size, sent = 8 * len(block), [0]
        sharing: list[OwnedSession] = []
        server = RecordingUser()

        def feed() -> None:
            while sent[0] < size and sharing[0].has_room:
                start = sent[0] % len(block)
                sharing[0].send_data(1, sent[0], block[start : start + 2**18])
                sent[0] += 2**18

        def welcome(stream: OwnedSession) -> None:
            sharing.append(stream)
            stream.welcome("bob", 0)
            stream.begin(server)

        server.on_message, server.on_room = (lambda _: feed()), feed
        self.owner.on_greeted = welcome
        session = await self.open(self.sharer())
        done: Deferred[None] = Deferred()
        listener, total = RecordingUser(session), [0]

        def received(transfer: int, offset: int, data: memoryview) -> None:
            assert offset == total[0]
            assert data == block[offset % len(block) :][: len(data)]
            total[0] += len(data)
            if total[0] == size:
                done.callback(None)

        listener.data_received = received  # type: ignore[method-assign]
        over: Deferred[None] = Deferred()
        listener.on_end = lambda: over.callback(None)
        session.begin(listener)
        session.send(Get(1, ("x",)))
        await done
        session.close()
        await over
        self.assertEqual((total[0], listener.ends, server.ends), (size, [None], [None]))
