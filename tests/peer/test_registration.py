"""Tests of `p2pshare.peer.registration`, with a registry in memory."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

import numpy as np
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from p2pshare.errors import NameTaken, RegistryUnavailable, RegistryUnreachable
from p2pshare.peer.registration import (
    JITTER,
    LEASE,
    RELEASE_TIMEOUT,
    RENEW_EVERY,
    RETRY_MAX,
    NameKeeper,
)
from p2pshare.registry.client import TIMEOUT, RegistryClient
from p2pshare.registry.exchange import Query
from p2pshare.registry.memory_store import MemoryNameStore
from p2pshare.wire.registration import PeerAddress, Registration
from tests.registry.connections import make_routes

HERE = PeerAddress("10.0.0.5", 50000)
TOKEN, OTHER_TOKEN = "t" * 16, "o" * 16


class InMemoryRegistry(Resource):
    """The real routes over a store in memory; it can be away, or deaf, or lose everything."""

    isLeaf = True

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.away = False
        self.deaf = False
        self.asked_at: list[float] = []
        self.lose_everything()

    def lose_everything(self) -> None:
        self.store = MemoryNameStore(self._clock)
        self._routes = make_routes(self.store, self._clock)

    def render(self, request: Request) -> bytes | int:
        self.asked_at.append(self._clock.seconds())
        if self.deaf:
            return NOT_DONE_YET
        if self.away:
            request.setResponseCode(503)
            return b""
        assert request.content is not None
        query = Query(request.method, request.uri[1:], request.content.read(), "10.0.0.5")
        answered: list[bytes] = []

        def answer(reply: Any) -> None:
            request.setResponseCode(reply.status)
            answered.append(b"".join(reply.body))

        self._routes.answer(query).addCallback(answer)
        return answered[0]


class NameKeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = InMemoryRegistry(self.clock)
        self.address = HERE
        self.agents: list[RequestTraversalAgent] = []
        self.keeper = self.keeper_with(TOKEN)

    def client(self) -> RegistryClient:
        agent = RequestTraversalAgent(self.registry)
        self.agents.append(agent)
        return RegistryClient(agent, "http://registry.example:8000", self.clock)

    def keeper_with(self, token: str) -> NameKeeper:
        async def find_address() -> PeerAddress:
            return self.address

        rng = random.Random(1)
        return NameKeeper(self.clock, self.client(), rng, "bob", token, find_address)

    def start(self, running: Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(running)

    def registered(self) -> PeerAddress | None:
        """Where the registry believes that the peer is."""
        return self.successResultOf(self.registry.store.look_up("bob"))

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
        self.settle()

    def settle(self) -> None:
        """Let the connections in memory hear of what was aborted."""
        for agent in self.agents:
            agent.flush()

    def take(self) -> None:
        self.assertEqual(self.successResultOf(self.start(self.keeper.take())), HERE)

    def take_name_away(self) -> None:
        """Let the registry lose the name, and somebody else take it."""
        self.registry.lose_everything()
        thief = Registration("bob", PeerAddress("10.6.6.6", 50000), OTHER_TOKEN, LEASE)
        self.successResultOf(self.start(self.client().register(thief)))

    def test_take(self) -> None:
        """The name is registered for 90 s, and then free again."""
        self.take()
        self.assertEqual(self.registered(), HERE)
        self.wait(LEASE - 0.25)
        self.assertEqual(self.registered(), HERE)
        self.wait(0.5)
        self.assertIsNone(self.registered())

    def test_taken(self) -> None:
        """A name that somebody has is an error, however patient one is."""
        self.take()
        other = self.keeper_with(OTHER_TOKEN)
        self.failureResultOf(self.start(other.take()), NameTaken)
        self.failureResultOf(self.start(other.take_patiently()), NameTaken)

    def test_registry_away(self) -> None:
        """Without patience, a registry that is away is an error, at once or after its time-out."""
        self.registry.away = True
        self.failureResultOf(self.start(self.keeper.take()), RegistryUnavailable)
        self.registry.deaf = True
        taking = self.start(self.keeper.take())
        self.wait(TIMEOUT + 0.25)
        self.failureResultOf(taking, RegistryUnreachable)

    def test_renewed(self) -> None:
        """Before its lease ends it is renewed, every 30 s more or less, for ever."""
        self.take()
        keeping = self.start(self.keeper.keep())
        for _ in range(200):
            self.wait(10)
            self.assertEqual(self.registered(), HERE)
        self.assertNoResult(keeping)
        pauses = np.diff(self.registry.asked_at)
        self.assertGreaterEqual(min(pauses), RENEW_EVERY * (1 - JITTER) - 0.25)
        self.assertLessEqual(max(pauses), RENEW_EVERY * (1 + JITTER) + 0.25)
        self.assertGreater(len(set(pauses.tolist())), 10, "peers do not come all at once")

    def test_patience(self) -> None:
        """A registry that is away is asked again after waits that grow up to a bound, until it is back."""
        self.registry.away = True
        taking = self.start(self.keeper.take_patiently())
        self.wait(300)
        self.assertNoResult(taking)
        pauses = np.diff(self.registry.asked_at)
        self.assertLess(pauses[0], 1.0)
        self.assertLess(pauses[1], pauses[3])
        self.assertLessEqual(max(pauses), RETRY_MAX * (1 + JITTER) + 0.25)
        self.assertGreaterEqual(min(pauses[-10:]), RETRY_MAX * (1 - JITTER) - 0.25)
        self.registry.away = False
        self.wait(RETRY_MAX * (1 + JITTER) + 0.25)
        self.assertEqual(self.successResultOf(taking), HERE)

    def test_registry_away_meanwhile(self) -> None:
        """After the registry was away, or deaf, for longer than the lease, the name is registered again."""
        self.take()
        keeping = self.start(self.keeper.keep())
        for trouble in ("away", "deaf"):
            setattr(self.registry, trouble, True)
            self.wait(300)
            self.assertIsNone(self.registered())
            setattr(self.registry, trouble, False)
            self.wait(RETRY_MAX * (1 + JITTER) + TIMEOUT + 0.25)
            self.assertEqual(self.registered(), HERE)
        self.assertNoResult(keeping)

    def test_registry_lost_everything(self) -> None:
        """A registry that forgot the name hears it again at the next renewal."""
        self.take()
        self.start(self.keeper.keep())
        self.registry.lose_everything()
        self.wait(RENEW_EVERY * (1 + JITTER) + 0.25)
        self.assertEqual(self.registered(), HERE)

    def test_lost_to_somebody(self) -> None:
        """If somebody else has got the name meanwhile, it is lost, and nobody asks for it again."""
        self.take()
        keeping = self.start(self.keeper.keep())
        self.take_name_away()
        self.wait(RENEW_EVERY * (1 + JITTER) + 0.25)
        self.failureResultOf(keeping, NameTaken)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_moved(self) -> None:
        """A peer whose address changes is registered under the new one."""
        self.take()
        self.start(self.keeper.keep())
        self.address = PeerAddress("10.0.0.99", 50000)
        self.wait(RENEW_EVERY * (1 + JITTER) + 0.25)
        self.assertEqual(self.registered(), self.address)

    def test_stopped(self) -> None:
        """Cancelling leaves nothing that runs, whatever it was waiting for."""
        for trouble, seconds in ((None, 1), ("away", 60), ("deaf", 33)):
            self.take()
            keeping = self.start(self.keeper.keep())
            if trouble:
                setattr(self.registry, trouble, True)
            self.wait(seconds)
            keeping.cancel()
            self.settle()
            self.failureResultOf(keeping, CancelledError)
            self.assertEqual(self.clock.getDelayedCalls(), [], trouble)
            if trouble:
                setattr(self.registry, trouble, False)

    def test_given_up(self) -> None:
        """The name is free at once for whoever comes next."""
        self.take()
        self.successResultOf(self.start(self.keeper.give_up()))
        self.assertIsNone(self.registered())
        self.successResultOf(self.start(self.keeper_with(OTHER_TOKEN).take()))

    def test_given_up_without_a_registry(self) -> None:
        """Stopping waits no longer than a second for a registry, and is no error without it."""
        self.take()
        self.registry.away = True
        self.successResultOf(self.start(self.keeper.give_up()))
        self.registry.deaf = True
        giving_up = self.start(self.keeper.give_up())
        self.wait(RELEASE_TIMEOUT)
        self.successResultOf(giving_up)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_to_give_up(self) -> None:
        """Who never had the name tells nobody anything, least of all that it is free."""
        self.take_name_away()
        asked = len(self.registry.asked_at)
        self.failureResultOf(self.start(self.keeper.take()), NameTaken)
        self.successResultOf(self.start(self.keeper.give_up()))
        self.assertEqual(len(self.registry.asked_at), asked + 1)
        self.assertIsNotNone(self.registered())
