"""Tests of `p2pshare.peer.share.download_counts`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.share.download_counts import OPEN_MAX, PAUSE_MAX, Downloads
from p2pshare.wire.keys import PublicKey, SigningKey

ALICE, BOB, CAROL = (SigningKey(each * 32).public for each in (b"a", b"b", b"c"))


class DownloadsTests(SynchronousTestCase):
    def test_number(self) -> None:
        """Of the keys, as many may download as the share allows; those that have begun may go on."""
        downloads = Downloads(2)
        self.assertEqual(
            [downloads.begin(key, 0) for key in (ALICE, BOB, CAROL)], [True, True, False]
        )
        self.assertTrue(downloads.begin(ALICE, 1))
        self.assertEqual((downloads.count, downloads.keys), (2, (ALICE, BOB)))
        self.assertTrue(downloads.is_full)
        self.assertFalse(downloads.is_over)

    def test_complete(self) -> None:
        """A complete download is over at once, and the next of the same key counts again."""
        downloads = Downloads(2)
        for number in (1, 2):
            self.assertTrue(downloads.begin(ALICE, 0))
            downloads.attach(ALICE)
            self.assertEqual((downloads.count, downloads.is_over), (number, False))
            downloads.detach(ALICE, 1, is_complete=True)
        self.assertTrue(downloads.is_over)
        self.assertFalse(downloads.begin(ALICE, 2))

    def test_resumed(self) -> None:
        """An interrupted download counts once, if it is resumed in time; otherwise it is over."""
        downloads = Downloads(1)
        downloads.begin(ALICE, 0)
        downloads.attach(ALICE)
        downloads.expire(10 * PAUSE_MAX)  # a long one goes on
        self.assertIsNone(downloads.next_expiry())
        downloads.detach(ALICE, 100, is_complete=False)
        self.assertEqual(downloads.next_expiry(), 100 + PAUSE_MAX)
        downloads.expire(99 + PAUSE_MAX)
        self.assertTrue(downloads.begin(ALICE, 99 + PAUSE_MAX))
        self.assertEqual(downloads.count, 1)
        downloads.expire(99 + 2 * PAUSE_MAX)
        self.assertTrue(downloads.is_over)

    def test_two_sessions(self) -> None:
        """A download of several sessions is over with the last of them."""
        downloads = Downloads(1)
        downloads.begin(ALICE, 0)
        for _ in range(2):
            downloads.attach(ALICE)
        downloads.detach(ALICE, 1, is_complete=True)
        self.assertFalse(downloads.is_over)
        downloads.detach(ALICE, 2, is_complete=True)
        self.assertTrue(downloads.is_over)

    def test_continued(self) -> None:
        """After a restart the count goes on, and so may those that had begun."""
        downloads = Downloads(2, 2, [BOB], 50)
        self.assertFalse(downloads.begin(ALICE, 51))
        self.assertTrue(downloads.begin(BOB, 51))
        self.assertEqual(Downloads(2, 2, [BOB], 50).next_expiry(), 50 + PAUSE_MAX)
        self.assertTrue(Downloads(2, 2).is_over)

    def test_bound(self) -> None:
        """Threat 72: the downloads of a share without a limit that are known to be open are bounded."""
        downloads = Downloads()
        for number in range(OPEN_MAX + 5):
            downloads.begin(PublicKey(number.to_bytes(32, "big")), number)
        self.assertEqual((len(downloads.keys), downloads.count), (OPEN_MAX, OPEN_MAX + 5))
        downloads.attach(CAROL)
        downloads.detach(CAROL, 0, is_complete=True)
