"""Tests of `p2pshare.ui.dialog.offers`, with a scripted peer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import ControlRefused, NoSuchOffer, WrongUsage
from p2pshare.ui.dialog import offers
from p2pshare.ui.dialog.offers import (
    LINES_MAX,
    LINES_OVER,
    NOTE_SHOWN,
    TEXT_LINES_SHOWN,
    DialogOffers,
)
from p2pshare.ui.verbs.offers import send
from p2pshare.wire.keys import SigningKey
from tests.ui.verbs.offers.scripted_peer import ID, ITEM, LEFT_OUT, OfferVerbTestCase, offer


class DialogOffersTests(OfferVerbTestCase):
    module = send

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        peer: Any = self.peer
        self.offers = DialogOffers(
            self.invocation, peer, lambda text, _: self.said.append(text), lambda: self.cwd
        )

    def obey(self, word: str, rest: str = "") -> list[str]:
        lines = self.successResultOf(Deferred.fromCoroutine(self.offers.obey(word, rest)))
        return [text for text, _ in lines]

    def fails(self, error: type[Exception], word: str, rest: str = "") -> str:
        failure = self.failureResultOf(Deferred.fromCoroutine(self.offers.obey(word, rest)), error)
        return str(failure.value)

    def arrives(self, **changes: Any) -> list[str]:
        """Return what is said of an event about an offer to the user."""
        self.clock.advance(LINES_OVER)
        self.said.clear()
        self.offers.event("inbox", {**ITEM, **changes})
        return list(self.said)

    def test_arrival(self) -> None:
        """An offer is shown once in each state, with what to type; a long note is cut."""
        (shown,) = self.arrives(note="n" * 1000)
        self.assertEqual(
            shown,
            f'alice offers you photos/ and 1 more (13 files, 4.0 KiB), "{"n" * NOTE_SHOWN}...".'
            ' Type "accept k6xwn2" or "decline k6xwn2".',
        )
        self.assertEqual(self.arrives(), [])
        (shown,) = self.arrives(**{"from": "alice@lan", "id": "b" * 16})
        self.assertTrue(shown.startswith("alice@lan (nothing proves that name) offers"))
        for changes, part in (
            ({"state": "accepted", "folder": str(self.cwd)}, "Getting photos/"),
            ({"state": "failed", "why": "changed"}, "not those that were offered"),
            ({"state": "withdrawn"}, "alice has withdrawn"),
            ({"state": "done", "saved": [str(self.cwd / "p")]}, "Saved p, from alice"),
        ):
            (shown,) = self.arrives(**changes)
            self.assertIn(part, shown)
            self.assertEqual(self.arrives(**changes), [])
        (shown,) = self.arrives(id="a" * 16, state="accepted", auto=True, folder="/x")
        self.assertIn("as your settings accept it", shown)

    def test_trouble(self) -> None:
        """Why an accepted offer does not arrive is said once."""
        accepted = {"state": "accepted", "folder": str(self.cwd)}
        self.arrives(**accepted)
        (shown,) = self.arrives(**accepted, trouble="p cannot be written: no space.", why="disk")
        self.assertEqual(shown, "p cannot be written: no space.")
        for trouble in (None, shown):
            self.assertEqual(self.arrives(**accepted, trouble=trouble), [])

    def test_text(self) -> None:
        """A text is shown when it has arrived, up to a number of lines."""
        saved = self.cwd / "text.txt"
        saved.write_text("line\n" * 100)
        shown = self.arrives(text=True, state="done", saved=[str(saved)])
        self.assertEqual(shown[:2], ["alice writes (saved as text.txt):", "  line"])
        self.assertLessEqual(len(shown), TEXT_LINES_SHOWN + 1)

    def test_flood(self) -> None:
        """A sender of many offers does not fill the screen: the others are counted (threat 81)."""
        for number in range(1000):
            self.offers.event("inbox", {**ITEM, "id": f"{number:016}"})
        self.assertEqual(len(self.said), LINES_MAX)
        self.clock.advance(LINES_OVER)
        self.assertEqual(len(self.said), LINES_MAX + 1)
        self.assertIn(f"{1000 - LINES_MAX} more lines", self.said[-1])
        self.assertIn("alice offers", self.arrives()[0])
        self.offers.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_states(self) -> None:
        """The memory of what was shown is bounded."""
        self.patch(offers, "STATES_MAX", 10)
        for number in range(100):
            self.offers.event("inbox", {**ITEM, "id": f"{number:016}"})
        self.assertEqual(len(self.offers._shown), 10)
        self.offers.stop()

    def test_own_offers(self) -> None:
        """What becomes of an own offer is shown once for each person and state."""
        for state, part in (
            ("waiting", None),
            ("delivered", "carol has been offered photos/"),
            ("accepted", "carol fetches"),
            ("done", "carol has photos/ and 1 more: 13 files"),
        ):
            self.said.clear()
            for _ in range(2):
                self.offers.event("offer", offer({"state": state}))
            self.assertEqual(len(self.said), 0 if part is None else 1)
            self.assertIn(part or "", "".join(self.said))

    def test_lists(self) -> None:
        """The lists have what is not over."""
        self.assertEqual(self.obey("inbox"), ["Your inbox is empty."])
        self.assertEqual(self.obey("offers"), ["You offer nothing now."])
        self.peer.rows = {ID: ITEM, "b": {**ITEM, "state": "done", "id": "b"}}
        self.assertIn("k6xwn2  alice sends photos/", self.obey("inbox")[0])
        self.assertEqual(len(self.obey("inbox")), 2)
        key = SigningKey(bytes(32)).public
        self.peer.rows = {ID: {**ITEM, "from": "alice@lan", "key": str(key)}}
        self.assertIn(key.grouped, self.obey("inbox")[1])
        self.peer.rows = {ID: offer({"state": "done"}), "b": offer({}, {"name": "dave"}, id="b")}
        self.assertEqual(len(self.obey("offers")), 3)

    def test_waiting(self) -> None:
        """At the start the number of offers is told, and they are not shown again."""
        self.peer.rows = {ID: {**ITEM, "to": []}}
        lines = self.successResultOf(Deferred.fromCoroutine(self.offers.waiting()))
        self.assertEqual(
            [text for text, _ in lines], ['1 offer waits for you: "inbox" lists them.']
        )
        self.assertEqual(self.arrives(), [])
        self.peer.rows = {}
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.offers.waiting())), [])

    def test_answers(self) -> None:
        """An offer is accepted into the folder of the dialog or another one, paused, resumed, or declined."""
        self.peer.answers = {
            "accept_offer": {**ITEM, "state": "accepted", "folder": "/x"},
            "decline_offer": {**ITEM, "state": "declined"},
            "pause_offer": {**ITEM, "state": "accepted", "paused": True},
            "go_on_offer": {**ITEM, "state": "accepted"},
            "cancel": offer({"state": "cancelled"}),
        }
        self.obey("accept", "k6xw")
        self.obey("accept", "k6xw sub folder")
        folders = [each["folder"] for each in self.peer.asked]
        self.assertEqual(folders, [str(self.cwd), str(self.cwd / "sub folder")])
        for word, said in (("pause", "Paused"), ("resume", "Resumed"), ("decline", "Declined")):
            self.assertIn(f"{said}: photos/", self.obey(word, "k6xw")[0])
        self.assertIn("is cancelled", self.obey("cancel", "k6xw")[0])
        for word in ("accept", "pause", "decline", "cancel", "send"):
            self.assertIn("Type wh", self.fails(WrongUsage, word))
        self.peer.answers["accept_offer"] = NoSuchOffer(id="x", hint="")
        self.fails(NoSuchOffer, "accept", "x")

    def test_send(self) -> None:
        """A file is offered, after what is left out was said; names with blanks are quoted."""
        (self.cwd / "my file").write_text("x")
        self.peer.answers["send"] = offer({}, left_out=LEFT_OUT)
        (made,) = self.obey("send", "'my file' carol")
        self.assertIn("Left out: 2 hidden", self.said[0])
        self.assertIn("Offer k6xwn2 to carol", made)
        self.assertEqual(self.peer.asked[1]["paths"], [str(self.cwd / "my file")])
        self.assertIn("cannot be read", self.fails(WrongUsage, "send", "'my file carol"))
        self.assertIn("There is no file", self.fails(WrongUsage, "send", "nothing carol"))
        self.fails(WrongUsage, "send", "- carol")

    def test_no_offers(self) -> None:
        """A registry without keys has no offers, and that is no error at the start."""

        async def listed(*_: object) -> list[dict[str, Any]]:
            raise ControlRefused(reason="it knows no 'inbox'")

        self.patch(self.peer, "listed", listed)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.offers.waiting())), [])
