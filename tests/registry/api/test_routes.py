"""The routes of the registry."""

from __future__ import annotations

import json
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.registration import Registration
from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.metrics import RegistryMetrics
from p2pshare.registry.store import NameStore
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.exchange import Query, Reply
from p2pshare.wire.addresses import PeerAddress
from tests.registry.broken_store import broken_store
from tests.registry.connections import make_routes

TOKEN = "s" * 32


class SlowStore:
    """A store that looks up when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[None]] = []

    def look_up(self, _name: str) -> Deferred[None]:
        self.asked.append(Deferred())
        return self.asked[-1]


def post(registration: Registration, source: str = "10.9.9.9") -> Query:
    return Query(b"POST", b"name", registration.to_json(), source)


def get(path: bytes) -> Query:
    return Query(b"GET", path, b"", "10.9.9.9")


class RoutesTests(SynchronousTestCase):
    """The routes over the store in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryNameStore(self.clock)
        self.routes = make_routes(self.store, self.clock, classic_lease=100)

    def ask(self, query: Query) -> Reply:
        return self.successResultOf(self.routes.answer(query))

    def body(self, query: Query) -> object:
        reply = self.ask(query)
        self.assertEqual(reply.status, 200)
        return json.loads(b"".join(reply.body))

    def test_classic(self) -> None:
        """A name is registered, looked up and listed, and others cannot take it."""
        bob = Registration("bob", PeerAddress("10.0.0.5", 50000))
        self.assertEqual(self.body(get(b"list")), [])
        self.assertEqual(self.ask(get(b"user/bob")), Reply(400))
        self.assertEqual(self.ask(post(bob)), Reply(200))
        self.assertEqual(self.body(get(b"user/bob")), {"ip": "10.0.0.5", "port": 50000})
        self.assertEqual(self.body(get(b"list")), ["bob"])
        other = Registration("bob", PeerAddress("10.0.0.5", 50001))
        self.assertEqual(self.ask(post(other)), Reply(400))

    def test_leases(self) -> None:
        """Without a lease in the request, the registry's applies."""
        self.ask(post(Registration("bob", PeerAddress("10.0.0.5", 1))))
        self.ask(post(Registration("eve", PeerAddress("10.0.0.5", 1), TOKEN, 10)))
        self.clock.advance(11)
        self.assertEqual(self.body(get(b"list")), ["bob"])
        self.clock.advance(90)
        self.assertEqual(self.body(get(b"list")), [])

    def test_claims_show_at_once(self) -> None:
        """A name is in the list as soon as it is claimed, and not any more as soon as it is released."""
        for lease, names in ((90, ["bob"]), (0, []), (90, ["bob"]), (90, ["bob"])):
            self.ask(post(Registration("bob", PeerAddress("10.0.0.5", 1), TOKEN, lease)))
            for _ in range(2):
                self.assertEqual(self.body(get(b"list")), names)

    def test_long_list(self) -> None:
        """A list of more than a page is complete."""
        names = [f"n{number:05}" for number in range(2500)]
        for name in names:
            self.ask(post(Registration(name, PeerAddress("10.0.0.5", 1))))
        self.assertEqual(self.body(get(b"list")), names)

    def test_address_of_the_request(self) -> None:
        """The address of the request replaces a loopback or unspecified one, for peers of p2pshare only."""
        for ip, token, source, kept in (
            ("127.0.0.1", TOKEN, "10.9.9.9", "10.9.9.9"),
            ("0.0.0.0", TOKEN, "10.9.9.9", "10.9.9.9"),
            ("0.0.0.0", TOKEN, "::ffff:10.9.9.9", "10.9.9.9"),
            ("127.0.0.1", TOKEN, "127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", TOKEN, "2001:db8::1", "127.0.0.1"),
            ("127.0.0.1", TOKEN, "", "127.0.0.1"),
            ("127.0.0.1", None, "10.9.9.9", "127.0.0.1"),
            ("10.0.0.5", TOKEN, "10.9.9.9", "10.0.0.5"),
        ):
            routes = make_routes(MemoryNameStore(self.clock), self.clock)
            registration = Registration("bob", PeerAddress(ip, 1), token)
            self.successResultOf(routes.answer(post(registration, source)))
            reply = self.successResultOf(routes.answer(get(b"user/bob")))
            self.assertEqual(json.loads(b"".join(reply.body))["ip"], kept, (ip, token, source))

    def test_refused_addresses(self) -> None:
        """Threat 13: an address that no record may have is rejected, whether it was sent or seen."""
        for ip, token, source, status in (
            ("169.254.169.254", None, "10.9.9.9", 400),
            ("0.0.0.0", None, "10.9.9.9", 400),
            ("0.0.0.0", TOKEN, "", 400),
            ("224.0.0.1", TOKEN, "10.9.9.9", 400),
            ("127.0.0.1", TOKEN, "169.254.1.1", 400),
            ("127.0.0.1", None, "10.9.9.9", 200),
        ):
            registration = Registration("bob", PeerAddress(ip, 1), token)
            reply = self.ask(post(registration, source))
            self.assertEqual(reply, Reply(status), (ip, token, source))

    def test_bad_requests(self) -> None:
        """A malformed body and an invalid name get 400 without a body."""
        self.assertEqual(self.ask(Query(b"POST", b"name", b"{", "10.9.9.9")), Reply(400))
        for name in (b"", b"Bob", b"a/b", b"a%2Fb", b"list", b"\xff", b"a" * 33):
            self.assertEqual(self.ask(get(b"user/" + name)), Reply(400), name)

    def test_unknown(self) -> None:
        """Other paths get 404, other methods 405."""
        for path in (b"users", b"list/", b"name/bob", b"//list"):
            self.assertEqual(self.ask(get(path)).status, 404, path)
        for path, method, allowed in (
            (b"list", b"POST", b"HEAD, GET"),
            (b"user/bob", b"DELETE", b"HEAD, GET"),
            (b"name", b"GET", b"POST"),
            (b"healthz", b"BREW", b"HEAD, GET"),
        ):
            reply = self.ask(Query(method, path, b"", ""))
            self.assertEqual((reply.status, dict(reply.headers)), (405, {b"Allow": allowed}))

    def test_metrics(self) -> None:
        """Each request is counted with its route, status and time; claims and failures of the store are, too."""
        counted: list[tuple[object, ...]] = []

        class Counting(RegistryMetrics):
            def request(self, *what: object) -> None:
                counted.append(what)

            def claim(self, outcome: str) -> None:
                counted.append((outcome,))

            def store_error(self) -> None:
                counted.append(("store",))

        store = SlowStore()
        routes = make_routes(cast(NameStore, store), self.clock, metrics=Counting())
        waiting = routes.answer(get(b"user/bob"))
        self.clock.advance(0.5)
        store.asked[0].callback(None)
        self.assertEqual(self.successResultOf(waiting).status, 400)
        self.successResultOf(routes.answer(get(b"nothing")))
        routes.answer(get(b"user/bob"))
        store.asked[1].errback(StoreUnavailable(reason="gone"))
        routes = make_routes(self.store, self.clock, metrics=Counting())
        self.successResultOf(routes.answer(post(Registration("bob", PeerAddress("10.0.0.5", 1)))))
        self.assertEqual(
            counted,
            [
                ("user", b"GET", 400, 0.5),
                ("none", b"GET", 404, 0.0),
                ("store",),
                ("user", b"GET", 503, 0.0),
                ("classic-claimed",),
                ("name", b"POST", 200, 0.0),
            ],
        )

    def test_health(self) -> None:
        """Alive and ready."""
        self.assertEqual(self.ask(get(b"healthz")).status, 200)
        self.assertEqual(self.ask(get(b"readyz")).status, 200)


class BrokenStoreTests(SynchronousTestCase):
    """Errors of the store as statuses."""

    queries = (
        get(b"list"),
        get(b"user/bob"),
        get(b"readyz"),
        post(Registration("bob", PeerAddress("10.0.0.5", 1))),
    )

    def test_away(self) -> None:
        """503 has `Retry-After`; `/healthz` is not affected."""
        routes = make_routes(broken_store(StoreUnavailable(reason="gone")), Clock())
        for query in self.queries:
            reply = self.successResultOf(routes.answer(query))
            self.assertEqual(reply.status, 503)
            self.assertIn(b"Retry-After", dict(reply.headers))
        self.assertEqual(self.successResultOf(routes.answer(get(b"healthz"))).status, 200)

    def test_defect(self) -> None:
        """A defect is logged, and the 500 contains no details."""
        routes = make_routes(broken_store(ZeroDivisionError("secret")), Clock())
        for query in self.queries:
            reply = self.successResultOf(routes.answer(query))
            self.assertEqual(reply.status, 500)
            self.assertNotIn(b"secret", b"".join(reply.body))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(self.queries))
