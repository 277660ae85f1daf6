"""The rows of one picture as they arrive: which are there, which are missing, and when to ask for the missing ones.

Theory of operation. The receiver is the authority on what is missing, and it sends ROW WANTED for three reasons:

* SIZE among the rows, from a sharer of ours, asks "which rows were lost so far?". Only rows before the *previous*
  report count as lost: rows that were merely reordered had the time between two reports to arrive.
* FIN says "I have nothing left to send". From then on every row that is not there counts as lost.
* The receiver's own timer, the retransmission timeout (RTO), expires. An original sharer sends FIN only once, so
  towards an original this timer starts every round but the first.

A row is not asked for twice within one RTO, as it may be on its way. On FIN from one of ours the smallest round trip is
enough: FIN was sent after all rows that were asked for before, so a row that did not overtake it is lost.

An original sharer answers each ROW WANTED, but its socket buffer holds some 256 of them, and encoding a row takes it
about 1.8 ms. So no more than `ASKED_MAX_ORIGINAL` rows are outstanding towards an original, and each row that arrives
makes room for the next request. Without this limit most requests are dropped and each round costs a timeout.

Before the first row the timer repeats ACK_SIZE, less and less often, as that may be what was lost.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from p2pshare.classic.core.round_trips import RttEstimator
from p2pshare.classic.datagrams import Size, Word, parse_row, row_wanted_datagram

ASKED_MAX = 256  # rows asked for in one answer to a sharer of ours
ASKED_MAX_ORIGINAL = 32  # rows outstanding at once, from an original
IDLE_MAX = 1.0  # seconds without a new row after which FIN counts as lost
REPORT_AGAIN = 0.01  # seconds; within this, and without a new row, a question was answered already
ACK_SIZE_AGAIN = 0.5  # seconds without a row, at first
ACK_SIZE_AGAIN_ORIGINAL = 1.5  # seconds; some originals may take a second ACK_SIZE amiss

_NEVER = float("-inf")


def ranges_of(mask: npt.NDArray[np.bool_]) -> list[range]:
    """Return the runs of True in `mask`, in order."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


