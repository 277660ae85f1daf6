"""A registry in memory, for tests of owners and keepers of names."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from p2pshare.classic.registration import parse_registration
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.client import RegistryClient
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.identity.identity import Identity
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.exchange import Query
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registry_answers import PeerView, Presence

URL = "http://registry.example:8000"
REGISTRY_KEY = SigningKey(bytes(32)).public
START = 1_800_000_000  # Unix time in s at which the tests begin


class InMemoryRegistry(Resource):
    """The real routes over a store in memory. It can be away, silent, busy or an original, and lose its store."""

    isLeaf = True

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.away = self.deaf = self.busy = self.original = False
        self.loses_replies = False
        self.forever: dict[str, PeerAddress] | None = None
        """The names of an original registry that never forgets one."""
        self.ahead = 0.0
        self.asked: list[tuple[float, bytes, bytes]] = []
        """The time, the method and the path of each request."""
        self._random = random.Random(1)
        self.lose_everything()

    def lose_everything(self, **settings: Any) -> None:
        """Begin with an empty store without noticing it."""
        self.store = MemoryNameStore(self.clock)
        self.serve(**settings)

    def serve(self, **settings: Any) -> None:
        """Serve the store with other settings."""
        self.routes = Routes(
            self.store,
            self.clock,
            wall=self.wall,
            authority=Authority(SigningKey(bytes(32)), self.wall, self._random.randbytes),
            settings=RegistrySettings("", Path(), limits={}, **settings),
        )
        self.authority = Authority(SigningKey(bytes(32)), self.wall, self._random.randbytes)

    def wall(self) -> float:
        return START + self.clock.seconds() + self.ahead

    def render(self, request: Request) -> bytes | int:
        path = request.uri[1:].partition(b"?")
        self.asked.append((self.clock.seconds(), request.method, path[0]))
        if self.deaf:
            return NOT_DONE_YET
        if self.away or self.busy:
            request.setResponseCode(429 if self.busy else 503)
            request.setHeader("Retry-After", "40" if self.busy else "2")
            return b""
        if self.original and path[0].startswith(b"v1"):
            request.setResponseCode(404)
            return b"<h1>Not Found</h1>"
        assert request.content is not None
        if self.forever is not None:
            return self._answer_for_ever(request, path[0], request.content.read())
        query = Query(
            request.method,
            path[0],
            request.content.read(),
            "10.0.0.5",
            path[2],
            request.requestHeaders,
            ("10.0.0.1", 8000),
        )
        answered: list[bytes] = []

        def answer(reply: Any) -> None:
            request.setResponseCode(reply.status)
            for name, value in reply.headers:
                request.setHeader(name, value)
            answered.append(b"".join(reply.body))

        self.routes.answer(query).addCallback(answer)
        return NOT_DONE_YET if self.loses_replies else answered[0]

    def _answer_for_ever(self, request: Request, path: bytes, body: bytes) -> bytes:
        assert self.forever is not None
        if path == b"name":
            wanted = parse_registration(body)
            if wanted.name not in self.forever:
                self.forever[wanted.name] = wanted.address
                return b""
        known = self.forever.get(path.removeprefix(b"user/").decode())
        request.setResponseCode(400 if known is None else 200)
        return b"" if known is None else known.to_json()

    def count(self, method: bytes, path: bytes = b"") -> int:
        """Return the number of requests with this method and end of the path."""
        return sum(how == method and what.endswith(path) for _, how, what in self.asked)


class RegistryTestCase(SynchronousTestCase):
    """A registry in memory, a clock, and identities in folders."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = InMemoryRegistry(self.clock)
        self.agents: list[RequestTraversalAgent] = []
        self.folders: dict[str, DataFolder] = {}
        self.base = Path(self.mktemp())

    def wall(self) -> float:
        """Return the Unix time of the owners' clock."""
        return START + self.clock.seconds()

    def client(self) -> RegistryClient:
        agent = RequestTraversalAgent(self.registry)
        self.agents.append(agent)
        return RegistryClient(agent, URL, self.clock, wall=self.wall)

    def identity(self, folder: str = "bob", name: str = "bob") -> Identity:
        """Return the identity in a folder, as a start reads it."""
        if folder in self.folders:
            self.folders.pop(folder).close()
        opened = DataFolder.open(self.base / folder, name)
        self.folders[folder] = opened
        self.addCleanup(opened.close)
        identity = Identity.open(opened, URL, name)
        identity.meet(REGISTRY_KEY)
        return identity

    def start(self, running: Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(running)

    def result(self, running: Coroutine[Deferred[Any], Any, Any]) -> Any:
        """Return the result of a coroutine that finishes at once."""
        return self.successResultOf(self.start(running))

    def view(self, name: str = "bob") -> PeerView | None:
        """Return the store's view of a name."""
        return self.successResultOf(self.registry.store.look_up_peer(name))

    def owner(self, name: str = "bob") -> PublicKey | None:
        view = self.view(name)
        return None if view is None else view.key

    def presence(self, name: str = "bob") -> Presence | None:
        view = self.view(name)
        return None if view is None else view.summary.presence

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
        self.settle()

    def settle(self) -> None:
        """Let the connections in memory notice aborted requests."""
        for agent in self.agents:
            agent.flush()
