"""Meetings of ends at different workers: two relays in one process, linked by Unix sockets."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from p2pshare.errors import FolderUnusable
from p2pshare.registry.configuration import RelayLimits
from p2pshare.registry.relay.links import LINE_MAX, WorkerLinks
from p2pshare.registry.relay.pairs import RelayEnd
from p2pshare.registry.relay.relay import Relay
from p2pshare.registry.relay.rooms import Rooms
from p2pshare.registry.relay.turns import TURN_MAX
from p2pshare.web.problems import RequestError
from tests.registry.relay.test_relay import Transport

reactor: Any = global_reactor
ROOM = "r" * 22


class Homes:
    """The homes of rooms, in memory."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    async def room_home(self, room: str, home: str, life: float, instead_of: str = "") -> str:
        found = self.known.get(room)
        if found is None or found == instead_of:
            found = self.known[room] = home
        return found


class Worker:
    """The relay of a worker."""

    def __init__(self, number: int, folder: Path, homes: Homes, **limits: Any) -> None:
        self.relay = Relay(reactor, RelayLimits(**limits))
        self.rooms = Rooms(self.relay, reactor)
        self.links = WorkerLinks(reactor, number, folder, homes, self.relay, self.rooms)

    async def stop(self) -> None:
        await self.links.stop()
        self.rooms.stop()
        self.relay.stop()


class Sink(Transport):
    """The connection of an end in memory; what is written to it has left at once."""

    protocol: Any


