"""Look-ups under `/v1`, and malformed requests."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from p2pshare.classic.registration import Registration
from p2pshare.registry.api.signals import SignalHub
from p2pshare.registry.configuration import RateLimit
from p2pshare.testing.channels import MemoryBus, MemoryChannels
from p2pshare.web.exchange import Query, Route
from p2pshare.web.problems import problem
from p2pshare.web.site import Site
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import from_base64url
from p2pshare.wire.registry_answers import (
    OWNERSHIP_LEASE,
    PRESENCE_LEASE,
    ClaimBody,
    PeerPage,
    PeerView,
    Presence,
    RegistryInfo,
)
from p2pshare.wire.statements import Record, digest_of
from tests import examples
from tests.registry.connections import HOST, REGISTRY_KEY, Client
from tests.registry.owners import SOURCE, Owner, OwnersTestCase, get, send
from tests.wire.statements import location_of

TWICE = b'{"record": "a", "record": "b"}'
NONSENSE = (
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"null",
    b"1",
    b'"x"',
    b"[]",
    b"{} {}",
    b"{'record': 1}",
    TWICE,
    b'{"record": NaN}',
    b'{"record": Infinity}',
    b'{"record": -Infinity}',
    b'{"session": "x", "beat": 1e999, "online": true, "mac": ""}',
    b'{"session": "x", "beat": 1.0, "online": true, "mac": ""}',
    b'{"session": "x", "beat": true, "online": true, "mac": ""}',
    b'{"session": "x", "beat": %b, "online": true, "mac": ""}' % (b"9" * 5000),
    b'{"session": "x", "beat": 9007199254740992, "online": true, "mac": ""}',
    b'{"session": "x", "beat": 1, "online": true, "mac": "\xc3\xa9"}',
    b'{"record": %b}' % (b"[" * 8000),
    b'{"record": %b%b}' % (b"[" * 20, b"]" * 20),
    b'{"record": %b1%b}' % (b'{"a":' * 1500, b"}" * 1500),
    b'{"record": "%b"}' % (b"a" * 5000),
    b'{"record": "\\ud800.\\ud800"}',
    b'{"record": "\\u0000.\\u0000"}',
    b'{"release": {"toString": 1}}',
    b'{"__proto__": {"record": "x"}}',
)


class LookUpTests(OwnersTestCase):
    """The registry itself, peers, keys and pages."""

    def test_about(self) -> None:
        """The registry returns its version, its time and its key."""
        for path in (b"v1/", b"v1"):
            info = RegistryInfo.parse(b"".join(self.ask(get(path)).body))
            self.assertEqual(
                (info.time, info.key), (int(self.clock.seconds()), REGISTRY_KEY.public)
            )

    def test_peer(self) -> None:
        """An owned name has its record, a classic one its address; similar names are not found (threat 21)."""
        location = location_of("[2001:db8::1]:5", "10.0.0.5:50000")
        text = location.to_text()
        record = self.bob.record(self.clock, location=digest_of(text))
        self.ask(self.bob.put(record, location=text))
        view = self.body(get(b"v1/peers/bob"))
        self.assertEqual(view["record"], record.sign(self.bob.key))
        self.assertEqual(view["location"], text)
        self.assertEqual(view["addresses"], list(location.addresses))
        self.assertEqual((view["kind"], view["presence"]), ("owned", "online"))
        self.register("carol")
        view = self.body(get(b"v1/peers/carol"))
        self.assertEqual((view["kind"], view["presence"]), ("classic", "unknown"))
        self.assertEqual((view["key"], view["addresses"]), (None, ["10.0.0.6:1"]))
        for name in (b"dave", b"Bob", b"list", b"%62ob", b"", b"a" * 33, b"\xff"):
            self.assert_problem(self.ask(get(b"v1/peers/" + name)), "not-found", 404)

    def test_key(self) -> None:
        """A key is answered with everything about the name that it owns."""
        self.claim(self.bob)
        key = str(self.bob.key.public)
        view = self.body(get(f"v1/keys/{key}".encode()))
        self.assertEqual((view["name"], view["key"]), ("bob", key))
        self.assertEqual(view, self.body(get(b"v1/peers/bob")))
        unknown = get(f"v1/keys/{self.eve.key.public}".encode())
        self.assert_problem(self.ask(unknown), "not-found", 404)
        for wrong in (b"x", b"", key.upper().encode(), b"\xff", key.encode() + b"%20"):
            self.assert_problem(self.ask(get(b"v1/keys/" + wrong)), "malformed", 400)

    def register(self, name: str) -> None:
        body = Registration(name, PeerAddress("10.0.0.6", 1)).to_json()
        self.assertEqual(self.ask(Query(b"POST", b"name", body, SOURCE)).status, 200)

    def names(self, arguments: bytes) -> list[str]:
        page = PeerPage.parse(b"".join(self.ask(get(b"v1/peers?" + arguments)).body))
        return [each.name for each in page.peers]

    def test_pages(self) -> None:
        """Prefix, after and limit select a page; the pages together are the list."""
        names = sorted(f"{letter}{number}" for letter in "abc" for number in range(5))
        for name in names:
            self.register(name)
        self.assertEqual(self.names(b""), names)
        self.assertEqual(self.names(b"prefix=b"), names[5:10])
        self.assertEqual(self.names(b"prefix=b&after=b2"), names[8:10])
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            reply = self.ask(get(f"v1/peers?limit=4&after={after}".encode()))
            page = PeerPage.parse(b"".join(reply.body))
            found += [each.name for each in page.peers]
            after = page.next
        self.assertEqual(found, names)

    def test_online(self) -> None:
        """`online` selects peers that are online or unknown."""
        self.claim(self.bob)
        self.register("carol")
        self.claim(Owner(2, "eve"))
        self.clock.advance(PRESENCE_LEASE + 1)
        self.claim(self.bob, 200)
        for yes in (b"1", b"true"):
            self.assertEqual(self.names(b"online=" + yes), ["bob", "carol"])
        for no in (b"0", b"false"):
            self.assertEqual(self.names(b"online=" + no), ["bob", "carol", "eve"])

    def test_wrong_arguments(self) -> None:
        """Invalid arguments are rejected; an empty one counts as absent."""
        for arguments in (
            b"limit=0", b"limit=501", b"limit=", b"limit=1.0", b"limit=-1", b"limit=+1", b"limit=1e2",
            b"limit=%D9%A1", b"limit=0001", b"limit=0000000010", b"limit=" + b"9" * 5000,
            b"limit=1&limit=2", b"online=yes", b"online",
            b"prefix=B", b"prefix=%00", b"prefix=a*", b"prefix=%ff", b"prefix=" + b"a" * 33,
            b"after=%5B", b"after=a+b", b"x=1", b"=", b"prefix=a;b", b"&".join([b"x"] * 3000),
        ):  # fmt: skip
            self.assert_problem(self.ask(get(b"v1/peers?" + arguments)), "malformed", 400)
        for arguments in (b"", b"&", b"prefix=&after=", b"limit=500&&", b"%6cimit=%35"):
            self.assertEqual(self.ask(get(b"v1/peers?" + arguments)).status, 200, arguments)

    def test_etag(self) -> None:
        """A client with the current body gets 304 until it changes."""
        self.claim(self.bob)
        for path in (b"v1/peers/bob", b"v1/peers", f"v1/keys/{self.bob.key.public}".encode()):
            tag = dict(self.ask(get(path)).headers)[b"ETag"].decode()
            for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
                query = replace(get(path), headers=Headers({"If-None-Match": [known]}))
                reply = self.ask(query)
                self.assertEqual((reply.status, reply.body), (304, ()), known)
                self.assertEqual(dict(reply.headers)[b"ETag"].decode(), tag)
            for other in ('"x"', "", '"x", *'):
                query = replace(get(path), headers=Headers({"If-None-Match": [other]}))
                self.assertEqual(self.ask(query).status, 200, other)
        query = replace(get(b"v1/peers/bob"), headers=Headers({"If-None-Match": [tag]}))
        self.clock.advance(PRESENCE_LEASE + 1)
        self.assertEqual(self.ask(query).status, 200)


class OfflineTests(OwnersTestCase):
    """The location of a peer is shown only while it is online."""

    def view(self, known: str = "") -> tuple[PeerView, str]:
        """Return the reply about bob and its tag; assert that it is not 304."""
        query = replace(get(b"v1/peers/bob"), headers=Headers({"If-None-Match": [known]}))
        reply = self.ask(query)
        self.assertEqual(reply.status, 200)
        headers = dict(reply.headers)
        self.assertEqual(headers[b"Cache-Control"], b"private, no-cache")
        return PeerView.parse(b"".join(reply.body)), headers[b"ETag"].decode()

    def assert_nowhere(self, tag: str) -> None:
        """While bob is offline, only his key, record and rotations are shown."""
        view, now = self.view(tag)
        self.assertEqual((view.addresses, view.location), ((), None))
        self.assertEqual((view.summary.presence, view.key), (Presence.OFFLINE, self.bob.key.public))
        assert view.record is not None
        self.assertEqual(Record.read(view.record).name, "bob")
        self.assertIsNotNone(view.summary.since)
        self.assertNotEqual(tag, now)
        body = view.to_json() + from_base64url(view.record.partition(".")[0])
        self.assertNotIn(b"10.0.0.5", body)
        for path in (b"v1/peers", b"user/bob", b"list"):
            self.assertNotIn(b"10.0.0.5", b"".join(self.ask(get(path)).body), path)

    def test_leaves(self) -> None:
        """The location of a peer that exits is withdrawn at once, also for clients that have an older reply."""
        granted = self.claim(self.bob)
        view, tag = self.view()
        self.assertEqual(view.addresses, ("10.0.0.5:50000",))
        self.ask(self.bob.beat(granted, 1, online=False))
        self.assert_nowhere(tag)

    def test_vanishes(self) -> None:
        """The location of a peer that disappears is withdrawn after its lease; the next heartbeat restores it."""
        granted = self.claim(self.bob)
        view, tag = self.view()
        self.clock.advance(PRESENCE_LEASE)
        self.assert_nowhere(tag)
        self.assertEqual(self.ask(self.bob.beat(granted, 1)).status, 200)
        self.assertEqual(self.view()[0].location, view.location)

    def test_expired(self) -> None:
        """The location stays withdrawn for as long as the peer owns the name."""
        self.claim(self.bob)
        _, tag = self.view()
        self.clock.advance(OWNERSHIP_LEASE - 1)
        self.assert_nowhere(tag)

    def test_told_nothing(self) -> None:
        """A user without a peer claims a name without an address."""
        body = ClaimBody(self.bob.record(self.clock).sign(self.bob.key)).to_json()
        self.assertEqual(self.ask(send(b"PUT", "bob", body)).status, 201)
        view, _ = self.view()
        self.assertEqual((view.addresses, view.location), ((), None))
        self.assertEqual(view.summary.presence, Presence.ONLINE)
        self.assertEqual(self.ask(get(b"user/bob")).status, 400)


class NonsenseTests(OwnersTestCase):
    """Threats 6, 28: malformed JSON and targets."""

    def targets(self, body: bytes) -> list[Query]:
        return [
            send(b"PUT", "bob", body),
            send(b"DELETE", "bob", body),
            send(b"POST", "bob/presence", body),
        ]

    def test_corpus(self) -> None:
        """Every route that reads a body rejects malformed JSON (threat 28)."""
        for body in NONSENSE:
            for query in self.targets(body):
                self.assert_problem(self.ask(query), "malformed", 400)
            self.assertEqual(self.ask(Query(b"POST", b"name", body, SOURCE)).status, 400)

    @settings(max_examples=examples(60))
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
            lambda children: (
                st.lists(children, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["record", "rotation", "release", "session", "beat", "online", "mac"]
                    ),
                    children,
                )
            ),
        )
    )
    def test_any_json(self, value: object) -> None:
        """Any body is rejected, and nothing is logged."""
        for query in self.targets(json.dumps(value).encode()):
            self.assertIn(self.ask(query).status, (400, 401))
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(max_examples=examples(60))
    @given(st.binary(max_size=40), st.binary(max_size=40))
    @example(b"?", b"")
    @example(b"events", b"")
    @example(b"signals", b"")
    @example(b"signals", b"inbox=%00")
    def test_any_path(self, path: bytes, arguments: bytes) -> None:
        """Any target is answered, and nothing is logged."""
        no_stream = Route("events", {b"GET": lambda _query: problem("malformed")})
        self.routes.table[b"v1/events"] = no_stream  # which is over HTTP alone
        channels, routes = MemoryChannels(MemoryBus(self.clock)), self.routes
        hub = SignalHub(routes.access, routes.limiter, channels, self.clock, id="A")
        routes.table.update(hub.table())
        for start in (b"v1/", b"v1/peers/", b"v1/keys/", b"v1/peers/bob/", b""):
            for method in (b"GET", b"PUT", b"POST", b"DELETE"):
                query = Query(method, start + path, b"{}", SOURCE, arguments)
                self.assertIn(self.ask(query).status, (200, 400, 401, 404, 405))
        self.assertEqual(self.flushLoggedErrors(), [])


class HttpTests(OwnersTestCase):
    """`/v1` over HTTP."""

    def client(self, **options: object) -> Client:
        site = Site(self.make_routes(**options), self.clock)
        site.doStart()
        self.addCleanup(site.doStop)
        return Client(site)

    def test_no_body(self) -> None:
        """204 and 304 have neither a body nor a length, and the connection stays open."""
        client = self.client(urls=("http://10.0.0.1:8000",))
        for query, status in (
            (self.bob.put(self.bob.record(self.clock)), 201),
            (self.bob.delete(self.clock), 204),
        ):
            head = b"%b /v1/peers/bob HTTP/1.1\r\nContent-Length: %d\r\n" % (
                query.method,
                len(query.body),
            )
            reply = client.send(head + HOST + query.body)
            self.assertTrue(reply.startswith(b"HTTP/1.1 %d" % status), reply)
        self.assertNotIn(b"Content-", reply)
        tag = (
            client.send(b"GET /v1/peers HTTP/1.1\r\n" + HOST)
            .partition(b"ETag: ")[2]
            .partition(b"\r")[0]
        )
        reply = client.send(b"GET /v1/peers HTTP/1.1\r\nIf-None-Match: " + tag + b"\r\n" + HOST)
        self.assertTrue(reply.startswith(b"HTTP/1.1 304"))
        self.assertTrue(reply.endswith(b"\r\n\r\n"))
        self.assertNotIn(b"Content-", reply)
        self.assertFalse(client.closed)

    def test_original_is_limited(self) -> None:
        """A 429 for an original has no body."""
        limits = {"requests": RateLimit(0.001, 1)}
        client = self.client(limits=limits)
        while b"429" not in (reply := client.send(b"GET /list HTTP/1.1\r\n" + HOST)):
            self.assertIn(b" 200 OK", reply)
        self.assertIn(b"Retry-After: ", reply)
        for path in (b"healthz", b"readyz"):  # who looks after the registry is not limited
            self.assertIn(b" 200 OK", client.send(b"GET /%b HTTP/1.1\r\n" % path + HOST))
        reply = client.send(b"GET list HTTP/1.1\r\n" + HOST)
        self.assertIn(b" 429 ", reply)
        self.assertTrue(reply.endswith(b"\r\n\r\n"))
        self.assertIn(b"Content-Length: 0\r\n", reply)

    def test_chunked_bomb(self) -> None:
        """Endless chunks are rejected after 16 KiB (threat 26)."""
        client = self.client()
        client.send(b"PUT /v1/peers/bob HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST)
        sent = 0
        while not client.closed and sent < 100:
            reply = client.send(b"400\r\n" + b" " * 1024 + b"\r\n")
            sent += 1
        self.assertLessEqual(sent, 17)
        self.assertTrue(reply.startswith(b"HTTP/1.1 413"))
