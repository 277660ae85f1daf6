"""An offer is for its receivers only, whatever somebody else knows and asks."""

from __future__ import annotations

from typing import Any

from p2pshare.errors import P2pshareError
from tests.peer.offers.case import EVERY, Offer, OffersTestCase
from tests.peer.offers.hostile import Hostile, RawSession


class StrangerTests(OffersTestCase):
    """Mallory, who knows everything but the keys of others."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, mallory = self.people("alice", "bob", "mallory")
        self.mallory = Hostile(mallory)
        self.asked = 0

    def answers(self, session: RawSession, offer: Offer) -> list[str]:
        """Ask for an offer in all ways, and return what the answers are."""
        mount = f"@{offer['id']}"
        numbers = []
        for path in (mount, f"{mount}/of alice", "@", "@*", "*", ""):
            for recursive in (False, True):
                self.asked += 1
                numbers.append(self.asked)
                session.say(
                    m="list", id=self.asked, path=path, after="", limit=1000, recursive=recursive
                )
        for path in (f"{mount}/of alice", mount):
            self.asked += 1
            numbers.append(self.asked)
            session.say(m="get", id=self.asked, path=path)

        def said() -> list[dict[str, Any]]:
            return [each for each in session.heard if each.get("id") in numbers]

        self.world.until(lambda: len(said()) >= len(numbers) or session.is_over)
        self.assertFalse(session.is_over, session.reason)
        return [each.get("why") or str(each.get("entries")) for each in said()]

    def test_not_for_you(self) -> None:
        """Threat 80: who knows the ID of another one's offer gets nothing of it, at any time, and learns nothing."""
        offer = self.send(self.alice, self.bob)
        item = self.item(self.bob)
        session = self.mallory.open(self.alice)
        self.expect_nothing(session, offer)
        self.bob.ask("accept_offer", id=item["id"])
        self.expect_nothing(session, offer)
        self.await_states(self.alice, offer, bob="done")
        self.expect_nothing(session, offer)
        cancelled = self.send(self.alice, self.bob)
        self.world.until(lambda: len(self.items(self.bob)) == 2, 30, EVERY)
        self.alice.ask("cancel", id=cancelled["id"])
        self.expect_nothing(session, cancelled)
        expired = self.send(self.alice, self.bob, expires_s=60)
        self.world.wait(120)
        self.expect_nothing(self.mallory.open(self.alice), expired)

    def expect_nothing(self, session: RawSession, offer: Offer) -> None:
        """Assert that a stranger gets the same answers as for an offer that does not exist."""
        there = self.answers(session, offer)
        nowhere = self.answers(session, {"id": "a" * 16})
        self.assertEqual(there, nowhere)
        self.assertNotIn("@", "".join(there))
        self.assertEqual(session.data, b"")

    def test_receiver_afterwards(self) -> None:
        """Threat 80: what is over is not visible to its receiver any more."""
        bob = Hostile(self.bob)
        session = bob.open(self.alice)
        done, cancelled, expired = (
            self.send(self.alice, self.bob, **fields) for fields in ({}, {}, {"expires_s": 60})
        )
        for each in (done, cancelled, expired):
            self.assertIn("of alice", "".join(self.answers(session, each)))
        session.say(m="offer_state", id=done["id"], state="done")
        self.alice.ask("cancel", id=cancelled["id"])
        self.world.wait(90)
        session = bob.open(self.alice)
        for each in (done, cancelled, expired):
            self.assertEqual(set(self.answers(session, each)[:4]), {"not_found"})
        self.assertEqual(self.states(self.alice, done), {"bob": "done"})

    def test_name_given_up(self) -> None:
        """Threat 80: whoever has the name of a receiver later, by another key, is not the receiver."""
        told = self.send(self.alice, self.bob)
        self.item(self.bob)
        self.bob.ask("release")
        self.bob.stop()
        untold = self.send(self.alice, self.bob)
        heir = self.world.person("heir")
        heir.name = "bob"
        heir.start()
        self.world.wait(700)
        with self.assertRaises(P2pshareError):
            Hostile(heir).open(self.alice)
        self.assertEqual(heir.look("inbox")["items"], [])
        self.assertEqual(self.states(self.alice, told), {"bob": "delivered"})
        self.assertEqual(self.states(self.alice, untold), {"bob": "waiting"})
