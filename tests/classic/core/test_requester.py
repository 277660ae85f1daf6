"""Tests of `p2pshare.classic.core.requester`: what docs/protocol.md says under "Ours as requester"."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.requester import (
    EXPECT_FOR,
    LINGER_FOR,
    NO_PROGRESS_MAX,
    SILENCE_MAX,
    Failure,
    PictureAnnounced,
    PictureCompleted,
    PictureRequest,
    RequestClosed,
    RequestFailed,
    TextRequest,
)
from p2pshare.classic.core.row_receiver import ASKED_MAX
from p2pshare.classic.datagrams import (
    ROW_PIXELS_MAX,
    ROWS_MAX,
    Size,
    Word,
    row_datagrams,
    row_wanted_datagram,
    size_datagram,
)
from p2pshare.core.datagram_core import Address
from p2pshare.pictures.pixels import PIXELS_MAX
from tests import examples
from tests.classic.core.solo import Solo
from tests.strategies import datagrams

WELCOME = ("10.0.0.1", 5000)
SHARER = ("10.0.0.1", 6000)
OTHER_INTERFACE = ("10.0.1.1", 6000)
STRANGER = ("10.6.6.6", 6000)
ACK, ACK2 = Word.ACK.value, Word.ACK2.value
ACK_SIZE, FIN, COMPLETE = Word.ACK_SIZE.value, Word.FIN.value, Word.COMPLETE.value

HEIGHT = 6
PIXELS = np.random.default_rng(2).integers(0, 256, (HEIGHT, 2, 3), np.uint8)
ROWS = row_datagrams(PIXELS, np.arange(HEIGHT))
SIZE = size_datagram(Size(2, HEIGHT))


class Fetch(Solo):
    """A request for a picture alone; the test replaces the sharer."""

    def __init__(self) -> None:
        self.request = PictureRequest(WELCOME, 0.0)
        super().__init__(self.request)

    def begin(self, answer: bytes = ACK2, sharer: Address = SHARER) -> list[bytes]:
        """Answer the word and announce the picture; return what is sent then."""
        self.hear(answer, WELCOME)
        return self.hear(SIZE, sharer)

    def say(self, *all_data: bytes) -> list[bytes]:
        """Deliver datagrams of the sharer; return what is sent at once."""
        return [answer for data in all_data for answer in self.hear(data, SHARER)]

    @property
    def failure(self) -> RequestFailed:
        """Return the failure, after which the request must have closed."""
        failed, closed = self.events[-2:]
        assert isinstance(failed, RequestFailed) and closed == RequestClosed()
        return failed


class AskingTests(SynchronousTestCase):
    """From the word to the first SIZE."""

    def test_no_answer(self) -> None:
        """Without an answer the request gives up after the last word, and closes."""
        fetch = Fetch()
        fetch.run(60.0)
        self.assertEqual(fetch.events, [RequestFailed(Failure.NO_ANSWER), RequestClosed()])
        self.assertEqual({data for _, data, _ in fetch.sent}, {b"IMG2", b"IMG"})
        self.assertLess(fetch.sent[-1][0], 5.5)
        self.assertIsNone(fetch.request.get_timer())

    def test_answered(self) -> None:
        """After an answer the word is not repeated; 5 s without SIZE end the request."""
        for answer in (ACK, ACK2):
            fetch = Fetch()
            fetch.run(0.7)
            fetch.hear(answer, WELCOME)
            self.assertEqual(fetch.run(0.7 + EXPECT_FOR - 0.001), [])
            self.assertEqual(fetch.events, [])
            fetch.run(0.7 + EXPECT_FOR)
            self.assertEqual(fetch.failure, RequestFailed(Failure.NOTHING_CAME))

    def test_repeated_answer(self) -> None:
        """Repeated ACKs do not extend the deadline."""
        fetch = Fetch()
        for _ in range(8):
            fetch.hear(ACK, WELCOME)
            fetch.run(fetch.now + 1.0)
        self.assertEqual(fetch.failure.failure, Failure.NOTHING_CAME)

    def test_answer_from_elsewhere(self) -> None:
        """Only the answer of the welcome port counts."""
        fetch = Fetch()
        fetch.hear(ACK2, STRANGER)
        self.assertEqual(fetch.request.dropped, 1)
        fetch.run(60.0)
        self.assertEqual(fetch.failure.failure, Failure.NO_ANSWER)

    def test_answer_lost(self) -> None:
        """SIZE is an answer by itself; the sharer counts as one of ours if only IMG2 was sent so far."""
        for asked_for, from_original in ((0.45, False), (0.7, True)):
            fetch = Fetch()
            fetch.run(asked_for)
            fetch.say(SIZE, *ROWS)
            completed = fetch.events[-1]
            assert isinstance(completed, PictureCompleted)
            self.assertIs(completed.from_original, from_original)

    def test_welcome_port_hears_words_only(self) -> None:
        """Only words are sent to the welcome port, as anything else may crash an original."""
        fetch = Fetch()
        fetch.run(0.7)
        fetch.begin(ACK)
        fetch.say(ROWS[0], FIN)
        fetch.run(60.0)
        said = {data for _, data, addr in fetch.sent if addr == WELCOME}
        self.assertEqual(said, {b"IMG2", b"IMG"})


class AnnouncedTests(SynchronousTestCase):
    """The first SIZE."""

    def test_transfer_address(self) -> None:
        """The source of the first valid SIZE is the address of the transfer, even another one of that machine."""
        fetch = Fetch()
        self.assertEqual(fetch.begin(sharer=OTHER_INTERFACE), [ACK_SIZE])
        self.assertEqual(fetch.sent[-1][2], OTHER_INTERFACE)
        self.assertEqual([type(event) for event in fetch.events], [PictureAnnounced])

    def test_others_later(self) -> None:
        """Datagrams from other addresses are dropped and counted, even valid ones."""
        fetch = Fetch()
        fetch.begin(sharer=OTHER_INTERFACE)
        for data in (SIZE, FIN, ROWS[0], size_datagram(Size(9, 9))):
            self.assertEqual(fetch.hear(data, SHARER), [])
        self.assertEqual(fetch.request.dropped, 4)
        (announced,) = fetch.events
        self.assertEqual(announced.rows.size, Size(2, HEIGHT))
        self.assertEqual(announced.rows.rows_received, 0)

    def test_damaged_size(self) -> None:
        """A damaged SIZE is ignored."""
        fetch = Fetch()
        fetch.hear(ACK2, WELCOME)
        self.assertEqual(fetch.hear(SIZE[:-1] + b"\xff", STRANGER), [])
        self.assertEqual(fetch.say(SIZE), [ACK_SIZE])

    def test_late_answer(self) -> None:
        """A late answer of the welcome port is not counted as dropped."""
        fetch = Fetch()
        fetch.begin()
        self.assertEqual(fetch.hear(ACK2, WELCOME), [])
        self.assertEqual(fetch.request.dropped, 0)

    def test_too_large(self) -> None:
        """A picture that is too large is rejected before memory is taken, without an answer to the sharer."""
        for size in (
            Size(0, 5), Size(5, 0), Size(0, 0), Size(ROW_PIXELS_MAX + 1, 1), Size(1, ROWS_MAX + 1),
            Size(10_000, PIXELS_MAX // 10_000 + 1), Size(2**32 - 1, 2**32 - 1),
        ):  # fmt: skip
            fetch = Fetch()
            fetch.hear(ACK2, WELCOME)
            tracemalloc.start()
            self.assertEqual(fetch.say(size_datagram(size)), [])
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertLess(peak, 100_000)
            self.assertEqual(fetch.failure, RequestFailed(Failure.SIZE_REFUSED, size))
            self.assertEqual(fetch.run(60.0), [])

    def test_another_size(self) -> None:
        """A different SIZE during the transfer is dropped."""
        fetch = Fetch()
        fetch.begin()
        self.assertEqual(fetch.say(size_datagram(Size(2, HEIGHT + 1))), [])
        self.assertEqual(fetch.request.dropped, 1)


class ReceivingTests(SynchronousTestCase):
    """From the first row to the last."""

    def test_whole(self) -> None:
        """The last row is answered with COMPLETE at once, and the picture is exact."""
        fetch = Fetch()
        fetch.begin()
        self.assertEqual(fetch.say(*ROWS[:-1]), [])
        self.assertEqual(fetch.say(ROWS[-1]), [COMPLETE])
        completed = fetch.events[-1]
        assert isinstance(completed, PictureCompleted)
        self.assertTrue((completed.rows.pixels == PIXELS).all())
        self.assertFalse(completed.from_original)

    def test_questions(self) -> None:
        """FIN is answered with the missing rows and FIN, a probe with ACK_SIZE."""
        fetch = Fetch()
        fetch.begin()
        fetch.say(ROWS[0], ROWS[2], ROWS[3])
        self.assertEqual(fetch.say(SIZE), [ACK_SIZE])
        wanted = [row_wanted_datagram(row) for row in (1, 4, 5)]
        self.assertEqual(fetch.say(FIN), [*wanted, FIN])

    def test_original_is_asked_by_a_timer(self) -> None:
        """Rows are requested after a second without a row, if the only FIN of an original is lost."""
        fetch = Fetch()
        fetch.run(0.6)
        fetch.begin(ACK)
        fetch.say(*ROWS[:-1])
        self.assertEqual(fetch.run(1.599), [])
        self.assertEqual(fetch.run(1.601), [row_wanted_datagram(HEIGHT - 1)])
        self.assertEqual(fetch.say(ROWS[-1]), [COMPLETE])
        self.assertTrue(fetch.events[-1].from_original)

    def test_silence(self) -> None:
        """After 10 s without a datagram of the transfer it fails, and tells which rows are missing."""
        fetch = Fetch()
        fetch.begin()
        fetch.say(ROWS[0])
        fetch.run(SILENCE_MAX - 0.001)
        self.assertEqual(len(fetch.events), 1)
        fetch.run(SILENCE_MAX)
        self.assertEqual(
            fetch.failure,
            RequestFailed(Failure.FELL_SILENT, Size(2, HEIGHT), 1, (range(1, HEIGHT),)),
        )
        self.assertEqual(fetch.run(60.0), [])

    def test_nonsense_is_silence(self) -> None:
        """Dropped datagrams do not count as signs of life, not even from the sharer's address."""
        fetch = Fetch()
        fetch.begin()
        damaged = bytes([*ROWS[0][:-1], ROWS[0][-1] ^ 1])
        while fetch.now < SILENCE_MAX:
            fetch.say(damaged, b"nonsense", b"")
            fetch.hear(FIN, STRANGER)
            fetch.run(fetch.now + 1.0)
        self.assertEqual(fetch.failure.failure, Failure.FELL_SILENT)
        self.assertEqual(fetch.request.dropped, 40)

    def test_no_progress(self) -> None:
        """After 30 s without a new row the transfer fails, even if FIN, SIZE and known rows keep arriving."""
        fetch = Fetch()
        fetch.begin()
        fetch.say(ROWS[0])
        while fetch.now < NO_PROGRESS_MAX:
            self.assertEqual(len(fetch.events), 1)
            fetch.say(FIN, SIZE, ROWS[0])
            fetch.run(fetch.now + 1.0)
        self.assertEqual(fetch.failure.failure, Failure.FELL_SILENT)
        self.assertEqual(fetch.now, NO_PROGRESS_MAX)


