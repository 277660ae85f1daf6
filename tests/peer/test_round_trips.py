"""Round trips until a file arrives: a user, a registry and a sharer far away from each other, in virtual time.

The verb `get`, the registry's server and the sharer are the real ones. Only TCP, threads and the store are in memory.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.find.own_identity import OwnName
from p2pshare.peer.ownership import Owner
from p2pshare.peer.share.admission import REMEMBER, Admission
from p2pshare.peer.share.service import SessionSharer
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.client import RegistryClient, pooled_agent
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import shared_paths
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.get import get
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.candidates import Candidate
from p2pshare.wire.session_messages import CAP_SESSIONS
from tests.peer.delayed_network import DelayedNetwork, Machine
from tests.peer.share.live_case import live_shares

REGISTRY, SHARER, USER = "192.0.2.1", "192.0.2.7", "192.0.2.9"
URL = f"http://{REGISTRY}:8000"
PORT = 50_000
ROUND_TRIP = 0.25  # seconds, exact in binary
START = 1_800_000_000  # Unix time in s
REGISTRY_KEY = SigningKey(bytes(32))


class RoundTripTests(SynchronousTestCase):
    """Bob gets files of alice, whom he may have met before."""

    def setUp(self) -> None:
        self.network = DelayedNetwork(ROUND_TRIP / 2)
        self.network.set_delay(REGISTRY, SHARER, 0.0)
        self.base = Path(self.mktemp()).absolute()
        self.share, self.inbox = self.base / "share", self.base / "inbox"
        self.share.mkdir(parents=True)
        self.inbox.mkdir()
        self.settings = Settings(registry=URL, name="bob", data=self.base / "bob")
        self.serve_names()
        self.alice = self.network.machine(SHARER)
        self.bob = self.network.machine(USER)
        self.share_folder()

    def wall(self) -> float:
        """Return the Unix time of all machines."""
        return START + self.network.clock.seconds()

    def serve_names(self) -> None:
        """Run the registry."""
        machine = self.network.machine(REGISTRY)
        routes = Routes(
            MemoryNameStore(self.network.clock),
            machine,
            wall=self.wall,
            authority=Authority(REGISTRY_KEY, self.wall, random.Random(1).randbytes),
            settings=RegistrySettings("", Path(), limits={}),
        )
        site = Site(routes, cast("Any", machine), Limits(), wall=self.wall)
        machine.listenTCP(8000, site)

    def client(self, machine: Machine) -> RegistryClient:
        """Return a client of the registry on a machine."""
        agent, _ = pooled_agent(machine)
        return RegistryClient(agent, URL, machine, wall=self.wall, known=REGISTRY_KEY.public)

    def share_folder(self) -> None:
        """Let alice register, and share a folder."""
        client, data = self.client(self.alice), DataFolder.open(self.base / "alice", "alice")
        self.addCleanup(data.close)
        identity = Identity.open(data, URL, "alice")
        identity.meet(REGISTRY_KEY.public)
        known = KnownPeers(data.path, str(REGISTRY_KEY.public))
        shares = shared_paths([str(self.share)], [], self.base)
        sharer = SessionSharer(
            cast("Any", self.alice),
            live_shares(cast("Any", self.alice), data.path, shares),
            None,
            data.path,
            Admission(cast("Any", self.alice), client, known),
            lambda: identity.key,
        )
        self.result(sharer.open())
        self.result(sharer.acceptor.listen(PORT, SHARER))
        owner = Owner(client, identity, self.wall, caps=(CAP_SESSIONS,))
        self.result(owner.claim([Candidate.parse(f"host/{SHARER}:{PORT}")]))
        self.addCleanup(lambda: self.result(sharer.stop()))

    def result(self, running: Any) -> Any:
        """Let time pass until a coroutine has ended, and return its result."""
        ended = Deferred.fromCoroutine(running)
        self.network.run(lambda: ended.called)
        return self.successResultOf(ended)

    def own_a_name(self) -> None:
        """Let bob claim his name, and so meet the registry, but not alice."""
        place = PeerPlace.of(self.settings, "bob")
        own = OwnName(cast("Any", self.bob), self.client(self.bob), place, self.wall)
        self.result(own.identity())

    def get(self, path: str, shared: str, result: str) -> tuple[float, float]:
        """Let bob get `path`; return the round trips until the file `shared` is here as `result`, and until the end."""
        terminal = Terminal.detect(io.StringIO(), {})
        invocation = Invocation(
            cast("Any", self.bob),
            cast("Any", random.Random(2)),
            self.settings,
            Output(terminal, terminal),
            self.inbox,
            self.wall,
        )
        file, began = self.inbox / result, self.network.clock.seconds()
        running = Deferred.fromCoroutine(get(invocation, [f"alice:{path}"], overwrite=False))
        self.network.run(lambda: file.exists() or running.called)
        here = self.network.clock.seconds() - began
        self.assertEqual(self.result(self.ended(running)), 0)
        self.assertEqual(file.read_bytes(), (self.base / shared).read_bytes())
        return here / ROUND_TRIP, (self.network.clock.seconds() - began) / ROUND_TRIP

    async def ended(self, running: Deferred[int]) -> int:
        """Return the exit code of a command."""
        return await running

    def get_new(self, size: int) -> tuple[float, float]:
        """Let alice share a new file, and bob get it; returns as `get` does."""
        name = self.write(f"{size}", size)
        return self.get(f"share/{name}", f"share/{name}", name)

    def write(self, name: str, size: int) -> str:
        """Share a file of random bytes."""
        path = self.share / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random.Random(size).randbytes(size))
        return name

    def test_first_contact(self) -> None:
        """A file of a peer that was never met is here after 5 round trips; the farewell takes one more.

        Registry: connection, answers. Sharer: connection, TLS, and the request with the greeting.
        """
        self.own_a_name()
        self.assertEqual(self.get_new(4_000_000), (5, 6))

    def test_known_peer(self) -> None:
        """So is a file of a known peer, whatever its size."""
        self.own_a_name()
        self.get_new(1)
        for size in (0, 100, 4_000_000):
            self.assertEqual(self.get_new(size), (5, 6))

    def test_questions(self) -> None:
        """The registry is asked three questions at once: its key, the user's name, and the peer."""
        self.own_a_name()
        self.get_new(1)
        self.network.connections.clear()
        self.get_new(2)
        self.assertEqual(
            self.network.connections, [(USER, REGISTRY, 8000)] * 3 + [(USER, SHARER, PORT)]
        )

    def test_folder(self) -> None:
        """The first file of a folder takes two more: the request for a file is refused, and the folder is listed."""
        self.own_a_name()
        self.write("cats/1", 10)
        self.assertEqual(self.get("share", "share/cats/1", "share/cats/1")[0], 7)

    def test_sharer_and_registry(self) -> None:
        """A sharer asks the registry once who the opener is, and remembers the answer for a minute."""
        self.own_a_name()
        for one, other in ((USER, REGISTRY), (USER, SHARER)):
            self.network.set_delay(one, other, 0.0)
        self.network.set_delay(REGISTRY, SHARER, ROUND_TRIP / 2)
        self.assertEqual(self.get_new(1), (1, 1))
        self.assertEqual(self.get_new(2), (0, 0))
        self.network.wait(REMEMBER)
        self.assertEqual(self.get_new(3), (2, 2))  # one for a new connection: no heartbeat used it
