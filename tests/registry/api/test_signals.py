"""Rendezvous: streams of signals, and the signals that are posted to them, in one process and in several."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

from p2pshare.registry.api.signals import (
    ANSWER_TIMEOUT,
    QUESTIONS_MAX,
    SignalHub,
    SignalLimits,
)
from p2pshare.registry.configuration import RateLimit
from p2pshare.testing.channels import MemoryBus, MemoryChannels
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.wire.reach.access import Access, Use, detail_of_body
from p2pshare.wire.reach.rendezvous import ACCEPT_MAX, SIGNAL_ALIVE, PassedSignal, SignalBody
from p2pshare.wire.reach.signals import SEALED_MAX
from tests.registry.api.test_event_routes import WideTransport
from tests.registry.connections import Client
from tests.registry.owners import AUD, Owner, OwnersTestCase

OWN_INBOX = "i" * 16
SEALED = b"sealed bytes"


class SignalTestCase(OwnersTestCase):
    """Two registries, A and B, that share a store and the messages: as two processes of one."""

    limits = SignalLimits(
        streams_max=6, streams_per_address_max=4, streams_per_key_max=3, life=200.0
    )

    def setUp(self) -> None:
        super().setUp()
        self.bus = MemoryBus(self.clock)
        self.outcomes: list[str] = []
        self.hub, self.site = self.make_site("A")
        self.other_hub, self.other_site = self.make_site("B")
        self.bob, self.carol = Owner(1, "bob"), Owner(3, "carol")
        self.claim(self.bob)
        self.claim(self.carol)
        self.nonces = 0

    def make_site(self, id: str) -> tuple[SignalHub, Site]:
        routes = self.make_routes(**self.settings)
        hub = SignalHub(
            routes.access,
            routes.limiter,
            MemoryChannels(self.bus),
            self.clock,
            id=id,
            count_signal=self.outcomes.append,
            limits=self.limits,
        )
        routes.table.update(hub.table())
        site = Site(routes, self.clock, Limits())
        site.doStart()
        self.addCleanup(site.doStop)
        self.addCleanup(hub.stop)
        return hub, site

    def pass_time(self, seconds: float = 0.01) -> None:
        steps = max(4, int(seconds * 2))
        for _ in range(steps):
            self.clock.advance(seconds / steps)

    def header(self, owner: Owner, use: Use, detail: str, **changes: Any) -> str:
        self.nonces += 1
        now, nonce = int(self.clock.seconds()), f"{self.nonces:016}"
        access = Access(owner.name, owner.key.public, AUD, now, nonce, use, detail)
        return replace(access, **changes).to_header(owner.key)

    def request(
        self, site: Site, method: str, path: str, header: str, body: bytes = b"", host: str = ""
    ) -> Client:
        client = Client(site, host or "10.9.9.9", WideTransport)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\n"
        client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.pass_time()
        return client

    def follow(
        self,
        owner: Owner,
        inbox: str = "main",
        *,
        accept: str | None = None,
        site: Site | None = None,
        host: str = "",
    ) -> Client:
        path = f"/v1/peers/{owner.name}/signals?inbox={inbox}"
        path += "" if accept is None else f"&accept={accept}"
        header = self.header(owner, Use.SIGNALS, inbox)
        return self.request(site or self.site, "GET", path, header, host=host)

    def post(
        self,
        sender: Owner,
        to: str,
        inbox: str = "main",
        *,
        sealed: bytes = SEALED,
        site: Site | None = None,
        host: str = "",
    ) -> str:
        """Send a signal; return "" if it is accepted, else the word of the problem."""
        body = SignalBody(inbox, sender.name, sealed).to_json()
        header = self.header(sender, Use.SIGNAL, detail_of_body(body))
        path = f"/v1/peers/{to}/signals"
        return self.word(self.request(site or self.site, "POST", path, header, body, host))

    def word(self, client: Client) -> str:
        head, _, body = client.transport.value().partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status in (200, 202):
            return ""
        problem = json.loads(body)
        self.assertEqual(problem["status"], status)
        word: str = problem["type"].rpartition(":")[2]
        return word

    def events(self, client: Client) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of a stream, without `alive`."""
        _, _, body = client.transport.value().partition(b"\r\n\r\n")
        found = []
        for block in body.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if lines.get("event", "alive") != "alive":
                found.append((lines["event"], json.loads(lines["data"])))
        return found

    def kinds(self, client: Client) -> list[str]:
        return [kind for kind, _ in self.events(client)]


