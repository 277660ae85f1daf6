"""The requester's side of one request, for a text or a picture: state machines without sockets or clocks.

    ASKING      the word is repeated until the sharer answers          -> NO_ANSWER after `ASK_FOR`
    EXPECTING   ACK came; SIZE, or a TCP connection, must follow       -> NOTHING_CAME after `EXPECT_FOR`
    RECEIVING   rows arrive, and missing rows are asked for            -> FELL_SILENT after `SILENCE_MAX`
    LINGERING   all rows are there; COMPLETE is repeated when asked    -> CLOSED after `LINGER_FOR`
    CLOSED      nothing more is sent

A text leaves this machine in EXPECTING, as it travels over TCP (`classic.net.text`).

A request belongs to one port, so a retry needs a new socket and a new machine: a sharer answers a repeated word from an
address that it is serving, but starts no new transfer for it.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from p2pshare.classic.core.row_receiver import RowReceiver
from p2pshare.classic.datagrams import Kind, Size, Word, parse_size, parse_word
from p2pshare.core.datagram_core import Address, Outgoing
from p2pshare.errors import RemoteProtocolError

REPEAT_EVERY = 0.2  # seconds between two words
ASK_FOR = 5.0  # seconds in which the word is repeated
ASK_OURS_FOR = 0.5  # seconds of IMG2, which originals ignore, before IMG
EXPECT_FOR = 5.0  # seconds from ACK to SIZE, or to the connection
SILENCE_MAX = 10.0  # seconds without a datagram of the transfer
NO_PROGRESS_MAX = 30.0  # seconds without a new row, whatever else arrives
LINGER_FOR = 2.0  # seconds in which a sharer that missed COMPLETE gets it again


class Failure(enum.Enum):
    """Why a request failed."""

    NO_ANSWER = enum.auto()
    """The sharer did not answer the word."""
    NOTHING_CAME = enum.auto()
    """The sharer answered, and sent nothing: it has nothing to share, or SIZE was lost."""
    SIZE_REFUSED = enum.auto()
    """The picture is empty, or larger than this program accepts."""
    FELL_SILENT = enum.auto()
    """The sharer stopped sending in the middle of the picture."""


@dataclass(frozen=True, slots=True)
class PictureAnnounced:
    """The size is known, and rows will follow."""

    rows: RowReceiver
    """The rows so far; read only."""


@dataclass(frozen=True, slots=True)
class PictureCompleted:
    """Every row has arrived with a correct checksum."""

    rows: RowReceiver
    from_original: bool
    """Whether the sharer is an original program, as far as its answers tell."""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The request is over without success."""

    failure: Failure
    size: Size | None = None
    """The announced size."""
    rows_received: int = 0
    missing: tuple[range, ...] = ()
    """The rows that did not arrive."""


@dataclass(frozen=True, slots=True)
class RequestClosed:
    """Nothing more is sent, and nothing more is expected: the socket can be closed."""


RequestEvent = PictureAnnounced | PictureCompleted | RequestFailed | RequestClosed
Event = TypeVar("Event", RequestEvent, RequestFailed)


class _State(enum.Enum):
    ASKING = enum.auto()
    EXPECTING = enum.auto()
    RECEIVING = enum.auto()
    LINGERING = enum.auto()
    CLOSED = enum.auto()


class Asking:
    """The words to send to a welcome port, and when."""

    def __init__(self, kind: Kind, now: float) -> None:
        """Start at `now` (seconds)."""
        if kind is Kind.TEXT:
            self._schedule = _times(Word.TXT, now, ASK_FOR)
        else:
            self._schedule = _times(Word.IMG2, now, ASK_OURS_FOR)
            self._schedule += _times(Word.IMG, now + ASK_OURS_FOR, ASK_FOR)
        self._next = 0
        self.gives_up_at = self._schedule[-1][0] + REPEAT_EVERY
        """When to give up, in seconds."""
        self.only_ours_asked = kind is Kind.PICTURE
        """Whether no word that an original understands was sent yet."""

    def get_timer(self) -> float:
        """Return when the next word is due, or when to give up."""
        if self._next < len(self._schedule):
            return self._schedule[self._next][0]
        return self.gives_up_at

    def due(self, now: float) -> list[bytes]:
        """Return the word that is due; after a pause that is the latest one, not all that were missed."""
        word = None
        while self._next < len(self._schedule) and self._schedule[self._next][0] <= now:
            word = self._schedule[self._next][1]
            self._next += 1
        if word is None:
            return []
        self.only_ours_asked = word is Word.IMG2
        return [word.value]


