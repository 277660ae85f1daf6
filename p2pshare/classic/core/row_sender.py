"""The sharer's side of one picture: a state machine without sockets or clocks.

Theory of operation. The sender announces SIZE up to three times. Then it sends rows as its pace (`classic.core.pacing`)
allows: rows that are wanted again go before rows that were never sent. It has at most one *question* open
(`classic.core.round_trips`): SIZE among the rows, to a requester of ours, or FIN once no row is left to send.
ACK_SIZE answers SIZE; FIN answers FIN. An unanswered question is repeated after the retransmission timeout (RTO).
COMPLETE ends the transfer at any time. Silence ends it, too:

    no answer at all                      FAILED
    silent after a SIZE                   FAILED
    silent after FIN                      UNCONFIRMED: every wanted row was sent, and COMPLETE may be lost

Retransmission is the requester's decision: it alone knows which rows it lacks, so the sender has no timer for rows, but
only for questions. `_lost` counts the rows that are wanted again since the last answer, and tells the pace how many of
the rows before the question were lost.

What the original programs do shapes the rest:

* An original sharer sends FIN once and waits. Ours repeats FIN until it is answered, as one lost FIN costs an original
  requester its whole timeout of 10 s.
* An original requester sends its list of ROW WANTED and then FIN. If that FIN is lost, nothing ends the list. So a
  pause of `LIST_PAUSE` in the list counts as its end.
* An original requester never repeats ACK_SIZE. So after three unanswered SIZEs an original is sent one row and FIN: a
  live requester answers that FIN with ROW WANTED. If nobody is there, that row is all that a forged word draws.
* An original ignores a second SIZE, or takes it amiss, so it gets no probes. A requester that never answers
  `PROBES_UNANSWERED_MAX` probes is served like an original from then on.
* A FIN that is answered by FIN without any ROW WANTED contradicts itself, as a requester with all rows says COMPLETE.
  The question stays open and is repeated later (`postpone`): answers that were reordered explain it.
"""

from __future__ import annotations

import enum
from collections import deque

import numpy as np
import numpy.typing as npt

from p2pshare.classic.core.pacing import Pace, RatePace, WindowPace
from p2pshare.classic.core.round_trips import Answered, Question, Questions, RttEstimator
from p2pshare.classic.datagrams import (
    ROW_OVERHEAD,
    RowWanted,
    Size,
    Word,
    parse_from_requester,
    row_datagrams,
    size_datagram,
)
from p2pshare.core.datagram_core import Address, Outgoing
from p2pshare.errors import RemoteProtocolError
from p2pshare.pictures.pixels import Pixels

SIZE_SCHEDULE = (0.0, 0.3, 1.0)  # seconds after the start
BLIND_AFTER = 2.5  # seconds after the start without an answer
BLIND_ROWS = 1  # rows sent to an original that never answered
SILENCE_MAX = 10.0  # seconds without an answer to a question
UNHEARD_MAX = 8.0  # seconds without any answer; an original starts over after 10
PROBES_UNANSWERED_MAX = 4  # before a requester counts as one that does not report
NO_PROGRESS_MAX = 30.0  # seconds without a row to send, whatever the requester says
SENT_AGAIN_MAX = 16  # times the picture's rows
LIST_PAUSE = 0.15  # seconds without another ROW WANTED that end a list whose FIN was lost
BATCH_BYTES = 128 * 1024  # bytes of rows returned at once, so that answers are read in between


class TransferEnd(enum.Enum):
    """How a transfer to a requester ended."""

    COMPLETE = enum.auto()
    """Everything was sent; for a picture the requester has confirmed it."""
    UNCONFIRMED = enum.auto()
    """Every wanted row was sent, but the requester never said that it has them all."""
    FAILED = enum.auto()
    """The requester fell silent before it can have had everything."""


class _State(enum.Enum):
    ANNOUNCING = enum.auto()
    SENDING = enum.auto()
    ENDED = enum.auto()


