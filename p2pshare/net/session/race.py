"""Opens one session by several attempts side by side: the first that is welcomed is used, and the others are ended.

Which error is raised if all fail? A peer that has proved its key and refuses says more than a port that is closed. So a
refusal ends the race at once, and of the other errors the one with the highest rank in `_RANKS` is raised.

One attempt greets at a time: the requests that go out with a greeting would otherwise be served twice. The first one
whose handshake is done greets at once. The next one greets if that attempt fails, or has no answer after `TURN`.

UDP has no sign for a closed port. A TCP attempt that is refused shows that the machine is there, and how far away.
Other attempts at the same place then get `GRACE_MIN` and `GRACE_TIMES` that time to have at least an answer. Without
this, a peer that is offline would be noticed only after the whole timeout. A refusal says nothing about other places.

Attempts begin one after another (`start`). If one fails, the next one begins without delay (RFC 8305, section 5).
Attempts may also enter while the race runs: a call to the peer leads to some.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    NoAnswerOverUdp,
    NoSessionThere,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    SessionLost,
    SessionPostponed,
    SessionRefused,
    SignalNotAccepted,
    VersionRefused,
)

TURN = 1.0  # seconds for the answer to a greeting until the next attempt greets, too
GRACE_MIN = 0.5  # seconds that an attempt without an answer gets after another one has failed
GRACE_TIMES = 3.0  # times as long as the failed attempt has taken, besides

_ANSWERS = (SessionRefused, SessionPostponed, VersionRefused)
"""Errors that the peer itself has sent: another way to it would lead to the same."""

_RANKS: tuple[type[P2pshareError], ...] = (
    NoAnswerOverUdp,
    PeerUnreachable,
    SignalNotAccepted,
    NoSessionThere,
    SessionLost,
    OtherKeyThere,
)
"""Errors by how much they say, the least first."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One way to open the session."""

    opening: Deferred[Session]
    """Cancelling it ends the attempt."""
    has_answer: Callable[[], bool] = lambda: True
    """Whether anything came from the other end; only without an answer an attempt is given up early."""
    place: str = ""
    """The machine that is tried, such as its IP address."""
    began: Callable[[], float | None] = lambda: None
    """Seconds of the clock when it began; None: with the race."""
    has_turn: Callable[[], bool] = lambda: True
    """Whether it has had its turn to greet, so that its failure is the turn of the next one."""


@dataclass(slots=True, eq=False)
class _Start:
    """An attempt that waits for its time."""

    waiting: Deferred[None]
    timer: IDelayedCall
    is_last: bool


class Race:
    """The attempts to open one session."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._began = clock.seconds()
        self._running: list[Attempt] = []
        self._is_awaited = False
        self._error: P2pshareError | None = None
        self._graces: dict[str, IDelayedCall] = {}  # by place
        self._starts: list[_Start] = []
        self._turns: deque[Deferred[None]] = deque()  # attempts that want to greet
        self._next_turn: IDelayedCall | None = (
            None  # while an attempt waits for the answer to its greeting
        )
        self._is_over = False
        self._done: Deferred[Session] = Deferred(lambda _: self._end())

    @property
    def running(self) -> int:
        """The number of attempts that have not failed."""
        return len(self._running)

    def is_answered(self, place_not: str) -> bool:
        """Whether anything came from the other end of an attempt, except at one place."""
        return any(each.place != place_not and each.has_answer() for each in self._running)

    def start(self, delay: float, *, is_last: bool = False) -> Deferred[None]:
        """Fire in `delay` seconds, or before if it is the next one and another attempt fails. May be cancelled.

        If it `is_last`, a failure starts all others before it.
        """
        start: _Start

        def cancelled(_: Deferred[None]) -> None:
            self._starts.remove(start)
            start.timer.cancel()

        waiting: Deferred[None] = Deferred(cancelled)
        start = _Start(waiting, self._clock.callLater(delay, lambda: self._begin(start)), is_last)
        self._starts.append(start)
        return waiting

    def turn(self) -> Deferred[None]:
        """Fire when an attempt whose handshake is done may greet; never if the race ends before."""
        waiting: Deferred[None] = Deferred()
        self._turns.append(waiting)
        if self._next_turn is None:
            self._give_turn()
        return waiting

    def enter(self, attempt: Attempt) -> None:
        """Add an attempt that has begun, or is about to. If the race is over, it is ended."""
        if self._is_over:
            attempt.opening.addCallbacks(lambda session: session.close(), _expected)
            attempt.opening.cancel()
            return
        self._running.append(attempt)
        if self._is_awaited:
            self._watch(attempt)

    async def winner(self) -> Session:
        """Return the session that is welcomed first. Call it once, after the first attempts have entered.

        Raises:
            P2pshareError: all attempts have failed, or the peer refuses the session.
        """
        self._is_awaited = True
        for attempt in tuple(self._running):
            self._watch(attempt)
        return await self._done

    def _watch(self, attempt: Attempt) -> None:
        attempt.opening.addCallbacks(
            self._won, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,)
        )

    def _won(self, session: Session, attempt: Attempt) -> None:
        if self._is_over:  # another one was welcomed in the same turn
            session.close()
            return
        self._running.remove(attempt)
        self._end()
        self._done.callback(session)

    def _failed(self, failure: Failure, attempt: Attempt) -> None:
        if self._is_over:
            _expected(failure)
            return
        self._running.remove(attempt)
        error = failure.value
        if not isinstance(error, P2pshareError | CancelledError):
            self._end()
            self._done.errback(failure)
            return
        if isinstance(error, P2pshareError):
            self._error = max((self._error or error, error), key=_rank)
        if not self._running or isinstance(error, _ANSWERS):
            self._end()
            self._done.errback(self._error or error)
            return
        if attempt.has_turn():
            self._give_turn()
        if attempt.place not in self._graces:
            began = attempt.began()
            waited = self._clock.seconds() - (self._began if began is None else began)
            grace, place = GRACE_MIN + GRACE_TIMES * waited, attempt.place
            self._graces[place] = self._clock.callLater(grace, self._grace_is_over, place)
        if self._starts:
            self._begin(min(self._starts, key=lambda start: (start.is_last, start.timer.getTime())))

    def _begin(self, start: _Start) -> None:
        """Let an attempt begin."""
        self._starts.remove(start)
        if start.timer.active():
            start.timer.cancel()
        start.waiting.callback(None)

    def _give_turn(self) -> None:
        """Let the next attempt greet, if there is one."""
        pending, self._next_turn = self._next_turn, None
        if pending is not None and pending.active():
            pending.cancel()
        if self._turns and not self._is_over:
            self._next_turn = self._clock.callLater(TURN, self._give_turn)
            self._turns.popleft().callback(None)

    def _grace_is_over(self, place: str) -> None:
        for attempt in tuple(self._running):
            if attempt.place == place and not attempt.has_answer():
                attempt.opening.cancel()

    def _end(self) -> None:
        """End all attempts that still run."""
        self._is_over = True
        for timer in (*self._graces.values(), self._next_turn):
            if timer is not None and timer.active():
                timer.cancel()
        self._graces.clear()
        self._next_turn = None
        running, self._running = self._running, []
        for attempt in running:
            attempt.opening.cancel()


def _expected(failure: Failure) -> None:
    """Ignore the error of an attempt that was ended."""
    failure.trap(P2pshareError, CancelledError)


def _rank(error: P2pshareError) -> int:
    if isinstance(error, _ANSWERS):
        return len(_RANKS)
    return next((rank for rank, kind in enumerate(_RANKS) if isinstance(error, kind)), -1)
