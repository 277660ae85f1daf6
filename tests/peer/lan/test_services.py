"""Tests of `p2pshare.peer.lan.services`."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.lan.services import LIFETIME, Services
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from tests.peer.lan.network import announced, key_of


class ServicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.known = {("bob", key_of(99))}
        self.services = Services(
            lambda name, key: (name, key) in self.known,
            services_max=6,
            per_name_max=2,
            per_host_max=3,
        )

    def names(self) -> list[tuple[str, PublicKey]]:
        return [(e.announcement.name, e.announcement.key) for e in self.services]

    def test_heard(self) -> None:
        """A peer is there from its first announcement until its farewell, or until it was silent for too long."""
        bob, alice = announced("bob", 1), announced("alice", 2)
        self.assertTrue(self.services.heard(bob, 0))
        self.assertTrue(self.services.heard(alice, 1))
        self.assertFalse(self.services.heard(bob, 5))
        self.assertEqual(self.names(), [("alice", key_of(2)), ("bob", key_of(1))])
        moved = replace(bob, addresses=(PeerAddress("192.0.2.50", 1),))
        self.assertTrue(self.services.heard(moved, 6))
        self.assertEqual(self.services.named("bob")[0].announcement, moved)
        self.assertEqual(self.services.expire(1 + LIFETIME), [alice])
        self.assertEqual(self.services.left("bob"), [])
        self.assertEqual(self.services.left(bob.instance), [moved])
        self.assertEqual(self.names(), [])

    def test_flood(self) -> None:
        """Threat 63: a flood of names, keys and hosts fills its bounds, and displaces neither old nor known peers."""
        old = announced("carol", 1)
        self.services.heard(old, 0)
        for number in range(2, 90):
            self.services.heard(announced("bob", number), 0)
            self.services.heard(announced(f"n{number}", number, host=200), 0)
            self.services.heard(announced(f"m{number}", number), 0)
        found = [each.announcement for each in self.services]
        self.assertEqual(len(found), 6)
        self.assertIn(old, found)
        self.assertEqual(len(self.services.named("bob")), 2)
        self.assertLessEqual(sum(each.addresses[0].ip == "192.0.2.200" for each in found), 3)
        friend = announced("bob", 99)
        self.assertTrue(self.services.heard(friend, 1))
        self.assertEqual([e.announcement for e in self.services.of_key(key_of(99))], [friend])