class StreamTests(SignalTestCase):
    """Streams, and who may open them."""

    def test_open(self) -> None:
        """The owner of a name gets `open`, and `alive` every 5 s."""
        stream = self.follow(self.bob)
        self.assertEqual(self.events(stream), [("open", {})])
        self.assertIn(b"Content-Type: text/event-stream", stream.transport.value())
        self.pass_time(20 * SIGNAL_ALIVE)
        self.assertEqual(stream.transport.value().count(b"event: alive"), 20)

    def test_refused(self) -> None:
        """Nobody else gets a stream: not another name's owner, a key without a name, or another inbox."""
        dave = Owner(4, "dave")
        for header, word in (
            (self.header(self.carol, Use.SIGNALS, "main"), "wrong-name"),
            (self.header(self.carol, Use.SIGNALS, "main", name="bob"), "not-owner"),
            (self.header(dave, Use.SIGNALS, "main"), "wrong-name"),
            (self.header(self.bob, Use.SIGNALS, OWN_INBOX), "malformed"),
            (self.header(self.bob, Use.SIGNAL, "main"), "malformed"),
        ):
            client = self.request(self.site, "GET", "/v1/peers/bob/signals", header)
            self.assertEqual(self.word(client), word)
        self.assertEqual(self.word(self.follow(dave)), "not-owner")
        self.assertEqual(len(self.hub), 0)

    def test_malformed(self) -> None:
        """Wrong arguments are 400."""
        for arguments in ("inbox=x", "inbox=main&inbox=main", "x=1", "accept=", "accept=a,,b"):
            path = f"/v1/peers/bob/signals?{arguments}"
            header = self.header(self.bob, Use.SIGNALS, "main")
            self.assertEqual(self.word(self.request(self.site, "GET", path, header)), "malformed")
        names = ",".join(["a"] * (ACCEPT_MAX + 1))
        self.assertEqual(self.word(self.follow(self.bob, accept=names)), "malformed")

    def test_head(self) -> None:
        """HEAD opens nothing."""
        header = self.header(self.bob, Use.SIGNALS, "main")
        client = self.request(self.site, "HEAD", "/v1/peers/bob/signals", header)
        self.assertIn(b"200 OK", client.transport.value())
        self.assertEqual((len(self.hub), self.bus.subscribers), (0, {}))

    def test_replaced(self) -> None:
        """A newer stream of the same inbox ends the older one, which is told; other inboxes remain."""
        own, first = self.follow(self.bob, OWN_INBOX), self.follow(self.bob)
        second = self.follow(self.bob)
        self.assertEqual(self.kinds(first), ["open", "replaced"])
        self.assertTrue(first.transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual((self.kinds(second), self.kinds(own)), (["open"], ["open"]))
        self.assertEqual(len(self.hub), 2)
        self.assertEqual(self.post(self.carol, "bob"), "")
        self.assertEqual(self.kinds(second), ["open", "signal"])

    def test_gone(self) -> None:
        """A stream that is over leaves nothing behind."""
        for _ in range(3):
            client = self.follow(self.bob)
            self.assertEqual(list(self.bus.subscribers), ["signals:bob:main"])
            client.leave()
            self.assertEqual((len(self.hub), self.bus.subscribers), (0, {}))
        self.pass_time(10)

    def test_stop(self) -> None:
        """A registry that stops ends its streams regularly, and opens no more."""
        client = self.follow(self.bob)
        stopping = self.hub.stop()
        self.assertTrue(client.transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual(self.word(self.follow(self.bob)), "unavailable")
        self.pass_time(0.2)
        self.successResultOf(stopping)

    def test_end_of_life(self) -> None:
        """A stream ends after some time; its client reconnects."""
        client = self.follow(self.bob)
        self.pass_time(self.limits.life + 6)
        self.assertEqual(len(self.hub), 0)
        self.assertTrue(client.transport.value().endswith(b"0\r\n\r\n"))


class SignalTests(SignalTestCase):
    """Signals, to streams of the same process and of another one."""

    def test_delivered(self) -> None:
        """A signal arrives once, with its sender's name and key, whichever process gets it."""
        for site in (self.site, self.other_site):
            stream = self.follow(self.bob, OWN_INBOX)
            self.assertEqual(self.post(self.carol, "bob", OWN_INBOX, site=site), "")
            ((_, opened), (kind, data)) = self.events(stream)
            self.assertEqual((opened, kind), ({}, "signal"))
            signal = PassedSignal.from_fields(data)
            expected = PassedSignal("carol", self.carol.key.public, OWN_INBOX, SEALED)
            self.assertEqual(signal, expected)
            self.assertEqual(list(data), ["from", "key", "inbox", "sealed"])
        self.assertEqual(self.outcomes, ["accepted"] * 2)

    def test_longest(self) -> None:
        """The longest sealed signal fits into a body and an event; a longer one is refused."""
        stream = self.follow(self.bob, "x" * 64)
        dave = Owner(4, "d" * 32)
        self.claim(dave)
        self.assertEqual(self.post(dave, "bob", "x" * 64, sealed=bytes(SEALED_MAX)), "")
        self.assertEqual(self.kinds(stream), ["open", "signal"])
        self.assertEqual(self.post(dave, "bob", sealed=bytes(SEALED_MAX + 1)), "malformed")

    def test_not_listening(self) -> None:
        """Without a stream the sender is told so at once; the same if it has ended meanwhile, in any process."""
        self.assertEqual(self.post(self.carol, "bob"), "not-listening")
        self.assertEqual(self.post(self.carol, "nobody"), "not-listening")
        self.follow(self.bob).leave()
        for site in (self.site, self.other_site):
            self.assertEqual(self.post(self.carol, "bob", site=site), "not-listening")
        self.assertEqual(self.outcomes, ["not-listening"] * 4)
        stream = self.follow(self.bob)
        receive = self.bus.subscribers["signals:bob:main"].popitem()[1]

        def receive_late(message: bytes) -> None:
            stream.leave()
            receive(message)

        MemoryChannels(self.bus).subscribe("signals:bob:main", receive_late)
        self.assertEqual(self.post(self.carol, "bob", site=self.other_site), "not-listening")

    def test_accept(self) -> None:
        """A stream that accepts some senders gets the signals of no other, from any process."""
        dave = Owner(4, "dave")
        self.claim(dave)
        stream = self.follow(self.bob, accept="alice,carol")
        for site in (self.site, self.other_site):
            self.assertEqual(self.post(dave, "bob", site=site), "not-accepted")
            self.assertEqual(self.post(self.carol, "bob", site=site), "")
        self.assertEqual(self.kinds(stream), ["open", "signal", "signal"])

    def test_refused(self) -> None:
        """Only the owner of a name can send under it, and only the body that it has signed (threat 47)."""
        stream = self.follow(self.bob)
        body = SignalBody("main", "carol", SEALED).to_json()
        detail = detail_of_body(body)
        good = self.header(self.carol, Use.SIGNAL, detail)
        dave = Owner(4, "dave")
        for header, sent, word in (
            (good, body + b" ", "malformed"),
            (self.header(self.carol, Use.SIGNALS, "main"), body, "malformed"),
            (self.header(self.bob, Use.SIGNAL, detail), body, "wrong-name"),
            (self.header(dave, Use.SIGNAL, detail), body, "not-owner"),
            (self.header(dave, Use.SIGNAL, detail, name="carol"), body, "not-owner"),
            (good, body, ""),
            (good, body, "replayed"),
        ):
            client = self.request(self.site, "POST", "/v1/peers/bob/signals", header, sent)
            self.assertEqual(self.word(client), word)
        self.assertEqual(self.kinds(stream), ["open", "signal"])

    def test_malformed(self) -> None:
        """A body that is no signal, or is too long, is refused before any signature is verified (threat 47)."""
        long = b'{"inbox": "main", "from": "carol", "sealed": "", "x": "%b"}' % (b"x" * 6100)
        for body, word in (
            (b"", "malformed"),
            (b"[]", "malformed"),
            (b'{"inbox": "x", "from": "carol", "sealed": ""}', "malformed"),
            (b'{"inbox": "main", "from": "Carol", "sealed": ""}', "malformed"),
            (b'{"inbox": "main", "from": "carol", "sealed": "="}', "malformed"),
            (b'{"inbox": "main", "from": "carol"}', "malformed"),
            (long, "too-large"),
        ):
            client = self.request(self.site, "POST", "/v1/peers/bob/signals", "", body)
            self.assertEqual(self.word(client), word)
        self.assertEqual(self.post(self.carol, "Bob"), "not-found")


class ProcessTests(SignalTestCase):
    """Two processes."""

    def test_replaced(self) -> None:
        """A newer stream in another process ends the older one, wherever and in whatever order they are."""
        streams = [self.follow(self.bob, site=site) for site in (self.site, self.other_site) * 2]
        self.assertEqual([self.kinds(each)[-1] for each in streams], ["replaced"] * 3 + ["open"])
        self.assertEqual((len(self.hub), len(self.other_hub)), (0, 1))
        self.assertEqual(self.post(self.carol, "bob"), "")
        self.assertEqual(self.kinds(streams[-1]), ["open", "signal"])

    def test_at_once(self) -> None:
        """Of two streams that begin at once in two processes, one remains."""
        clients = []
        for site in (self.site, self.other_site):
            header = self.header(self.bob, Use.SIGNALS, "main")
            clients.append(Client(site, transport=WideTransport))
            head = (
                f"GET /v1/peers/bob/signals HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\n\r\n"
            )
            clients[-1].send(head.encode())
        self.pass_time(2)
        self.assertEqual(len(self.hub) + len(self.other_hub), 1)
        self.assertEqual(sorted(map(self.kinds, clients)), [["open"], ["open", "replaced"]])

    def test_away(self) -> None:
        """While messages are not carried, `open` waits, and a signal to another process is 503."""
        self.bus.is_away = True
        stream = self.follow(self.bob)
        self.assertEqual(self.kinds(stream), [])
        self.assertEqual(self.post(self.carol, "bob", site=self.other_site), "unavailable")
        self.assertEqual(self.post(self.carol, "bob"), "")
        self.bus.is_away = False
        self.pass_time(2)
        self.assertEqual(self.kinds(stream), ["signal", "open"])

    def test_no_answer(self) -> None:
        """A process that does not answer is not waited for any longer than a second."""
        self.bus.subscribers["signals:bob:main"] = {MemoryChannels(self.bus): lambda _: None}
        body = SignalBody("main", "carol", SEALED).to_json()
        header = self.header(self.carol, Use.SIGNAL, detail_of_body(body))
        client = self.request(self.site, "POST", "/v1/peers/bob/signals", header, body)
        self.assertEqual(client.transport.value(), b"")
        self.pass_time(ANSWER_TIMEOUT)
        self.assertEqual(self.word(client), "unavailable")

    def test_first_answer(self) -> None:
        """If one of two processes has the stream no more, the other one decides."""
        self.bus.subscribers["signals:bob:main"] = {MemoryChannels(self.bus): lambda _: None}
        silent = self.bus.subscribers["signals:bob:main"]
        stream = self.follow(self.bob)
        self.assertEqual(len(silent), 2)
        self.assertEqual(self.post(self.carol, "bob", site=self.other_site), "")
        self.assertEqual(self.kinds(stream), ["open", "signal"])

    def test_nonsense(self) -> None:
        """A message of another program is ignored, and logged."""
        stream = self.follow(self.bob)
        self.post(self.carol, "nobody")
        for channel in ("signals:bob:main", "signals@A"):
            for message in (b"", b"\xff", b"[]", b"{}", b'{"announced": 1}', b'{"signal": {}}'):
                self.bus.publish(channel, message)
        self.pass_time()
        self.assertEqual(self.kinds(stream), ["open"])

    def test_questions_are_bounded(self) -> None:
        """Signals whose outcome is not known yet are bounded (threat 47: many signals at once)."""
        self.bus.subscribers["signals:bob:main"] = {MemoryChannels(self.bus): lambda _: None}
        self.patch(self.hub, "_questions", dict.fromkeys(range(-QUESTIONS_MAX, 0)))
        self.assertEqual(self.post(self.carol, "bob"), "unavailable")


class BoundTests(SignalTestCase):
    """The number of streams, and what waits for a client (threat 47: many streams, or one that does not read)."""

    def test_key(self) -> None:
        """A key has so many streams, whatever its addresses are; one that it replaces does not count (threat 47)."""
        inboxes = [f"{number:016}" for number in range(4)]
        outcomes = [
            self.word(self.follow(self.bob, inbox, host=f"10.0.{inbox[-1]}.1")) for inbox in inboxes
        ]
        self.assertEqual(outcomes, ["", "", "", "too-many-requests"])
        self.assertEqual(self.word(self.follow(self.bob, inboxes[0])), "")
        self.assertEqual(len(self.hub), 3)

    def test_address(self) -> None:
        """An address, or a /64 of IPv6, has so many streams (threat 47)."""
        for place, hosts in enumerate((["10.0.0.2"] * 5, [f"2001:db8::{i}" for i in range(1, 6)])):
            outcomes = []
            for number, host in enumerate(hosts):
                owner = Owner(10 + 5 * place + number, f"p{place}{number}")
                self.claim(owner)
                outcomes.append(self.word(self.follow(owner, host=host)))
            self.assertEqual(outcomes, [""] * 4 + ["too-many-requests"])
            self.assertEqual(self.word(self.follow(owner, host="127.0.0.1")), "")
            for stream in tuple(self.hub._streams.values()):
                stream.outlet.drop()

    def test_full(self) -> None:
        """A full process makes room at the cost of the network with most streams (threat 47)."""
        owners = [Owner(10 + number, f"p{number}") for number in range(8)]
        streams = []
        for number, owner in enumerate(owners[:6]):
            self.claim(owner)
            streams.append(self.follow(owner, host=f"10.0.0.{number + 1}"))
        self.claim(owners[6])
        newcomer = self.follow(owners[6], host="10.1.0.1")
        self.assertEqual(self.kinds(newcomer), ["open"])
        self.assertEqual([each.transport.disconnected for each in streams], [False] * 5 + [True])
        self.claim(owners[7])
        self.assertEqual(self.word(self.follow(owners[7], host="10.0.0.9")), "unavailable")
        self.assertEqual(len(self.hub), 6)

    def test_silent_reader(self) -> None:
        """A client that does not read costs a bounded number of bytes, and is dropped (threat 47)."""
        stream = self.follow(self.bob)
        stream.transport.stall()
        self.assertEqual(self.post(self.carol, "bob"), "")
        self.pass_time(self.limits.stalled_max + 10)
        self.assertEqual(len(self.hub), 0)
        stream = self.follow(self.bob)
        stream.transport.stall()
        outcomes = [self.post(self.carol, "bob", sealed=bytes(SEALED_MAX)) for _ in range(20)]
        self.assertEqual(outcomes[-1], "not-listening")
        self.assertLess(outcomes.count(""), self.limits.unsent_max // SEALED_MAX)
        self.assertEqual(len(self.hub), 0)


class LimitTests(SignalTestCase):
    """Rate limits (threat 47: a flood of signals); they are low here, so that the tests are quick."""

    settings: ClassVar[dict[str, Any]] = {
        "limits": {
            "access": RateLimit(1, 100),
            "access-key": RateLimit(1, 10),
            "signals": RateLimit(1, 20),
            "inbox": RateLimit(1, 100),
        }
    }

    def test_sender(self) -> None:
        """A key that floods a name is stopped, and others still reach the name (threat 47)."""
        stream = self.follow(self.bob)
        flood = [self.post(self.carol, "bob", host="10.1.0.1") for _ in range(20)]
        self.assertEqual(flood[-1], "too-many-requests")
        self.assertLessEqual(flood.count(""), 12)
        dave = Owner(4, "dave")
        self.claim(dave)
        self.assertEqual(self.post(dave, "bob", host="10.2.0.1"), "")
        self.assertIn("signal", self.kinds(stream))

    def test_many_keys_of_a_network(self) -> None:
        """A network with many keys cannot use up the signals of a name that others may send (threat 47)."""
        self.follow(self.bob)
        outcomes: list[str] = []
        for number in range(5):
            owner = Owner(10 + number, f"p{number}")
            self.claim(owner)
            outcomes += [self.post(owner, "bob", host=f"10.1.0.{number + 1}") for _ in range(8)]
        self.assertLessEqual(outcomes.count(""), 23)
        self.assertEqual(outcomes[-1], "too-many-requests")
        self.assertEqual(self.post(self.carol, "bob", host="10.2.0.1"), "")
