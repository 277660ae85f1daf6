"""Tests of `p2pshare.peer.find.known_addresses`, with a registry in memory."""

from __future__ import annotations

from typing import Any

from p2pshare.errors import (
    KeyChanged,
    NoSuchPeer,
    PeerAddressRefused,
    PeerOffline,
    RegistryUnavailable,
)
from p2pshare.peer.find.known_addresses import find_known
from p2pshare.peer.ownership import Owner, rotate_key
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.registry_answers import PRESENCE_LEASE
from tests.peer.registries import URL, RegistryTestCase

HERE = "10.0.0.5:50000"


class AcquaintanceTests(RegistryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor: Any = ThreadlessReactor()
        self.known = KnownPeers(self.base / "alice", URL)
        self.seen = Seen(self.base / "alice")
        self.bob = self.identity()

    def claim(self, identity: Identity) -> None:
        self.result(Owner(self.client(), identity, self.wall).claim([HERE]))

    def meet(self, name: str = "bob") -> Any:
        return find_known(self.reactor, self.client(), self.known, self.seen, name)

    def test_found(self) -> None:
        """A peer is where the registry says, and nobody becomes known by that."""
        self.claim(self.bob)
        found = self.result(self.meet())
        self.assertEqual(found, ((PeerAddress("10.0.0.5", 50000),), self.bob.key.public))
        self.assertIsNone(self.known.key("bob"))
        self.failureResultOf(self.start(self.meet("nobody")), NoSuchPeer)

    def test_registry_away(self) -> None:
        """While the registry is away, one whose key is known is looked at where it was seen last."""
        self.claim(self.bob)
        self.known.path.parent.mkdir()
        self.result(self.meet())
        self.registry.away = True
        self.failureResultOf(self.start(self.meet()), RegistryUnavailable)
        self.known.pin("bob", self.bob.key.public, None)
        found = self.result(self.meet())
        self.assertEqual(found, ((PeerAddress("10.0.0.5", 50000),), self.bob.key.public))

    def test_offline(self) -> None:
        """One that is offline is looked at where it was seen last under its known key; else it is nowhere."""
        self.claim(self.bob)
        self.known.path.parent.mkdir()
        self.result(self.meet())
        self.result(rotate_key(self.client(), self.bob, "bob", None, self.wall))
        error = self.failureResultOf(self.start(self.meet()), PeerOffline).value
        self.assertIn("is offline, last seen 1970", str(error))
        self.claim(self.bob)
        self.result(self.meet())
        self.known.pin("bob", self.bob.key.public, None)
        self.clock.advance(PRESENCE_LEASE)
        found = self.result(self.meet())
        self.assertEqual(found, ((PeerAddress("10.0.0.5", 50000),), self.bob.key.public))

    def test_leads_here(self) -> None:
        """Threat 13: nor is one looked at that is said to be on this machine."""
        self.result(Owner(self.client(), self.bob, self.wall).claim(["127.0.0.1:80"]))
        self.failureResultOf(self.start(self.meet()), PeerAddressRefused)

    def test_other_key(self) -> None:
        """Another key than the known one is refused, unless the known one has signed it: threat 15."""
        self.claim(self.bob)
        self.known.pin("bob", self.bob.key.public, None)
        self.result(rotate_key(self.client(), self.bob, "bob", [HERE], self.wall))
        self.assertEqual(self.result(self.meet())[1], self.bob.key.public)
        self.registry.lose_everything()
        self.claim(self.identity("thief"))
        self.failureResultOf(self.start(self.meet()), KeyChanged)
