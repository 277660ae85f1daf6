"""Senders that break the rules for offers: each costs its receiver a bounded amount, and disturbs nobody else."""

from __future__ import annotations

from typing import Any

from p2pshare.peer.download_queue import RUNNING_MAX, RUNNING_OF_PERSON_MAX, STALL
from tests.peer.offers.case import EVERY, SOON, OffersTestCase
from tests.peer.offers.hostile import Fields, Hostile, RawSession

KEPT_MAX = 50  # offers of one key
ID_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
MTIME = [1_700_000_000, 0]


def offer_id(number: int) -> str:
    """Return an ID of an offer."""
    digits = [ID_DIGITS[number >> 5 * place & 31] for place in range(16)]
    return "".join(reversed(digits))


def offer(number: int = 0, **changes: Any) -> Fields:
    """Return the message for an offer of one small file."""
    return {
        "m": "offer",
        "id": offer_id(number),
        "files": 1,
        "folders": 0,
        "bytes": 5,
        "items": [["file", "file", 5, 1]],
        "more_items": 0,
        "note": "",
        "expires_in": 3600,
        **changes,
    }


class HostileSenderTestCase(OffersTestCase):
    """Mallory sends to bob."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, mallory = self.people("alice", "bob", "mallory")
        self.mallory = Hostile(mallory)

    def expect_honest_offers(self) -> None:
        """Assert that alice can still send bob something."""
        honest = self.send(self.alice, self.bob)
        self.await_states(self.alice, honest, bob="delivered")
        (item,) = (each for each in self.bob.look("inbox")["items"] if each["from"] == "alice")
        self.bob.ask("accept_offer", id=item["id"])
        self.await_states(self.alice, honest, bob="done")
        self.assertEqual(self.bob.received("alice"), {"of alice": b"alice"})

    def hostile_items(self) -> list[dict[str, Any]]:
        """Return what bob's inbox has of mallory."""
        items: list[dict[str, Any]] = []
        while True:
            reply = self.bob.look("inbox", after=items[-1]["id"] if items else None)
            items += reply["items"]
            if not reply["more"]:
                return [each for each in items if each["from"] == "mallory"]

    def await_end(self, session: RawSession) -> None:
        """Wait until bob ends a session."""
        self.world.until(lambda: session.is_over, SOON, EVERY)

    def answered(self, session: RawSession, **message: Any) -> Fields | None:
        """Send a message about an offer, and return the answer; None if the session has ended."""
        before = len(session.of_kind("offer_state"))
        session.say(**message)
        self.world.until(
            lambda: len(session.of_kind("offer_state")) > before or session.is_over, SOON, EVERY
        )
        states = session.of_kind("offer_state")
        return states[-1] if len(states) > before else None