class CompletedTests(SynchronousTestCase):
    """After the last row."""

    def completed(self) -> Fetch:
        fetch = Fetch()
        fetch.begin()
        fetch.say(*ROWS)
        return fetch

    def test_closes(self) -> None:
        """Without a question the request closes after 2 s."""
        fetch = self.completed()
        fetch.run(LINGER_FOR - 0.001)
        self.assertIsInstance(fetch.events[-1], PictureCompleted)
        self.assertEqual(fetch.run(60.0), [])
        self.assertEqual(fetch.events[-1], RequestClosed())
        self.assertEqual(len(fetch.events), 3)

    def test_asked_again(self) -> None:
        """COMPLETE is repeated for each question, until none came for 2 s."""
        fetch = self.completed()
        for _ in range(5):
            fetch.run(fetch.now + LINGER_FOR - 0.1)
            self.assertEqual(fetch.say(FIN), [COMPLETE])
            self.assertEqual(fetch.say(SIZE), [COMPLETE])
        fetch.run(fetch.now + LINGER_FOR)
        self.assertEqual(fetch.events[-1], RequestClosed())
        self.assertEqual(fetch.say(FIN), [])

    def test_asked_for_ever(self) -> None:
        """A sharer that never stops asking cannot keep the socket open."""
        fetch = self.completed()
        while RequestClosed() not in fetch.events:
            self.assertLess(fetch.now, NO_PROGRESS_MAX)
            fetch.say(FIN)
            fetch.run(fetch.now + 1.0)
        self.assertEqual(fetch.now, NO_PROGRESS_MAX)

    def test_rows_are_no_questions(self) -> None:
        """Repeated rows and strangers get no answer."""
        fetch = self.completed()
        self.assertEqual(fetch.say(*ROWS), [])
        self.assertEqual(fetch.hear(FIN, STRANGER), [])


