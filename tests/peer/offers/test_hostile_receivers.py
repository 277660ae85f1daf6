"""Receivers that break the rules for offers: a sender believes no more of them than they can prove."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from p2pshare.wire.keys import SigningKey
from p2pshare.wire.offers.receipts import OfferReceipt
from tests.peer.offers.case import EVERY, SOON, Offer, OffersTestCase
from tests.peer.offers.hostile import Fields, Hostile, RawSession

HOUR = 3600
TRIES_MAX = 30  # of a sender in an hour
FINAL = ("declined", "done", "failed")


class HostileReceiverTests(OffersTestCase):
    """Alice sends to mallory, and to bob, who is honest."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, mallory = self.people("alice", "bob", "mallory")
        self.mallory = Hostile(mallory)
        self.state = "waiting"
        self.mallory.answer = self.note
        self.told: list[Fields] = []

    def note(self, session: RawSession, said: Fields) -> None:
        """Answer offers as a receiver does."""
        if said["m"] in ("offer", "withdraw"):
            self.told.append(said)
            session.say(m="offer_state", id=said["id"], state=self.state)

    def offered(self) -> tuple[Offer, RawSession]:
        """Let alice offer something to mallory, and return it with a session of mallory's."""
        offer = self.send(self.alice, self.mallory.person)
        self.await_states(self.alice, offer, mallory="delivered")
        return offer, self.mallory.open(self.alice)

    def tell(self, session: RawSession, offer: Offer, state: str, **fields: Any) -> Fields:
        """Tell alice a state, and return the answer."""
        before = len(session.heard)
        session.say(m="offer_state", id=offer["id"], state=state, **fields)
        self.world.until(lambda: len(session.heard) > before or session.is_over, SOON, EVERY)
        self.assertFalse(session.is_over, session.reason)
        return session.heard[-1]

    def expect_honest_receivers(self) -> None:
        """Assert that alice can still send bob something."""
        offer = self.send(self.alice, self.bob)
        self.bob.ask("accept_offer", id=self.item(self.bob)["id"])
        self.await_states(self.alice, offer, bob="done")

    def receipt(self, offer: Offer, signer: SigningKey | None = None, **changes: Any) -> str:
        """Return a receipt for an offer; by default a valid one, for files that were never fetched."""
        peer: Any = self.mallory.person.peer
        alice: Any = self.alice.peer
        fields = {
            "offer": offer["id"],
            "sender": alice.key.public,
            "key": peer.key.public,
            "files": offer["files"],
            "bytes": offer["bytes"],
            "root": bytes(32),
            "time": int(self.world.wall()),
            **changes,
        }
        return OfferReceipt(**fields).sign(signer or peer.key)

    def test_receipts(self) -> None:
        """Threat 79: a receipt counts only with the receiver's signature, for this offer and its numbers."""
        earlier, session = self.offered()
        stranger = SigningKey(b"s" * 32)
        forgeries: list[Callable[[Offer], str]] = [
            lambda _: "",
            lambda _: "x",
            lambda _: "." * 100,
            lambda _: self.receipt(earlier),
            lambda offer: self.receipt(offer)[:-3] + "AAA",
            lambda offer: self.receipt(offer, sender=stranger.public),
            lambda offer: self.receipt(offer, files=2),
            lambda offer: self.receipt(offer, bytes=0),
            lambda offer: self.receipt(offer, signer=stranger),
            lambda offer: self.receipt(offer, signer=stranger, key=stranger.public),
        ]
        for forge in forgeries:
            offer, _ = self.offered()
            answer = self.tell(session, offer, "done", receipt=forge(offer))
            self.assertEqual(answer, {"m": "offer_noted", "id": offer["id"], "state": "done"})
            (to,) = self.offer(self.alice, offer)["to"]
            self.assertEqual((to["state"], to["receipt"]), ("done", None))
        self.expect_honest_receivers()

    def test_states_out_of_order(self) -> None:
        """Threat 85: a final state never changes, and no state goes back."""
        for first in FINAL:
            offer, session = self.offered()
            self.tell(session, offer, "accepted")
            self.tell(session, offer, "waiting")
            self.assertEqual(self.states(self.alice, offer), {"mallory": "accepted"})
            self.tell(session, offer, first)
            for later in ("waiting", "accepted", *FINAL, "withdrawn", "refused"):
                session.say(m="offer_state", id=offer["id"], state=later)
            self.world.wait(5)
            self.assertEqual(self.states(self.alice, offer), {"mallory": first})
        self.expect_honest_receivers()

    def test_offers_of_others(self) -> None:
        """Threat 85: nobody tells the state of another one's offer, and the answer tells nothing of it."""
        self.mallory.answer = lambda _session, _said: None
        offer = self.send(self.alice, self.bob)
        self.item(self.bob)
        session = self.mallory.open(self.alice)
        for state in ("waiting", "accepted"):
            there = self.tell(session, offer, state)
            nowhere = self.tell(session, {"id": "a" * 16}, state)
            self.assertEqual({**there, "id": ""}, {**nowhere, "id": ""})
        for state in FINAL:
            session.say(m="offer_state", id=offer["id"], state=state)
        self.world.wait(5)
        self.assertEqual(self.states(self.alice, offer), {"bob": "delivered"})
        self.expect_honest_receivers_of(offer)

    def expect_honest_receivers_of(self, offer: Offer) -> None:
        self.bob.ask("accept_offer", id=self.item(self.bob)["id"])
        self.await_states(self.alice, offer, bob="done")

    def test_flood_of_states(self) -> None:
        """Threat 86: thousands of states end the session; each costs the sender's disk nothing new."""
        offer, session = self.offered()
        for number in range(5000):
            session.say(m="offer_state", id=offer["id"], state=("waiting", "accepted")[number % 2])
        self.world.until(lambda: session.is_over, SOON, EVERY)
        self.expect_honest_receivers()

    def test_never_answers(self) -> None:
        """Threat 86: a receiver that answers nothing is tried again and again, more and more rarely."""
        self.mallory.answer = lambda _session, _said: None
        offer = self.send(self.alice, self.mallory.person)
        self.world.wait(HOUR)
        tries = sum(len(each.of_kind("offer")) for each in self.mallory.accepted)
        self.assertGreater(tries, 3)
        self.assertLess(tries, TRIES_MAX)
        self.assertEqual(self.states(self.alice, offer), {"mallory": "waiting"})
        self.expect_honest_receivers()

    def test_refuses_for_now(self) -> None:
        """Threat 86: a receiver that is always full is asked more and more rarely."""

        def refuse(session: RawSession, said: Fields) -> None:
            if said["m"] == "offer":
                self.told.append(said)
                session.say(m="offer_state", id=said["id"], state="refused", why="full")

        self.mallory.answer = refuse
        offer = self.send(self.alice, self.mallory.person)
        self.world.wait(HOUR)
        self.assertLess(len(self.told), TRIES_MAX)
        self.assertEqual(self.states(self.alice, offer), {"mallory": "waiting"})

    def test_done_without_fetching(self) -> None:
        """Threat 79: done is the receiver's word. Whoever says it has signed for it, and the offer is over."""
        offer, session = self.offered()
        receipt = self.receipt(offer)
        self.tell(session, offer, "done", receipt=receipt)
        (to,) = self.offer(self.alice, offer)["to"]
        self.assertEqual((to["state"], to["receipt"]), ("done", receipt))
        session.say(m="get", id=1, path=f"@{offer['id']}/of alice")
        self.world.until(lambda: session.of_kind("failed"), SOON, EVERY)
        self.assertEqual(session.data, b"")

    def test_answer_for_another_offer(self) -> None:
        """Threat 85: an answer about another offer is none."""

        def confuse(session: RawSession, said: Fields) -> None:
            if said["m"] == "offer":
                session.say(m="offer_state", id="a" * 16, state="done")

        self.mallory.answer = confuse
        offer = self.send(self.alice, self.mallory.person)
        self.world.wait(60)
        self.assertEqual(self.states(self.alice, offer), {"mallory": "waiting"})

    def test_hostile_text(self) -> None:
        """Threat 4: what a receiver says is JSON with known words, so nothing of it is shown."""
        offer, session = self.offered()
        session.say_bytes(
            json.dumps(
                {"m": "offer_state", "id": offer["id"], "state": "failed", "why": "\x1b[2J"}
            ).encode()
        )
        self.world.until(lambda: session.is_over, SOON, EVERY)
        self.assertEqual(self.states(self.alice, offer), {"mallory": "delivered"})