class MessageTests(HostileSenderTestCase):
    def test_flood(self) -> None:
        """Threat 81: thousands of offers of one key end its sessions, fill its own place only, and cost no more."""
        for attempt in range(10):
            session = self.mallory.open(self.bob)
            for number in range(1000):
                session.say(**offer(attempt * 1000 + number))
            self.await_end(session)
        self.assertLessEqual(len(self.hostile_items()), KEPT_MAX)
        self.expect_honest_offers()

    def test_patient_flood(self) -> None:
        """Threat 81: a key whose offers come slowly has no more of them kept than its share."""
        session = self.mallory.open(self.bob)
        answers = []
        for number in range(KEPT_MAX + 10):
            answers.append(self.answered(session, **offer(number)))
            self.world.wait(3.5)
        kept = [each for each in answers if each and each["state"] == "waiting"]
        refused = [each for each in answers if each and each["state"] == "refused"]
        self.assertEqual((len(kept), {each["why"] for each in refused}), (KEPT_MAX, {"full"}))
        self.assertEqual(len(self.hostile_items()), KEPT_MAX)
        self.expect_honest_offers()

    def test_repeated(self) -> None:
        """Threat 81: an offer that is told again and again, in many sessions, is kept once, as it was first."""
        for number in range(5):
            session = self.mallory.open(self.bob)
            answer = self.answered(session, **offer(1, note=f"number {number}"))
            assert answer is not None
            self.assertEqual(answer["state"], "waiting")
        (item,) = self.hostile_items()
        self.assertEqual(item["note"], "number 0")

    def test_invalid(self) -> None:
        """Threats 1 and 7: an offer with an impossible name or number ends the session, and nothing is kept."""
        folder, file = ["x", "folder", 5, 1], ["x", "file", 5, 1]
        illegal: list[Fields] = [
            *(
                {"items": [[name, "file", 5, 1]]}
                for name in ("", ".", "..", "a/b", "/etc/passwd", "x\0y", "x" * 256, "é" * 200)
            ),
            {"items": []},
            {"items": [file, file], "files": 2, "bytes": 10},
            {"items": [[f"x{n}", "file", 0, 1] for n in range(33)], "files": 33},
            {"items": [["x", "file", -1, 1]]},
            {"items": [["x", "file", 5, 2]], "files": 2},
            {"items": [["x", "link", 5, 1]]},
            {"items": [["x", "file", 5.0, 1]]},
            {"items": [["x", "file", True, 1]]},
            {"items": [folder], "folders": 0},
            {"items": [["x", "file", 6, 1]]},
            {"files": 0},
            {"files": 2**53},
            {"bytes": -1},
            {"bytes": "5"},
            {"more_items": -1},
            {"more_items": None},
            {"note": "x" * 1001},
            {"note": "\ud800"},
            {"note": 5},
            {"expires_in": 0},
            {"expires_in": 366 * 86400 + 1},
            {"expires_in": 1e3},
            {"id": "a" * 15},
            {"id": "A" * 16},
            {"id": "../../../etc/pass"},
            {"id": "1" * 16},
            {"text": True, "items": [file], "bytes": 65_537},
            {"text": True, "items": [folder], "folders": 1},
            {"text": "yes"},
            {"note": "x" * 900, "items": [[f"{n}{'é' * 120}", "file", 0, 1] for n in range(32)]},
        ]
        for changes in illegal:
            answer = self.answered(self.mallory.open(self.bob), **offer(**changes))
            self.assertIsNone(answer, changes)
        self.assertEqual(self.hostile_items(), [])
        self.expect_honest_offers()

    def test_garbage(self) -> None:
        """Threat 6: messages of the kinds of offers with other members end the session, and nothing is kept."""
        messages: list[Fields] = [
            {"m": "offer"},
            {"m": "offer", "id": []},
            {"m": "offer_state", "id": offer_id(1)},
            {"m": "offer_state", "id": offer_id(1), "state": "eaten"},
            {"m": "offer_state", "id": offer_id(1), "state": ["done"]},
            {"m": "offer_state", "id": offer_id(1), "state": "done", "receipt": "x" * 100_000},
            {"m": "offer_state", "id": offer_id(1), "state": "failed", "why": "bored"},
            {"m": "offer_noted", "id": offer_id(1), "state": None},
            {"m": "withdraw", "id": offer_id(1), "why": "fun"},
            {"m": "withdraw", "id": 5, "why": "expired"},
        ]
        for message in messages:
            session = self.mallory.open(self.bob)
            self.assertIsNone(self.answered(session, **message), message)
            self.assertTrue(session.is_over, message)
        self.assertEqual(self.hostile_items(), [])

    def test_offers_of_others(self) -> None:
        """Threat 85: who knows the ID of another one's offer can neither change nor withdraw it, nor note its state."""
        honest = self.send(self.alice, self.bob)
        item = self.item(self.bob)
        session = self.mallory.open(self.bob)
        answer = self.answered(session, m="withdraw", id=honest["id"], why="cancelled")
        self.assertEqual((answer or {})["state"], "withdrawn")
        session.say(m="offer_noted", id=honest["id"], state="done")
        answer = self.answered(session, **offer(note="of mallory", id=honest["id"]))
        self.assertEqual((answer or {})["state"], "waiting")
        self.assertEqual(
            {each["from"]: each["state"] for each in self.items(self.bob)},
            {"alice": "waiting", "mallory": "waiting"},
        )
        self.bob.ask("accept_offer", id=item["id"])
        self.await_states(self.alice, honest, bob="done")
        self.assertEqual(self.bob.received("alice"), {"of alice": b"alice"})
        (hostile,) = self.hostile_items()
        self.assertEqual(hostile["state"], "waiting")

    def test_never_noted(self) -> None:
        """Threat 86: a sender that never notes a decision is told it now and then, and not more often."""
        session = self.mallory.open(self.bob)
        self.answered(session, **offer(1))
        (item,) = self.hostile_items()
        self.bob.ask("decline_offer", id=item["id"])
        self.world.wait(3600)
        told = [
            each
            for opened in (session, *self.mallory.accepted)
            for each in opened.of_kind("offer_state")
            if each["state"] == "declined"
        ]
        self.assertGreater(len(told), 2)
        self.assertLess(len(told), 30)
        self.expect_honest_offers()


