"""The store in memory, and classic claims."""

from __future__ import annotations

import hashlib

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2pshare.registry.store import Claim
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.wire.addresses import PeerAddress
from tests.registry.owned_contract import OwnedNamesContract
from tests.registry.store_contract import NameStoreContract


class MemoryNameStoreTests(NameStoreContract, OwnedNamesContract, TestCase):
    """The store in memory keeps the contracts."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.store: MemoryNameStore = MemoryNameStore(self.clock)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def use_leases(self, presence: float, ownership: float = 3600) -> None:
        self.store = MemoryNameStore(self.clock, presence_lease=presence, ownership_lease=ownership)

    async def lose(self) -> None:
        self.clock.advance(0.001)
        self.store.lose()


class ClaimTests(SynchronousTestCase):
    """A registration becomes a claim."""

    def test_defaults(self) -> None:
        """A claim without a token has no proof."""
        address = PeerAddress("10.0.0.5", 1)
        self.assertEqual(Claim.of("bob", address, 60, None), Claim("bob", address, 60, None))

    def test_token(self) -> None:
        """The store gets only a digest of the token. A lease of 0 differs from a missing one."""
        claim = Claim.of("bob", PeerAddress("10.0.0.5", 1), 0, "s" * 16)
        self.assertEqual(claim.proof, hashlib.sha256(b"s" * 16).hexdigest())
        self.assertEqual(claim.lease, 0)