def _times(word: Word, start: float, seconds: float) -> list[tuple[float, Word]]:
    count = round(seconds / REPEAT_EVERY + 0.4)
    return [(start + n * REPEAT_EVERY, word) for n in range(count)]


def parse_answer(data: bytes) -> Word | None:
    """Return ACK or ACK2, or None if `data` is neither."""
    word = parse_word(data)
    return word if word in (Word.ACK, Word.ACK2) else None


class _Request(Generic[Event]):
    """ASKING and EXPECTING, which texts and pictures have in common."""

    def __init__(self, kind: Kind, welcome: Address, now: float) -> None:
        """Ask at the welcome port `welcome`, from `now` (seconds) on."""
        self._welcome = welcome
        self._state = _State.ASKING
        self._asking = Asking(kind, now)
        self._deadline = self._asking.gives_up_at
        self._events: deque[Event] = deque()

    def handle_timer(self, now: float) -> None:
        """Give up at the deadline."""
        if now < self._deadline:
            return
        if self._state is _State.ASKING:
            self._fail(RequestFailed(Failure.NO_ANSWER))
        elif self._state is _State.EXPECTING:
            self._fail(RequestFailed(Failure.NOTHING_CAME))

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and `datagrams_to_send` next; None when the request is over."""
        if self._state is _State.CLOSED:
            return None
        if self._state is _State.ASKING:
            return min(self._asking.get_timer(), self._deadline)
        return self._deadline

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Return the word if it is due."""
        if self._state is not _State.ASKING:
            return []
        return [(data, self._welcome) for data in self._asking.due(now)]

    def next_event(self) -> Event | None:
        """Return the oldest event that was not returned yet, or None."""
        return self._events.popleft() if self._events else None

    def _acknowledged_by(self, data: bytes, addr: Address, now: float) -> Word | None:
        """Process an answer of the welcome port; return None if `data` is none."""
        answer = parse_answer(data) if addr == self._welcome else None
        if answer and self._state is _State.ASKING:
            self._state = _State.EXPECTING
            self._deadline = now + EXPECT_FOR
        return answer

    def _fail(self, failed: RequestFailed) -> None:
        self._state = _State.CLOSED
        self._events.append(failed)


class TextRequest(_Request[RequestFailed]):
    """A request for a text, which then arrives over TCP: call `began` as soon as it does."""

    def __init__(self, welcome: Address, now: float) -> None:
        """Ask at the welcome port `welcome`, from `now` (seconds) on."""
        super().__init__(Kind.TEXT, welcome, now)

    @property
    def acknowledged(self) -> bool:
        """Whether the sharer has answered."""
        return self._state is _State.EXPECTING

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Process a datagram from the request's socket."""
        self._acknowledged_by(data, addr, now)

    def began(self) -> None:
        """Stop asking, as the text is arriving."""
        self._state = _State.CLOSED


