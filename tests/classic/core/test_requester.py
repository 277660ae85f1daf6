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
    """A request for a picture alone, and the test in the sharer's place."""

    def __init__(self) -> None:
        self.request = PictureRequest(WELCOME, 0.0)
        super().__init__(self.request)

    def begin(self, answer: bytes = ACK2, sharer: Address = SHARER) -> list[bytes]:
        """Answer the word and announce the picture; what is said to that."""
        self.hear(answer, WELCOME)
        return self.hear(SIZE, sharer)

    def say(self, *all_data: bytes) -> list[bytes]:
        """Let the sharer say something; what comes back at once."""
        return [answer for data in all_data for answer in self.hear(data, SHARER)]

    @property
    def failure(self) -> RequestFailed:
        """How it failed, after which it must have closed."""
        failed, closed = self.events[-2:]
        assert isinstance(failed, RequestFailed) and closed == RequestClosed()
        return failed


class AskingTests(SynchronousTestCase):
    """From the word to the first SIZE."""

    def test_no_answer(self) -> None:
        """Without an answer it gives up after 5.5 s, and is closed."""
        fetch = Fetch()
        fetch.run(60.0)
        self.assertEqual(fetch.events, [RequestFailed(Failure.NO_ANSWER), RequestClosed()])
        self.assertEqual({data for _, data, _ in fetch.sent}, {b"IMG2", b"IMG"})
        self.assertLess(fetch.sent[-1][0], 5.5)
        self.assertIsNone(fetch.request.get_timer())

    def test_answered(self) -> None:
        """Once there is an answer the word is not repeated; 5 s without SIZE are an answer, too."""
        for answer in (ACK, ACK2):
            fetch = Fetch()
            fetch.run(0.7)
            fetch.hear(answer, WELCOME)
            self.assertEqual(fetch.run(0.7 + EXPECT_FOR - 0.001), [])
            self.assertEqual(fetch.events, [])
            fetch.run(0.7 + EXPECT_FOR)
            self.assertEqual(fetch.failure, RequestFailed(Failure.NOTHING_CAME))

    def test_repeated_answer(self) -> None:
        """A sharer that says ACK again and again, and nothing else, gains no time."""
        fetch = Fetch()
        for _ in range(8):
            fetch.hear(ACK, WELCOME)
            fetch.run(fetch.now + 1.0)
        self.assertEqual(fetch.failure.failure, Failure.NOTHING_CAME)

    def test_answer_from_elsewhere(self) -> None:
        """Only the welcome port's answer counts."""
        fetch = Fetch()
        fetch.hear(ACK2, STRANGER)
        self.assertEqual(fetch.request.dropped, 1)
        fetch.run(60.0)
        self.assertEqual(fetch.failure.failure, Failure.NO_ANSWER)

    def test_answer_lost(self) -> None:
        """SIZE is an answer by itself; the sharer is one of ours as long as only ours was asked."""
        for asked_for, from_original in ((0.45, False), (0.7, True)):
            fetch = Fetch()
            fetch.run(asked_for)
            fetch.say(SIZE, *ROWS)
            completed = fetch.events[-1]
            assert isinstance(completed, PictureCompleted)
            self.assertIs(completed.from_original, from_original)

    def test_welcome_port_hears_words_only(self) -> None:
        """Whatever happens, the welcome port hears nothing but the words: anything else may kill an original."""
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
        """The source of the first valid SIZE is the transfer's address, be it another of that machine."""
        fetch = Fetch()
        self.assertEqual(fetch.begin(sharer=OTHER_INTERFACE), [ACK_SIZE])
        self.assertEqual(fetch.sent[-1][2], OTHER_INTERFACE)
        self.assertEqual([type(event) for event in fetch.events], [PictureAnnounced])

    def test_others_later(self) -> None:
        """What comes from elsewhere afterwards is dropped and counted, be it right."""
        fetch = Fetch()
        fetch.begin(sharer=OTHER_INTERFACE)
        for data in (SIZE, FIN, ROWS[0], size_datagram(Size(9, 9))):
            self.assertEqual(fetch.hear(data, SHARER), [])
        self.assertEqual(fetch.request.dropped, 4)
        (announced,) = fetch.events
        self.assertEqual(announced.rows.size, Size(2, HEIGHT))
        self.assertEqual(announced.rows.rows_received, 0)

    def test_damaged_size(self) -> None:
        """A damaged SIZE binds nobody."""
        fetch = Fetch()
        fetch.hear(ACK2, WELCOME)
        self.assertEqual(fetch.hear(SIZE[:-1] + b"\xff", STRANGER), [])
        self.assertEqual(fetch.say(SIZE), [ACK_SIZE])

    def test_late_answer(self) -> None:
        """An answer of the welcome port that comes late is nobody's fault."""
        fetch = Fetch()
        fetch.begin()
        self.assertEqual(fetch.hear(ACK2, WELCOME), [])
        self.assertEqual(fetch.request.dropped, 0)

    def test_too_large(self) -> None:
        """A picture that is not taken is refused before memory is, and with no word to the sharer."""
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
        """The size of a picture does not change on the way."""
        fetch = Fetch()
        fetch.begin()
        self.assertEqual(fetch.say(size_datagram(Size(2, HEIGHT + 1))), [])
        self.assertEqual(fetch.request.dropped, 1)


