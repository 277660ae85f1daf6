"""Tests of `p2pshare.classic.core.row_sender`: what docs/protocol.md says under "Ours as sharer"."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.pacing import BURST_MAX, ORIGINAL_SECONDS_PER_PIXEL, WINDOW_START
from p2pshare.classic.core.row_sender import (
    BLIND_AFTER,
    BLIND_ROWS,
    LIST_PAUSE,
    NO_PROGRESS_MAX,
    PROBES_UNANSWERED_MAX,
    SENT_AGAIN_MAX,
    SILENCE_MAX,
    UNHEARD_MAX,
    PictureSender,
    TransferEnd,
)
from p2pshare.classic.datagrams import (
    ROW_PIXELS_MAX,
    Size,
    Word,
    parse_row,
    row_wanted_datagram,
    size_datagram,
)
from p2pshare.pictures.pixels import Pixels
from tests import examples
from tests.classic.core.solo import Solo
from tests.strategies import datagrams, pictures

BOB = ("10.0.0.2", 7000)
STRANGER = ("10.6.6.6", 7000)
ACK_SIZE, FIN, COMPLETE = Word.ACK_SIZE.value, Word.FIN.value, Word.COMPLETE.value


def picture(height: int, width: int = 4) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


class Transfer(Solo):
    """A sender alone; the test replaces the requester."""

    def __init__(self, pixels: Pixels, *, reports: bool) -> None:
        self.pixels = pixels
        self.size = Size(pixels.shape[1], pixels.shape[0])
        self.announcement = size_datagram(self.size)
        self.sender = PictureSender(pixels, BOB, 0.0, reports=reports)
        super().__init__(self.sender)

    def say(self, *all_data: bytes) -> list[bytes]:
        """Deliver datagrams of the requester; return what is sent at once."""
        return [answer for data in all_data for answer in self.hear(data, BOB)]

    def rows(self, sent: list[bytes]) -> list[int]:
        """Return the numbers of the rows among the datagrams, and check their content."""
        found = []
        for data in sent:
            if data not in (self.announcement, FIN):
                number, content = parse_row(data, self.size)
                assert content.tobytes() == self.pixels[number].tobytes()
                found.append(number)
        return found

    def all_rows(self) -> list[int]:
        """Return the numbers of all rows so far."""
        return self.rows([data for _, data, _ in self.sent])


class UnheardTests(SynchronousTestCase):
    """The requester never answers, perhaps because it does not exist."""

    def test_requester_of_ours(self) -> None:
        """SIZE is sent three times, and no row: a forged word draws 27 bytes."""
        transfer = Transfer(picture(100), reports=True)
        transfer.run(60.0)
        self.assertEqual(transfer.times(transfer.announcement), [0.0, 0.3, 1.0])
        self.assertEqual(len(transfer.sent), 3)
        self.assertEqual(transfer.events, [TransferEnd.FAILED])
        self.assertEqual(transfer.sender.rows_sent, 0)

    def test_ends_after_8_s(self) -> None:
        """The transfer ends before an original starts over, which it does after 10 s."""
        for reports in (False, True):
            transfer = Transfer(picture(100), reports=reports)
            transfer.run(UNHEARD_MAX - 0.001)
            self.assertEqual(transfer.events, [])
            transfer.run(UNHEARD_MAX)
            self.assertEqual(len(transfer.events), 1)

    def test_original(self) -> None:
        """An original is sent one row and FIN in any case: that is all that a forged IMG can draw."""
        transfer = Transfer(picture(100, 1000), reports=False)
        transfer.run(BLIND_AFTER - 0.001)
        self.assertEqual(transfer.times(transfer.announcement), [0.0, 0.3, 1.0])
        self.assertEqual(len(transfer.sent), 3)
        transfer.run(60.0)
        self.assertEqual(transfer.all_rows(), list(range(BLIND_ROWS)))
        self.assertGreaterEqual(len(transfer.times(FIN)), 2)
        self.assertEqual(transfer.events, [TransferEnd.FAILED])
        self.assertEqual(transfer.sender.rows_sent, BLIND_ROWS)
        cost = sum(len(data) for _, data, _ in transfer.sent)
        self.assertLess(cost, BLIND_ROWS * 3005 + 100)

    def test_original_that_answers_late(self) -> None:
        """An original whose ACK_SIZE was lost answers that FIN, and is sent the rest."""
        transfer = Transfer(picture(100), reports=False)
        transfer.run(3.0)
        transfer.say(row_wanted_datagram(0), FIN)
        transfer.run(4.0)
        self.assertEqual(transfer.all_rows(), [0, 0, *range(1, 100)])
        self.assertEqual(transfer.sent[-1][1], FIN)
        transfer.say(COMPLETE)
        self.assertEqual(transfer.events, [TransferEnd.COMPLETE])


class OriginalTests(SynchronousTestCase):
    """Transfers to an original."""

    def answered(self, pixels: Pixels) -> Transfer:
        transfer = Transfer(pixels, reports=False)
        transfer.run(0.1)
        transfer.say(ACK_SIZE)
        return transfer

    def test_rows(self) -> None:
        """After ACK_SIZE every row is sent once, top to bottom, then FIN; COMPLETE ends the transfer."""
        transfer = self.answered(picture(50))
        sent = transfer.run(0.5)
        self.assertEqual(transfer.all_rows(), list(range(50)))
        self.assertEqual(sent[-1], FIN)
        transfer.say(COMPLETE)
        self.assertEqual(transfer.events, [TransferEnd.COMPLETE])
        self.assertIsNone(transfer.sender.get_timer())
        self.assertEqual(transfer.run(60.0), [])

    def test_no_probes(self) -> None:
        """SIZE is not repeated among the rows, as an original may take it amiss."""
        transfer = self.answered(picture(2000))
        transfer.run(30.0)
        self.assertEqual(transfer.times(transfer.announcement), [0.0])

    def test_pace(self) -> None:
        """Rows are sent no faster than an original decodes them, in bursts that fit its buffer."""
        transfer = self.answered(picture(300, 1200))
        transfer.run(2.0)
        self.assertEqual(len(transfer.all_rows()), 300)
        times = [when for when, data, _ in transfer.sent if len(data) > 9]
        least = (300 - BURST_MAX - 1) * 1200 * ORIGINAL_SECONDS_PER_PIXEL
        self.assertGreater(times[-1] - times[0], least)
        self.assertLess(times[-1] - times[0], 1.2 * least)
        self.assertLessEqual(max(times.count(when) for when in times), BURST_MAX)

    def test_wanted_rows(self) -> None:
        """ROW WANTED and FIN are answered with the rows, and with FIN at once."""
        transfer = self.answered(picture(50))
        transfer.run(0.5)
        sent = transfer.say(row_wanted_datagram(7), row_wanted_datagram(3), FIN)
        self.assertEqual(transfer.rows(sent), [7, 3])
        self.assertEqual(sent[-1], FIN)
        wanted = list(range(20))
        sent = transfer.say(*map(row_wanted_datagram, wanted), FIN) + transfer.run(0.6)
        self.assertEqual(transfer.rows(sent), wanted)
        self.assertEqual(sent[-1], FIN)

    def test_list_without_its_end(self) -> None:
        """A list of ROW WANTED whose FIN was lost ends 0.15 s after its last datagram."""
        transfer = self.answered(picture(50))
        transfer.run(0.5)
        transfer.say(row_wanted_datagram(7))
        transfer.run(0.6)
        transfer.say(row_wanted_datagram(8))
        fins = len(transfer.times(FIN))
        transfer.run(0.6 + LIST_PAUSE - 0.001)
        self.assertEqual(len(transfer.times(FIN)), fins)
        transfer.run(0.6 + LIST_PAUSE + 0.001)
        self.assertEqual(len(transfer.times(FIN)), fins + 1)
        self.assertEqual(transfer.all_rows()[-2:], [7, 8])

    def test_fin_again(self) -> None:
        """FIN is repeated until it is answered; after 10 s without an answer the transfer is unconfirmed."""
        transfer = self.answered(picture(5))
        (first,) = transfer.times(FIN)
        transfer.run(first + SILENCE_MAX - 0.001)
        self.assertEqual(transfer.events, [])
        transfer.run(first + SILENCE_MAX)
        self.assertEqual(transfer.events, [TransferEnd.UNCONFIRMED])
        times = transfer.times(FIN)
        pauses = np.diff(times)
        self.assertGreaterEqual(min(pauses), 0.499)
        self.assertLessEqual(max(pauses), 2.001)

    def test_fin_that_is_not_a_list(self) -> None:
        """A requester that answers FIN without ROW WANTED is asked again, but not at once."""
        transfer = self.answered(picture(5))
        self.assertEqual(transfer.say(FIN), [])
        self.assertEqual(transfer.run(transfer.now + 1.0)[:1], [FIN])
        self.assertEqual(transfer.events, [])


class RequesterOfOursTests(SynchronousTestCase):
    """Transfers to a requester of ours."""

    def answered(self, pixels: Pixels) -> Transfer:
        transfer = Transfer(pixels, reports=True)
        transfer.run(0.05)
        transfer.say(ACK_SIZE)
        return transfer

    def test_window(self) -> None:
        """At most 64 KiB of rows are sent before the first report, with a probe among them."""
        transfer = self.answered(picture(2000, 300))
        rows = transfer.all_rows()
        self.assertEqual(len(rows), WINDOW_START // 905)
        self.assertEqual(len(transfer.times(transfer.announcement)), 2)

    def test_widest_rows(self) -> None:
        """Of rows as wide as UDP carries, four are sent before the first report."""
        pixels = picture(12, ROW_PIXELS_MAX)
        transfer = self.answered(pixels)
        self.assertEqual(transfer.all_rows(), [0, 1, 2, 3])

    def test_report(self) -> None:
        """A report makes room for more rows, wanted ones before new ones."""
        transfer = self.answered(picture(2000, 300))
        following = len(transfer.all_rows())
        transfer.run(0.1)
        sent = transfer.say(row_wanted_datagram(5), row_wanted_datagram(2), ACK_SIZE)
        self.assertEqual(transfer.rows(sent)[:4], [5, 2, following, following + 1])
        self.assertIn(transfer.announcement, sent, "the next probe")

    def test_all_of_it(self) -> None:
        """If every probe is answered, every row is sent once, and then FIN."""
        transfer = self.answered(picture(2000, 300))
        sent = [data for _, data, _ in transfer.sent]
        while FIN not in sent:
            transfer.run(transfer.now + 0.05)
            sent = transfer.say(ACK_SIZE)
        self.assertEqual(transfer.all_rows(), list(range(2000)))
        self.assertLess(transfer.now, 1.0)

    def test_silent_on_a_probe(self) -> None:
        """After an answered probe, 10 s without an answer to the next one are a failure."""
        transfer = self.answered(picture(2000, 300))
        transfer.run(0.1)
        transfer.say(ACK_SIZE)
        sent = transfer.sender.rows_sent
        transfer.run(0.1 + SILENCE_MAX - 0.001)
        self.assertEqual(transfer.events, [])
        transfer.run(60.0)
        self.assertEqual(transfer.events, [TransferEnd.FAILED])
        self.assertEqual(transfer.sender.rows_sent, sent)
        self.assertEqual(transfer.times(FIN), [])

    def test_no_probe_answered(self) -> None:
        """A requester that answers none of four probes is served like an original."""
        transfer = self.answered(picture(500, 300))
        transfer.run(60.0)
        probes = transfer.times(transfer.announcement)[1:]
        self.assertEqual(len(probes), PROBES_UNANSWERED_MAX)
        self.assertEqual(transfer.all_rows(), list(range(500)))
        self.assertLess(probes[-1], transfer.times(FIN)[0])
        self.assertEqual(transfer.events, [TransferEnd.UNCONFIRMED])

    def test_rows_wanted_before_any_probe(self) -> None:
        """Any datagram of the requester replaces a lost ACK_SIZE."""
        transfer = Transfer(picture(3), reports=True)
        sent = transfer.say(row_wanted_datagram(1)) + transfer.run(0.5)
        self.assertEqual(sorted(set(transfer.rows(sent))), [0, 1, 2])


class AnyTimeTests(SynchronousTestCase):
    """Events that may happen at any moment."""

    @given(st.booleans(), st.booleans(), st.floats(0, 9.9))
    def test_complete(self, reports: bool, answers: bool, when: float) -> None:
        """COMPLETE ends the transfer at any time, and nothing is sent after it."""
        transfer = Transfer(picture(100), reports=reports)
        transfer.run(0.02)
        if answers:
            transfer.say(ACK_SIZE)
        transfer.run(min(when, UNHEARD_MAX - 0.01) if not answers else when)
        self.assertEqual(transfer.say(COMPLETE), [])
        self.assertEqual(transfer.events, [TransferEnd.COMPLETE])
        self.assertEqual(transfer.run(60.0), [])
        self.assertEqual(transfer.say(ACK_SIZE, FIN, row_wanted_datagram(0), COMPLETE), [])
        self.assertEqual(len(transfer.events), 1)

    def test_strangers(self) -> None:
        """Datagrams from another address or port are dropped and counted, even COMPLETE."""
        transfer = Transfer(picture(5), reports=False)
        for stranger in (STRANGER, (BOB[0], 7001)):
            for data in (ACK_SIZE, FIN, COMPLETE, row_wanted_datagram(0), b"", b"\xff"):
                self.assertEqual(transfer.hear(data, stranger), [])
        self.assertEqual(transfer.sender.dropped, 12)
        self.assertEqual(transfer.events, [])

    def test_nonsense(self) -> None:
        """Rows outside the picture, wrong checksums and foreign words are dropped, and are no signs of life."""
        transfer = Transfer(picture(5), reports=False)
        wrong = (
            row_wanted_datagram(5), row_wanted_datagram(2**32 - 1), b"\0\0\0\1\2", b"IMG", b"ACK",
            b"ACK2", b"complete", b"", b"\xff" * 9, transfer.announcement,
        )  # fmt: skip
        for data in wrong:
            self.assertEqual(transfer.say(data), [], data)
        self.assertEqual(transfer.sender.dropped, len(wrong))
        self.assertEqual(transfer.all_rows(), [])

    def test_requester_gone(self) -> None:
        """A closed port ends the transfer once: unconfirmed if FIN was open, else as failed."""
        unheard = Transfer(picture(5), reports=False)
        asked_the_end = Transfer(picture(5), reports=False)
        asked_the_end.say(ACK_SIZE)
        for transfer, end in (
            (unheard, TransferEnd.FAILED),
            (asked_the_end, TransferEnd.UNCONFIRMED),
        ):
            for _ in range(2):
                transfer.sender.requester_gone()
            self.assertEqual(transfer.run(60.0), [])
            self.assertIsNone(transfer.sender.get_timer())
            self.assertEqual(
                [transfer.sender.next_event(), transfer.sender.next_event()], [end, None]
            )


class BoundsTests(SynchronousTestCase):
    """No requester can keep a transfer alive for ever."""

    def test_silent_after_the_last_row(self) -> None:
        """A transfer of a few very wide rows without any answer comes to an end."""
        transfer = Transfer(picture(4, 12_000), reports=True)
        transfer.say(ACK_SIZE)
        transfer.run(60.0)
        self.assertEqual(transfer.events, [TransferEnd.UNCONFIRMED])
        self.assertIn(FIN, [data for _, data, _ in transfer.sent])

    def test_says_the_same_for_ever(self) -> None:
        """A requester that repeats one word for ever is given up after 30 s."""
        for reports in (False, True):
            for word in (ACK_SIZE, FIN):
                transfer = Transfer(picture(5), reports=reports)
                transfer.say(ACK_SIZE)
                while not transfer.events and transfer.now < 1000:
                    transfer.say(word)
                    transfer.run(transfer.now + 1.0)
                self.assertIsNot(transfer.events[0], TransferEnd.COMPLETE)
                self.assertLess(transfer.now, NO_PROGRESS_MAX + 2.0)

    def test_wants_the_same_for_ever(self) -> None:
        """A row that is requested for ever is sent a bounded number of times."""
        transfer = Transfer(picture(5), reports=False)
        transfer.say(ACK_SIZE)
        while not transfer.events and transfer.now < 1000:
            transfer.say(row_wanted_datagram(3))
            transfer.run(transfer.now + 0.1)
        self.assertEqual(len(transfer.events), 1)
        self.assertLess(transfer.sender.rows_sent, 5 * (SENT_AGAIN_MAX + 3))


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=examples(500))
    @given(
        pictures(rows_max=20),
        st.booleans(),
        st.lists(
            st.tuples(st.floats(0, 3), datagrams(), st.sampled_from([BOB, BOB, BOB, STRANGER])),
            max_size=40,
        ),
    )
    def test_whatever_comes(
        self, pixels: Pixels, reports: bool, arrivals: list[tuple[float, bytes, tuple[str, int]]]
    ) -> None:
        """Any input at any time causes no exception, no busy loop, one end, and a bounded number of rows."""
        transfer = Transfer(pixels, reports=reports)
        wanted = 0
        for pause, data, addr in arrivals:
            transfer.run(transfer.now + pause)
            transfer.hear(data, addr)
            wanted += addr == BOB and len(data) == 5
        transfer.run(transfer.now + 120.0)
        self.assertEqual(len(transfer.events), 1)
        self.assertIsNone(transfer.sender.get_timer())
        self.assertLessEqual(len(transfer.all_rows()), len(pixels) + wanted)
        questions = len(transfer.sent) - len(transfer.all_rows())
        self.assertLessEqual(questions, 200 + 4 * len(arrivals))
        self.assertEqual({addr for _, _, addr in transfer.sent} - {BOB}, set())

    @given(st.lists(st.integers(0, 5), max_size=300), st.booleans())
    def test_flood_of_wishes(self, wishes: list[int], reports: bool) -> None:
        """A row that is requested many times at once is sent once."""
        transfer = Transfer(picture(6), reports=reports)
        transfer.say(ACK_SIZE)
        transfer.run(0.5)
        for row in wishes:
            transfer.sender.receive_datagram(row_wanted_datagram(row), BOB, 0.5)
        sent = transfer.rows(transfer.run(0.6))
        self.assertEqual(sorted(sent), sorted(set(wishes)))
