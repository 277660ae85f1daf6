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
the first rows and FIN all the same: if it is there, it answers that FIN with its ROW WANTEDs. If it is not, the few
rows are all that an address without an owner can draw.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

import numpy as np

from p2pshare.core.interface import Address, Outgoing
from p2pshare.core.pacing import Pace, RatePace, WindowPace
from p2pshare.core.rtt import RttEstimator
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.classic import (
    ROW_OVERHEAD,
    Pixels,
    RowWanted,
    Size,
    Word,
    parse_from_requester,
    row_datagrams,
    size_datagram,
)

SIZE_SCHEDULE = (0.0, 0.3, 1.0)  # seconds after the start
BLIND_AFTER = 2.5  # seconds after the start without any answer
BLIND_ROWS = 32  # rows sent to an original that never answered
SILENCE_MAX = 10.0  # seconds without an answer to a question
UNHEARD_MAX = 8.0  # seconds without any answer at all; an original starts over after 10
PROBES_UNANSWERED_MAX = 4  # before a requester counts as one that does not report after all
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


class _Question(enum.Enum):
    PROBE = enum.auto()
    """SIZE among the rows: what has got lost so far?"""
    END = enum.auto()
    """FIN: is there anything that you lack?"""


class PictureSender:
    """Sends one picture to one requester."""

    def __init__(self, pixels: Pixels, requester: Address, now: float, *, reports: bool) -> None:
        """Start at `now` (seconds); `reports`: the requester is one of ours and answers SIZE among the rows.

        `pixels` is read as long as the transfer lasts, and must not change.
        """
        self._height, width = pixels.shape[:2]
        self._pixels = pixels
        self._size = size_datagram(Size(width, self._height))
        self._requester = requester
        self._reports = reports
        row_bytes = 3 * width + ROW_OVERHEAD
        self._pace: Pace = WindowPace(row_bytes) if reports else RatePace(width)
        self._batch_rows = max(1, BATCH_BYTES // row_bytes)
        self._rtt = (
            RttEstimator(initial=0.15, rto_min=0.02, rto_max=2.0)
            if reports
            else RttEstimator(initial=0.5, rto_min=0.5, rto_max=2.0)
        )
        self._state = _State.ANNOUNCING
        self._started = now
        self._sizes_sent = 0
        self._heard = False
        self._waiting_since: float | None = now
        self._next_row = 0
        self._rows_open = self._height  # rows below this one may go out
        self._wanted: deque[int] = deque()
        self._is_wanted = np.zeros(self._height, bool)
        self._lost = 0  # rows wanted again since the last report
        self._question: _Question | None = None
        self._question_sent = 0.0
        self._question_deadline = 0.0
        self._question_repeated = False
        self._probes_unanswered = 0
        self._reported = False  # whether a probe was ever answered
        self._shortest_rtt = 0.0  # seconds
        self._hasty_answer: float | None = None  # seconds: an answer that came too soon to be one
        self._list_ends: float | None = None  # when a list of ROW WANTED counts as ended
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
        if isinstance(datagram, RowWanted):
            self._row_wanted(datagram.row, now)
        elif datagram is Word.COMPLETE:
            self._end(TransferConfirmed())
        elif (datagram is Word.ACK_SIZE and self._question is _Question.PROBE) or (
            datagram is Word.FIN and self._question is _Question.END
        ):
            self._answer_came(now)

    def requester_gone(self) -> None:
        """The requester's machine said that nobody listens at that port any more."""
        if self._state is not _State.ENDED:
            self._end_in_silence()

    def handle_timer(self, now: float) -> None:
        """Do what has become due; call it at `get_timer()`."""
        if self._state is _State.ENDED:
            return
        if (silent_at := self._silent_at) is not None and now >= silent_at:
            self._end_in_silence()
        elif self._state is _State.ANNOUNCING and now >= self._started + BLIND_AFTER:
            if not self._reports:
                self._rows_open = min(BLIND_ROWS, self._height)
                self._state = _State.SENDING
        elif self._list_ends is not None and now >= self._list_ends:
            self._answered(now, None)

    def get_timer(self) -> float | None:
        """When to call `handle_timer` and `datagrams_to_send` again; a time in the past means at once."""
        if self._state is _State.ENDED:
            return None
        times = []
        if (silent_at := self._silent_at) is not None:
            times.append(silent_at)
        if self._state is _State.ANNOUNCING:
            times += self._announcing_times()
        else:
            if self._list_ends is not None:
                times.append(self._list_ends)
            elif self._question is not None:
                times.append(self._question_deadline)
            if self._rows_due and (ready := self._pace.ready_at()) is not None:
                times.append(ready)
        return min(times, default=None)

    def datagrams_to_send(self, now: float) -> Outgoing:
        """What to send now: bounded, so call it again if `get_timer()` says so."""
        if self._state is _State.ENDED:
            return []
        if self._state is _State.ANNOUNCING:
            if self._sizes_sent < len(SIZE_SCHEDULE) and now >= self._next_size_at:
                self._sizes_sent += 1
                return [(self._size, self._requester)]
            return []
        datagrams = self._take_rows(now)
        if (question := self._question_to_put(now)) is not None:
            datagrams.append(question)
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

    @property
    def _rows_due(self) -> bool:
        return bool(self._wanted) or self._next_row < self._rows_open

    def _take_rows(self, now: float) -> list[bytes]:
        if not self._rows_due or not (count := min(self._pace.allowance(now), self._batch_rows)):
            return []
        again = [self._wanted.popleft() for _ in range(min(count, len(self._wanted)))]
        self._is_wanted[again] = False
        end = min(self._rows_open, self._next_row + count - len(again))
        rows = np.array([*again, *range(self._next_row, end)], np.intp)
        self._next_row = max(self._next_row, end)
        self._pace.rows_sent(len(rows), now)
        self.rows_sent += len(rows)
        return row_datagrams(self._pixels, rows)

    def _question_to_put(self, now: float) -> bytes | None:
        if self._question is not None:
            if self._list_ends is not None or now < self._question_deadline:
                return None
            if self._hasty_answer is not None:
                self._answered(now, self._hasty_answer)
                return None
            if self._question is _Question.PROBE and self._gives_up_probing():
                return None
            self._question_repeated = True
            self._rtt.back_off()
        elif self._rows_due:
            if not self._pace.wants_probe:
                return None
            self._question, self._question_repeated = _Question.PROBE, False
        else:
            self._question, self._question_repeated = _Question.END, False
        if not self._question_repeated:
            self._pace.probe_sent(now)
            self._question_sent = now
        if self._waiting_since is None:
            self._waiting_since = now
        self._question_deadline = now + self._rtt.rto
        return self._size if self._question is _Question.PROBE else Word.FIN.value

    def _gives_up_probing(self) -> bool:
        """Whether no probe was ever answered; the requester is then served as an original is."""
        self._probes_unanswered += 1
        if self._reported or self._probes_unanswered < PROBES_UNANSWERED_MAX:
            return False
        self._reports = False
        self._pace = RatePace(self._pixels.shape[1])
        self._question = None
        self._waiting_since = None
        return True

    # What is heard.

    def _note_heard(self, datagram: RowWanted | Word, now: float) -> None:
        self._heard = True
        self._rows_open = self._height
        self._waiting_since = None if self._question is None else now
        if self._state is _State.ANNOUNCING:
            self._state = _State.SENDING
            self._waiting_since = None
            if self._reports and datagram is Word.ACK_SIZE:
                self._shortest_rtt = (
                    now - self._started
                )  # or longer, if SIZE was sent more than once
                if self._sizes_sent == 1:
                    self._rtt.add_sample(self._shortest_rtt)

    def _row_wanted(self, row: int, now: float) -> None:
        if row < self._next_row and not self._is_wanted[row]:
            self._is_wanted[row] = True
            self._wanted.append(row)
            self._lost += 1
        if self._question is _Question.END:
            self._list_ends = now + LIST_PAUSE

    def _answer_came(self, now: float) -> None:
        """Take an answer for the open question's, unless it came too soon for that.

        Answers bear no number. One to an earlier question (that was put twice, say) would be taken
        for the next question's, whose own for the one after that, and so on: the round trips would
        look shorter than they are, for ever. So an answer within half the shortest round trip is
        set aside. If the proper one follows, all is in step again; if none does, it was the one.
        """
        rtt = now - self._question_sent
        if not self._reports or self._question_repeated:
            self._answered(now, None)
        elif rtt < self._shortest_rtt / 2 and self._hasty_answer is None:
            self._hasty_answer = rtt
        else:
            self._answered(now, rtt)

    def _answered(self, now: float, rtt: float | None) -> None:
        if rtt is not None:
            self._rtt.add_sample(rtt)
            self._shortest_rtt = min(self._shortest_rtt, rtt)
        else:
            self._rtt.reset_backoff()
        self._hasty_answer = None
        self._reported = True
        nothing_wanted = not self._lost and not self._rows_due
        self._pace.reported(self._lost, rtt, now)
        self._lost = 0
        self._list_ends = None
        if self._question is _Question.END and nothing_wanted:
            # It lacks rows, or it would have said COMPLETE, but its list got lost: ask again, though not at once.
            self._question_repeated = True
            self._question_deadline = now + self._rtt.rto
        else:
            self._question = None
            self._waiting_since = None

    # How it ends.

    @property
    def _silent_at(self) -> float | None:
        if self._waiting_since is None:
            return None
        return self._waiting_since + (SILENCE_MAX if self._heard else UNHEARD_MAX)

    def _end_in_silence(self) -> None:
        if self._heard and self._question is _Question.END:
            self._end(TransferUnconfirmed())
        else:
            self._end(TransferFailed(self.rows_sent))

    def _end(self, event: SenderEvent) -> None:
        self._state = _State.ENDED
        self._events.append(event)
