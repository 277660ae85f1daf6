"""Who has fetched what of the shares."""

from __future__ import annotations

from dataclasses import replace

from p2pshare.storage.offers.fetched import PAUSE_MAX, Fetched, FetchedRows
from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.shares.arguments import Viewer
from tests.storage.offers.ledger_case import LedgerTestCase, key_of, line

BOB = Fetched(1000, "bob", key_of("bob"), "photos", "photos/cat.jpg", 1, 10)


class FetchedTests(LedgerTestCase):
    def test_visits(self) -> None:
        """What a key fetches of a share is one row until it pauses; another key or share makes another one."""
        rows = FetchedRows(self.ledger)
        (first,) = rows.add([BOB])
        self.assertEqual((first.number, first.began, first.at, first.files), (1, 1000, 1000, 1))
        later = replace(BOB, at=1000 + PAUSE_MAX, path="photos/dog.jpg", files=2, bytes=5)
        (grown,) = rows.add([later])
        self.assertEqual(
            (grown.number, grown.began, grown.at, grown.path, grown.files, grown.bytes),
            (1, 1000, 1000 + PAUSE_MAX, "photos/cat.jpg", 3, 15),
        )
        others = [
            replace(later, at=later.at + PAUSE_MAX + 1),
            replace(later, key=key_of("eve")),
            replace(later, share="music"),
        ]
        self.assertEqual([each.number for each in rows.add(others)], [2, 3, 4])
        self.again()
        rows = FetchedRows(self.ledger)
        self.assertEqual([each.number for each in rows.page(9)], [4, 3, 2, 1])
        self.assertEqual([each.number for each in rows.page(1, before=3)], [2])
        self.assertEqual([each.number for each in rows.page(9, share="music")], [4])
        self.assertEqual([each.number for each in rows.page(9, peer="nobody")], [])

    def test_bound(self) -> None:
        """Threat 141: the oldest rows are dropped; none is a line of the history, or makes somebody known."""
        self.history.add(line())
        rows = FetchedRows(self.ledger, most=3)
        rows.add([replace(BOB, share=f"share {number}") for number in range(5)])
        self.assertEqual([each.share[-1] for each in rows.page(9)], ["4", "3", "2"])
        self.assertEqual(len(self.history.page(9)), 1)
        rows.add([replace(BOB, peer="eve", key=key_of("eve"))])
        self.assertFalse(self.history.has_dealt_with(Viewer("eve", key_of("eve"))))

    def test_registries(self) -> None:
        """A name belongs to somebody else in another registry, and what was fetched there is not seen here."""
        FetchedRows(self.ledger).add([BOB])
        other = Ledger(self.path, "elsewhere")
        other.open()
        self.addCleanup(other.close)
        self.assertEqual(FetchedRows(other).page(9), ())
