"""Tests of `p2pshare.ui.verbs.offers.inbox`, with a scripted peer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from p2pshare.errors import (
    NoSuchOffer,
    OfferFailed,
    OfferWithdrawn,
    PeerNotAnswering,
    PeerStopped,
    WrongUsage,
)
from p2pshare.ui.verbs.offers import inbox
from tests.ui.verbs.offers.scripted_peer import ID, ITEM, OfferVerbTestCase, ScriptedPeer


class InboxTests(OfferVerbTestCase):
    module = inbox

    def accept(self, folder: str | None = None, **changes: Any) -> Deferred[int]:
        """Accept an offer."""
        destination = str(self.cwd / (folder or ""))
        row = {**ITEM, "state": "accepted", "folder": destination.rstrip("/"), **changes}
        self.peer.answers["accept_offer"] = self.row = row
        return Deferred.fromCoroutine(inbox.accept(self.invocation, "k6xw", folder))

    def tell(self, **changes: Any) -> None:
        self.peer.tell({**self.row, **changes})

    def test_list(self) -> None:
        """The list has the offers that are not over, or all of them; a note cannot steer the terminal (threat 4)."""
        evil = {**ITEM, "note": "look\x1b[2J\u202e", "id": ID}
        self.peer.rows = {ID: evil, "b": {**ITEM, "id": "b" * 16, "state": "declined"}}
        for options, count in (
            ({"tty": True}, 3),
            ({}, 1),
            ({"json": True}, 1),
            ({"quiet": True}, 1),
        ):
            self.begin(**options)
            self.assertEqual(
                self.successResultOf(Deferred.fromCoroutine(inbox.inbox(self.invocation))), 0
            )
            shown = self.stdout.getvalue()
            self.assertEqual(len(shown.splitlines()), count, shown)
            self.assertNotIn("\x1b[2J", shown)
            self.assertIn("k6xwn2", shown)
        self.begin()
        working = inbox.inbox(self.invocation, with_past=True)
        self.successResultOf(Deferred.fromCoroutine(working))
        self.assertEqual(len(self.stdout.getvalue().splitlines()), 2)
        self.assertIs(self.contacts[0], False)

    def test_accept(self) -> None:
        """An offer is saved in the current folder, and the end names where."""
        accepting = self.accept()
        self.assertEqual(self.peer.asked[0]["folder"], str(self.cwd))
        self.tell(bytes_done=100, rate=7)
        self.assertNoResult(accepting)
        self.tell(state="done", saved=[str(self.cwd / "photos (1)")])
        self.assertEqual(self.successResultOf(accepting), 0)
        self.assertIn("Saved photos (1), from alice: 13 files, 4.0 KiB.\n", self.stdout.getvalue())

    def test_folder(self) -> None:
        """DEST is made absolute, as the peer runs elsewhere."""
        accepting = self.accept("../here")
        self.assertEqual(self.peer.asked[0]["folder"], str(self.cwd.parent / "here"))
        self.tell(state="done", saved=["/x/a", "/x/b"])
        self.assertEqual(self.successResultOf(accepting), 0)
        self.assertIn("Saved 13 files, 4.0 KiB in ../here, from alice.\n", self.stdout.getvalue())

    def test_text(self) -> None:
        """A text is shown with escapes, after it is saved (threat 4)."""
        saved = self.cwd / "text.txt"
        saved.write_text("one\x1b[2J\ntwo\n")
        accepting = self.accept(text=True)
        self.tell(state="done", saved=[str(saved)])
        self.assertEqual(self.successResultOf(accepting), 0)
        self.assertTrue(self.stdout.getvalue().endswith("one\\x1b[2J\ntwo\n"))
        self.assertIn("The text is saved as text.txt.", self.stderr.getvalue())

    def test_ends(self) -> None:
        """An offer that does not arrive is an error with its reason."""
        for changes, error in (
            ({"state": "failed", "why": "changed"}, OfferFailed),
            ({"state": "withdrawn"}, OfferWithdrawn),
        ):
            accepting = self.accept()
            self.tell(**changes)
            failure = self.failureResultOf(accepting, error)
            self.assertEqual(failure.value.exit_code, 1)
        self.peer.answers["accept_offer"] = NoSuchOffer(id="x", hint="")
        accepting = Deferred.fromCoroutine(inbox.accept(self.invocation, "x", None))
        self.assertEqual(self.failureResultOf(accepting, NoSuchOffer).value.exit_code, 4)

    def test_trouble(self) -> None:
        """Why nothing arrives is said at once, and once."""
        accepting = self.accept()
        for _ in range(2):
            self.tell(trouble="photos cannot be written: no space.", why="disk")
            self.tell(trouble=None)
        self.assertEqual(self.stderr.getvalue().count("photos cannot be written: no space."), 1)
        self.tell(state="done")
        self.assertEqual(self.successResultOf(accepting), 0)

    def test_standard_output(self) -> None:
        """An offer is saved into a folder, and not written to standard output."""
        accepting = Deferred.fromCoroutine(inbox.accept(self.invocation, "k6xw", "-"))
        self.failureResultOf(accepting, WrongUsage)
        self.assertEqual(self.peer.asked, [])

    def test_interrupted(self) -> None:
        """Ctrl+C leaves the transfer to the peer, and says so."""
        accepting = self.accept()
        accepting.cancel()
        self.failureResultOf(accepting, CancelledError)
        self.assertIn("Your peer goes on with it.", self.stderr.getvalue())

    def test_stalled(self) -> None:
        """If nothing arrives, the command ends with 5 and the running peer goes on; a peer inside stays."""
        for is_here in (False, True):
            self.begin()
            self.peer.is_lasting = not is_here
            accepting = self.accept()
            self.tell(trouble="alice is offline.", bytes_done=1)
            self.clock.pump([1.0] * int(inbox.STALLED - 1))
            self.assertNoResult(accepting)
            self.clock.pump([1.0] * 9)
            self.assertEqual(self.stderr.getvalue().count("alice is offline."), 1)
            if not is_here:
                self.assertEqual(self.successResultOf(accepting), 5)
        self.tell(state="done")
        self.assertEqual(self.successResultOf(accepting), 0)

    def test_stopped(self) -> None:
        """If somebody stops the peer inside the command, the transfer is kept, and that is no success."""
        self.peer.is_lasting = False
        accepting = self.accept()
        self.peer.end(PeerStopped(name="bob"))
        self.assertEqual(self.successResultOf(accepting), 5)
        self.assertIn("It goes on when your peer runs.", self.stderr.getvalue())

    def test_peer_ends(self) -> None:
        """If the running peer ends, the command runs one itself, which goes on."""
        second = ScriptedPeer()
        self.peers.append(second)
        accepting = self.accept()
        second.rows = dict(self.peer.rows)
        self.peer.end(PeerNotAnswering(path="x", reason="it has ended"))
        second.tell({**self.row, "state": "done"})
        self.assertEqual(self.successResultOf(accepting), 0)
        self.assertEqual(second.asked, [])

    def test_here(self) -> None:
        """A peer inside the command waits a moment for offers, and tells the sender the end before it ends."""
        self.peer.is_lasting = False
        listing = Deferred.fromCoroutine(inbox.inbox(self.invocation))
        self.assertNoResult(listing)
        self.peer.rows = {ID: ITEM}
        self.clock.advance(inbox.ARRIVAL_PATIENCE)
        self.assertEqual(self.successResultOf(listing), 0)
        self.assertIn("k6xwn2", self.stdout.getvalue())
        accepting = self.accept()
        self.tell(state="done", told=False)
        self.assertNoResult(accepting)
        self.tell(state="done", told=True)
        self.assertEqual(self.successResultOf(accepting), 0)
        self.peer.answers["decline_offer"] = {**ITEM, "state": "declined", "told": False}
        self.peer.rows = {}
        declining = Deferred.fromCoroutine(inbox.decline(self.invocation, "k6xw"))
        self.clock.pump([1.0] * int(inbox.TELL_PATIENCE + 1))
        self.assertEqual(self.successResultOf(declining), 0)
        self.assertIn("alice learns it when your peer runs.", self.stderr.getvalue())

    def test_pause(self) -> None:
        """A transfer is paused, which ends a command that shows it, and resumed into the same folder."""
        accepting = self.accept()
        paused = {**self.row, "paused": True, "bytes_done": 1024}
        self.peer.answers["pause_offer"] = paused
        pausing = Deferred.fromCoroutine(inbox.pause(self.invocation, "k6xw"))
        self.assertEqual(self.successResultOf(pausing), 0)
        self.assertIn("Paused: photos/ and 1 more", self.stdout.getvalue())
        self.peer.tell(paused)
        self.assertEqual(self.successResultOf(accepting), 5)
        self.assertEqual(self.stderr.getvalue().count("p2pshare inbox resume k6xwn2"), 2)
        for tty, told in ((False, "paused\t13"), (True, "paused, 25% is in")):
            self.begin(tty=tty)
            self.peer.rows = {ID: paused}
            self.successResultOf(Deferred.fromCoroutine(inbox.inbox(self.invocation)))
            self.assertIn(told, self.stdout.getvalue())
        self.peer.answers["go_on_offer"] = self.peer.rows[ID] = self.row
        resuming = Deferred.fromCoroutine(inbox.resume(self.invocation, "k6xw"))
        self.assertEqual(self.peer.asked[-1], {"do": "go_on_offer", "id": "k6xw"})
        self.tell(state="done", saved=[str(self.cwd / "photos")])
        self.assertEqual(self.successResultOf(resuming), 0)

    def test_clear(self) -> None:
        """One offer is removed from the list, or all that are over."""
        for offer_id, count, told in ((None, 2, "2 offers"), ("k6xw", 1, "1 offer")):
            self.peer.answers["inbox_clear"] = {"count": count}
            clearing = Deferred.fromCoroutine(inbox.clear(self.invocation, offer_id))
            self.assertEqual(self.successResultOf(clearing), 0)
            self.assertEqual(self.peer.asked[-1], {"do": "inbox_clear", "id": offer_id})
            self.assertIn(f"Removed {told} from the list.", self.stdout.getvalue())

    def test_decline(self) -> None:
        """An offer is declined."""
        self.peer.answers["decline_offer"] = {**ITEM, "state": "declined"}
        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(inbox.decline(self.invocation, "k6xw"))), 0
        )
        self.assertEqual(
            self.stdout.getvalue(), "Declined: photos/ and 1 more (13 files, 4.0 KiB) from alice.\n"
        )
