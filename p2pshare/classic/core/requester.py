"""The requester's side of one fetch: a state machine without sockets or clocks, one for a picture and one for a text.

    ASKING      the word is repeated until the sharer answers        -> NO_ANSWER after `ASK_FOR`
    EXPECTING   ACK came; SIZE, or a connection, has to follow        -> NOTHING_CAME after `EXPECT_FOR`
    RECEIVING   rows come and are asked for                           -> FELL_SILENT after `SILENCE_MAX`
    LINGERING   all rows are there; COMPLETE is said again if need be -> CLOSED after `LINGER_FOR`
    CLOSED      nothing more is sent

A request is for one port: whoever wants to try again takes a new socket and a new machine, since a sharer answers a
word from an address that it is serving, but starts nothing new.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from p2pshare.classic.core.asking import Asking, parse_answer
from p2pshare.classic.core.interface import Address, Outgoing
from p2pshare.classic.core.row_receiver import RowReceiver
from p2pshare.classic.datagrams import Kind, Size, Word, parse_size, parse_word
from p2pshare.errors import RemoteProtocolError

EXPECT_FOR = 5.0  # seconds between ACK and what has to follow it
SILENCE_MAX = 10.0  # seconds without a datagram of the transfer
NO_PROGRESS_MAX = 30.0  # seconds without a new row, whatever else comes
LINGER_FOR = 2.0  # seconds in which a sharer that missed COMPLETE hears it again


class Failure(enum.Enum):
    """Why a request failed."""

    NO_ANSWER = enum.auto()
    """No answer to the word."""
    NOTHING_CAME = enum.auto()
    """An answer, but nothing after it: there is nothing to share, or SIZE got lost."""
    SIZE_REFUSED = enum.auto()
    """A picture that is larger than is taken, or empty."""
    FELL_SILENT = enum.auto()
    """Rows came, and then none for long."""


@dataclass(frozen=True, slots=True)
class PictureAnnounced:
    """The size is known, rows will come."""

    rows: RowReceiver
    """What has arrived so far; to be read only."""


@dataclass(frozen=True, slots=True)
class PictureCompleted:
    """Every row is there and was checked."""

    rows: RowReceiver
    from_original: bool
    """Whether the sharer did not show that it is one of ours."""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The request is over."""

    failure: Failure
    size: Size | None = None
    """The size that was announced."""
    rows_received: int = 0
    missing: tuple[range, ...] = ()
    """The rows that never came."""


@dataclass(frozen=True, slots=True)
class RequestClosed:
    """Nothing more is sent, and nothing more need be received: the socket can be closed."""


RequestEvent = PictureAnnounced | PictureCompleted | RequestFailed | RequestClosed


class _State(enum.Enum):
    ASKING = enum.auto()
    EXPECTING = enum.auto()
    RECEIVING = enum.auto()
    LINGERING = enum.auto()
    CLOSED = enum.auto()


class TextRequest:
    """Asks for a text, which then comes over TCP; tell it with `began` that it does."""

    def __init__(self, welcome: Address, now: float) -> None:
        """Ask at the welcome port `welcome`, from `now` (seconds) on."""
        self._welcome = welcome
        self._state = _State.ASKING
        self._asking = Asking(Kind.TEXT, now)
        self._expect_until = 0.0
        self._events: deque[RequestFailed] = deque()

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Take in a datagram that came to the request's socket."""
        if self._state is _State.ASKING and addr == self._welcome and parse_answer(data):
            self._state = _State.EXPECTING
            self._expect_until = now + EXPECT_FOR

    @property
    def acknowledged(self) -> bool:
        """Whether the sharer answered."""
        return self._state is _State.EXPECTING

    def began(self) -> None:
        """The text is coming: nothing more needs to be asked."""
        self._state = _State.CLOSED

    def handle_timer(self, now: float) -> None:
        """Give up, if it is time."""
        if self._state is _State.ASKING and now >= self._asking.gives_up_at:
            self._fail(Failure.NO_ANSWER)
        elif self._state is _State.EXPECTING and now >= self._expect_until:
            self._fail(Failure.NOTHING_CAME)

    def get_timer(self) -> float | None:
        """When to call `handle_timer` and `datagrams_to_send` again."""
        if self._state is _State.ASKING:
            return self._asking.get_timer()
        return self._expect_until if self._state is _State.EXPECTING else None

    def datagrams_to_send(self, now: float) -> Outgoing:
        """What to send now."""
        if self._state is not _State.ASKING:
            return []
        return [(data, self._welcome) for data in self._asking.due(now)]

    def next_event(self) -> RequestFailed | None:
        """What has happened since the last call."""
        return self._events.popleft() if self._events else None

    def _fail(self, failure: Failure) -> None:
        self._state = _State.CLOSED
        self._events.append(RequestFailed(failure))


