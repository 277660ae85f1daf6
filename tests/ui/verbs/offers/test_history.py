"""Tests of `p2pshare.ui.verbs.offers.history`, with a scripted peer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import NoReceipt, NoSuchOffer, ReceiptDiffers, ReceiptInvalid, WrongUsage
from p2pshare.ui.verbs.offers import history
from p2pshare.ui.verbs.offers.history import ContentOptions
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.offers.receipts import OfferReceipt
from tests.ui.registries import NOW
from tests.ui.verbs.offers.scripted_peer import ID, OfferVerbTestCase
from tests.wire.offers.roots import offer_root

ALICE, BOB, EVE = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
FILES = {"photos/a.jpg": b"cat", "photos/b/c.jpg": b""}
ROOT = offer_root(
    (tuple(path.split("/")), len(data), root_of(len(data), [digest_of(data)] if data else []))
    for path, data in FILES.items()
)


def receipt(key: SigningKey = BOB, **changes: Any) -> str:
    """Return what bob signs for the offer of alice."""
    fields: dict[str, Any] = {
        "offer": ID,
        "sender": ALICE.public,
        "key": key.public,
        "files": 2,
        "bytes": 3,
        "root": ROOT,
        "time": NOW,
    }
    return OfferReceipt(**{**fields, **changes}).sign(key)


def entry(**changes: Any) -> dict[str, Any]:
    """Return an entry of alice's history."""
    fields = {
        "number": 1,
        "id": ID,
        "at": NOW,
        "direction": "sent",
        "peer": "bob",
        "key": str(BOB.public),
        "title": "photos",
        "files": 2,
        "bytes": 3,
        "outcome": "done",
        "root": ROOT.hex(),
        "receipt": receipt(),
    }
    return {**fields, **changes}


class HistoryCase(OfferVerbTestCase):
    module = history

    def tell(self, *rows: dict[str, Any]) -> None:
        self.peer.answers["history"] = {"entries": list(rows), "more": False}

    def run_verb(self, *words: str, limit: int = 20, **options: Any) -> Deferred[int]:
        running = history.history(self.invocation, words, limit, ContentOptions(**options))
        return Deferred.fromCoroutine(running)

    def code(self, *words: str, **options: Any) -> int:
        return self.successResultOf(self.run_verb(*words, **options))


class ListTests(HistoryCase):
    def test_list(self) -> None:
        """Each entry is a line for people, a row for a pipe, and an event; texts from outside are escaped."""
        download = entry(
            id=None, direction="received", receipt=None, root=None, title="x\x1b[2J", number=2
        )
        self.tell(entry(), download)
        for kind in ("tty", "json", "pipe"):
            self.begin(tty=kind == "tty", json=kind == "json")
            self.assertEqual(self.code(), 0)
            first, second = self.stdout.getvalue().splitlines()
            self.assertIn("photos", first)
            self.assertNotIn("\x1b[2J", second)
        self.assertEqual(first.split("\t")[1:7], ["sent", "bob", "done", "2", "3", "photos"])
        self.assertEqual((first.split("\t")[7], second.split("\t")[7]), ("k6xwn2", "-"))
        self.begin(json=True)
        self.code()
        self.assertEqual(self.events()[0], {"event": "history", **entry()})

    def test_pages(self) -> None:
        """As many pages are asked for as the limit needs, of one person if wanted."""
        self.patch(history, "PAGE", 2)
        self.peer.answers["history"] = {"entries": [entry(), entry(number=7)], "more": True}
        self.assertEqual(self.code("Bob", limit=5), 0)
        asked = [(each["limit"], each["before"], each["name"]) for each in self.peer.asked]
        self.assertEqual(asked, [(2, None, "bob"), (2, 7, "bob"), (1, 7, "bob")])
        self.assertEqual(self.contacts, [])

    def test_nothing(self) -> None:
        """A person reads that there is nothing, a pipe gets nothing."""
        self.tell()
        self.begin(tty=True)
        self.code()
        self.assertIn("Nothing was sent", self.stdout.getvalue())
        self.failureResultOf(self.run_verb("bob", "carol"), WrongUsage)


class VerifyTests(HistoryCase):
    def make_files(self) -> None:
        for path, data in FILES.items():
            (self.cwd / path).parent.mkdir(parents=True, exist_ok=True)
            (self.cwd / path).write_bytes(data)

    def test_signed(self) -> None:
        """A receipt tells who has signed what, in both directions."""
        own = entry(direction="received", peer="alice", key=str(ALICE.public), id="b" * 16)
        for row, who in ((entry(), "bob has received"), (own, "You have received")):
            self.tell(row)
            self.begin()
            self.assertEqual(self.code("verify", "K6xw"), 0)
            self.assertIn(who, self.stdout.getvalue())
            self.assertIn(ROOT.hex(), self.stdout.getvalue())
        self.begin(json=True)
        self.code("verify", "k6xw")
        (event,) = self.events()
        self.assertEqual((event["key"], event["matches"]), (str(BOB.public), None))

    def test_files(self) -> None:
        """The files on the disk are those of the receipt, or not, by content, name and number."""
        self.tell(entry())
        self.make_files()
        self.assertEqual(self.code("verify", "k6xw", "photos"), 0)
        self.assertIn("exactly these", self.stdout.getvalue())
        (self.cwd / "photos" / "notes.o").write_bytes(b"")
        self.failureResultOf(self.run_verb("verify", "k6xw", "photos"), ReceiptDiffers)
        self.assertEqual(self.code("verify", "k6xw", "photos", exclude=["*.o"]), 0)
        (self.cwd / "photos" / "notes.o").unlink()
        (self.cwd / "photos" / "a.jpg").write_bytes(b"dog")
        error = self.failureResultOf(self.run_verb("verify", "k6xw", "photos"), ReceiptDiffers)
        self.assertIn("2 files", error.getErrorMessage())
        self.make_files()
        (self.cwd / "photos").rename(self.cwd / "pictures")
        self.failureResultOf(self.run_verb("verify", "k6xw", "pictures"), ReceiptDiffers)

    def test_forged(self) -> None:
        """Threat 79: a receipt proves nothing if somebody else has signed it, or it is about something else."""
        others = entry(direction="received", key=str(EVE.public))
        for row in (
            entry(receipt=receipt(EVE)),
            entry(receipt=receipt(offer="c" * 16)),
            entry(receipt=receipt(files=3)),
            entry(receipt=receipt(bytes=4)),
            entry(receipt=receipt(root=bytes(32))),
            entry(receipt="nonsense"),
            entry(key=None),
            others,
        ):
            self.tell(row)
            self.failureResultOf(self.run_verb("verify", "k6xw"), ReceiptInvalid)

    def test_no_receipt(self) -> None:
        """An offer without a receipt, an unknown one and an ID that is too short or ambiguous are errors."""
        self.tell(entry(receipt=None, outcome="declined"))
        error = self.failureResultOf(self.run_verb("verify", "k6xw"), NoReceipt)
        self.assertIn("bob: declined", error.getErrorMessage())
        for rows, word in (([], "k6xw"), ([entry()], "k6"), ([entry(), entry(id="k6xwz")], "k6xw")):
            self.tell(*rows)
            self.failureResultOf(self.run_verb("verify", word), NoSuchOffer)
