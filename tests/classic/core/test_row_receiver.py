"""Tests of `p2pshare.classic.core.row_receiver`."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.row_receiver import ASKED_MAX, ASKED_MAX_ORIGINAL, RowReceiver, ranges_of
from p2pshare.classic.datagrams import RowWanted, Size, Word, parse_from_requester, row_datagrams
from p2pshare.errors import RemoteProtocolError

HEIGHT = 600
PIXELS = np.random.default_rng(5).integers(0, 256, (HEIGHT, 2, 3), np.uint8)
ROWS = row_datagrams(PIXELS, np.arange(HEIGHT))


def wanted(datagrams: list[bytes]) -> list[int]:
    """Return the requested rows."""
    parsed = map(parse_from_requester, datagrams)
    return [each.row for each in parsed if isinstance(each, RowWanted)]


class RangesTests(SynchronousTestCase):
    @given(st.lists(st.booleans()))
    def test_ranges_are_the_mask(self, mask: list[bool]) -> None:
        """The ranges hold the indices of True, in order, and do not touch each other."""
        ranges = ranges_of(np.array(mask, bool))
        self.assertEqual(
            [n for each in ranges for n in each], [n for n, on in enumerate(mask) if on]
        )
        for before, after in itertools.pairwise(ranges):
            self.assertLess(before.stop, after.start)


class RowReceiverTests(SynchronousTestCase):
    def receiver(self, *, reports: bool) -> RowReceiver:
        rows = RowReceiver(Size(2, HEIGHT), 0.0, reports=reports)
        self.assertEqual(rows.datagrams_to_send(), [Word.ACK_SIZE.value])
        return rows

    def test_rows_in_any_order(self) -> None:
        """Rows in any order, some of them repeated, give the exact picture."""
        rows = self.receiver(reports=True)
        for number in [*range(HEIGHT - 1, -1, -1), 5, 5]:
            rows.receive_row(ROWS[number], 0.0)
        self.assertTrue(rows.complete)
        self.assertTrue((rows.pixels == PIXELS).all())
        self.assertEqual(rows.repeated, 2)
        self.assertEqual(rows.missing(), [])

    def test_damaged_row(self) -> None:
        """A damaged row changes nothing."""
        rows = self.receiver(reports=True)
        damaged = bytes([*ROWS[0][:-1], ROWS[0][-1] ^ 1])
        self.assertRaises(RemoteProtocolError, rows.receive_row, damaged, 0.0)
        self.assertEqual(rows.rows_received, 0)
        self.assertEqual(rows.missing(), [range(HEIGHT)])

    def test_report(self) -> None:
        """A probe is answered with the rows that were missing at the last probe, so reordering does no harm."""
        rows = self.receiver(reports=True)
        for number in (0, 1, 4, 5):
            rows.receive_row(ROWS[number], 0.1)
        rows.receive_size(0.1)
        self.assertEqual(rows.datagrams_to_send(), [Word.ACK_SIZE.value])
        rows.receive_row(ROWS[2], 0.2)  # it was only late
        rows.receive_size(0.2)
        answer = rows.datagrams_to_send()
        self.assertEqual(wanted(answer), [3])
        self.assertEqual(answer[-1], Word.ACK_SIZE.value)
        rows.receive_size(0.21)
        self.assertEqual(wanted(rows.datagrams_to_send()), [], "asked a moment ago")

    def test_fin(self) -> None:
        """FIN is answered with the missing rows, up to a bound, and FIN."""
        rows = self.receiver(reports=True)
        rows.receive_row(ROWS[10], 0.1)
        rows.receive_fin(0.2)
        answer = rows.datagrams_to_send()
        self.assertEqual(wanted(answer), [n for n in range(ASKED_MAX + 1) if n != 10])
        self.assertEqual(answer[-1], Word.FIN.value)

    def test_flood_of_questions(self) -> None:
        """Repeated questions get one answer per 10 ms, however high the picture is."""
        for question in ("receive_fin", "receive_size"):
            rows = self.receiver(reports=True)
            rows.receive_row(ROWS[10], 0.1)
            ask = getattr(rows, question)
            for millisecond in range(1000):
                ask(0.1 + millisecond / 1000)
            answers = rows.datagrams_to_send()
            self.assertLessEqual(len(answers), 2 * ASKED_MAX + 100)
            for _ in range(1000):
                ask(2.0)
            self.assertLessEqual(len(rows.datagrams_to_send()), ASKED_MAX + 1)

    def test_original_is_not_flooded(self) -> None:
        """No more rows are requested from an original than its buffer holds; each row makes room for another."""
        rows = self.receiver(reports=False)
        rows.receive_row(ROWS[0], 0.1)
        rows.receive_fin(0.2)
        self.assertEqual(wanted(rows.datagrams_to_send()), list(range(1, ASKED_MAX_ORIGINAL + 1)))
        rows.receive_row(ROWS[1], 0.21)
        self.assertEqual(wanted(rows.datagrams_to_send()), [ASKED_MAX_ORIGINAL + 1])

    def test_timer(self) -> None:
        """If the FIN of an original is lost, rows are requested after a second, and again if they do not arrive."""
        rows = self.receiver(reports=False)
        rows.receive_row(ROWS[0], 0.1)
        self.assertAlmostEqual(rows.get_timer(), 1.1)
        rows.handle_timer(1.0)
        self.assertEqual(rows.datagrams_to_send(), [])
        rows.handle_timer(1.1)
        first = wanted(rows.datagrams_to_send())
        self.assertEqual(len(first), ASKED_MAX_ORIGINAL)
        rows.handle_timer(rows.get_timer())
        self.assertEqual(wanted(rows.datagrams_to_send()), first)

    def test_ack_size_again(self) -> None:
        """Until a row arrives, ACK_SIZE is repeated less and less often."""
        rows = self.receiver(reports=True)
        times = []
        while (now := rows.get_timer()) < 8.0:
            rows.handle_timer(now)
            self.assertEqual(rows.datagrams_to_send(), [Word.ACK_SIZE.value])
            times.append(now)
        self.assertEqual(times, [0.5, 1.5, 3.5, 7.5])
