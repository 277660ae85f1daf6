"""Drafts that are sent, files that are sent again, and who has fetched what, between whole peers."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

from p2pshare.errors import ControlRefused, NoSuchOffer, OfferFilesGone, P2pshareError, WrongUsage
from p2pshare.peer.offers import drafts, outbox
from p2pshare.peer.offers.drafts import DRAFTS_MAX, FILES_AT_ONCE, ORPHANS_EVERY, Drafts
from p2pshare.peer.offers.sending import Sending, Wanted
from p2pshare.storage.offers import outgoing, spool
from p2pshare.storage.offers.outgoing import OutgoingOffer, OutgoingOffers
from p2pshare.storage.shares.tree import ShareTree
from tests.peer.offers.case import OffersTestCase
from tests.peer.offers.world import Person

LIFE = 3 * ORPHANS_EVERY  # seconds; a day would take long


class DraftTests(OffersTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.made: list[Drafts] = []

        def make(*arguments: Any, **bounds: Any) -> Drafts:
            self.made.append(Drafts(*arguments, **bounds))
            return self.made[-1]

        self.patch(outbox, "Drafts", make)

    def drafts(self, draft: str) -> Drafts:
        """Return the drafts of the peer that has one of them, or else some."""
        return next((each for each in self.made if draft in each.ids), self.made[0])

    def add(self, draft: str, path: str, content: bytes) -> None:
        """Bring a file, as the page does."""

        async def put() -> None:
            drafts = self.drafts(draft)
            file = await drafts.begin_file(draft, tuple(path.split("/")), len(content))
            try:
                file.write(content)
                file.finish()
            finally:
                await drafts.end_file(file)

        self.world.result(put())

    def spooled(self, person: Person) -> list[str]:
        """Return the IDs in the spool."""
        return sorted(os.listdir(person.data / "outgoing"))

    def test_sent(self) -> None:
        """A draft is counted first, is sent with other files, takes nothing more, and goes with its offer."""
        alice, bob = self.people("alice", "bob")
        draft = alice.ask("draft_begin")["draft"]
        self.assertRaises(WrongUsage, alice.ask, "send", draft=draft, to=["bob"])
        self.add(draft, "photos/cat.jpg", b"meow")
        self.add(draft, "notes.txt", b"notes")
        wanted = {"draft": draft, "to": ["bob"], "paths": [str(alice.write("own", b"mine"))]}
        checked = alice.ask("send", **wanted, check=True)
        self.assertEqual((checked["files"], checked["bytes"], checked["id"]), (3, 13, ""))
        self.add(draft, "photos/.hidden", b"?")
        offer = alice.ask("send", **wanted, note="from the page")
        self.assertEqual((offer["files"], offer["again"]), (3, True))
        self.assertEqual(offer["left_out"]["hidden"], 1)
        self.assertRaises(P2pshareError, self.add, draft, "late", b"1")
        self.assertRaises(P2pshareError, alice.ask, "send", draft=draft, to=["bob"])
        alice.crash()
        alice.begin()
        self.world.result(alice.ready)
        self.assertEqual(self.spooled(alice), [draft])
        item = self.item(bob)
        bob.ask("accept_offer", id=item["id"])
        self.await_states(alice, offer, bob="done")
        expected = {"photos/cat.jpg": b"meow", "notes.txt": b"notes", "own": b"mine"}
        self.assertEqual(bob.received("alice"), expected)
        self.world.until(lambda: not self.spooled(alice))
        with self.assertRaisesRegex(OfferFilesGone, "Choose the files again"):
            alice.ask("send", again=offer["id"], to=["bob"])

    def test_discarded_while_sent(self) -> None:
        """A draft that is being sent is not removed: its offer would have no files."""
        alice, _ = self.people("alice", "bob")
        draft, add = alice.ask("draft_begin")["draft"], OutgoingOffers.add
        self.add(draft, "notes.txt", b"notes")

        def slow(store: OutgoingOffers, offer: OutgoingOffer) -> Any:
            with self.assertRaisesRegex(WrongUsage, "being sent"):
                alice.look("draft_discard", draft=draft)
            return add(store, offer)

        with patch.object(OutgoingOffers, "add", slow):
            alice.ask("send", draft=draft, to=["bob"])
        self.assertEqual(self.spooled(alice), [draft])

    def test_copy_again(self) -> None:
        """A draft or a text that somebody has not got is sent again, within a day; what was withdrawn is removed."""
        self.patch(outgoing, "COPY_KEPT", LIFE)
        self.patch(spool, "ORPHAN_LIFE", 0.0)
        alice, bob = self.people("alice", "bob")
        draft = alice.ask("draft_begin")["draft"]
        self.add(draft, "photos/cat.jpg", b"meow")
        self.add(draft, "notes.txt", b"notes")
        own = str(alice.write("own", b"mine"))
        first = alice.ask("send", draft=draft, paths=[own], to=["bob"])
        bob.ask("decline_offer", id=self.item(bob)["id"])
        self.await_states(alice, first, bob="declined")
        alice.stop()
        alice.begin()
        self.world.result(alice.ready)
        second = alice.ask("send", again=first["id"], to=["bob"])
        alice.ask("offers_clear", id=first["id"])
        self.assertEqual(self.spooled(alice), [draft])  # the second offer needs it
        self.world.until(lambda: len(self.items(bob)) == 2, 60, 0.5)
        bob.ask("accept_offer", id=second["id"])
        self.await_states(alice, second, bob="done")
        expected = {"photos/cat.jpg": b"meow", "notes.txt": b"notes", "own": b"mine"}
        self.assertEqual(bob.received("alice"), expected)
        self.world.until(lambda: not self.spooled(alice))

        expired = alice.ask("send", text="no", to=["bob"], expires_s=60)
        self.await_states(alice, expired, within=200, bob="expired")
        offer_of = Sending.offer_of

        async def slow(sending: Sending, wanted: Wanted, tree: ShareTree) -> OutgoingOffer:
            offer = await offer_of(sending, wanted, tree)
            await alice.asked("offers_clear", id=expired["id"])  # its copy is removed meanwhile
            return offer

        with patch.object(Sending, "offer_of", slow), self.assertRaises(NoSuchOffer):
            alice.ask("send", again=expired["id"], to=["bob"])

        text = alice.ask("send", text="hello", to=["bob"], expires_s=60)
        self.await_states(alice, text, within=200, bob="expired")
        again = alice.ask("send", again=text["id"], to=["bob"], expires_s=7200)
        self.assertTrue(again["text"])
        alice.ask("cancel", id=again["id"])
        self.assertEqual(len(self.spooled(alice)), 1)
        self.assertEqual(
            [self.offer(alice, each)["again"] for each in (text, again)], [True, False]
        )
        self.world.wait(LIFE + 2 * ORPHANS_EVERY)
        self.assertEqual(self.spooled(alice), [])
        self.assertFalse(self.offer(alice, text)["again"])
        with self.assertRaisesRegex(OfferFilesGone, "Choose the files again"):
            alice.ask("send", again=text["id"], to=["bob"])

    def test_again(self) -> None:
        """The files of an offer are sent again, to others, by its ID."""
        alice, _, carol = self.people("alice", "bob", "carol")
        path = alice.write("notes.txt", b"notes")
        first = alice.ask("send", paths=[str(path)], as_name="renamed", to=["bob"])
        self.assertTrue(first["again"])
        second = alice.ask("send", again=first["id"][:6], to=["carol"], note="you, too")
        self.assertNotEqual(first["id"], second["id"])
        carol.ask("accept_offer", id=self.item(carol)["id"])
        self.await_states(alice, second, carol="done")
        self.assertEqual(carol.received("alice"), {"renamed": b"notes"})
        path.unlink()
        with self.assertRaises(OfferFilesGone):
            alice.ask("send", again=first["id"], to=["bob"])
        for fields in ({"paths": [str(path)]}, {"draft": "a" * 16}, {"text": "x"}):
            with self.assertRaises(P2pshareError):
                alice.ask("send", again=first["id"], to=["bob"], **fields)

    def test_unwanted(self) -> None:
        """A draft that is discarded, or used first of too many, or not sent for long, is removed."""
        for module in (drafts, spool):
            self.patch(module, "ORPHAN_LIFE", LIFE)
        (alice,) = self.people("alice")
        first, second = (alice.ask("draft_begin")["draft"] for _ in range(2))
        self.add(first, "a", b"1")
        alice.ask("draft_discard", draft=first)
        self.assertEqual(self.spooled(alice), [second])
        self.assertRaises(WrongUsage, alice.ask, "draft_discard", draft=first)
        kept = [alice.ask("draft_begin")["draft"] for _ in range(DRAFTS_MAX)]
        self.assertEqual(self.spooled(alice), sorted(kept))
        for each in kept:
            os.utime(alice.data / "outgoing" / each, (self.world.wall(),) * 2)
        self.world.wait(LIFE * 0.9)
        self.add(kept[0], "a", b"1")
        os.utime(alice.data / "outgoing" / kept[0], (self.world.wall(),) * 2)
        self.world.wait(LIFE * 0.5)
        self.assertEqual(self.spooled(alice), [kept[0]])

    def test_busy(self) -> None:
        """Only so many files arrive at once, and a draft with one that arrives is neither sent nor removed."""
        (alice,) = self.people("alice")
        draft = alice.ask("draft_begin")["draft"]
        drafts = self.drafts(draft)
        files = [
            self.world.result(drafts.begin_file(draft, (str(number),), 1))
            for number in range(FILES_AT_ONCE)
        ]
        with self.assertRaises(ControlRefused):
            self.world.result(drafts.begin_file(draft, ("more",), 1))
        with self.assertRaises(ControlRefused):
            alice.ask("send", draft=draft, to=["bob"])
        for _ in range(DRAFTS_MAX):
            alice.ask("draft_begin")
        self.assertIn(draft, self.spooled(alice))
        for each in files:
            self.world.result(drafts.end_file(each))
        self.world.result(drafts.end_file(self.world.result(drafts.begin_file(draft, ("a",), 1))))
        self.assertEqual(os.listdir(alice.data / "outgoing" / draft), [])