class PictureRequest:
    """Asks for a picture and receives its rows."""

    def __init__(self, welcome: Address, now: float) -> None:
        """Ask at the welcome port `welcome`, from `now` (seconds) on."""
        self._welcome = welcome
        self._state = _State.ASKING
        self._asking = Asking(Kind.PICTURE, now)
        self._from_ours: bool | None = None
        self._deadline = self._asking.gives_up_at
        self._sharer: Address | None = None
        self._rows: RowReceiver | None = None
        self._complete_due = False
        self._events: deque[RequestEvent] = deque()
        self.dropped = 0
        """Datagrams that were none of this transfer's, or damaged."""

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Take in a datagram that came to the request's socket."""
        try:
            if self._rows is None:
                self._receive_before_size(data, addr, now)
            elif addr == self._sharer:
                self._receive_from_sharer(self._rows, data, now)
            elif addr == self._welcome and (answer := parse_answer(data)):
                if answer is Word.ACK2:
                    self._from_ours = True
                    self._rows.sharer_reports()
            else:
                raise RemoteProtocolError(reason="a datagram from elsewhere")
        except RemoteProtocolError:
            self.dropped += 1

    def handle_timer(self, now: float) -> None:
        """Do what has become due; call it at `get_timer()`."""
        if self._state is _State.RECEIVING and self._rows is not None:
            stuck = now >= self._rows.last_new_row + NO_PROGRESS_MAX
            if now >= self._deadline or stuck:
                self._fail(Failure.FELL_SILENT)
            else:
                self._rows.handle_timer(now)
        elif self._state is _State.CLOSED or now < self._deadline:
            return
        elif self._state is _State.ASKING:
            self._fail(Failure.NO_ANSWER)
        elif self._state is _State.EXPECTING:
            self._fail(Failure.NOTHING_CAME)
        else:
            self._close()

    def get_timer(self) -> float | None:
        """When to call `handle_timer` and `datagrams_to_send` again; None once there is nothing more to do."""
        if self._state is _State.CLOSED:
            return None
        if self._state is _State.ASKING:
            return min(self._asking.get_timer(), self._deadline)
        if self._state is _State.RECEIVING and self._rows is not None:
            stuck = self._rows.last_new_row + NO_PROGRESS_MAX
            return min(self._rows.get_timer(), self._deadline, stuck)
        return self._deadline

    def datagrams_to_send(self, now: float) -> Outgoing:
        """What to send now."""
        if self._state is _State.ASKING:
            return [(data, self._welcome) for data in self._asking.due(now)]
        if self._rows is None or self._sharer is None or self._state is _State.CLOSED:
            return []
        datagrams = self._rows.datagrams_to_send()
        if self._complete_due:
            self._complete_due = False
            datagrams = [Word.COMPLETE.value]
        return [(data, self._sharer) for data in datagrams]

    def next_event(self) -> RequestEvent | None:
        """What has happened since the last call."""
        return self._events.popleft() if self._events else None

    def _receive_before_size(self, data: bytes, addr: Address, now: float) -> None:
        if self._state not in (_State.ASKING, _State.EXPECTING):
            return
        if addr == self._welcome and (answer := parse_answer(data)):
            self._from_ours = answer is Word.ACK2
            if self._state is _State.ASKING:
                self._state = _State.EXPECTING
                self._deadline = now + EXPECT_FOR
            return
        size = parse_size(data)
        if size.fault is not None:
            if addr[0] != self._welcome[0]:
                raise RemoteProtocolError(reason="a SIZE that cannot be, from a stranger")
            self._fail(Failure.SIZE_REFUSED, size)
            return
        reports = self._asking.only_ours_asked if self._from_ours is None else self._from_ours
        self._from_ours = reports
        self._sharer = addr
        self._rows = RowReceiver(size, now, reports=reports)
        self._state = _State.RECEIVING
        self._deadline = now + SILENCE_MAX
        self._events.append(PictureAnnounced(self._rows))

    def _receive_from_sharer(self, rows: RowReceiver, data: bytes, now: float) -> None:
        if self._state is not _State.RECEIVING:
            if self._state is _State.LINGERING and len(data) in (3, 9):  # FIN or SIZE: a question
                self._complete_due = True
                self._deadline = min(now + LINGER_FOR, rows.last_new_row + NO_PROGRESS_MAX)
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

    def _close(self) -> None:
        self._state = _State.CLOSED
        self._events.append(RequestClosed())

    def _fail(self, failure: Failure, size: Size | None = None) -> None:
        if (rows := self._rows) is None:
            failed = RequestFailed(failure, size)
        else:
            failed = RequestFailed(failure, rows.size, rows.rows_received, tuple(rows.missing()))
        self._events.append(failed)
        self._close()
