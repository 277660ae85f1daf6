"""The client of rendezvous: a stream through every break of its connection, and signals that are sent."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare import errors
from p2pshare.registry.api.event_streams import event_text
from p2pshare.registry.client import RegistryClient, pooled_agent
from p2pshare.registry.signal_client import (
    REPLACED_RETRY,
    SILENCE_MAX,
    SignalFollower,
    send_signal,
)
from p2pshare.web import client as web_client
from p2pshare.web.problems import problem
from p2pshare.wire.reach.access import Access, Use, detail_of_body
from p2pshare.wire.reach.rendezvous import PassedSignal, SignalBody
from p2pshare.wire.registry_answers import RegistryInfo
from p2pshare.wire.statements import Proof
from tests.registry.connections import REGISTRY_KEY
from tests.registry.owners import NOW, Owner

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CAROL = Owner(3, "carol")
SIGNAL = PassedSignal("carol", CAROL.key.public, "main", b"sealed")


class ClientTestCase(SynchronousTestCase):
    """A client on a network in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(NOW)
        agent, _ = pooled_agent(self.reactor)
        self.client = RegistryClient(
            agent, "http://127.0.0.1:8000", self.reactor, wall=self.reactor.seconds
        )
        self.client.key = REGISTRY_KEY.public
        self.bob = Owner(1, "bob")
        self.transports: list[StringTransport] = []

    def accept(self) -> bytes:
        """Accept the newest connection, and return the request."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = cast(Protocol, factory.buildProtocol(None))
        transport = StringTransport()
        transport.abortConnection = lambda: protocol.connectionLost(  # type: ignore[method-assign]
            Failure(CONNECTION_LOST)
        )
        protocol.makeConnection(transport)
        self.protocol, self.transport = protocol, transport
        self.transports.append(transport)
        asked: bytes = transport.value()
        return asked

    def reply(self, status: str, body: bytes, headers: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.protocol.dataReceived(head.encode() + body)

    def refuse(self, word: str, **extra: Any) -> None:
        refused = problem(word, "why", **extra)
        headers = "".join(f"{k.decode()}: {v.decode()}\r\n" for k, v in refused.headers)
        self.reply(f"{int(refused.status)} X", b"".join(refused.body), headers)

    def tell_about(self, asked: bytes, ahead: int = 0) -> None:
        """Answer a question for the registry's key and time."""
        challenge = asked.split(b"challenge=")[1].split(b" ")[0].decode()
        now = int(self.reactor.seconds()) + ahead
        proof = Proof(REGISTRY_KEY.public, challenge, now).sign(REGISTRY_KEY)
        info = RegistryInfo("1", now, REGISTRY_KEY.public, (), False, proof)
        self.reply("200 OK", info.to_json())

    def access(self, asked: bytes) -> Access:
        header = asked.split(b"Authorization: ")[1].split(b"\r\n")[0].decode()
        unverified = Access.parse_header(header)
        self.assertTrue(unverified.is_signed_by(self.bob.key.public))
        return unverified.statement