class FileTests(HostileSenderTestCase):
    """Bob accepts what mallory offers, and mallory has something else."""

    def setUp(self) -> None:
        super().setUp()
        self.entries: list[list[Any]] = []
        self.contents: dict[str, bytes] = {}
        self.has_more = False
        self.listed = 0
        self.mallory.answer = self.serve

    def serve(self, session: RawSession, said: Fields) -> None:
        """Answer requests as a sharer does, with whatever the test has prepared."""
        if said["m"] == "list":
            self.listed += 1
            entries = self.entries if not self.has_more else self.endless()
            session.say(m="listing", id=said["id"], entries=entries, more=self.has_more)
        elif said["m"] == "get":
            session.say(m="failed", id=said["id"], why="not_found", sent=0)
        elif said["m"] == "offer_state":
            session.say(m="offer_noted", id=said["id"], state=said["state"])

    def endless(self) -> list[list[Any]]:
        """Return the next page of a listing that never ends."""
        return [
            [f"file/{self.listed:08}/{number:04}", "file", 0, MTIME, "v"] for number in range(1000)
        ]

    def accepted(self, **changes: Any) -> dict[str, Any]:
        """Let bob accept an offer, and return the item when it has failed."""
        session = self.mallory.open(self.bob)
        self.answered(session, **offer(**changes))
        (item,) = self.hostile_items()
        self.bob.ask("accept_offer", id=item["id"])
        return self.await_item(self.bob, item, "failed", within=900)

    def expect_changed(self, **changes: Any) -> None:
        item = self.accepted(**changes)
        self.assertEqual(item["why"], "changed")
        self.assertEqual(self.bob.received(), {})
        self.expect_honest_offers()

    def test_other_name(self) -> None:
        """Threat 83: a file that was not offered is not fetched."""
        self.entries = [[".bashrc", "file", 5, MTIME, "v"]]
        self.expect_changed()

    def test_more_bytes(self) -> None:
        """Threat 83: more bytes than were offered are not fetched."""
        self.entries = [["file", "file", 6, MTIME, "v"]]
        self.expect_changed()

    def test_more_files(self) -> None:
        """Threat 83: more files than were offered are not fetched."""
        self.entries = [
            ["file", "folder", 0, MTIME],
            ["file/a", "file", 0, MTIME, "v"],
            ["file/b", "file", 0, MTIME, "v"],
        ]
        self.expect_changed(items=[["file", "folder", 5, 1]], folders=1)

    def test_endless(self) -> None:
        """Threat 83: a listing without an end is given up as soon as it has more files than were offered."""
        self.has_more = True
        self.expect_changed(items=[["file", "folder", 5, 1500]], folders=1, files=1500)
        self.assertLess(self.listed, 10)

    def test_vanished(self) -> None:
        """An offer whose files the sender does not have is given up."""
        self.entries = [["file", "file", 5, MTIME, "v"]]
        item = self.accepted()
        self.assertEqual(item["why"], "gone")
        self.expect_honest_offers()

    def test_folders_vanished(self) -> None:
        """Threat 83: an offer of folders alone is not done before the folders are there."""
        folders: Fields = {"items": [["x", "folder", 0, 0]], "folders": 2, "files": 0, "bytes": 0}
        self.entries = [["x", "folder", 0, MTIME]]
        self.assertEqual(self.accepted(**folders)["why"], "changed")
        self.expect_honest_offers()

    def test_stalled(self) -> None:
        """Threat 86: senders that send nothing give their places to others, and come again later."""
        self.entries = [["file", "file", 5, MTIME, "v"]]
        trudy = Hostile(*self.people("trudy"))
        for hostile in (self.mallory, trudy):
            hostile.answer = lambda session, said: (
                None if said["m"] == "get" else self.serve(session, said)
            )
            session = hostile.open(self.bob)
            for number in range(RUNNING_OF_PERSON_MAX):
                self.answered(session, **offer(number))
        self.assertEqual(len(self.items(self.bob)), RUNNING_MAX)
        for item in self.items(self.bob):
            self.bob.ask("accept_offer", id=item["id"])
        self.world.wait(SOON)
        honest = self.send(self.alice, self.bob)
        self.await_states(self.alice, honest, bob="delivered")
        item = next(each for each in self.bob.look("inbox")["items"] if each["from"] == "alice")
        self.bob.ask("accept_offer", id=item["id"])
        self.await_states(self.alice, honest, 2 * STALL, bob="done")
        self.assertEqual({each["state"] for each in self.hostile_items()}, {"accepted"})

    def test_escaping(self) -> None:
        """Threat 1: names in the listing that lead elsewhere end the session, and nothing is written."""
        for name in ("../file", "/tmp/file", "file/../../x", "..", ""):
            self.entries = [[name, "file", 5, MTIME, "v"]]
            session = self.mallory.open(self.bob)
            self.answered(session, **offer(len(name)))
        for item in self.hostile_items():
            self.bob.ask("accept_offer", id=item["id"])
        self.world.wait(900)
        self.assertEqual(self.bob.received(), {})
        self.assertEqual(
            {path.name for path in self.bob.home.iterdir()}, {"data", "inbox", "files"}
        )
        self.expect_honest_offers()

    def test_hog(self) -> None:
        """Threat 86: senders whose files never come delay the files of others, and do not stop them."""
        self.bob.stop()
        self.bob.start(accept_from=("alice", "mallory"))
        self.entries = [["file", "file", 5, MTIME, "v"]]
        self.mallory.answer = self.serve_nothing
        session = self.mallory.open(self.bob)
        for number in range(20):
            self.answered(session, **offer(number))
        self.world.wait(SOON)
        honest = self.send(self.alice, self.bob)
        self.await_states(self.alice, honest, bob="done", within=SOON)

    def serve_nothing(self, session: RawSession, said: Fields) -> None:
        """Answer as a sharer does, but for the files themselves."""
        if said["m"] == "get":
            session.say(m="file", id=said["id"], size=5, mtime=MTIME, executable=False, version="v")
        else:
            self.serve(session, said)