class RowReceiver:
    """The rows of one picture of a known size."""

    def __init__(self, size: Size, now: float, *, reports: bool) -> None:
        """Start at `now` (seconds) with ACK_SIZE; `reports`: the sharer is one of ours, and sends probes."""
        self.size = size
        self.pixels = np.zeros((size.height, size.width, 3), np.uint8)
        """The picture, black where rows are missing."""
        self.have = np.zeros(size.height, bool)
        """Which rows have arrived."""
        self.rows_received = 0
        """Rows that have arrived."""
        self.repeated = 0
        """Rows that arrived again."""
        self.started = now
        """When the size became known, in seconds."""
        self.last_new_row = now
        """When the last new row arrived, in seconds."""
        self._flat = self.pixels.reshape(size.height, 3 * size.width)
        self._reports = reports
        self._asked_at = np.full(size.height, _NEVER)
        self._asked_again = np.zeros(size.height, bool)
        self._rows_seen = 0  # one more than the highest row that arrived
        self._rows_known = 0  # missing rows below this number count as lost
        self._rtt = RttEstimator(initial=0.5, rto_min=0.02 if reports else 0.25, rto_max=2.0)
        # For each question: at how many rows, and when, it was answered last.
        self._answered: dict[Word | None, tuple[int, float]] = {}
        self._outbox: list[bytes] = [Word.ACK_SIZE.value]
        self._ack_size_every = ACK_SIZE_AGAIN if reports else ACK_SIZE_AGAIN_ORIGINAL
        self._ask_at = now + self._ack_size_every

    @property
    def complete(self) -> bool:
        """Whether every row has arrived."""
        return self.rows_received == self.size.height

    def missing(self) -> list[range]:
        """Return the rows that have not arrived."""
        return ranges_of(~self.have)

    def receive_row(self, data: bytes, now: float) -> None:
        """Store a ROW.

        Raises:
            RemoteProtocolError: `data` is not a row of this picture, and was ignored.
        """
        row, content = parse_row(data, self.size)
        if self.have[row]:
            self.repeated += 1
            return
        self._flat[row] = content
        self.have[row] = True
        self.rows_received += 1
        self._rows_seen = max(self._rows_seen, row + 1)
        self.last_new_row = now
        if (asked_at := self._asked_at[row]) == _NEVER:
            self._ask_at = now + (IDLE_MAX if not self._end_known else self._rtt.rto)
            return
        if self._asked_again[row]:
            self._rtt.reset_backoff()
        else:
            self._rtt.add_sample(now - asked_at)
        self._ask_at = now + self._rtt.rto
        if not self._reports:
            self._ask(now, now - self._rtt.rto)

    def receive_size(self, now: float) -> None:
        """Answer a repeated SIZE: the sharer missed ACK_SIZE, or it is one of ours and wants a report."""
        if not self._deserves_answer(None, now):
            return
        if self._reports:
            self._ask(now, now - self._rtt.rto)
            self._rows_known = max(self._rows_known, self._rows_seen)
        if self._reports or not self.rows_received:
            self._say(Word.ACK_SIZE)

    def receive_fin(self, now: float) -> None:
        """Answer FIN: every row that is not there, and was not asked for within a round trip, is lost."""
        if not self._deserves_answer(Word.FIN, now):
            return
        self._rows_known = self.size.height
        patience = min(self._rtt.smallest, self._rtt.rto) if self._reports else self._rtt.rto
        self._ask(now, now - patience)
        self._say(Word.FIN)
        self._ask_at = now + self._rtt.rto

    def handle_timer(self, now: float) -> None:
        """Ask again if nothing arrived in time."""
        if now < self._ask_at or self.complete:
            return
        if not self.rows_received and not self._end_known:
            self._outbox.append(Word.ACK_SIZE.value)
            self._ack_size_every *= 2
            self._ask_at = now + self._ack_size_every
            return
        self._rows_known = self.size.height
        self._ask(now, now)
        self._rtt.back_off()
        self._ask_at = now + self._rtt.rto

    def get_timer(self) -> float:
        """Return when to call `handle_timer` next."""
        return self._ask_at

    def datagrams_to_send(self) -> list[bytes]:
        """Return what to send to the sharer now."""
        datagrams, self._outbox = self._outbox, []
        return datagrams

    def sharer_reports(self) -> None:
        """Note that the sharer is one of ours; its ACK2 came after SIZE."""
        self._reports = True

    def _deserves_answer(self, question: Word | None, now: float) -> bool:
        """Whether anything changed since FIN, or SIZE for None, was answered: the search for gaps takes time."""
        rows = self.rows_received + self.repeated
        rows_then, then = self._answered.get(question, (-1, now))
        if rows == rows_then and now < then + REPORT_AGAIN:
            return False
        self._answered[question] = rows, now
        return True

    def _say(self, word: Word) -> None:
        if not self._outbox or self._outbox[-1] != word:
            self._outbox.append(word.value)

    @property
    def _end_known(self) -> bool:
        return self._rows_known == self.size.height

    def _ask(self, now: float, asked_before: float) -> None:
        """Send ROW WANTED for missing rows, but not for rows that were asked for after `asked_before`."""
        if len(self._outbox) > ASKED_MAX:
            return  # the socket is full, and more requests would only wait
        known = slice(0, self._rows_known)
        missing = ~self.have[known]
        recent = missing & (self._asked_at[known] > asked_before)
        room = ASKED_MAX if self._reports else ASKED_MAX_ORIGINAL - int(np.count_nonzero(recent))
        rows = np.flatnonzero(missing & ~recent)[: max(0, room)]
        self._asked_again[rows] = self._asked_at[rows] != _NEVER
        self._asked_at[rows] = now
        self._outbox += map(row_wanted_datagram, rows.tolist())