class ReceivingTests(SynchronousTestCase):
    """From the first row to the last."""

    def test_whole(self) -> None:
        """The last row brings COMPLETE at once, and the picture is exact."""
        fetch = Fetch()
        fetch.begin()
        self.assertEqual(fetch.say(*ROWS[:-1]), [])
        self.assertEqual(fetch.say(ROWS[-1]), [COMPLETE])
        completed = fetch.events[-1]
        assert isinstance(completed, PictureCompleted)
        self.assertTrue((completed.rows.pixels == PIXELS).all())
        self.assertFalse(completed.from_original)

    def test_questions(self) -> None:
        """FIN is answered with what is missing and FIN, a probe with ACK_SIZE."""
        fetch = Fetch()
        fetch.begin()
        fetch.say(ROWS[0], ROWS[2], ROWS[3])
        self.assertEqual(fetch.say(SIZE), [ACK_SIZE])
        wanted = [row_wanted_datagram(row) for row in (1, 4, 5)]
        self.assertEqual(fetch.say(FIN), [*wanted, FIN])

    def test_original_is_asked_by_a_timer(self) -> None:
        """An original whose only FIN got lost is asked after a second without a row."""
        fetch = Fetch()
        fetch.run(0.6)
        fetch.begin(ACK)
        fetch.say(*ROWS[:-1])
        self.assertEqual(fetch.run(1.599), [])
        self.assertEqual(fetch.run(1.601), [row_wanted_datagram(HEIGHT - 1)])
        self.assertEqual(fetch.say(ROWS[-1]), [COMPLETE])
        self.assertTrue(fetch.events[-1].from_original)

    def test_silence(self) -> None:
        """10 s without a datagram of the transfer are a failure, which tells how far it came, and what is missing."""
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
        """What is dropped does not count as a sign of life, be it from the sharer's address."""
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
        """30 s without a new row are a failure, though FIN, SIZE and known rows keep coming."""
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
        """Unless it is asked, it closes after 2 s."""
        fetch = self.completed()
        fetch.run(LINGER_FOR - 0.001)
        self.assertIsInstance(fetch.events[-1], PictureCompleted)
        self.assertEqual(fetch.run(60.0), [])
        self.assertEqual(fetch.events[-1], RequestClosed())
        self.assertEqual(len(fetch.events), 3)

    def test_asked_again(self) -> None:
        """COMPLETE is said again for each question, until there was none for 2 s."""
        fetch = self.completed()
        for _ in range(5):
            fetch.run(fetch.now + LINGER_FOR - 0.1)
            self.assertEqual(fetch.say(FIN), [COMPLETE])
            self.assertEqual(fetch.say(SIZE), [COMPLETE])
        fetch.run(fetch.now + LINGER_FOR)
        self.assertEqual(fetch.events[-1], RequestClosed())
        self.assertEqual(fetch.say(FIN), [])

    def test_asked_for_ever(self) -> None:
        """A sharer that never stops to ask does not keep the socket open for ever."""
        fetch = self.completed()
        while RequestClosed() not in fetch.events:
            self.assertLess(fetch.now, NO_PROGRESS_MAX)
            fetch.say(FIN)
            fetch.run(fetch.now + 1.0)
        self.assertEqual(fetch.now, NO_PROGRESS_MAX)

    def test_rows_are_no_questions(self) -> None:
        """Rows that come once more are not answered, nor is a stranger."""
        fetch = self.completed()
        self.assertEqual(fetch.say(*ROWS), [])
        self.assertEqual(fetch.hear(FIN, STRANGER), [])


class TextRequestTests(SynchronousTestCase):
    """A request for a text, up to the connection."""

    def setUp(self) -> None:
        self.request = TextRequest(WELCOME, 0.0)
        self.fetch = Solo(self.request)

    def test_no_answer(self) -> None:
        """Without an answer it gives up after 5 s."""
        self.fetch.run(60.0)
        self.assertEqual(self.fetch.events, [RequestFailed(Failure.NO_ANSWER)])
        self.assertEqual({(data, addr) for _, data, addr in self.fetch.sent}, {(b"TXT", WELCOME)})
        self.assertLess(self.fetch.sent[-1][0], 5.0)

    def test_nothing_came(self) -> None:
        """An answer ends the asking; without a connection it gives up 5 s later."""
        for data, addr in ((ACK, STRANGER), (b"NAK", WELCOME)):
            self.fetch.hear(data, addr)
        self.assertNotEqual(self.fetch.run(1.0), [])
        self.fetch.hear(ACK, WELCOME)
        self.assertEqual(self.fetch.run(5.999), [])
        self.assertEqual(self.fetch.events, [])
        self.fetch.run(6.0)
        self.assertEqual(self.fetch.events, [RequestFailed(Failure.NOTHING_CAME)])

    def test_connected(self) -> None:
        """Once the text comes, nothing more is said, and nothing fails, answered or not."""
        self.request.began()
        self.assertIsNone(self.request.get_timer())
        self.fetch.hear(ACK, WELCOME)
        self.assertEqual(self.fetch.run(60.0), [])
        self.assertEqual(self.fetch.events, [])


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=500)
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
        """Whatever comes, and when: no exception, no busy loop, one outcome, and little said to each datagram."""
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
