"""Owners with keys, their requests, and a registry to send them to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.exchange import Query, Reply
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.signals import seal_of
from p2pshare.wire.registry_answers import PROBLEM_PREFIX, ClaimBody, Granted, ReleaseBody
from p2pshare.wire.statements import Record, Release, Rotation, digest_of
from tests.registry.connections import REGISTRY_KEY, make_routes
from tests.registry.openapi_document import DOCUMENT
from tests.wire.statements import location_of

NOW = 1_800_000_000.0
END = ("10.0.0.1", 8000)
AUD = REGISTRY_KEY.public
SOURCE = "10.9.9.9"
HERE = location_of("10.0.0.5:50000", salt="cnJycnJycnJycnJycnJycg").to_text()


class Owner:
    """The holder of a key."""

    def __init__(self, number: int = 1, name: str = "bob") -> None:
        self.key = SigningKey(bytes([number]) * 32)
        self.name = name

    def record(self, clock: Clock, **changes: Any) -> Record:
        """Return a current record."""
        now = int(clock.seconds())
        record = Record(
            self.name,
            self.key.public,
            now * 1000,
            now,
            now + 3600,
            AUD,
            digest_of(HERE),
            ("classic",),
            seal_of(self.key),
        )
        return replace(record, **changes)

    def put(
        self, record: Record, source: str = SOURCE, location: str | None = HERE, **more: str
    ) -> Query:
        """Return the request that claims or renews a name."""
        body = ClaimBody(record.sign(self.key), location, **more).to_json()
        return send(b"PUT", record.name, body, source=source)

    def delete(self, clock: Clock, **changes: Any) -> Query:
        """Return the request that releases the name."""
        now = int(clock.seconds())
        release = Release(self.name, self.key.public, now * 1000 + 1, now, AUD)
        release = replace(release, **changes)
        return send(b"DELETE", self.name, ReleaseBody(release.sign(self.key)).to_json())

    def rotate(self, clock: Clock, new: Owner, **changes: Any) -> str:
        """Return the rotation to another owner's key."""
        now = int(clock.seconds())
        rotation = Rotation(self.name, self.key.public, new.key.public, now, AUD)
        return replace(rotation, **changes).sign(self.key)

    def beat(self, granted: Granted, beat: int, *, online: bool = True) -> Query:
        """Return the request of a heartbeat."""
        body = Heartbeat(self.name, granted.session, beat, online).to_json(granted.mac_key)
        return send(b"POST", f"{self.name}/presence", body)


def send(method: bytes, path: str, body: bytes = b"", source: str = SOURCE) -> Query:
    """Return a request about a peer."""
    return Query(method, b"v1/peers/" + path.encode(), body, source, local=END)


def get(path: bytes, source: str = SOURCE) -> Query:
    """Return a look-up."""
    path, _, arguments = path.partition(b"?")
    return Query(b"GET", path, b"", source, arguments, local=END)


class OwnersTestCase(SynchronousTestCase):
    """A registry over the store in memory, with a realistic time."""

    settings: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = MemoryNameStore(self.clock)
        self.routes = self.make_routes(**self.settings)
        self.bob, self.eve = Owner(1), Owner(2)

    def make_routes(self, **settings: Any) -> Routes:
        return make_routes(self.store, self.clock, **settings)

    def another_registry(self) -> Routes:
        """Return the routes of a registry with another key and store."""
        return Routes(
            MemoryNameStore(self.clock),
            self.clock,
            wall=self.clock.seconds,
            authority=Authority(SigningKey(b"i" * 32), self.clock.seconds, bytes),
            settings=RegistrySettings("", Path(), limits={}),
        )

    def ask(self, query: Query, routes: Routes | None = None) -> Reply:
        reply = self.successResultOf((routes or self.routes).answer(query))
        headers = {key.decode().lower(): value.decode() for key, value in reply.headers}
        headers["content-type"] = reply.content_type.decode()
        DOCUMENT.check(
            query.method.decode(),
            f"/{query.path.decode('latin-1')}",
            reply.status,
            headers,
            b"".join(reply.body),
        )
        return reply

    def body(self, query: Query) -> Any:
        """Return the body of a successful reply."""
        reply = self.ask(query)
        self.assertIn(reply.status, (200, 201), reply)
        return json.loads(b"".join(reply.body))

    def claim(self, owner: Owner, status: int = 201, **changes: Any) -> Granted:
        """Claim or renew a name, with the expected status."""
        reply = self.ask(owner.put(owner.record(self.clock, **changes)))
        self.assertEqual(reply.status, status, reply)
        return Granted.parse(b"".join(reply.body))

    def assert_problem(
        self, reply: Reply, word: str, status: int, **extra: int | str
    ) -> dict[str, Any]:
        """Assert that a reply is this problem."""
        body: dict[str, Any] = json.loads(b"".join(reply.body))
        self.assertEqual(
            (reply.status, body["status"], body["type"]),
            (status, status, PROBLEM_PREFIX + word),
            body,
        )
        self.assertEqual(reply.content_type, b"application/problem+json")
        self.assertLessEqual(extra.items(), body.items())
        return body
