"""Tests of `p2pshare.peer.share.acceptor`, over the loopback interface."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

from OpenSSL import SSL
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2pshare.core import message_budget
from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    LocalProtocolError,
    OtherKeyThere,
    P2pshareError,
    PortUnusable,
    SessionLost,
    SessionPostponed,
    SessionRefused,
)
from p2pshare.net.session.dialling import open_session
from p2pshare.net.session.tls import TlsFailed, TlsPump, certificate_of
from p2pshare.peer.share.acceptor import SessionAcceptor, SessionLimits
from p2pshare.peer.share.admission import NotAdmitted
from p2pshare.testing.sessions import RecordingUser
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import Credit, Message, Refusal, Refused
from p2pshare.wire.transfer_messages import Failed, Fault, Get
from tests.net.session.test_tls import AnyPeer, private, stranger, with_certificate
from tests.net.session_pairs import ALICE, BOB, EVE

reactor: Any = global_reactor
NAMES = {BOB.public: "bob", EVE.public: "eve"}


class LimitsTests(SynchronousTestCase):
    def test_few_open_files(self) -> None:
        """A low limit on open files leaves fewer sessions, so that files can still be opened."""
        for limit, total, half_open in ((64, 10, 5), (30, 1, 1), (8192, 500, 256)):
            with mock.patch.object(resource, "getrlimit", return_value=(limit, limit)):
                limits = SessionLimits().within_open_files()
            self.assertEqual((limits.total, limits.half_open), (total, half_open))


class Raw(Protocol):
    """A client that sends any bytes."""

    def __init__(self, says: bytes = b"") -> None:
        self._says = says
        self.received = b""
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.write(self._says)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class RawTls(Raw):
    """A client with a TLS context of its own."""

    def __init__(self, context: SSL.Context) -> None:
        super().__init__()
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        self.pump = TlsPump(connection, AnyPeer(None))

    def connectionMade(self) -> None:
        self.dataReceived(b"")

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if data:
            self.pump.receive_data(data)
        with contextlib.suppress(TlsFailed):
            self.pump.shake_hands()
        self.write(self.pump.data_to_send())


class ServerTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.key = ALICE
        self.admit: Callable[[PublicKey], Any] = self.admit_by_name
        self.users: list[RecordingUser] = []
        self.over: list[Session] = []
        self.raws: list[Raw] = []

    async def admit_by_name(self, key: PublicKey, said: str = "", _purpose: object = None) -> str:
        if key not in NAMES:
            raise NotAdmitted(Refusal.STRANGER)
        return NAMES[key]

    def serve(self, session: Session) -> RecordingUser:
        user = RecordingUser(session)
        user.on_message = lambda message: self.answer(session, message)
        self.users.append(user)
        return user

    def answer(self, session: Session, message: Message) -> None:
        if isinstance(message, Get):
            session.send(Failed(message.id, Fault.NOT_FOUND))

    def server(self, **limits: Any) -> SessionAcceptor:
        server = SessionAcceptor(
            reactor,
            lambda: self.key,
            lambda key, _said, _purpose: self.admit(key),
            self.serve,
            SessionLimits(**limits),
        )
        self.successResultOf(Deferred.fromCoroutine(server.listen(0, "127.0.0.1")))
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        self.address = PeerAddress("127.0.0.1", server.port)
        return server

    def open(self, key: SigningKey = BOB, **settings: Any) -> Deferred[Session]:
        expected = settings.pop("expected", self.key.public)
        opening = open_session(
            reactor, key, "alice", self.address, expected, credit=1000, **settings
        )
        return Deferred.fromCoroutine(opening)

    async def opened(self, key: SigningKey = BOB) -> tuple[Session, RecordingUser]:
        session = await self.open(key)
        listener = RecordingUser(session)
        session.begin(listener)
        self.addCleanup(self.close, session, listener)
        return session, listener

    async def close(self, session: Session, listener: RecordingUser) -> None:
        if not listener.ends:
            over: Deferred[None] = Deferred()
            listener.on_end = lambda: over.callback(None)
            session.close()
            await over

    async def refused(self, kind: type[P2pshareError], key: SigningKey = BOB) -> None:
        with self.assertRaises(kind):
            await self.open(key)

    async def connected(self, raw: Raw, host: str = "127.0.0.1") -> Raw:
        """Connect a client from an IP address; it is disconnected in the end."""
        made: Deferred[None] = Deferred()

        class Connecting(Factory):
            def buildProtocol(self, addr: object) -> Protocol:
                reactor.callLater(0, made.callback, None)
                return raw

        connector = reactor.connectTCP(
            "127.0.0.1", self.address.port, _as_client(Connecting()), bindAddress=(host, 0)
        )
        self.addCleanup(connector.disconnect)
        await made
        return raw

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the reactor turn until a condition holds."""
        while not condition():
            await deferLater(reactor, 0)

    async def works(self, key: SigningKey = BOB) -> None:
        """An honest opener gets a session and an answer."""
        session, listener = await self.opened(key)
        session.send(Get(7, ("x",)))
        await self.until(lambda: bool(listener.messages))
        self.assertEqual(listener.messages, [Failed(7, Fault.NOT_FOUND)])
        await self.close(session, listener)

    async def test_session(self) -> None:
        """An admitted opener is served, under its name in the registry and with the credit that it gives."""
        server = self.server()
        session, _ = await self.opened()
        (user,) = self.users
        assert user.session is not None
        self.assertEqual((user.session.name, user.session.key), ("bob", BOB.public))
        self.assertEqual((server.sessions, server.half_open), (1, 0))
        session.send(Get(1, ("x",)))
        await self.until(lambda: user.messages == [Get(1, ("x",))])
        self.assertEqual(user.credit, 1000)

    async def test_early(self) -> None:
        """Requests that come with the greeting are answered once the opener is admitted."""
        self.server()
        session = await self.open(early=[Get(5, ("x",))])
        listener = RecordingUser(session)
        session.begin(listener)
        await self.until(lambda: listener.messages == [Failed(5, Fault.NOT_FOUND)])
        await self.close(session, listener)

    async def test_not_admitted(self) -> None:
        """An opener that is not admitted is told so, and not served."""
        server = self.server()
        nobody = SigningKey(b"n" * 32)
        await self.refused(SessionRefused, nobody)
        for why, kind in (
            (Refusal.CHANGED, SessionRefused),
            (Refusal.LATER, SessionPostponed),
        ):

            async def refuse(_: PublicKey, why: Refusal = why) -> str:
                raise NotAdmitted(why, 5)

            self.admit = refuse
            await self.refused(kind)
        self.assertEqual((self.users, server.sessions), ([], 0))

    async def test_admission_fails(self) -> None:
        """Threat 18: a defect of the admission lets nobody in."""
        self.server()

        async def fail(_: PublicKey) -> str:
            raise ZeroDivisionError

        self.admit = fail
        await self.refused(SessionPostponed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.users, [])

    async def test_serving_fails(self) -> None:
        """A defect of `serve` ends that session alone."""
        server = self.server()
        with mock.patch.object(server, "_serve", side_effect=ZeroDivisionError):
            _, listener = await self.opened()
            await self.until(lambda: bool(listener.ends))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await self.works()

    async def test_user_fails_at_once(self) -> None:
        """A user that fails at the first message is told of the end once."""
        server = self.server()

        def failing(session: Session) -> RecordingUser:
            user = RecordingUser(session)
            user.on_message = lambda _: 1 / 0
            self.users.append(user)
            return user

        with mock.patch.object(server, "_serve", failing):
            session, listener = await self.opened()
            session.send(Get(1, ("x",)))
            await self.until(lambda: bool(listener.ends))
            await self.until(lambda: not server.sessions)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsInstance(self.users[0].ends[0], LocalProtocolError)
        await self.works()

    async def test_impostors(self) -> None:
        """Threats 16, 17 and 36: an opener without a key, or with another TLS or protocol, is not looked up."""
        server = self.server()
        asked: list[PublicKey] = []

        async def ask(key: PublicKey) -> str:
            asked.append(key)
            return "bob"

        self.admit = ask

        def old(context: SSL.Context) -> None:
            with_certificate(certificate_of(BOB), private(BOB))(context)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)

        def other_alpn(context: SSL.Context) -> None:
            with_certificate(certificate_of(BOB), private(BOB))(context)
            context.set_alpn_protos([b"h2"])

        for change in (lambda _: None, old, other_alpn):
            raw = await self.connected(RawTls(stranger(change)))
            await raw.gone
        await self.until(lambda: server.half_open == 0)
        self.assertEqual((asked, self.users), ([], []))

    async def test_other_server_key(self) -> None:
        """Threat 15: an opener that expects another key sends nothing."""
        server = self.server()
        asked: list[PublicKey] = []
        self.admit = lambda key: asked.append(key) or succeed("bob")  # type: ignore[func-returns-value]
        with self.assertRaises(OtherKeyThere):
            await self.open(expected=EVE.public)
        await self.until(lambda: server.half_open == 0)
        self.assertEqual(asked, [])

    async def test_noise(self) -> None:
        """Threat 6: noise is cut off, and the port stays open."""
        server = self.server()
        for noise in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\0" * 1000,
            bytes(range(256)) * 300,
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            b"\x00\x00\x00\x20" + b'{"m":"hello","v":1,"credit":1}',
        ):
            raw = await self.connected(Raw(noise))
            await raw.gone
            self.assertNotIn(b"welcome", raw.received)
        await self.until(lambda: server.half_open == 0)
        await self.works()

    async def test_wrong_word(self) -> None:
        """Threat 6: an opener that violates the protocol is cut off, and nobody else."""
        self.server()
        session, listener = await self.opened()
        session.send(Refused(Refusal.BUSY))
        await self.until(lambda: bool(listener.ends))
        self.assertIsInstance(listener.ends[0], SessionLost)
        await self.works(EVE)

    async def test_half_open_flood(self) -> None:
        """Threats 25 and 32: idle connections give way, the oldest first, so honest openers get in."""
        server = self.server(half_open=8, half_open_per_host=4, handshake=30.0)
        crowd = [
            await self.connected(Raw(), f"127.0.0.{host}") for host in range(2, 8) for _ in range(3)
        ]
        self.assertLessEqual(server.half_open, 8)
        await self.works()
        await DeferredList([raw.gone for raw in crowd[:9]])
        same = [await self.connected(Raw()) for _ in range(20)]
        await self.works()
        await DeferredList([raw.gone for raw in same[:16]])
        self.assertLessEqual(server.half_open, 8)

    async def test_those_who_do_not_greet(self) -> None:
        """Threats 25 and 32: a connection that has shown a key and does not greet gives way first."""
        server = self.server(half_open=8, half_open_per_host=4, handshake=30.0)
        asked: list[Deferred[str]] = []

        def slow(_: PublicKey) -> Deferred[str]:
            asked.append(Deferred())
            return asked[-1]

        self.admit = slow
        waiting = self.open()
        await self.until(lambda: bool(asked))
        mute = [await self.shaken(server, number) for number in (2, 3, 4)]
        quiet = await self.connected(Raw())
        await mute[0].gone
        again = await self.shaken(server, 3)
        await mute[1].gone
        self.assertEqual([raw.gone.called for raw in (quiet, again)], [False, False])
        self.assertEqual(server.half_open, 4)
        asked[0].callback("bob")
        session = await waiting
        session.abort()

    async def shaken(self, server: SessionAcceptor, secure: int) -> Raw:
        """Connect a client that shows a key and does not greet, as number `secure`."""
        raw = RawTls(stranger(with_certificate(certificate_of(EVE), private(EVE))))
        await self.connected(raw)
        await self.until(lambda: sum(each.is_secure for each in server._entries) == secure)
        return raw

    async def test_slow(self) -> None:
        """Threat 25: a connection that does not greet in time is cut off."""
        server = self.server(handshake=0.1)
        quiet = await self.connected(Raw())
        shaking = await self.connected(
            RawTls(stranger(with_certificate(certificate_of(BOB), private(BOB))))
        )
        await DeferredList([quiet.gone, shaking.gone])
        await self.until(lambda: server.half_open == 0)
        self.admit = lambda _: Deferred()
        await self.refused(SessionLost)
        self.assertEqual(server.sessions, 0)

    async def test_too_many(self) -> None:
        """Beyond the limits, in total or of one key, an opener is told to come back."""
        server = self.server(total=3, per_key=2)
        for _ in range(2):
            await self.opened()
        await self.refused(SessionPostponed)
        session, listener = await self.opened(EVE)
        self.assertEqual(server.sessions, 3)
        await self.refused(SessionPostponed, EVE)
        await self.close(session, listener)
        await self.until(lambda: server.sessions == 2)
        await self.opened(EVE)

    async def test_who_has_most_makes_room(self) -> None:
        """At the total, an idle session of the key with the most sessions gives way."""
        server = self.server(total=3, rest=0.0)
        listeners = [(await self.opened())[1] for _ in range(3)]
        _, eve = await self.opened(EVE)
        await self.until(lambda: server.sessions == 3)
        self.assertEqual(sum(bool(each.ends) for each in listeners), 1)
        self.assertEqual(eve.ends, [])
        await self.refused(SessionPostponed)

    async def test_too_many_at_once(self) -> None:
        """The limits hold for openers that wait for admission at the same time."""
        server = self.server(per_key=2)
        judging: list[Deferred[str]] = []

        def judge(_: PublicKey) -> Deferred[str]:
            judging.append(Deferred())
            return judging[-1]

        self.admit = judge
        opening = [self.open() for _ in range(4)]
        await self.until(lambda: len(judging) == 4)
        for each in judging:
            each.callback("bob")
        results = await DeferredList(opening, consumeErrors=True)
        self.assertEqual(sorted(success for success, _ in results), [False, False, True, True])
        self.assertEqual(server.sessions, 2)

    async def test_message_flood(self) -> None:
        """Threat 33: the sessions of a flooding key end, with one line in the log; others are served."""
        self.patch(message_budget, "FLOOD_MAX", 0.0)
        server = self.server()
        sessions = [(await self.opened(EVE)) for _ in range(3)]
        log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        for number in range(2 * message_budget.MESSAGES_BURST):
            sessions[number % 2][0].send(Credit(number))
        await self.works()
        await self.until(lambda: server.sessions == 0)
        await self.until(lambda: all(listener.ends for _, listener in sessions))
        (line,) = [formatEvent(each) for each in log if each["log_level"] is LogLevel.warn]
        self.assertTrue(line.startswith("message flood: peer=eve sessions=3 "), line)
        await self.refused(SessionPostponed, EVE)
        await self.works()

    async def test_hangs_up_while_judged(self) -> None:
        """The admission of an opener that leaves is cancelled."""
        server = self.server()
        judging: list[Deferred[str]] = []

        def judge(_: PublicKey) -> Deferred[str]:
            judging.append(Deferred())
            return judging[-1]

        self.admit = judge
        opening = self.open()
        await self.until(lambda: bool(judging))
        opening.cancel()
        opening.addErrback(lambda _: None)
        await self.until(lambda: server.half_open == 0)
        self.assertTrue(judging[0].called)
        self.assertEqual((server.sessions, self.users), (0, []))
        judging[0].addErrback(lambda _: None)

    async def test_new_key(self) -> None:
        """After a rotation new sessions get the new key, and open ones continue."""
        self.server()
        session, listener = await self.opened()
        self.key = EVE
        with self.assertRaises(OtherKeyThere):
            await self.open(expected=ALICE.public)
        await self.works()
        session.send(Get(9, ("x",)))
        await self.until(lambda: bool(listener.messages))
        self.assertEqual(listener.messages, [Failed(9, Fault.NOT_FOUND)])

    async def test_stop(self) -> None:
        """Stopping sends `Bye` to all sessions, cuts other connections, and frees the port."""
        server = self.server()
        _, listener = await self.opened()
        raw = await self.connected(Raw())
        await server.stop()
        self.assertEqual((server.sessions, server.half_open), (0, 0))
        await self.until(lambda: bool(listener.ends))
        self.assertEqual((listener.ends, self.users[0].ends), ([None], [None]))
        await raw.gone
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", self.address.port))

    async def test_port_in_use(self) -> None:
        """A port in use is an error with its number."""
        server = self.server()
        other = SessionAcceptor(reactor, lambda: ALICE, self.admit_by_name, self.serve)
        listening = Deferred.fromCoroutine(other.listen(server.port, "127.0.0.1"))
        error = self.failureResultOf(listening, PortUnusable).value
        self.assertEqual(error.fields["port"], server.port)


def _as_client(factory: Any) -> Any:
    """Let a server's factory serve a client."""
    for name in ("startedConnecting", "clientConnectionFailed", "clientConnectionLost"):
        setattr(factory, name, lambda *_: None)
    return factory
