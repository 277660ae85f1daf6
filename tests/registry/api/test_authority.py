"""The registry's own key."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.registry.api.authority import Authority
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import OWNERSHIP_LEASE, SESSION_LIFE

BOB, EVE = SigningKey(bytes([1]) * 32).public, SigningKey(bytes([2]) * 32).public


class AuthorityTests(SynchronousTestCase):
    """Receipts, invitations and sessions."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.authority = self.make(bytes(32))

    def make(self, seed: bytes) -> Authority:
        return Authority(SigningKey(seed), self.clock.seconds, random.Random(1).randbytes)

    def test_receipts(self) -> None:
        """A receipt has the number of the claim. It is valid at its registry, for one name and key, for 30 days."""
        receipt = self.authority.receipt("bob", BOB, 7)
        self.assertEqual(self.authority.read_receipt(receipt, "bob", BOB), 7)
        self.assertEqual(self.make(bytes(32)).read_receipt(receipt, "bob", BOB), 7)
        self.assertIsNone(self.authority.read_receipt(receipt, "eve", BOB))
        self.assertIsNone(self.authority.read_receipt(receipt, "bob", EVE))
        self.assertIsNone(self.make(bytes([9]) * 32).read_receipt(receipt, "bob", BOB))
        self.assertIsNone(self.authority.read_receipt(self.authority.invite(9), "bob", BOB))
        self.clock.advance(OWNERSHIP_LEASE)
        self.assertIsNone(self.authority.read_receipt(receipt, "bob", BOB))

    def test_invitations(self) -> None:
        """Invitations differ; each is valid for its time, at its registry."""
        one, two = self.authority.invite(60), self.authority.invite(60)
        ids = [self.authority.read_invitation(each).id for each in (one, two)]
        self.assertNotEqual(*ids)
        for wrong in ("x", self.make(bytes([9]) * 32).invite(60)):
            self.assertRaises(RemoteProtocolError, self.authority.read_invitation, wrong)
        self.clock.advance(60)
        self.assertRaises(RemoteProtocolError, self.authority.read_invitation, one)

    def test_sessions(self) -> None:
        """Any process with the key derives a session's MAC key; it differs by name, session and registry."""
        session, mac_key = self.authority.new_session("bob")
        self.assertLessEqual(len(session), 64)
        self.assertEqual(self.make(bytes(32)).mac_key("bob", session), mac_key)
        others = [
            self.authority.mac_key("eve", session),
            self.authority.new_session("bob")[1],
            self.make(bytes([9]) * 32).mac_key("bob", session),
        ]
        self.assertNotIn(mac_key, others)
        self.assertNotIn(None, others)
        self.clock.advance(SESSION_LIFE)
        self.assertIsNone(self.authority.mac_key("bob", session))

    def test_no_sessions(self) -> None:
        """A malformed session has no key."""
        end = "." + "a" * 22
        for wrong in (
            "",
            "x",
            "1" + end,
            "9" * 16 + end,
            "0x7" + end,
            "\u0661" * 12 + end,
            "2000000000.a",
        ):
            self.assertIsNone(self.authority.mac_key("bob", wrong), wrong)
        self.assertIsNotNone(self.authority.mac_key("bob", "2000000000" + end))
