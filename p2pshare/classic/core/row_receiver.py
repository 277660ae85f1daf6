"""The rows of one picture as they arrive: which are there, which are missing, and when to ask for those.

The receiver is the authority on what is missing. It asks when it is asked (a sharer of ours sends SIZE among the rows
and means "what has got lost so far?"; FIN means "I have nothing left to send"), and by its own timer: an original
sharer sends FIN once only, and answers each ROW WANTED, but has room for some 256 of them. So towards an original no
more than `ASKED_MAX_ORIGINAL` rows are asked for and not yet there at any time, and every row that comes makes room
for the next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from p2pshare.classic.core.rtt import RttEstimator
from p2pshare.classic.datagrams import Size, Word, parse_row, row_wanted_datagram

ASKED_MAX = 256  # rows asked for in one answer to a sharer of ours
ASKED_MAX_ORIGINAL = 32  # rows asked for and not yet there, of an original
IDLE_MAX = 1.0  # seconds without a new row, after which FIN counts as lost
REPORT_AGAIN = (
    0.01  # seconds; a question that comes sooner, with no row since the last, has been answered
)
ACK_SIZE_AGAIN = 0.5  # seconds without a row
ACK_SIZE_AGAIN_ORIGINAL = 1.5  # seconds; some originals may take a second one amiss

_NEVER = float("-inf")


def ranges_of(mask: npt.NDArray[np.bool_]) -> list[range]:
    """The runs of True in `mask`, in order."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


class RowReceiver:
    """Collects the rows of one picture of a known size."""

    def __init__(self, size: Size, now: float, *, reports: bool) -> None:
        """Start at `now` (seconds), with ACK_SIZE; `reports`: the sharer is one of ours and asks on the way."""
        self.size = size
        self.pixels = np.zeros((size.height, size.width, 3), np.uint8)
        """The picture, black where rows are missing."""
        self.have = np.zeros(size.height, bool)
        """Which rows are there."""
        self.rows_received = 0
        """Rows that are there."""
        self.repeated = 0
        """Rows that came although they were there."""
        self.started = now
        """Seconds: when the size became known."""
        self.last_new_row = now
        """Seconds: when the last new row came."""
        self._flat = self.pixels.reshape(size.height, 3 * size.width)
        self._reports = reports
        self._asked_at = np.full(size.height, _NEVER)
        self._asked_again = np.zeros(size.height, bool)
        self._rows_seen = 0  # up to and including the highest that came
        self._rows_known = 0  # rows below this one count as lost if they are not there
        self._rtt = RttEstimator(initial=0.5, rto_min=0.02 if reports else 0.25, rto_max=2.0)
        self._answered: dict[
            str, tuple[int, float]
        ] = {}  # of each question: at how many rows, when
        self._outbox: list[bytes] = [Word.ACK_SIZE.value]
        self._ack_size_every = ACK_SIZE_AGAIN if reports else ACK_SIZE_AGAIN_ORIGINAL
        self._ask_at = now + self._ack_size_every

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.rows_received == self.size.height

    def missing(self) -> list[range]:
        """The rows that are not there."""
        return ranges_of(~self.have)

    def receive_row(self, data: bytes, now: float) -> None:
        """Take in a ROW.

        Raises:
            RemoteProtocolError: it is none of this picture's rows, and was left out.
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
        """The sharer sent SIZE again: it did not hear ACK_SIZE, or it is one of ours and wants a report.

        The report is of the rows before those of the last report, so that rows which merely changed
        places on their way have had the time between two reports to arrive.
        """
        if not self._is_news("SIZE", now):
            return
        if self._reports:
            self._ask(now, now - self._rtt.rto)
            self._rows_known = max(self._rows_known, self._rows_seen)
        if self._reports or not self.rows_received:
            self._say(Word.ACK_SIZE)

    def receive_fin(self, now: float) -> None:
        """The sharer has nothing left to send; all that was asked a round trip ago and is not there has got lost."""
        if not self._is_news("FIN", now):
            return
        self._rows_known = self.size.height
        self._ask(
            now,
            now - min(self._rtt.smallest, self._rtt.rto) if self._reports else now - self._rtt.rto,
        )
        self._say(Word.FIN)
        self._ask_at = now + self._rtt.rto

    def handle_timer(self, now: float) -> None:
        """Ask again, if nothing came for long enough."""
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
        """When to call `handle_timer` again."""
        return self._ask_at

    def datagrams_to_send(self) -> list[bytes]:
        """What to send to the sharer now."""
        datagrams, self._outbox = self._outbox, []
        return datagrams

    def sharer_reports(self) -> None:
        """The sharer showed, a little late, that it is one of ours."""
        self._reports = True

    def _is_news(self, question: str, now: float) -> bool:
        """Whether a question deserves an answer: looking for all that is missing takes its time."""
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
        """Ask for missing rows, except for those that were asked for after `asked_before`."""
        if len(self._outbox) > ASKED_MAX:
            return  # the socket is full: what could be asked now would only wait
        known = slice(0, self._rows_known)
        missing = ~self.have[known]
        recent = missing & (self._asked_at[known] > asked_before)
        room = ASKED_MAX if self._reports else ASKED_MAX_ORIGINAL - int(np.count_nonzero(recent))
        rows = np.flatnonzero(missing & ~recent)[: max(0, room)]
        self._asked_again[rows] = self._asked_at[rows] != _NEVER
        self._asked_at[rows] = now
        self._outbox += map(row_wanted_datagram, rows.tolist())