class LinkTests(TestCase):
    """Workers 1 and 2."""

    timeout = 20

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="p2p-")))
        self.homes = Homes()
        self.one, self.two = self.start(1), self.start(2)

    def start(self, number: int, **limits: Any) -> Worker:
        worker = Worker(number, self.folder, self.homes, **limits)
        worker.links.listen()
        self.addCleanup(worker.stop)
        return worker

    def enter(self, worker: Worker, key: str, other: str) -> Deferred[RelayEnd]:
        entering = worker.links.enter(ROOM, key, other)
        entering.addErrback(lambda failure: failure)
        return entering

    async def meet(self, *ends: Deferred[RelayEnd]) -> list[Sink]:
        """Wait until ends have met, and connect them."""
        transports = []
        for success, end in await DeferredList(list(ends), consumeErrors=True):
            assert success, end
            transports.append(Sink())
            end.makeConnection(transports[-1])
            transports[-1].protocol = end
        return transports

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferLater(reactor, 0.001)

    async def test_across(self) -> None:
        """Ends at two workers meet; bytes go both ways, and half-closes and ends propagate."""
        waiting = self.enter(self.one, "a", "b")
        alice, bob = await self.meet(waiting, self.enter(self.two, "b", "a"))
        alice.protocol.dataReceived(b"from alice")
        bob.protocol.dataReceived(b"from bob")
        await self.until(lambda: alice.value() and bob.value())
        self.assertEqual((alice.value(), bob.value()), (b"from bob", b"from alice"))
        self.assertEqual((len(self.one.relay), len(self.two.relay)), (1, 1))
        alice.protocol.readConnectionLost()
        await self.until(lambda: bob.is_half_closed)
        bob.protocol.readConnectionLost()
        await self.until(lambda: alice.disconnecting)
        alice.protocol.connectionLost()
        bob.protocol.connectionLost()
        await self.until(lambda: not len(self.one.relay) and not len(self.two.relay))
        self.assertEqual((self.one.relay.places, self.two.relay.places), (0, 0))

    async def test_back_pressure(self) -> None:
        """A slow end slows down its partner at the other worker; everything arrives in the end."""
        waiting = self.enter(self.one, "a", "b")
        alice, bob = await self.meet(waiting, self.enter(self.two, "b", "a"))
        bob.fill()
        sent = 0
        while alice.producerState == "producing":
            alice.protocol.dataReceived(bytes([sent % 251]) * TURN_MAX)
            sent += 1
            await deferLater(reactor, 0)
            self.assertLess(sent, 1000)
        bob.drain()
        await self.until(lambda: len(bob.value()) == sent * TURN_MAX)
        self.assertEqual(bob.value()[::TURN_MAX], bytes(n % 251 for n in range(sent)))
        for end in (alice, bob):
            end.protocol.connectionLost()

    async def test_same_worker(self) -> None:
        """Ends at one worker meet there, without a link."""
        waiting = self.enter(self.two, "a", "b")
        await self.meet(waiting, self.enter(self.two, "b", "a"))
        self.assertEqual((len(self.one.relay), len(self.two.relay)), (0, 1))

    async def test_leaves(self) -> None:
        """An end that leaves while it waits by a link frees its place at both workers."""
        self.homes.known = {}
        first = self.enter(self.one, "a", "b")
        first.cancel()
        await self.assertFailure(first, CancelledError)
        second = self.enter(self.two, "b", "a")
        await self.until(lambda: self.one.relay.places and self.two.relay.places)
        second.cancel()
        await self.assertFailure(second, CancelledError)
        await self.until(lambda: not self.one.relay.places)
        self.assertEqual(self.two.relay.places, 0)

    async def test_problems(self) -> None:
        """The problem of the home is that of the request; nothing is left of it."""
        await self.meet(self.enter(self.one, "a", "b"), self.enter(self.two, "b", "a"))
        error: Any = await self.assertFailure(self.enter(self.two, "b", "a"), RequestError)
        self.assertEqual(error.word, "room-used")
        self.assertEqual((self.one.relay.places, self.two.relay.places), (2, 1))

    async def test_places(self) -> None:
        """An end counts among those of its key at its own worker only; each link takes one of all places."""
        one, two = self.start(6, pairs=1, pairs_per_key=1), self.start(7, pairs=1, pairs_per_key=1)
        await self.meet(self.enter(one, "a", "b"), self.enter(two, "b", "a"))
        self.assertEqual(dict(one.relay._places), {"a": 1, "": 1})
        self.assertEqual(dict(two.relay._places), {"b": 1})
        late: Any = await self.assertFailure(two.links.enter("x" * 22, "b", "c"), RequestError)
        self.assertEqual(late.word, "too-many-requests")
        late = await self.assertFailure(one.links.enter("x" * 22, "c", "d"), RequestError)
        self.assertEqual(late.word, "relay-full")

    async def test_dead_worker(self) -> None:
        """A room whose home has died gets another one."""
        lost = self.enter(self.one, "a", "b")
        await self.one.links.stop()
        self.one.rooms.stop()
        await self.assertFailure(lost, RequestError)
        again = self.enter(self.two, "b", "a")
        await self.until(lambda: len(self.two.rooms))
        one = self.start(1)
        alice, bob = await self.meet(again, self.enter(one, "a", "b"))
        alice.protocol.dataReceived(b"x")
        await self.until(bob.value)

    async def test_home_dies_in_a_session(self) -> None:
        """If a worker dies, the ends of its pairs at other workers are told."""
        waiting = self.enter(self.one, "a", "b")
        alice, bob = await self.meet(waiting, self.enter(self.two, "b", "a"))
        self.one.relay.stop()
        await self.until(lambda: bob.is_half_closed or bob.disconnected)
        self.assertTrue(alice.disconnected)
        for end in (alice, bob):
            end.protocol.connectionLost()
        await self.until(lambda: not len(self.one.relay) and not len(self.two.relay))

    async def test_socket(self) -> None:
        """Only the registry's user reaches a worker's socket; a stale one is replaced, and in the end it is gone."""
        path = self.folder / "relay-1.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        await self.one.stop()
        self.assertFalse(path.exists())
        path.touch()
        self.start(1)
        self.assertTrue(stat.S_ISSOCK(path.stat().st_mode))

    async def test_long_folder(self) -> None:
        """The data folder may have a long path."""
        self.folder = Path(self.folder, "x" * 100)
        os.mkdir(self.folder)
        homes = self.homes = Homes()
        one, two = self.start(3), self.start(4)
        await self.meet(self.enter(one, "a", "b"), self.enter(two, "b", "a"))
        self.assertEqual(list(homes.known.values()), ["3"])

    async def test_no_socket(self) -> None:
        """A folder that takes no socket is an error with a sentence."""
        worker = Worker(5, self.folder / "none", self.homes)
        self.assertRaises(FolderUnusable, worker.links.listen)

    async def test_long_line(self) -> None:
        """A link that sends more than a line is cut."""
        ended: Deferred[None] = Deferred()

        class Talker(Protocol):
            transport: Any

            def connectionMade(self) -> None:
                self.transport.write(b"x" * (LINE_MAX + 1))

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                ended.callback(None)

        path = str(self.folder / "relay-1.sock")
        await connectProtocol(UNIXClientEndpoint(reactor, path), Talker())
        await ended
        await self.until(lambda: not self.one.links.links)
