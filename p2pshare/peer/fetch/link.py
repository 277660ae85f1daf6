"""One session at the requester, from its welcome to its end: words go to `ReceiverCore`, and credit goes out.

A sharer that gives signs of life, but for a long time no answer, is no better than one that is silent: then the session
is ended from here, and counts as broken. It gets more time where a file goes on, for the blocks that are here are those
that it reads, too, and says nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.core.receiver import ReceiverCore
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError, SessionLost, Unreachable
from p2pshare.peer.fetch.link_change import reason_of
from p2pshare.wire.message_fields import Message
from p2pshare.wire.session_messages import Credit
from p2pshare.wire.transfer_messages import DONE_MAX, Cancel, Cancelled, Done

SLOWEST_READ = 8 * 1024 * 1024  # bytes per second of blocks that a sharer reads, but does not send
LOOKS = 4  # times that it is looked after within the patience


class Link:
    """A session that is there; a `SessionUser`."""

    def __init__(
        self,
        reactor: IReactorTime,
        session: Session,
        core: ReceiverCore,
        on_end: Callable[[Link, P2pshareError | None], object],
        patience: float,
    ) -> None:
        """Args:
        reactor: for timers.
        session: that was welcomed.
        core: what is asked for over it.
        on_end: told when it is over, and why.
        patience: seconds for which an answer may be waited for without any other, but for what a file that goes
                on takes to be read.
        """
        self._reactor = reactor
        self._session = session
        self._on_end = on_end
        self._timer: IDelayedCall | None = None
        self._granting = True
        self._patience = patience
        self._watch: IDelayedCall | None = None
        self._seen = -1  # of `core.progress`, when there was something new last
        self._seen_at = 0.0
        self.core = core
        self.ended_by: P2pshareError | None = None
        """Why it is over, once it is."""
        self.over: Deferred[None] = Deferred()
        """Called back once it is over."""
        core.on_release = self._grant

    def begin(self) -> None:
        """Take what has come already, and all that comes."""
        self._look()
        self._session.begin(self)
        self._grant()

    def send(self, message: Message) -> None:
        """Say something."""
        self._session.send(message)

    def cancel(self, number: int, why: Cancelled) -> None:
        """Want nothing more of a transfer, which may be over but for `done`."""
        self.core.forget(number)
        if self.core.is_own(number):
            self._session.send(Cancel(number, why))

    def done(self, numbers: Iterable[int]) -> None:
        """Tell of files that are there under their names; those of an earlier session are left out."""
        own = [number for number in numbers if self.core.is_own(number)]
        for first in range(0, len(own), DONE_MAX):
            self._session.send(Done(tuple(own[first : first + DONE_MAX])))

    def close(self) -> None:
        """End it."""
        self._stop_timer()
        self._session.close()

    def message_received(self, message: Message) -> None:
        """Take a word."""
        unwanted = self.core.message_received(message)
        if unwanted is not None:
            self._session.send(Cancel(unwanted, Cancelled.BY_USER))

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Take bytes of a file."""
        self.core.data_received(transfer, offset, data)
        if self.core.crediting.limited:  # else what comes makes no credit; what leaves does
            self._grant()

    def room_again(self) -> None:
        """There is no data to send on this side."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """It is over."""
        self._stop_timer()
        if self.ended_by is None:
            self.ended_by = reason or Unreachable(reason=reason_of(None))
            self.over.callback(None)
            self._on_end(self, reason)

    def _grant(self) -> None:
        if not self._granting:
            return
        crediting = self.core.crediting
        now = self._reactor.seconds() if crediting.limited else 0.0
        amount = crediting.due(now)
        if amount is not None:
            self._session.send(Credit(amount))
        if crediting.limited and self._timer is None:
            at = crediting.get_timer(now)
            if at is not None:
                self._timer = self._reactor.callLater(max(0.0, at - now), self._time_passed)

    def _look(self) -> None:
        """See whether anything has come, where it may: without credit it is this side that lets the other wait."""
        now, seen = self._reactor.seconds(), self.core.progress
        may_come = self.core.busy and self.core.crediting.outstanding > 0
        if seen != self._seen or not may_come:
            self._seen, self._seen_at = seen, now
        elif (waited := now - self._seen_at) >= (self._patience + self.core.skipped / SLOWEST_READ):
            self._watch = None
            why = f"it has sent nothing for {waited:.0f} s"
            self._session.abort()
            self.session_ended(SessionLost(name=self._session.name, reason=why))
            return
        self._watch = self._reactor.callLater(self._patience / LOOKS, self._look)

    def _time_passed(self) -> None:
        self._timer = None
        self._grant()

    def _stop_timer(self) -> None:
        self._granting = False
        timers = self._timer, self._watch
        self._timer = self._watch = None
        for timer in timers:
            if timer is not None and timer.active():
                timer.cancel()
