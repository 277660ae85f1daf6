"""The client of the relay, and what an observer at the relay sees."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from p2pshare.errors import RegistryBusy, RegistryUnreachable, RelayRefused
from p2pshare.net.session.interfaces import Carrier
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tls import SessionTls
from p2pshare.registry import relay_client
from p2pshare.registry.configuration import RelayLimits
from p2pshare.registry.relay import rooms
from p2pshare.registry.relay.pairs import RelayEnd
from p2pshare.registry.relay_client import RelayClient
from p2pshare.web.upgrade import HEAD_MAX
from p2pshare.wire.keys import SigningKey
from tests.net.session.test_channels import End
from tests.net.session_pairs import ALICE, BOB, EVE
from tests.registry.relay.server import REGISTRY, ROOM, RelayServer

reactor: Any = global_reactor


class User:
    """The user of a carrier."""

    def __init__(self) -> None:
        self.carrier: Carrier | None = None
        self.received_bytes = b""
        self.is_closed = False

    def connected(self, carrier: Carrier) -> None:
        self.carrier = carrier

    def received(self, data: bytes) -> None:
        self.received_bytes += data

    def writable(self) -> None:
        pass

    def closed(self) -> None:
        self.is_closed = True

    def say(self, data: bytes) -> None:
        assert self.carrier is not None
        self.carrier.send(data)


class Speaker(Protocol):
    """A server that answers every connection in the same way, and notices its end."""

    transport: Any
    ends = 0

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self._answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        Speaker.ends += 1


class RelayCase(TestCase):
    timeout = 20

    async def start(self, **limits: Any) -> RelayServer:
        server = RelayServer(reactor, RelayLimits(**limits))
        await server.listen()
        self.addCleanup(server.stop)
        return server

    def join(
        self, client: RelayClient, other: SigningKey, user: Any, room: str = ROOM
    ) -> Deferred[Any]:
        return Deferred.fromCoroutine(client.join(REGISTRY.public, room, other.public, user))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await deferLater(reactor, 0.001)


class JoinTests(RelayCase):
    """Meeting, and what can go wrong."""

    async def test_join(self) -> None:
        """Both ends get a carrier; the first bytes of one may come with the reply of the other."""
        server, users = await self.start(), (User(), User())
        first = self.join(server.client(ALICE), BOB, users[0])
        first.addCallback(lambda _: users[0].say(b"at once"))
        await self.join(server.client(BOB), ALICE, users[1])
        await self.until(lambda: users[1].received_bytes == b"at once")
        for user in users:
            assert user.carrier is not None
            self.assertEqual(
                (user.carrier.name, str(user.carrier.remote)), ("relay", server.url[7:])
            )
            user.carrier.abort()
        await self.until(lambda: all(user.is_closed for user in users))
        await self.until(lambda: not len(server.relay))

    async def test_nobody_came(self) -> None:
        """An end whose partner does not come in time is told so."""
        self.patch(rooms, "WAIT", 0.05)
        server = await self.start()
        joining = self.join(server.client(ALICE), BOB, User())
        error: Any = await self.assertFailure(joining, RelayRefused)
        self.assertEqual(error.fields["word"], "nobody-came")
        self.assertIn("did not come", str(error))

    async def test_refusals(self) -> None:
        """A relay without room, and a limit of the key, are errors of their own."""
        server = await self.start(pairs_per_key=1)
        waiting = self.join(server.client(ALICE), BOB, User())
        await self.until(lambda: len(server.rooms))
        busy: Any = await self.assertFailure(
            self.join(server.client(ALICE), EVE, User()), RegistryBusy
        )
        self.assertEqual(busy.fields["retry_after"], 5)
        server.relay._limits = RelayLimits(pairs=0)
        full: Any = await self.assertFailure(
            self.join(server.client(EVE), BOB, User()), RelayRefused
        )
        self.assertEqual(full.fields["word"], "relay-full")
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)

    async def test_cancel(self) -> None:
        """A join that is cancelled frees its place at the relay."""
        server = await self.start()
        joining = self.join(server.client(ALICE), BOB, User())
        await self.until(lambda: len(server.rooms))
        joining.cancel()
        await self.assertFailure(joining, CancelledError)
        await self.until(lambda: not server.relay.places)

    async def test_unreachable(self) -> None:
        """Nobody listens there."""
        server = await self.start()
        client = server.client(ALICE)
        await server.stop()
        server._port = None
        error = await self.assertFailure(self.join(client, BOB, User()), RegistryUnreachable)
        self.assertIn("nothing listens there", str(error))

    async def test_hostile_server(self) -> None:
        """Anything but a proper reply is an error with a sentence, and the connection is closed."""
        user, before = User(), Speaker.ends
        answers = (
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 100_000,
            b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * HEAD_MAX,
            b"x" * (2 * HEAD_MAX),
            b"\0",
        )
        for answer in answers:
            factory = Factory.forProtocol(lambda answer=answer: Speaker(answer))  # type: ignore[misc]
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
            port = await endpoint.listen(factory)
            url = f"http://127.0.0.1:{port.getHost().port}"
            client = RelayClient(reactor, url, ALICE, "alice", wall=lambda: 0.0)
            self.patch(relay_client, "WAIT_MAX", 0.1)
            joining = self.join(client, BOB, user)
            error = await self.assertFailure(joining, RegistryUnreachable)
            self.assertNotIn("Traceback", str(error))
            await port.stopListening()
        await self.until(lambda: Speaker.ends - before == len(answers))
        self.assertIsNone(user.carrier)


class ObserverTests(RelayCase):
    """Threat 14: the relay reads along."""

    async def test_capture(self) -> None:
        """Threat 14: what passes the relay shows neither messages nor files nor keys, and looks like noise."""
        captured = bytearray()
        write = RelayEnd.write

        def recorded(end: RelayEnd, data: bytes) -> None:
            captured.extend(data)
            write(end, data)

        self.patch(RelayEnd, "write", recorded)
        server, near, far = await self.start(), End(), End()
        channels = (
            StreamChannel(reactor, SessionTls(ALICE).accept(), far),
            StreamChannel(reactor, SessionTls(BOB).connect(ALICE.public), near),
        )
        await server.join((ALICE, channels[0]), (BOB, channels[1]))
        await self.until(lambda: near.key and far.key)
        content = b"the content of a secret file\n" * 2000
        near.say(b'{"get": "photos/cat.jpg"}')
        channels[0].send_piece(1, 0, memoryview(content))
        await self.until(lambda: far.bodies and near.has(1, content))
        seen = bytes(captured)
        self.assertGreater(len(seen), len(content))
        for secret in (b"photos", b"cat.jpg", b"secret", ALICE.public.raw, BOB.public.raw):
            self.assertNotIn(secret, seen)
        self.assertGreater(len(zlib.compress(seen)), 0.98 * len(seen))
        for end in (near, far):
            end.channel.abort()
        await self.until(lambda: near.is_closed and far.is_closed)

    async def test_changed(self) -> None:
        """Threat 14: a relay that changes or injects a byte ends the session; no changed byte reaches a user."""
        write = RelayEnd.write
        is_hostile = [False]

        def changed(end: RelayEnd, data: bytes) -> None:
            write(end, data[:-1] + bytes([data[-1] ^ 1]) if is_hostile[0] else data)

        self.patch(RelayEnd, "write", changed)
        server, near, far = await self.start(), End(), End()
        channels = (
            StreamChannel(reactor, SessionTls(ALICE).accept(), far),
            StreamChannel(reactor, SessionTls(BOB).connect(ALICE.public), near),
        )
        await server.join((ALICE, channels[0]), (BOB, channels[1]))
        await self.until(lambda: near.key and far.key)
        is_hostile[0] = True
        near.say(b"hello")
        await self.until(lambda: far.is_closed and near.is_closed)
        self.assertEqual(far.bodies, [])
        self.assertTrue(far.reason or near.reason)  # of the end that notices it first
