"""The sharer's side of one picture: a state machine without sockets or clocks.

Theory of operation. A sender announces SIZE, up to three times. Then it sends rows, those that are wanted again before
those that were never sent, as its pace allows. It has at most one *question* open: SIZE among the rows (for requesters
of ours: a probe), or FIN once nothing is left to send. Whatever the requester answers ends the question: ACK_SIZE
answers SIZE; FIN, or a pause in its ROW WANTEDs, answers FIN. A question without an answer is put again after the
retransmission time-out. COMPLETE ends the transfer at any time, and so does silence:

    never heard from                      TransferFailed
    silent after a SIZE                   TransferFailed
    silent after FIN                      TransferUnconfirmed: every wanted row was sent, and COMPLETE may have got lost

An original requester whose ACK_SIZE got lost never repeats it. So, after three unanswered SIZEs, an original is sent
the first row and FIN all the same: if it is there, it answers that FIN with its ROW WANTEDs. If it is not, that row is
all that an address without an owner can draw.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from p2pshare.classic.core.interface import Address, Outgoing
from p2pshare.classic.core.pacing import Pace, RatePace, WindowPace
from p2pshare.classic.core.questions import Answered, Question, Questions
from p2pshare.classic.core.row_queue import RowQueue
from p2pshare.classic.core.rtt import RttEstimator
from p2pshare.classic.datagrams import (
    ROW_OVERHEAD,
    RowWanted,
    Size,
    Word,
    parse_from_requester,
    row_datagrams,
    size_datagram,
)
from p2pshare.errors import RemoteProtocolError
from p2pshare.pictures.pixels import Pixels

SIZE_SCHEDULE = (0.0, 0.3, 1.0)  # seconds after the start
BLIND_AFTER = 2.5  # seconds after the start without any answer
BLIND_ROWS = 1  # rows sent to an original that never answered
SILENCE_MAX = 10.0  # seconds without an answer to a question
UNHEARD_MAX = 8.0  # seconds without any answer at all; an original starts over after 10
PROBES_UNANSWERED_MAX = 4  # before a requester counts as one that does not report after all
NO_PROGRESS_MAX = 30.0  # seconds without a row to send, whatever the requester says
SENT_AGAIN_MAX = 16  # times the picture's rows
LIST_PAUSE = 0.15  # seconds without a further ROW WANTED that end a list whose FIN got lost
BATCH_BYTES = 128 * 1024  # bytes of rows given out at once, so that answers are read in between


@dataclass(frozen=True, slots=True)
class TransferConfirmed:
    """The requester has the whole picture."""


@dataclass(frozen=True, slots=True)
class TransferUnconfirmed:
    """Every row that was wanted was sent, but the requester never said that it has them all."""


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The requester fell silent before it can have had everything."""

    rows_sent: int
    """Rows, repeated ones included."""


SenderEvent = TransferConfirmed | TransferUnconfirmed | TransferFailed


class _State(enum.Enum):
    ANNOUNCING = enum.auto()
    SENDING = enum.auto()
    ENDED = enum.auto()


