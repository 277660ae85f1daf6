"""One session at the requester, from its welcome to its end: passes messages to `ReceiverCore` and grants credit.

A peer that answers pings but sends no answer for a long time is as useless as a silent one. The link then ends the
session and reports it as lost. The limit grows with the blocks that are already here: the sharer reads them too, to
compute the digest of the whole file, and sends nothing meanwhile.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.core.ranges import Range
from p2pshare.core.receiver import ReceiverCore
from p2pshare.core.session_interface import Session, SessionPath
from p2pshare.core.session_parts import NoOffers, NothingShared, OffersPart, SessionParts
from p2pshare.errors import P2pshareError, SessionLost, Unreachable
from p2pshare.peer.fetch.link_change import reason_of
from p2pshare.wire.session_messages import Credit, Message
from p2pshare.wire.transfer_messages import DONE_MAX, Cancel, Cancelled, Done

SLOWEST_READ = 8 * 1024 * 1024  # bytes per second that a sharer reads of blocks it does not send
LOOKS = 4  # checks for progress within `patience`
CREDIT_WAIT_MIN = 0.001  # seconds; rounding may ask for less than a clock can tell


class LinkStage(enum.Enum):
    """The life of a link."""

    OPEN = "open"
    CLOSING = "closing"
    """This side has ended the session; the carrier may not have heard it yet."""
    OVER = "over"


_NEXT = {
    LinkStage.OPEN: {LinkStage.CLOSING, LinkStage.OVER},
    LinkStage.CLOSING: {LinkStage.OVER},
    LinkStage.OVER: set[LinkStage](),
}
"""The stages that may follow each stage. A move to any other one is ignored."""


class Link:
    """The requesting part of a welcomed session."""

    def __init__(
        self,
        reactor: IReactorTime,
        session: Session,
        core: ReceiverCore,
        on_end: Callable[[Link, P2pshareError | None], object],
        patience: float,
        offers: Callable[[Session], OffersPart] = NoOffers,
    ) -> None:
        """Args:
        reactor: for timers.
        session: the welcomed session.
        core: the requests of this session.
        on_end: called once when the session is over, with the error that ended it.
        patience: seconds without any answer after which the session counts as lost.
        offers: returns the part of the session for offers.
        """
        self._reactor = reactor
        self._session = session
        self._on_end = on_end
        self._patience = patience
        self._offers = offers
        self._stage = LinkStage.OPEN
        self._credit_timer: IDelayedCall | None = None
        self._progress_timer: IDelayedCall | None = None
        self._progress = -1  # `core.progress` when it last changed
        self._progress_at = 0.0
        self.core = core
        self.ended_by: P2pshareError | None = None
        """The reason for the end, once it is over."""
        self.over: Deferred[None] = Deferred()
        """Fires when it is over."""
        core.on_release = self._grant

    @property
    def path(self) -> SessionPath:
        """The way that the session takes now."""
        return self._session.path

    def begin(self) -> None:
        """Begin the session, over which nothing is shared. What has arrived already is received, too."""
        self.join()
        session = self._session
        session.begin(SessionParts(NothingShared(session), self._offers(session), self))

    def join(self) -> None:
        """Begin as the requesting part of a session that has begun."""
        self._check_progress()
        self._grant()

    def send(self, message: Message) -> None:
        """Send a message."""
        self._session.send(message)

    def cancel(self, number: int, why: Cancelled) -> None:
        """Give up a transfer of this session; it may have ended, as long as `done` was not sent for it."""
        self.core.forget(number)
        if self.core.is_own(number):
            self._session.send(Cancel(number, why))

    def done(self, numbers: Iterable[int]) -> None:
        """Report transfers whose files are saved; numbers of earlier sessions are left out."""
        own = [number for number in numbers if self.core.is_own(number)]
        for first in range(0, len(own), DONE_MAX):
            self._session.send(Done(tuple(own[first : first + DONE_MAX])))

    def close(self) -> None:
        """End the session."""
        if self._move(LinkStage.CLOSING):
            self._session.close()

    def message_received(self, message: Message) -> None:
        """Pass a message to the core."""
        unwanted = self.core.message_received(message)
        if unwanted is not None:
            self._session.send(Cancel(unwanted, Cancelled.BY_USER))

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Pass bytes of a file to the core."""
        self.core.data_received(transfer, offset, data)
        if self.core.crediting.limited:  # without a rate limit, only released memory makes credit
            self._grant()

    def size_received(self, transfer: int, size: int) -> None:
        """Pass the size of a file to the core."""
        self.core.size_received(transfer, size)

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """Name what is missing."""
        return self.core.missing(transfer)

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Report the end once."""
        if self._move(LinkStage.OVER):
            self.ended_by = reason or Unreachable(reason=reason_of(None))
            self.over.callback(None)
            self._on_end(self, reason)

    def _move(self, stage: LinkStage) -> bool:
        """Change the stage if the table allows it, and stop the timers; whether it did."""
        if stage not in _NEXT[self._stage]:
            return False
        self._stage = stage
        timers = self._credit_timer, self._progress_timer
        self._credit_timer = self._progress_timer = None
        for timer in timers:
            if timer is not None and timer.active():
                timer.cancel()
        return True

    def _grant(self) -> None:
        if self._stage is not LinkStage.OPEN:
            return
        crediting = self.core.crediting
        now = self._reactor.seconds() if crediting.limited else 0.0
        amount = crediting.due(now)
        if amount is not None:
            self._session.send(Credit(amount))
        if crediting.limited and self._credit_timer is None:
            at = crediting.get_timer(now)
            if at is not None:
                delay = max(CREDIT_WAIT_MIN, at - now)
                self._credit_timer = self._reactor.callLater(delay, self._credit_due)

    def _credit_due(self) -> None:
        self._credit_timer = None
        self._grant()

    def _check_progress(self) -> None:
        """End the session if nothing has arrived for too long although the peer had credit to send."""
        now, progress = self._reactor.seconds(), self.core.progress
        if progress != self._progress or not self.core.is_awaiting:
            self._progress, self._progress_at = progress, now
        waited = now - self._progress_at
        if waited >= self._patience + self.core.skipped / SLOWEST_READ:
            self._session.abort()
            reason = f"it has sent nothing for {waited:.0f} s"
            self.session_ended(SessionLost(name=self._session.name, reason=reason))
        else:
            delay = self._patience / LOOKS
            self._progress_timer = self._reactor.callLater(delay, self._check_progress)
