"""Tests of `p2pshare.ui.verbs.offers.send`, with a scripted peer."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, Mock

from twisted.internet.defer import CancelledError, Deferred

from p2pshare.errors import ControlRefused, NoSuchPeer, PeerNotAnswering, PeerStopped, WrongUsage
from p2pshare.ui.verbs.offers import send, standard_input
from p2pshare.ui.verbs.offers.send import GONE_AFTER, SILENT_AFTER, OfferOptions
from tests.ui.verbs.offers.scripted_peer import ID, LEFT_OUT, OfferVerbTestCase, ScriptedPeer, offer


class SendTests(OfferVerbTestCase):
    module = send

    def send(self, *people: dict[str, Any], **changes: Any) -> Deferred[int]:
        """Begin to send `photos` to people."""
        (self.cwd / "photos").mkdir(exist_ok=True)
        self.peer.answers["send"] = offer(*people, **changes)
        names = ",".join(each["name"] for each in people)
        waits = changes.pop("waits", True)
        working = send.send(self.invocation, ["photos", names], OfferOptions(), waits=waits)
        return Deferred.fromCoroutine(working)

    def test_done(self) -> None:
        """The command ends with 0 when everybody has all of it, and says each state once."""
        sending = self.send({"name": "carol"})
        self.peer.tell(offer({"online": True, "state": "delivered"}))
        for done in (0, 1024, 2048):
            self.peer.tell(
                offer({"online": True, "state": "accepted", "bytes_done": done, "rate": 9})
            )
        self.assertNoResult(sending)
        self.peer.tell(offer({"online": True, "state": "done", "bytes_done": 4096}))
        self.assertEqual(self.successResultOf(sending), 0)
        self.assertEqual(
            self.stdout.getvalue().splitlines()[1:],
            [
                "carol: looking for them.",
                "carol: has it, no answer yet.",
                "carol: starts to fetch.",
                "carol has it: 13 files, 4.0 KiB.",
            ],
        )
        self.assertIn(
            "Offer k6xwn2 to carol: photos/ and 1 more (13 files, 4.0 KiB), until",
            self.stdout.getvalue(),
        )
        check, sent = self.peer.asked
        self.assertEqual((check["check"], sent["paths"]), (True, [str(self.cwd / "photos")]))
        self.assertEqual((sent["to"], sent["expires_s"]), (["carol"], 7 * 86400))

    def test_stdin(self) -> None:
        """What was read is removed if it was not offered, and not if the peer may have offered it."""
        for error, is_removed in (
            (NoSuchPeer(name="carol"), True),
            (PeerNotAnswering(path="x", reason="it has ended"), False),
            (ControlRefused(reason="it took too long"), False),
            (CancelledError(), False),
        ):
            file = Mock(id="spool")
            self.patch(standard_input, "spool_stdin", AsyncMock(return_value=file))
            self.patch(self.peer, "ask", AsyncMock(side_effect=error))
            working = send.send(self.invocation, ["-", "carol"], OfferOptions())
            self.failureResultOf(Deferred.fromCoroutine(working), type(error))
            self.assertEqual(file.discard.called, is_removed, error)

    def test_declined(self) -> None:
        """Somebody who declines or refuses makes the exit code 3, one at whom it failed 1."""
        for states, code in (
            (("done", "declined"), 3),
            (("refused", "done"), 3),
            (("failed", "declined"), 1),
            (("done", "expired"), 1),
        ):
            self.begin()
            sending = self.send({"name": "carol"}, {"name": "dave"})
            people = [
                {"name": name, "state": state, "why": "disk"}
                for name, state in zip(("carol", "dave"), states, strict=True)
            ]
            self.peer.tell(offer(*people))
            self.assertEqual(self.successResultOf(sending), code)
            if "declined" in states:
                self.assertIn("has declined the offer.", self.stderr.getvalue())

    def test_left_out(self) -> None:
        """What is left out is said before the offer is made, and the exit code is 1."""
        answer = self.peer.ask

        async def ask(do: str, **fields: Any) -> dict[str, Any]:
            if do == "send" and not fields.get("check"):
                self.assertIn(
                    "Left out: 2 hidden or private (.git, \\u2026).", self.stderr.getvalue()
                )
            return await answer(do, **fields)

        self.patch(self.peer, "ask", ask)
        sending = self.send({"name": "carol"}, left_out=LEFT_OUT)
        self.peer.tell(offer({"state": "done"}, left_out=LEFT_OUT))
        self.assertEqual(self.successResultOf(sending), 1)

    def test_excluded(self) -> None:
        """What the user has excluded is said, too, but is no failure."""
        left_out = {**LEFT_OUT, "hidden": 0, "excluded": 3, "excluded_examples": ["a.tmp"]}
        sending = self.send({"name": "carol"}, left_out=left_out)
        self.peer.tell(offer({"state": "done"}, left_out=left_out))
        self.assertEqual(self.successResultOf(sending), 0)
        self.assertIn("Left out: 3", self.stderr.getvalue())

    def test_offline(self) -> None:
        """When the rest is offline, the command ends with 5: the running peer goes on."""
        sending = self.send({"name": "carol"}, {"name": "dave"})
        self.peer.tell(offer({"name": "carol", "online": False}, {"name": "dave", "state": "done"}))
        self.assertEqual(self.successResultOf(sending), 5)
        self.assertRegex(
            self.stdout.getvalue(),
            r"carol is offline\. The offer waits until .*: keep your peer running\.\n$",
        )

    def test_gone(self) -> None:
        """Somebody who goes offline later, or does not answer the peer, is waited for a while."""
        for state, seconds in (("delivered", GONE_AFTER), ("waiting", SILENT_AFTER)):
            self.begin()
            sending = self.send({"name": "carol"})
            self.peer.tell(offer({"state": state, "online": state == "waiting"}))
            self.clock.pump([1.0] * int(seconds - 1))
            self.assertNoResult(sending)
            self.clock.pump([1.0] * 2)
            self.assertEqual(self.successResultOf(sending), 5)

    def test_here(self) -> None:
        """A peer inside the command stays until everybody has it."""
        self.peer.is_lasting = False
        sending = self.send({"name": "carol"})
        self.peer.tell(offer({"online": False}))
        self.clock.pump([1.0] * 100)
        self.assertNoResult(sending)
        self.assertEqual(self.stderr.getvalue().count("This command waits for them."), 1)
        self.peer.tell(offer({"state": "done", "online": True}))
        self.assertEqual(self.successResultOf(sending), 0)

    def test_interrupted(self) -> None:
        """Ctrl+C says that the offer is kept, and how to withdraw it."""
        sending = self.send({"name": "carol"})
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertIn("The offer is kept, and your peer goes on.", self.stderr.getvalue())
        self.assertIn("p2pshare send --cancel k6xwn2", self.stderr.getvalue())

    def test_peer_ends(self) -> None:
        """If the running peer ends, the command runs one itself, and does not offer again."""
        first, second = self.peer, ScriptedPeer()
        self.peers.append(second)
        sending = self.send({"name": "carol"})
        second.is_lasting = False
        second.rows = dict(first.rows)
        first.end(PeerNotAnswering(path="x", reason="it has ended"))
        self.assertNoResult(sending)
        second.tell(offer({"state": "done"}))
        self.assertEqual(self.successResultOf(sending), 0)
        self.assertEqual(second.asked, [])
        self.assertIn("Your peer has ended.", self.stderr.getvalue())

    def test_unanswered(self) -> None:
        """If the peer ends before it answers, the next one is asked with the same ID, so there is no second offer."""
        first, second = self.peer, ScriptedPeer()
        self.peers.append(second)
        second.answers["send"] = offer({"name": "carol", "state": "done"})
        first.answers["send"] = PeerNotAnswering(path="x", reason="it has ended")
        working = send.send(self.invocation, ["carol"], OfferOptions(), text="hello")
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(working)), 0)
        self.assertEqual(len(first.asked[0]["id"]), 16)
        self.assertEqual(second.asked[0], first.asked[0])

    def test_stopped(self) -> None:
        """If somebody stops the peer inside the command, the offer is kept, and that is no success."""
        self.peer.is_lasting = False
        sending = self.send({"name": "carol"})
        self.peer.end(PeerStopped(name="bob"))
        self.assertEqual(self.successResultOf(sending), 5)
        self.assertIn("The offer is kept", self.stderr.getvalue())

    def test_no_wait(self) -> None:
        """With --no-wait the command ends at once; with --quiet it writes the ID only."""
        self.begin(quiet=True)
        self.assertEqual(self.successResultOf(self.send({"name": "carol"}, waits=False)), 0)
        self.assertEqual(self.stdout.getvalue(), "k6xwn2\n")

    def test_unknown(self) -> None:
        """An error of the check is that of the command, and nothing is offered."""
        (self.cwd / "photos").mkdir()
        self.peer.answers["send"] = NoSuchPeer(name="carol")
        sending = Deferred.fromCoroutine(
            send.send(self.invocation, ["photos", "carol"], OfferOptions())
        )
        self.failureResultOf(sending, NoSuchPeer)
        self.assertEqual(len(self.peer.asked), 1)

    def test_events(self) -> None:
        """Programs get whole offers, and the sum at the end."""
        self.begin(json=True)
        sending = self.send({"name": "carol"}, {"name": "dave"})
        self.peer.tell(
            offer({"name": "carol", "state": "done"}, {"name": "dave", "state": "declined"})
        )
        self.assertEqual(self.successResultOf(sending), 3)
        kinds = [event["event"] for event in self.events()]
        self.assertEqual(kinds, ["checked", "offer", "offer", "failed", "sent"])
        self.assertEqual(self.events()[3]["kind"], "offer_declined")
        self.assertEqual(
            self.events()[4],
            {"event": "sent", "id": ID, "done": 1, "declined": 1, "failed": 0, "waiting": 0},
        )

    def test_terminal(self) -> None:
        """A terminal shows a live line for each person who is not done, and removes them in the end."""
        self.begin(tty=True)
        sending = self.send({"name": "carol"}, {"name": "dave"})
        accepted = {
            "name": "carol",
            "state": "accepted",
            "bytes_done": 1024,
            "rate": 1024,
            "online": True,
        }
        self.peer.tell(offer(accepted, {"name": "dave", "state": "delivered", "online": True}))
        shown = self.screen()
        self.assertRegex(shown[-2], r"^carol: 25%, 1\.0 KiB/s, 3 s left, 1\.0 KiB of 4\.0 KiB")
        self.assertEqual(shown[-1], "dave: has it, no answer yet")
        self.clock.pump([1.0] * 5)  # the rate that was told is not true any more
        self.assertEqual(
            self.screen()[-2:], ["carol: 25%, nothing for 5 s", "dave: has it, no answer yet"]
        )
        self.peer.tell(offer({"name": "carol", "state": "done"}, {"name": "dave", "state": "done"}))
        self.assertEqual(self.successResultOf(sending), 0)
        self.assertNotIn("25%", "\n".join(self.screen()))

    def test_list(self) -> None:
        """The list has the offers that are not over, or all of them."""
        self.peer.rows = {
            "a": offer({"state": "done"}, id="aaaaaaaa"),
            "b": offer({"state": "accepted", "bytes_done": 1024}, {"name": "dave"}, id="bbbbbbbb"),
        }
        for with_past, ids in ((False, ["bbbbbb"] * 2), (True, ["aaaaaa", "bbbbbb", "bbbbbb"])):
            self.begin()
            working = send.list_offers(self.invocation, with_past=with_past)
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(working)), 0)
            lines = self.stdout.getvalue().splitlines()
            self.assertEqual([line.split("\t")[0] for line in lines], ids)
        self.assertEqual(self.contacts, [])

    def test_cancel(self) -> None:
        """An offer is withdrawn, and the command names who had it already."""
        self.peer.answers["cancel"] = offer(
            {"state": "done"}, {"name": "dave", "state": "cancelled"}
        )
        working = Deferred.fromCoroutine(send.cancel(self.invocation, "k6xw"))
        self.assertEqual(self.successResultOf(working), 0)
        self.assertEqual(
            self.stdout.getvalue(), "The offer k6xwn2 is cancelled. carol had it already.\n"
        )

    def test_again(self) -> None:
        """What an earlier offer had is counted, and sent again; nothing else is sent with it."""
        again = offer({"state": "done"})
        self.peer.answers["send"] = again
        sending = send.send(self.invocation, ["carol"], OfferOptions(), again="k6xw", waits=False)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(sending)), 0)
        self.assertEqual([each.get("check") for each in self.peer.asked], [True, None])
        self.assertEqual({each["again"] for each in self.peer.asked}, {"k6xw"})
        self.assertEqual({each["paths"] for each in self.peer.asked}, {None})
        for words, text in ((["photos", "carol"], None), (["carol"], "x")):
            working = send.send(self.invocation, words, OfferOptions(), again="k6xw", text=text)
            self.failureResultOf(Deferred.fromCoroutine(working), WrongUsage)
        for options in (OfferOptions(exclude=("*.txt",)), OfferOptions(hidden=True)):
            working = send.send(self.invocation, ["carol"], options, again="k6xw")
            self.failureResultOf(Deferred.fromCoroutine(working), WrongUsage)

    def test_clear(self) -> None:
        """All offers that are over are removed from the list, or some of them."""
        self.peer.answers["offers_clear"] = {"count": 1}
        for words, asked in (([], [None]), (["k6xw", "c3mb"], ["k6xw", "c3mb"])):
            self.peer.asked.clear()
            clearing = Deferred.fromCoroutine(send.clear(self.invocation, words))
            self.assertEqual(self.successResultOf(clearing), 0)
            self.assertEqual([each["id"] for each in self.peer.asked], asked)
        self.assertEqual(
            self.stdout.getvalue(),
            "Removed 1 offer from the list.\nRemoved 2 offers from the list.\n",
        )

    def test_long_note(self) -> None:
        """A note that is too long is wrong usage."""
        (self.cwd / "photos").mkdir()
        options = OfferOptions(note="x" * 1001)
        working = send.send(self.invocation, ["photos", "carol"], options)
        self.failureResultOf(Deferred.fromCoroutine(working), WrongUsage)
