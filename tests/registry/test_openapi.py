"""docs/openapi.json describes what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, ValidationError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.registration import Registration
from p2pshare.errors import StoreRecovering, StoreUnavailable
from p2pshare.registry.api.events import EventHub
from p2pshare.registry.api.signals import SignalHub
from p2pshare.registry.configuration import RateLimit
from p2pshare.registry.store import NameStore
from p2pshare.testing.channels import MemoryBus, MemoryChannels
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query
from p2pshare.web.problems import PROBLEMS
from p2pshare.web.site import Site
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.access import Access, Use, detail_of_body
from p2pshare.wire.reach.rendezvous import SignalBody
from p2pshare.wire.registry_answers import PROBLEM_PREFIX, Granted
from tests.registry.broken_store import broken_store
from tests.registry.connections import Client, make_authority, make_routes
from tests.registry.openapi_document import DOCUMENT
from tests.registry.owners import AUD, NOW, Owner


class Told(NamedTuple):
    """A parsed reply."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A registry over HTTP in memory; every reply is checked against the document."""

    def __init__(self, store: NameStore | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = MemoryNameStore(self.clock)
        used: NameStore = store or self.store
        routes = make_routes(used, self.clock, **settings)
        self.authority = make_authority(self.clock)
        self.hub = EventHub(used, self.clock)
        routes.table.update(self.hub.table(Origins().of))
        channels = MemoryChannels(MemoryBus(self.clock))
        self.signals = SignalHub(routes.access, routes.limiter, channels, self.clock, id="A")
        routes.table.update(self.signals.table())
        self.nonces = 0
        self.site = Site(routes, self.clock)
        self.site.doStart()
        self.told: set[tuple[str, str, int]] = set()

    def stop(self) -> None:
        self.hub.stop()
        self.signals.stop()
        self.site.doStop()

    def ask(
        self, method: str, path: str, body: bytes = b"", *, wait: float = 0, head: str = ""
    ) -> Told:
        """Return the reply to a request; with `wait`, to an incomplete one after as many seconds."""
        head = head or "Host: x\r\n"
        request = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{head}"
        client = Client(self.site)
        reply = client.send(request.encode() if wait else f"{request}\r\n".encode() + body)
        while wait > 0:
            self.clock.advance(1)
            reply, wait = client.transport.value(), wait - 1
        client.leave()
        lines, _, content = reply.partition(b"\r\n\r\n")
        status, *headers = lines.decode().split("\r\n")
        fields = {
            key.lower(): value for key, _, value in (each.partition(": ") for each in headers)
        }
        told = Told(int(status.split(" ")[1]), fields, content)
        if method != "HEAD" and not fields.get("content-type", "").startswith("text/"):
            DOCUMENT.check(method, path.partition("?")[0], told.status, fields, content)
        template = str(DOCUMENT.template_of(path.partition("?")[0]))
        self.told.add((method.lower(), template, told.status))
        return told

    def send(self, query: Query) -> Told:
        """Return the reply to an owner's query."""
        return self.ask(query.method.decode(), f"/{query.path.decode()}", query.body)


class Step(NamedTuple):
    """A request, and its expected status."""

    operation: str
    status: int
    method: str
    path: str
    body: bytes = b""
    head: str = ""


def authorized(wire: Wire, owner: Owner, use: Use, detail: str) -> str:
    """Return the head of a request with an access statement that is used for the first time."""
    wire.nonces += 1
    now, nonce = int(wire.clock.seconds()), f"{wire.nonces:016}"
    access = Access(owner.name, owner.key.public, AUD, now, nonce, use, detail)
    return f"Host: x\r\nAuthorization: {access.to_header(owner.key)}\r\n"


def life(wire: Wire, bob: Owner, carol: Registration) -> Iterator[tuple[Step, Told]]:
    """Go through the life of a name from claim to release, with every success of every operation."""

    def step(
        operation: str, status: int, method: str, path: str, body: bytes = b"", head: str = ""
    ) -> Any:
        told = wire.ask(method, path, body, head=head)
        return Step(operation, status, method, path, body, head), told

    def sent(operation: str, status: int, query: Query) -> Any:
        return step(operation, status, query.method.decode(), f"/{query.path.decode()}", query.body)

    claimed = sent("claim", 201, bob.put(bob.record(wire.clock)))
    yield claimed
    granted = Granted.parse(claimed[1].body)
    yield sent("heartbeat", 200, bob.beat(granted, 1))
    yield step("register", 200, "POST", "/name", carol.to_json())
    yield step("user", 200, "GET", "/user/carol")
    yield step("list", 200, "GET", "/list")
    yield step("peer", 200, "GET", "/v1/peers/bob")
    yield step("peers", 200, "GET", "/v1/peers?prefix=&limit=1&online=1")
    yield step("key", 200, "GET", f"/v1/keys/{bob.key.public}")
    yield step("about", 200, "GET", "/v1/")
    yield step("alive", 200, "GET", "/healthz")
    yield step("ready", 200, "GET", "/readyz")
    yield step("events", 200, "GET", "/v1/events?names=bob")
    signals, head = "/v1/peers/bob/signals", authorized(wire, bob, Use.SIGNALS, "main")
    yield step("follow", 200, "GET", f"{signals}?inbox=main&accept=bob", head=head)
    stream = Client(wire.site)
    head = authorized(wire, bob, Use.SIGNALS, "main")
    stream.send(f"GET {signals} HTTP/1.1\r\n{head}\r\n".encode())
    body = SignalBody("main", "bob", b"sealed").to_json()
    head = authorized(wire, bob, Use.SIGNAL, detail_of_body(body))
    yield step("signal", 202, "POST", signals, body, head)
    stream.leave()
    renewed = bob.record(wire.clock, seq=int(NOW) * 1000 + 1)
    yield sent("claim", 200, bob.put(renewed, receipt=granted.receipt))
    yield sent("release", 204, bob.delete(wire.clock, seq=renewed.seq + 1))


CAROL = Registration("carol", PeerAddress("10.0.0.6", 50001))


class OpenApiTests(SynchronousTestCase):
    """Every status of every operation."""

    def wire(self, store: NameStore | None = None, **settings: Any) -> Wire:
        wire = Wire(store, **settings)
        self.addCleanup(wire.stop)
        self.wires.append(wire)
        return wire

    def setUp(self) -> None:
        self.wires: list[Wire] = []
        self.bob, self.eve = Owner(1), Owner(2)

    def steps(self) -> list[Step]:
        """Return a valid request for each operation."""
        steps = {step.operation: step for step, _ in life(self.wire(), self.bob, CAROL)}
        self.assertEqual(set(steps), {each["operationId"] for _, _, each in DOCUMENT.operations()})
        return list(steps.values())

    def test_everything_is_documented_and_everything_documented_happens(self) -> None:
        """The statuses that occur are those of the document."""
        self.provoke_successes()
        self.provoke_refusals()
        self.provoke_failures()
        told = {each for wire in self.wires for each in wire.told if each[0] != "head"}
        documented = {
            (method, template, int(status))
            for method, template, operation in DOCUMENT.operations()
            for status in operation["responses"]
        }
        self.assertEqual(documented - told, set())
        self.assertEqual({each for each in told - documented if each[2] != 405}, set())

    def provoke_successes(self) -> None:
        wire = self.wire()
        for step, told in life(wire, self.bob, CAROL):
            self.assertEqual(told.status, step.status, step)
            if step.method == "GET" and step.operation not in ("events", "follow"):
                head = wire.ask("HEAD", step.path)
                self.assertEqual((head.status, head.body), (told.status, b""), step)
                self.assertEqual(head.headers.keys(), told.headers.keys(), step)
            if "etag" in told.headers:
                tag = f'Host: x\r\nIf-None-Match: W/"x", {told.headers["etag"]}\r\n'
                again = wire.ask("GET", step.path, head=tag)
                self.assertEqual((again.status, again.body), (304, b""))

    def provoke_refusals(self) -> None:
        """Provoke the refusals of single operations."""
        wire = self.wire()
        wire.send(self.bob.put(self.bob.record(wire.clock)))
        forged = self.eve.record(wire.clock, key=self.bob.key.public)
        for told, status in (
            (wire.send(self.eve.put(self.eve.record(wire.clock))), 409),
            (wire.send(self.eve.put(forged)), 401),
            (wire.send(self.eve.delete(wire.clock)), 403),
            (wire.send(self.eve.delete(wire.clock, key=self.bob.key.public)), 401),
            (wire.send(self.bob.delete(wire.clock, seq=1)), 409),
            (wire.send(Owner(1, "eve").delete(wire.clock)), 404),
            (wire.ask("PUT", "/v1/peers/Bob", b"{}"), 404),
            (wire.ask("POST", "/v1/peers/Bob/presence", b"{}"), 404),
            (wire.ask("GET", "/v1/peers/eve"), 404),
            *self.refusals_of_signals(wire),
            (wire.ask("GET", f"/v1/keys/{self.eve.key.public}"), 404),
            (wire.send(self.bob.beat(Granted("", "x", b"", "", ""), 1)), 401),
        ):
            self.assertEqual(told.status, status, told)
        invited = self.wire(invite_only=True)
        self.assertEqual(invited.send(self.bob.put(self.bob.record(invited.clock))).status, 403)

    def refusals_of_signals(self, wire: Wire) -> Iterator[tuple[Told, int]]:
        """Yield the refusals of streams of signals, and of signals."""
        body, stranger = SignalBody("main", "bob", b"").to_json(), Owner(3, "bob")
        for method, use, detail in (
            ("GET", Use.SIGNALS, "main"),
            ("POST", Use.SIGNAL, detail_of_body(body)),
        ):
            sent = body if method == "POST" else b""
            yield wire.ask(method, "/v1/peers/bob/signals", sent), 401
            head = authorized(wire, stranger, use, detail)
            yield wire.ask(method, "/v1/peers/bob/signals", sent, head=head), 403
            yield wire.ask(method, "/v1/peers/Bob/signals", sent), 404

    def provoke_failures(self) -> None:
        """Provoke the failures that every operation has."""
        steps = self.steps()
        wire = self.wire()
        for step in steps:
            for status, told in (
                (400, wire.ask(step.method, step.path, head="Host: x\r\nHost: y\r\n")),
                (408, wire.ask(step.method, step.path, wait=11)),
                (413, wire.ask(step.method, step.path, b" " * 16385)),
                (414, wire.ask(step.method, step.path.partition("?")[0] + "?" + "x" * 9000)),
                (431, wire.ask(step.method, step.path, head=f"X: {'y' * 9000}\r\n")),
            ):
                self.assertEqual(told.status, status, step)
        limited = self.wire(limits={"requests": RateLimit(0.001, 1, spares_loopback=False)})
        while limited.ask("GET", "/list").status == 200:
            pass
        for error, status in (
            (StoreUnavailable(reason="gone"), 503),
            (StoreRecovering(seconds=9), 503),
            (ZeroDivisionError(), 500),
        ):
            broken = self.wire(broken_store(error))
            for step in steps:
                told = broken.ask(step.method, step.path, step.body, head=step.head)
                expected = 200 if step.operation in ("about", "alive") else status
                self.assertEqual(told.status, expected, step)
        self.flushLoggedErrors(ZeroDivisionError)
        for step in steps:
            expected = 200 if step.operation in ("alive", "ready") else 429
            self.assertEqual(limited.ask(step.method, step.path, step.body).status, expected)

    def test_other_methods(self) -> None:
        """A method that is not documented gets 405, with the documented ones in `Allow`."""
        wire = self.wire()
        for template, item in DOCUMENT.content["paths"].items():
            path = re.sub(r"\{\w+\}", "bob", template)
            allowed = {method.upper() for method in item if method != "parameters"}
            for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "QUERY"} - allowed:
                told = wire.ask(method, path)
                self.assertEqual(told.status, 405, (method, path))
                found = set(told.headers["allow"].split(", "))
                self.assertEqual(found - {"HEAD"}, allowed)
                self.assertEqual("HEAD" in found, "GET" in allowed)

    def test_examples(self) -> None:
        """The examples are the requests and replies from the first claim to the release."""
        found, shown_before = 0, set()
        for step, told in life(self.wire(), self.bob, CAROL):
            operation = next(
                each
                for _, _, each in DOCUMENT.operations()
                if each["operationId"] == step.operation
            )
            sides = [(told.body, DOCUMENT.resolve(operation["responses"][str(step.status)]))]
            if step.operation not in shown_before:
                sides.append((step.body, operation.get("requestBody", {})))
            shown_before.add(step.operation)
            for body, described in sides:
                content = described.get("content", {}).get("application/json", {})
                if "example" in content:
                    self.assertEqual(json.loads(body), content["example"], step.operation)
                    found += 1
        self.assertEqual(found, 13)

    def test_problems(self) -> None:
        """The types of problems are those of the code."""
        listed = DOCUMENT.content["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
        self.assertEqual(listed, [PROBLEM_PREFIX + word for word in PROBLEMS])

    def test_schemas(self) -> None:
        """The schemas are valid, and every component is used."""
        components = DOCUMENT.content["components"]
        text = json.dumps(DOCUMENT.content)
        for kind, parts in components.items():
            for name in parts:
                self.assertIn(f'"#/components/{kind}/{name}"', text)
        for schema in components["schemas"].values():
            Draft202012Validator.check_schema(schema)
            self.assertRaises(ValidationError, DOCUMENT.validate, object(), schema)
