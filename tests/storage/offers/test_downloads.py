"""Downloads in the ledger: whatever is put is read again, and their number is bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from p2pshare.errors import TooManyJobs
from p2pshare.storage.offers.downloads import (
    DownloadState,
    Failure,
    KeptDownload,
    KeptDownloads,
)
from tests.storage.offers.ledger_case import LedgerTestCase, id_of


def download(number: int = 0, **others: Any) -> KeptDownload:
    """Return a download."""
    kept = KeptDownload(
        id_of(number),
        "alice",
        (("photos", "cat\u202e.jpg"), ("a\n",)),
        Path("/x/\udcff"),
        100 + number,
        is_update=True,
        updated=200 + number,
        files=9,
        files_done=7,
        files_failed=1,
        bytes=99,
        bytes_done=77,
        fetched=55,
        failures=(Failure("p\u202e", "not_found", "There is none."),),
    )
    return replace(kept, **others)


class DownloadsTests(LedgerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.downloads = KeptDownloads(self.ledger, live_max=4, over_max=2)

    def test_as_put(self) -> None:
        """Each state and field is read as it was written, also after the ledger was closed."""
        kept = [
            download(number, state=state, why="other", why_text="It is so.")
            for number, state in enumerate(DownloadState)
        ]
        self.downloads = KeptDownloads(self.ledger)
        self.downloads.put(kept)
        self.again()
        self.assertEqual(KeptDownloads(self.ledger).all(), tuple(kept))

    def test_live_bound(self) -> None:
        """No more than the bound are waiting or paused: nothing of a request beyond it is kept."""
        paused = DownloadState.PAUSED
        self.downloads.put([download(number, state=paused) for number in range(3)])
        with self.assertRaises(TooManyJobs):
            self.downloads.put([download(3), download(4)])
        self.assertEqual(len(self.downloads.all()), 3)
        self.downloads.put([download(3)])
        self.downloads.put([download(number) for number in range(4)])  # those that are there
        self.downloads.put([download(3, state=DownloadState.DONE), download(5)])
        self.assertEqual(len(self.downloads.all()), 5)

    def test_over_bound(self) -> None:
        """Of those that are over, the latest are kept; those that are not over are never dropped."""
        self.downloads.put([download(9)])
        dropped: list[str] = []
        for number in range(5):
            done = download(number, state=DownloadState.FAILED)
            dropped += self.downloads.put([done])
        self.assertEqual(dropped, [id_of(number) for number in range(3)])
        self.assertEqual([each.id for each in self.downloads.all()], [id_of(3), id_of(4), id_of(9)])

    def test_removed(self) -> None:
        """Those that are removed are gone; unknown ones are ignored."""
        self.downloads.put([download(0), download(1)])
        self.downloads.remove([id_of(0), id_of(7)])
        self.assertEqual([each.id for each in self.downloads.all()], [id_of(1)])