class RowQueue:
    """The rows still to be sent: first those wanted again, in the order of the requests, then the unsent ones."""

    def __init__(self, height: int) -> None:
        self.open_to = height
        """Rows from this number on stay back, unless they are wanted again."""
        self._next = 0
        self._wanted: deque[int] = deque()
        self._is_wanted = np.zeros(height, bool)

    def __bool__(self) -> bool:
        """Whether there is a row to take."""
        return bool(self._wanted) or self._next < self.open_to

    def want(self, row: int) -> bool:
        """Add a row that was sent before; return whether it was not in the queue yet."""
        if row >= self._next or self._is_wanted[row]:
            return False
        self._is_wanted[row] = True
        self._wanted.append(row)
        return True

    def take(self, count: int) -> npt.NDArray[np.intp]:
        """Remove and return the next rows, at most `count`."""
        again = [self._wanted.popleft() for _ in range(min(count, len(self._wanted)))]
        self._is_wanted[again] = False
        start = self._next
        self._next = max(start, min(self.open_to, start + count - len(again)))
        return np.array([*again, *range(start, self._next)], np.intp)


class PictureSender:
    """One picture on its way to one requester; its only event is a `TransferEnd`."""

    def __init__(self, pixels: Pixels, requester: Address, now: float, *, reports: bool) -> None:
        """Start at `now` (seconds).

        Args:
            pixels: the picture, which must not change before the transfer ends.
            requester: where to send it.
            now: the time.
            reports: the requester is one of ours, and answers SIZE among the rows.
        """
        self._height, self._width = pixels.shape[:2]
        self._pixels = pixels
        self._size = size_datagram(Size(self._width, self._height))
        self._requester = requester
        self._reports = reports
        row_bytes = 3 * self._width + ROW_OVERHEAD
        self._pace: Pace = WindowPace(row_bytes) if reports else RatePace(self._width)
        self._batch_rows = max(1, BATCH_BYTES // row_bytes)
        self._queue = RowQueue(self._height)
        self._questions = Questions(
            RttEstimator(initial=0.15, rto_min=0.02, rto_max=2.0)
            if reports
            else RttEstimator(initial=0.5, rto_min=0.5, rto_max=2.0),
            measure=reports,
        )
        self._probes_unanswered: int | None = 0  # None once a probe was answered
        self._lost = 0  # rows wanted again since the last answer
        self._list_ends: float | None = None  # when a list of ROW WANTED counts as ended
        self._state = _State.ANNOUNCING
        self._started = self._last_row_sent = now
        self._sizes_sent = 0
        self.heard = False
        """Whether the requester ever answered."""
        self._waiting_since: float | None = now
        self._events: deque[TransferEnd] = deque()
        self.rows_sent = 0
        """Rows, repeated ones included."""
        self.dropped = 0
        """Datagrams that did not belong to this transfer."""

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Process a datagram from this transfer's socket."""
        if self._state is _State.ENDED or addr != self._requester:
            self.dropped += 1
            return
        try:
            datagram = parse_from_requester(data)
            if isinstance(datagram, RowWanted) and datagram.row >= self._height:
                raise RemoteProtocolError(reason="ROW WANTED outside the picture")
        except RemoteProtocolError:
            self.dropped += 1
            return
        self._note_heard(datagram, now)
        asked = self._questions.open
        if isinstance(datagram, RowWanted):
            self._row_wanted(datagram.row, now)
        elif datagram is Word.COMPLETE:
            self._end(TransferEnd.COMPLETE)
        elif (datagram is Word.ACK_SIZE and asked is Question.PROBE) or (
            datagram is Word.FIN and asked is Question.END
        ):
            self._answered(self._questions.answer(now), now)

    def requester_gone(self) -> None:
        """End the transfer, as the requester's machine reported that its port is closed."""
        if self._state is not _State.ENDED:
            self._end_in_silence()

    def handle_timer(self, now: float) -> None:
        """Give up, send blindly, or end a list of ROW WANTED, whatever is due."""
        if self._state is _State.ENDED:
            return
        if now >= self._gives_up_at:
            self._end_in_silence()
        elif self._state is _State.ANNOUNCING and now >= self._started + BLIND_AFTER:
            if not self._reports:
                self._queue.open_to = min(BLIND_ROWS, self._height)
                self._state = _State.SENDING
        elif self._list_ends is not None and now >= self._list_ends:
            self._answered(self._questions.answer_untimed(), now)

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and `datagrams_to_send` next; a time in the past means at once."""
        if self._state is _State.ENDED:
            return None
        times = [self._gives_up_at]
        if self._state is _State.ANNOUNCING:
            if not self._reports:
                times.append(self._started + BLIND_AFTER)
            if self._sizes_sent < len(SIZE_SCHEDULE):
                times.append(self._next_size_at)
        else:
            if self._list_ends is not None:
                times.append(self._list_ends)
            elif self._questions.open is not None:
                times.append(self._questions.again_at)
            if self._queue and (ready := self._pace.ready_at()) is not None:
                times.append(ready)
        return min(times)

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Return at most `BATCH_BYTES` of what is due; `get_timer()` says when to call again."""
        if self._state is _State.ENDED:
            return []
        if self._state is _State.ANNOUNCING:
            if self._sizes_sent < len(SIZE_SCHEDULE) and now >= self._next_size_at:
                self._sizes_sent += 1
                return [(self._size, self._requester)]
            return []
        if self.rows_sent > SENT_AGAIN_MAX * self._height:
            self._end_in_silence()
            return []
        datagrams = self._take_rows(now)
        if (question := self._question_due(now)) is not None:
            datagrams.append(self._size if question is Question.PROBE else Word.FIN.value)
        return [(data, self._requester) for data in datagrams]

    def next_event(self) -> TransferEnd | None:
        """Return how the transfer ended, once."""
        return self._events.popleft() if self._events else None

    # What is sent.

    @property
    def _next_size_at(self) -> float:
        return self._started + SIZE_SCHEDULE[self._sizes_sent]

    def _take_rows(self, now: float) -> list[bytes]:
        if not self._queue or not (count := min(self._pace.allowance(now), self._batch_rows)):
            return []
        rows = self._queue.take(count)
        self._pace.rows_sent(len(rows), now)
        self.rows_sent += len(rows)
        self._last_row_sent = now
        return row_datagrams(self._pixels, rows)

    def _question_due(self, now: float) -> Question | None:
        """Return the question to send now, new or repeated."""
        questions = self._questions
        if questions.open is not None and self._list_ends is None and now >= questions.again_at:
            if (answered := questions.overdue()) is not None:
                self._answered(answered, now)
            elif questions.open is Question.PROBE and self._gives_up_probing():
                questions.close()
            else:
                questions.repeat(now)
                return questions.open
        if questions.open is not None:
            return None
        question = Question.PROBE if self._queue else Question.END
        if question is Question.PROBE and not self._pace.wants_probe:
            return None
        self._pace.probe_sent(now)
        questions.ask(question, now)
        if self._waiting_since is None:
            self._waiting_since = now
        return question

    def _gives_up_probing(self) -> bool:
        """Serve the requester like an original if it never answered a probe; return whether that is so."""
        if self._probes_unanswered is None:
            return False
        self._probes_unanswered += 1
        if self._probes_unanswered < PROBES_UNANSWERED_MAX:
            return False
        self._reports = False
        self._pace = RatePace(self._width)
        self._waiting_since = None
        return True

    # What is received.

    def _note_heard(self, datagram: RowWanted | Word, now: float) -> None:
        self.heard = True
        self._queue.open_to = self._height
        if self._state is _State.ANNOUNCING:
            self._state = _State.SENDING
            if datagram is Word.ACK_SIZE:
                self._questions.announced(now - self._started, once=self._sizes_sent == 1)
        self._waiting_since = None if self._questions.open is None else now

    def _row_wanted(self, row: int, now: float) -> None:
        if self._queue.want(row):
            self._lost += 1
        if self._questions.open is Question.END:
            self._list_ends = now + LIST_PAUSE

    def _answered(self, answered: Answered | None, now: float) -> None:
        if answered is None:
            return
        self._probes_unanswered = None
        self._list_ends = None
        lost, self._lost = self._lost, 0
        self._pace.reported(lost, answered.rtt, now)
        if self._questions.open is Question.END and not lost and not self._queue:
            self._questions.postpone(now)  # it lacks rows, or it would have sent COMPLETE
        else:
            self._questions.close()
            self._waiting_since = None

    # How it ends.

    @property
    def _gives_up_at(self) -> float:
        """When silence, or the lack of progress, has lasted for too long."""
        no_progress = self._last_row_sent + NO_PROGRESS_MAX
        if self._waiting_since is None:
            return no_progress
        silence = SILENCE_MAX if self.heard else UNHEARD_MAX
        return min(no_progress, self._waiting_since + silence)

    def _end_in_silence(self) -> None:
        unconfirmed = self.heard and self._questions.open is Question.END
        self._end(TransferEnd.UNCONFIRMED if unconfirmed else TransferEnd.FAILED)

    def _end(self, end: TransferEnd) -> None:
        self._state = _State.ENDED
        self._events.append(end)