class FollowerTests(ClientTestCase):
    """`SignalFollower`."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[Any] = []
        self.follower = SignalFollower(
            self.client,
            self.bob.key,
            "bob",
            self.seen.append,
            self.seen.append,
            accept=["alice", "carol"],
            rng=random.Random(1),
        )
        self.following = Deferred.fromCoroutine(self.follower.run())
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if not self.following.called:
            self.following.cancel()
            self.failureResultOf(self.following, CancelledError)
        self.client.http.close_idle()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def begin(self) -> bytes:
        asked = self.accept()
        self.protocol.dataReceived(HEAD)
        self.say(event_text("open", {}))
        return asked

    def say(self, data: bytes) -> None:
        self.protocol.dataReceived(b"%x\r\n%b\r\n" % (len(data), data))

    def break_off(self) -> None:
        self.protocol.connectionLost(Failure(CONNECTION_LOST))

    def test_followed(self) -> None:
        """The request is authorised once; `open` and signals are passed on."""
        asked = self.begin()
        self.assertIn(b"GET /v1/peers/bob/signals?inbox=main&accept=alice,carol HTTP/1.1", asked)
        access = self.access(asked)
        self.assertEqual((access.use, access.detail), (Use.SIGNALS, "main"))
        self.assertEqual((access.name, access.aud), ("bob", REGISTRY_KEY.public))
        self.say(event_text("alive", {}) + event_text("signal", SIGNAL.to_fields()))
        self.assertEqual(self.seen, [True, SIGNAL])

    def test_reconnects(self) -> None:
        """After a break it reconnects within 5 s, also after many, each time with a new statement."""
        nonces, times = set(), [self.reactor.seconds()]
        for _ in range(12):
            nonces.add(self.access(self.begin()).nonce)
            self.break_off()
            count = len(self.reactor.tcpClients)
            while len(self.reactor.tcpClients) == count:
                self.reactor.advance(0.1)
            times.append(self.reactor.seconds())
        self.assertEqual(len(nonces), 12)
        pauses = [after - before for before, after in pairwise(times)]
        self.assertLess(pauses[0], 0.5)
        self.assertLessEqual(max(pauses), 5)
        self.assertEqual(self.seen, [True, False] * 12)

    def test_refused_connection(self) -> None:
        """While nobody listens, it tries again at most 5 s later."""
        for _ in range(8):
            factory: Any = self.reactor.tcpClients[-1][2]
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            count = len(self.reactor.tcpClients)
            self.reactor.pump([0.1] * 51)
            self.assertEqual(len(self.reactor.tcpClients), count + 1)
        self.assertEqual(self.seen, [False] * 8)

    def test_probed(self) -> None:
        """The system probes the connection, since a router may forget it, and the follower only receives."""
        probed: list[Any] = []
        self.patch(web_client, "keep_alive", lambda *arguments: probed.append(arguments))
        self.accept()
        self.assertEqual(probed, [(self.transport, web_client.PROBE_IDLE)])

    def test_silence(self) -> None:
        """A stream without a byte for 12 s is broken; `alive` keeps it."""
        self.begin()
        for _ in range(4):
            self.reactor.advance(SILENCE_MAX - 2)
            self.say(event_text("alive", {}))
        self.assertEqual(self.seen, [True])
        self.reactor.advance(SILENCE_MAX)
        self.assertEqual(self.seen, [True, False])

    def test_nudge(self) -> None:
        """`nudge` reconnects at once: from a stream, from a try, and from a pause."""
        self.begin()
        for _ in range(3):
            count = len(self.reactor.tcpClients)
            self.follower.nudge()
            self.reactor.advance(0)
            self.assertEqual(len(self.reactor.tcpClients), count + 1)
        self.begin()
        self.break_off()
        count = len(self.reactor.tcpClients)
        self.follower.nudge()
        self.assertEqual(len(self.reactor.tcpClients), count + 1)
        self.begin()
        self.assertEqual(self.seen[-1], True)

    def test_replaced(self) -> None:
        """When another stream has the inbox, it comes back only after some seconds."""
        self.begin()
        self.say(event_text("replaced", {}))
        self.protocol.dataReceived(b"0\r\n\r\n")
        count = len(self.reactor.tcpClients)
        self.reactor.advance(REPLACED_RETRY - 0.1)
        self.assertEqual(len(self.reactor.tcpClients), count)
        self.reactor.advance(1.1)
        self.begin()
        self.assertEqual(self.seen, [True, False, True])

    def test_curable(self) -> None:
        """A name that is not claimed yet, a limit, and a store that is away are tried again."""
        for word, extra in (
            ("not-owner", {}),
            ("too-many-requests", {"retry_after": 2}),
            ("unavailable", {"retry_after": 2}),
        ):
            self.accept()
            self.refuse(word, **extra)
            self.reactor.pump([0.1] * 50)
        self.begin()
        self.assertEqual(self.seen[-1], True)

    def test_wrong_time(self) -> None:
        """If the clock here is wrong, it learns the registry's time, and signs by that."""
        self.accept()
        self.refuse("wrong-time", time=int(NOW) + 1000)
        self.tell_about(self.transport.value(), ahead=1000)
        self.reactor.pump([0.1] * 50)
        iat = self.access(self.begin()).iat
        self.assertLess(abs(iat - self.reactor.seconds() - 1000), 6)

    def test_refused_for_good(self) -> None:
        """A registry without rendezvous ends it."""
        self.accept()
        self.refuse("not-found")
        self.failureResultOf(self.following, errors.RegistryRefused)

    def test_nonsense(self) -> None:
        """A signal that is none breaks the stream, and nothing else."""
        for data in (b"event: signal\ndata: {}\n\n", b"\xff\n\n", b"data: " + b"x" * 20000):
            self.begin()
            self.say(data)
            self.assertEqual(self.seen[-1], False)
            self.reactor.pump([0.1] * 60)
        self.begin()
        self.assertEqual(self.seen[-1], True)


class SendTests(ClientTestCase):
    """`send_signal`."""

    def send(self) -> tuple[Deferred[None], bytes]:
        sending = Deferred.fromCoroutine(
            send_signal(self.client, self.bob.key, "bob", "carol", "i" * 16, b"sealed")
        )
        return sending, self.accept()

    def test_sent(self) -> None:
        """The statement is bound to the body."""
        sending, asked = self.send()
        self.assertIn(b"POST /v1/peers/carol/signals HTTP/1.1", asked)
        body = asked.partition(b"\r\n\r\n")[2]
        self.assertEqual(SignalBody.parse(body), SignalBody("i" * 16, "bob", b"sealed"))
        self.assertEqual(json.loads(body)["from"], "bob")
        self.assertEqual(self.access(asked).detail, detail_of_body(body))
        self.reply("202 Accepted", b"")
        self.successResultOf(sending)

    def test_refused(self) -> None:
        """Each refusal is an error of its own, about the right name."""
        for word, kind, name in (
            ("not-listening", errors.PeerNotListening, "carol"),
            ("not-accepted", errors.SignalNotAccepted, "carol"),
            ("not-owner", errors.NotOwner, "bob"),
            ("too-many-requests", errors.RegistryBusy, None),
            ("unavailable", errors.RegistryUnavailable, None),
            ("not-found", errors.RegistryRefused, None),
            ("malformed", errors.RegistryRefused, None),
            ("taken", errors.RegistryUnreachable, None),
        ):
            sending, _ = self.send()
            self.refuse(word)
            error = self.failureResultOf(sending, kind).value
            self.assertEqual(error.fields.get("name"), name)
            self.reactor.advance(60)  # the connection is closed

    def test_wrong_time(self) -> None:
        """It is sent once more, by the registry's time."""
        sending, _ = self.send()
        self.refuse("wrong-time", time=int(NOW) - 500)
        before = len(self.transport.value())
        asked = self.transport.value()
        self.tell_about(asked, ahead=-500)
        again = self.transport.value()[before:]
        self.assertEqual(self.access(again).iat, int(NOW) - 500)
        self.refuse("wrong-time", time=int(NOW) - 500)
        self.failureResultOf(sending, errors.ClockWrong)