class PictureRequest(_Request[RequestEvent]):
    """A request for a picture, and the reception of its rows."""

    def __init__(self, welcome: Address, now: float) -> None:
        """Ask at the welcome port `welcome`, from `now` (seconds) on."""
        super().__init__(Kind.PICTURE, welcome, now)
        self._from_ours: bool | None = None
        self._sharer: Address | None = None
        self._rows: RowReceiver | None = None
        self._complete_due = False
        self.dropped = 0
        """Datagrams that were damaged, or did not belong to this transfer."""

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Process a datagram from the request's socket."""
        try:
            if self._rows is None:
                self._receive_before_size(data, addr, now)
            elif addr == self._sharer:
                self._receive_from_sharer(self._rows, data, now)
            elif answer := self._acknowledged_by(data, addr, now):
                if answer is Word.ACK2:
                    self._from_ours = True
                    self._rows.sharer_reports()
            else:
                raise RemoteProtocolError(reason="a datagram from elsewhere")
        except RemoteProtocolError:
            self.dropped += 1

    def handle_timer(self, now: float) -> None:
        """Ask for missing rows, give up, or end the lingering, whatever is due."""
        if self._state is _State.RECEIVING and self._rows is not None:
            if now >= min(self._deadline, self._stuck_at(self._rows)):
                self._fail(
                    RequestFailed(
                        Failure.FELL_SILENT,
                        self._rows.size,
                        self._rows.rows_received,
                        tuple(self._rows.missing()),
                    )
                )
            else:
                self._rows.handle_timer(now)
        elif self._state is _State.LINGERING and now >= self._deadline:
            self._close()
        else:
            super().handle_timer(now)

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and `datagrams_to_send` next; None when the request is over."""
        if self._state is _State.RECEIVING and self._rows is not None:
            return min(self._rows.get_timer(), self._deadline, self._stuck_at(self._rows))
        return super().get_timer()

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Return the word, or ACK_SIZE, ROW WANTED, FIN and COMPLETE, whatever is due."""
        if self._rows is None or self._sharer is None or self._state is _State.CLOSED:
            return super().datagrams_to_send(now)
        datagrams = self._rows.datagrams_to_send()
        if self._complete_due:
            self._complete_due = False
            datagrams = [Word.COMPLETE.value]
        return [(data, self._sharer) for data in datagrams]

    def _receive_before_size(self, data: bytes, addr: Address, now: float) -> None:
        if self._state is _State.CLOSED:
            return
        if answer := self._acknowledged_by(data, addr, now):
            self._from_ours = answer is Word.ACK2
            return
        size = parse_size(data)
        if size.fault is not None:
            if addr[0] != self._welcome[0]:
                raise RemoteProtocolError(reason="an impossible SIZE from a stranger")
            self._fail(RequestFailed(Failure.SIZE_REFUSED, size))
            return
        # ACK may be lost or overtaken. Then only one of ours can have answered, if nothing but IMG2 was sent so far.
        if self._from_ours is None:
            self._from_ours = self._asking.only_ours_asked
        self._sharer = addr
        self._rows = RowReceiver(size, now, reports=self._from_ours)
        self._state = _State.RECEIVING
        self._deadline = now + SILENCE_MAX
        self._events.append(PictureAnnounced(self._rows))

    def _receive_from_sharer(self, rows: RowReceiver, data: bytes, now: float) -> None:
        if self._state is not _State.RECEIVING:
            if self._state is _State.LINGERING and len(data) in (3, 9):  # FIN or SIZE: a question
                self._complete_due = True
                self._deadline = min(now + LINGER_FOR, self._stuck_at(rows))
            return
        if parse_word(data) is Word.FIN:
            rows.receive_fin(now)
        elif len(data) == 9:
            if parse_size(data) != rows.size:
                raise RemoteProtocolError(reason="another SIZE in the same transfer")
            rows.receive_size(now)
        else:
            rows.receive_row(data, now)
        self._deadline = now + SILENCE_MAX
        if rows.complete:
            self._state = _State.LINGERING
            self._complete_due = True
            self._deadline = now + LINGER_FOR
            self._events.append(PictureCompleted(rows, from_original=not self._from_ours))

    def _stuck_at(self, rows: RowReceiver) -> float:
        return rows.last_new_row + NO_PROGRESS_MAX

    def _fail(self, failed: RequestFailed) -> None:
        super()._fail(failed)
        self._close()

    def _close(self) -> None:
        self._state = _State.CLOSED
        self._events.append(RequestClosed())