class TextRequestTests(SynchronousTestCase):
    """A request for a text, up to the connection."""

    def setUp(self) -> None:
        self.request = TextRequest(WELCOME, 0.0)
        self.fetch = Solo(self.request)

    def test_no_answer(self) -> None:
        """Without an answer the request gives up after the last word, and closes."""
        self.fetch.run(60.0)
        self.assertEqual(self.fetch.events, [RequestFailed(Failure.NO_ANSWER)])
        self.assertEqual({(data, addr) for _, data, addr in self.fetch.sent}, {(b"TXT", WELCOME)})
        self.assertLess(self.fetch.sent[-1][0], 5.0)

    def test_nothing_came(self) -> None:
        """After an answer without a connection the request gives up in 5 s."""
        for data, addr in ((ACK, STRANGER), (b"NAK", WELCOME)):
            self.fetch.hear(data, addr)
        self.assertNotEqual(self.fetch.run(1.0), [])
        self.fetch.hear(ACK, WELCOME)
        self.assertEqual(self.fetch.run(5.999), [])
        self.assertEqual(self.fetch.events, [])
        self.fetch.run(6.0)
        self.assertEqual(self.fetch.events, [RequestFailed(Failure.NOTHING_CAME)])

    def test_connected(self) -> None:
        """Once the text arrives, nothing more is sent and nothing fails."""
        self.request.began()
        self.assertIsNone(self.request.get_timer())
        self.fetch.hear(ACK, WELCOME)
        self.assertEqual(self.fetch.run(60.0), [])
        self.assertEqual(self.fetch.events, [])


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=examples(500))
    @given(
        st.booleans(),
        st.lists(
            st.tuples(
                st.floats(0, 3),
                st.one_of(datagrams(), st.sampled_from([SIZE, FIN, ACK, ACK2, *ROWS])),
                st.sampled_from([WELCOME, SHARER, SHARER, SHARER, STRANGER]),
            ),
            max_size=40,
        ),
    )
    def test_whatever_comes(self, text: bool, arrivals: list[tuple[float, bytes, Address]]) -> None:
        """Any input at any time causes no exception, no busy loop, one outcome, and few datagrams."""
        fetch = Solo(TextRequest(WELCOME, 0.0) if text else PictureRequest(WELCOME, 0.0))
        for pause, data, addr in arrivals:
            fetch.run(fetch.now + pause)
            self.assertLessEqual(len(fetch.hear(data, addr)), ASKED_MAX + 1)
        self.assertLessEqual(len(fetch.run(fetch.now + 120.0)), 20 * (ASKED_MAX + 1))
        outcomes = [e for e in fetch.events if isinstance(e, (RequestFailed, PictureCompleted))]
        self.assertEqual(len(outcomes), 1)
        if not text:
            self.assertEqual(fetch.events[-1], RequestClosed())
            self.assertEqual(fetch.events.count(RequestClosed()), 1)
        self.assertIsNone(fetch.core.get_timer())