class PictureSender:
    """Sends one picture to one requester."""

    def __init__(self, pixels: Pixels, requester: Address, now: float, *, reports: bool) -> None:
        """Start at `now` (seconds); `reports`: the requester is one of ours and answers SIZE among the rows.

        `pixels` is read as long as the transfer lasts, and must not change.
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
        self._probes_unanswered: int | None = 0  # None once one was answered
        self._lost = 0  # rows wanted again since the last report
        self._list_ends: float | None = None  # when a list of ROW WANTED counts as ended
        self._state = _State.ANNOUNCING
        self._started = self._last_row_sent = now
        self._sizes_sent = 0
        self.heard = False
        """Whether the requester ever answered."""
        self._waiting_since: float | None = now
        self._events: deque[SenderEvent] = deque()
        self.rows_sent = 0
        """Rows, repeated ones included."""
        self.dropped = 0
        """Datagrams that were none of this transfer's."""

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Take in a datagram that came to this transfer's socket."""
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
            self._end(TransferConfirmed())
        elif (datagram is Word.ACK_SIZE and asked is Question.PROBE) or (
            datagram is Word.FIN and asked is Question.END
        ):
            self._answered(self._questions.answer(now), now)

    def requester_gone(self) -> None:
        """The requester's machine said that nobody listens at that port any more."""
        if self._state is not _State.ENDED:
            self._end_in_silence()

    def handle_timer(self, now: float) -> None:
        """Do what has become due; call it at `get_timer()`."""
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
        """When to call `handle_timer` and `datagrams_to_send` again; a time in the past means at once."""
        if self._state is _State.ENDED:
            return None
        times = [self._gives_up_at]
        if self._state is _State.ANNOUNCING:
            times += self._announcing_times()
        else:
            if self._list_ends is not None:
                times.append(self._list_ends)
            elif self._questions.open is not None:
                times.append(self._questions.again_at)
            if self._queue and (ready := self._pace.ready_at()) is not None:
                times.append(ready)
        return min(times)

    def datagrams_to_send(self, now: float) -> Outgoing:
        """What to send now: bounded, so call it again if `get_timer()` says so."""
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

    def next_event(self) -> SenderEvent | None:
        """How the transfer ended, once."""
        return self._events.popleft() if self._events else None

    # What is sent.

    @property
    def _next_size_at(self) -> float:
        return self._started + SIZE_SCHEDULE[self._sizes_sent]

    def _announcing_times(self) -> list[float]:
        times = [] if self._reports else [self._started + BLIND_AFTER]
        if self._sizes_sent < len(SIZE_SCHEDULE):
            times.append(self._next_size_at)
        return times

    def _take_rows(self, now: float) -> list[bytes]:
        if not self._queue or not (count := min(self._pace.allowance(now), self._batch_rows)):
            return []
        rows = self._queue.take(count)
        self._pace.rows_sent(len(rows), now)
        self.rows_sent += len(rows)
        self._last_row_sent = now
        return row_datagrams(self._pixels, rows)

    def _question_due(self, now: float) -> Question | None:
        """The question that goes out now, for the first time or again."""
        questions = self._questions
        if questions.open is not None and self._list_ends is None and now >= questions.again_at:
            if (answered := questions.overdue()) is not None:
                self._answered(answered, now)
            elif questions.open is Question.PROBE and self._gives_up_probing():
                questions.close()
            else:
                questions.put_again(now)
                return questions.open
        if questions.open is not None:
            return None
        question = Question.PROBE if self._queue else Question.END
        if question is Question.PROBE and not self._pace.wants_probe:
            return None
        self._pace.probe_sent(now)
        questions.put(question, now)
        if self._waiting_since is None:
            self._waiting_since = now
        return question

    def _gives_up_probing(self) -> bool:
        """Whether no probe was ever answered; the requester is then served as an original is."""
        if self._probes_unanswered is None:
            return False
        self._probes_unanswered += 1
        if self._probes_unanswered < PROBES_UNANSWERED_MAX:
            return False
        self._reports = False
        self._pace = RatePace(self._width)
        self._waiting_since = None
        return True

    # What is heard.

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
            self._questions.postpone(now)  # it lacks rows, or it would have said COMPLETE
        else:
            self._questions.close()
            self._waiting_since = None

    # How it ends.

    @property
    def _gives_up_at(self) -> float:
        """When there has been silence, or no progress, for too long."""
        no_progress = self._last_row_sent + NO_PROGRESS_MAX
        if self._waiting_since is None:
            return no_progress
        silence = SILENCE_MAX if self.heard else UNHEARD_MAX
        return min(no_progress, self._waiting_since + silence)

    def _end_in_silence(self) -> None:
        if self.heard and self._questions.open is Question.END:
            self._end(TransferUnconfirmed())
        else:
            self._end(TransferFailed(self.rows_sent))

    def _end(self, event: SenderEvent) -> None:
        self._state = _State.ENDED
        self._events.append(event)
