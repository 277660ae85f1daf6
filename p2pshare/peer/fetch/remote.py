"""Another peer, over a session that is reopened when it breaks or falls silent.

The state of the connection is a `LinkState`; `_TRANSITIONS` lists what may happen in each, and only `_move` changes it.
An event that the table does not list is ignored: a session may be lost, or a try may fail, after `close`.

`_connect` runs while the state is `CONNECTING` or `BROKEN`, that is, from the first caller of `ready` until there is a
session or no more hope for one. A lost session is not reopened before somebody needs it. The requests of a lost session
end with `interrupted`, and their owners decide whether to repeat them.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.back_off import LimitedBackOff
from p2pshare.core.credit import CREDIT_WINDOW, LIMITED_STEP_MIN, CreditControl
from p2pshare.core.in_flight import InFlight
from p2pshare.core.incoming_transfer import BlockBuffers, Receiver
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import ReceiverCore
from p2pshare.core.session_interface import Session
from p2pshare.core.session_parts import NoOffers, OffersPart
from p2pshare.errors import (
    AcceptanceAwaited,
    KeyChanged,
    LinkClosed,
    LinkGivenUp,
    LocalProtocolError,
    NoSessionThere,
    P2pshareError,
    RemoteProtocolError,
    SessionLost,
    SessionPostponed,
    Unreachable,
)
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.first_file import FirstFile
from p2pshare.peer.fetch.link import Link
from p2pshare.peer.fetch.link_change import LinkChange, LinkState, reason_of
from p2pshare.peer.fetch.path_upgrade import PathUpgrade
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.peer.find.target import Target
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import PAGE_MAX, Cancelled, Fault, Get, Job, Listing, Runs

SILENCE = 8.0  # seconds without a message after which a session counts as broken
PATIENCE = 120.0  # seconds without any progress after which the peer is given up
FIRST_TRIES = 4  # tries for a first session that breaks while it is opened, as on a crowded peer
FIRST_PATIENCE = 8.0  # seconds after which none of these tries starts
FAREWELL = 1.0  # seconds to wait for the end of a closed session
RETRY_FIRST, RETRY_MAX = 0.3, 25.0  # seconds until the next try, before jitter
RETRY_AWAY_MAX = (
    4.0  # seconds, unless the peer asked for more: so soon is a network used that has returned
)
ACCEPT_PATIENCE = 600.0  # seconds in which the peer's owner may accept this user's key
BUSY_TRIES = 4  # requests for a page of a listing from a busy peer

Find = Callable[[], Awaitable[Target]]
"""Returns how to reach the peer, and the key that it must have."""


class SessionOpener(Protocol):
    """Opens sessions: a `Dialler`."""

    async def open(
        self, target: Target, *, credit: int, early: Sequence[Message], silence: float
    ) -> Session:
        """Open a session; the arguments are as in `WantedSession`."""

    async def open_direct(self, target: Target, *, credit: int, silence: float) -> Session:
        """Open a session that does not go through a relay."""


class LinkEvent(enum.Enum):
    """Something that may change the state of the connection."""

    TRY = "a session is being opened"
    PAUSE = "a try has failed, and another follows after a pause"
    OPENED = "a session is open"
    GIVEN_UP = "no session can be opened now; the next caller may try again"
    LOST = "the session is lost"
    CLOSED = "close was called, or the peer broke the protocol"


_TRANSITIONS: dict[LinkState, dict[LinkEvent, LinkState]] = {
    LinkState.IDLE: {
        LinkEvent.TRY: LinkState.CONNECTING,
        LinkEvent.PAUSE: LinkState.BROKEN,
        LinkEvent.CLOSED: LinkState.CLOSED,
    },
    LinkState.CONNECTING: {
        LinkEvent.OPENED: LinkState.UP,
        LinkEvent.PAUSE: LinkState.BROKEN,
        LinkEvent.GIVEN_UP: LinkState.IDLE,
        LinkEvent.CLOSED: LinkState.CLOSED,
    },
    LinkState.BROKEN: {
        LinkEvent.TRY: LinkState.CONNECTING,
        LinkEvent.GIVEN_UP: LinkState.IDLE,
        LinkEvent.CLOSED: LinkState.CLOSED,
    },
    LinkState.UP: {LinkEvent.LOST: LinkState.IDLE, LinkEvent.CLOSED: LinkState.CLOSED},
    LinkState.CLOSED: {},
}


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """The bounds of a connection to a peer."""

    silence: float = SILENCE
    """Seconds without a message after which a session counts as broken."""
    patience: float = PATIENCE
    """Seconds without any progress after which the peer is given up."""
    rate: float | RateLimit | None = None
    """Bytes of files per second, or a limit that several peers share; None for no limit."""
    acceptance: float = ACCEPT_PATIENCE
    """Seconds in which the peer's owner may accept this user's key."""
    window: int = CREDIT_WINDOW
    """Bytes of files that may be in flight or in memory."""


@dataclass(frozen=True, slots=True)
class _PageRequest:
    """A request for a page of a folder; a `Lister`."""

    answer: Deferred[Listing | Fault | None]

    def listed(self, listing: Listing) -> None:
        self.answer.callback(listing)

    def failed(self, why: Fault) -> None:
        self.answer.callback(why)

    def interrupted(self) -> None:
        self.answer.callback(None)


class RemotePeer:
    """Another peer. The session is opened at first use, and reopened with back-off if it is lost while in use."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        name: str,
        find: Find,
        opener: SessionOpener,
        limits: LinkLimits = LinkLimits(),
        *,
        on_link: Callable[[LinkChange], object] = lambda _: None,
        offers: Callable[[Session], OffersPart] = NoOffers,
    ) -> None:
        """Args:
        reactor: for sessions and timers.
        rng: source of jitter.
        name: the peer's name.
        find: returns how to reach the peer; called before each try.
        opener: opens sessions.
        limits: time and rate limits.
        on_link: called when the session breaks, is tried again and is up.
        offers: returns the part of a session for offers.
        """
        self.reactor = reactor
        self.name = name
        self.in_flight = InFlight()
        """Limits on requested files, shared by all jobs with this peer."""
        self.on_room: set[Callable[[], object]] = set()
        """Called when more files may be requested; one for each job with this peer."""
        self.on_up: set[Callable[[], object]] = set()
        """Called when a session opens, before anybody who waited for it sends a request."""
        self._find = find
        self._opener = opener
        self._limits = limits
        self._on_link = on_link
        self._offers = offers
        rate, now = limits.rate, reactor.seconds()
        if not isinstance(rate, RateLimit):
            rate = RateLimit(rate, now, burst_min=LIMITED_STEP_MIN)
        self._rate = rate
        self._back_off = LimitedBackOff(RETRY_FIRST, RETRY_MAX, rng, limits.patience)
        self._buffers = BlockBuffers()
        self._next_id = 1
        self._awaiting_since: float | None = None  # when first the owner had not accepted this key
        self._target: Target | None = None  # of the latest look-up
        self._state = LinkState.IDLE
        self._link: Link | None = None  # while the state is `UP`
        self._has_been_up = False
        self._lost_by: P2pshareError | None = None  # the loss that interrupted requests
        self._connecting: Deferred[None] | None = None
        self._waiting: set[Deferred[None]] = set()
        self._closed_by: P2pshareError | None = None  # once the state is `CLOSED`
        self._first: FirstFile | None = None  # with which the next session begins
        self._upgrade = PathUpgrade(reactor, self._open_direct, self._use_direct)

    @property
    def key(self) -> PublicKey:
        """The peer's key; known once there has been a session."""
        assert self._target is not None
        return self._target.key

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of fetching from now on, also over a session that is open; None is no limit."""
        self._rate.change(bytes_per_second, self.reactor.seconds())

    @property
    def is_up(self) -> bool:
        """Whether there is a session now."""
        return self._link is not None

    @property
    def has_ended(self) -> bool:
        """Whether there will be no session any more: after `close`, or because the peer broke the protocol."""
        return self._closed_by is not None

    def begin_with(self, first: FirstFile) -> bool:
        """Let the next session begin with a request; False if there is a session, or other files are waited for.

        What it brings holds credit until it is taken over, so nothing else may be in flight.
        """
        if self._state is not LinkState.IDLE or self._first is not None or self.on_room:
            return False
        self._first = first
        return True

    async def ready(self) -> None:
        """Return as soon as there is a session.

        Raises:
            P2pshareError: none can be opened. The first time it is an error of `open_session` or `find`, later a
                `LinkGivenUp`.
        """
        while self._link is None:
            if self._closed_by is not None:
                raise self._closed_by
            waiting: Deferred[None] = Deferred()
            self._waiting.add(waiting)
            if self._state is LinkState.IDLE:
                self._start_connecting()
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)

    async def list(
        self,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        *,
        recursive: bool = False,
    ) -> Listing:
        """Request a page of a folder.

        Raises:
            RemoteNotFound: the folder does not exist, or not for this user.
            RemoteIsFile: the path is a file.
            RemoteUnreadable: the peer cannot read it.
            RemoteBusy: the peer has too much to do.
            P2pshareError: there is no session, as in `ready`.
        """
        tries = 0
        while True:
            await self.ready()
            answer = await self._page(path, after, limit, recursive)
            if isinstance(answer, Listing):
                return answer
            if answer is None:
                continue
            tries += 1
            if answer is not Fault.BUSY or tries == BUSY_TRIES:
                raise error_of(answer, self.name, path)
            await deferLater(self.reactor, tries)

    async def close(self) -> None:
        """End the session, and let all who wait for it fail. Return when the peer has heard it, or after `FAREWELL`."""
        link = self._link
        self._move(LinkEvent.CLOSED, LinkClosed(name=self.name))
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if link is not None:
            link.close()
            link.core.interrupt()
        self._wake(self._closed_by)
        if link is not None:  # a process that exits now would lose the last messages
            await link.over.addTimeout(FAREWELL, self.reactor, lambda *_: None)

    def get(
        self,
        receiver: Receiver,
        path: RemotePath,
        version: str = "",
        want: Runs | None = None,
        most: int | None = None,
        preview: int = 0,
        root: bool = True,
    ) -> int:
        """Request a file as `ReceiverCore.get` does, while the session `is_up`; return the number of the transfer."""
        assert self._link is not None
        request = self._link.core.get(
            receiver, path, version, want, most=most, preview=preview, root=root
        )
        self._link.send(request)
        return request.id

    def cancel(self, number: int, why: Cancelled) -> None:
        """Give up a transfer that has neither failed nor been reported as done."""
        if self._link is not None:
            self._link.cancel(number, why)

    def done(self, numbers: Iterable[int]) -> None:
        """Report transfers whose files are saved."""
        if self._link is not None:
            self._link.done(numbers)

    def tell_job(self, job: Job) -> None:
        """Tell the peer how much of a job is still to come."""
        if self._link is not None:
            self._link.send(job)

    def arriving(self, number: int) -> int:
        """Return the bytes of a transfer that have arrived in incomplete blocks."""
        return 0 if self._link is None else self._link.core.filled(number)

    def room_freed(self) -> None:
        """Let all jobs with this peer request more."""
        for call in tuple(self.on_room):
            call()

    async def _page(
        self, path: RemotePath, after: RemotePath, limit: int, recursive: bool
    ) -> Listing | Fault | None:
        link = self._link
        assert link is not None
        answer: Deferred[Listing | Fault | None] = Deferred()
        request = link.core.list(_PageRequest(answer), path, after, limit, recursive)
        link.send(request)
        began, outcome = self.reactor.seconds(), "cancelled"
        try:
            listing = await answer
            outcome = _outcome(listing)
            return listing
        finally:
            self._log.debug(
                "listing: peer={peer} path={path!r} after={after!r} s={s:.3f} outcome={outcome}",
                peer=self.name,
                path=format_path(path),
                after=format_path(after),
                s=self.reactor.seconds() - began,
                outcome=outcome,
            )
            link.core.forget(request.id)

    def _move(self, event: LinkEvent, why: P2pshareError | None = None) -> bool:
        """Change the state as the table says, together with all that depends on it; whether the event was due."""
        state = _TRANSITIONS[self._state].get(event)
        if state is None:
            return False
        self._state = state
        if state is not LinkState.UP and self._link is not None:
            self._next_id = self._link.core.next_id
            self._link = None
            self._upgrade.path_changed(None)
        if state is LinkState.CLOSED:
            self._closed_by = why
        return True

    def _start_connecting(self) -> None:
        connecting = Deferred.fromCoroutine(self._connect())
        connecting.addErrback(self._connecting_failed)
        if self._state in (LinkState.CONNECTING, LinkState.BROKEN):
            self._connecting = connecting

    async def _connect(self) -> None:
        """Open a session, and retry until patience is exhausted."""
        error, again = self._lost_by, self._lost_by is not None
        tries, try_until = 0, self.reactor.seconds() + FIRST_PATIENCE
        while True:
            if error is not None:
                await self._pause(error)
            self._move(LinkEvent.TRY)
            self._tell()
            try:
                link = await self._open()
            except P2pshareError as failed:
                tries += 1
                has_tries = tries < FIRST_TRIES and self.reactor.seconds() < try_until
                if not isinstance(failed, _worth_a_retry(again, has_tries)):
                    raise
                error = failed
                continue
            if not self._move(LinkEvent.OPENED):  # closed meanwhile
                link.close()
                assert self._closed_by is not None
                raise self._closed_by
            self._link, self._lost_by, self._awaiting_since = link, None, None
            link.begin()  # may deliver the end of the session at once
            if self.is_up:
                break
            if self._closed_by is not None:
                raise self._closed_by
            error, again = link.ended_by, True
        self._connecting = None
        self._tell()
        self._has_been_up = True
        self._opened()
        self._wake(None)

    def _opened(self) -> None:
        """Let jobs use the new session, and look for a better path if it is a relay's."""
        for call in tuple(self.on_up):
            call()
        if self._link is not None:
            self._upgrade.path_changed(self._link.path)

    async def _open_direct(self) -> tuple[Session, CreditControl]:
        assert self._target is not None
        crediting = CreditControl(self._rate, self.reactor.seconds(), self._limits.window)
        session = await self._opener.open_direct(
            self._target, credit=crediting.granted, silence=self._limits.silence
        )
        return session, crediting

    def _use_direct(self, found: tuple[Session, CreditControl]) -> None:
        """Move to a direct session. The requests of the old one are interrupted, so that their owners repeat what is
        not verified.
        """
        (session, crediting), old = found, self._link
        if old is None:
            session.close()
            return
        core = ReceiverCore(crediting, self._buffers, old.core.next_id)
        link = self._link = self._new_link(session, core)
        old.close()
        link.begin()  # may deliver the end of the session at once
        if self._link is link:
            self._tell(is_moved=True)
            self._opened()
        old.core.interrupt()

    async def _pause(self, error: P2pshareError) -> None:
        """Wait before the next try.

        Raises:
            LinkGivenUp: there has been no progress for too long after a session broke.
            P2pshareError: `error`, if there never was a session.
        """
        asked = error.fields.get("retry_after")
        at_least = float(asked) if isinstance(asked, int) else 0.0
        now = self.reactor.seconds()
        if isinstance(error, AcceptanceAwaited):
            if self._awaiting_since is None:
                self._awaiting_since = now
            is_patient = now < self._awaiting_since + self._limits.acceptance
            delay = min(at_least, RETRY_MAX) if is_patient else None
        else:
            self._awaiting_since = None
            delay = self._back_off.failed(now, at_least)
            if delay is not None and not at_least:
                delay = min(delay, RETRY_AWAY_MAX)
        if delay is None:
            if not self._has_been_up:
                raise error
            patience = round(self._limits.patience)
            raise LinkGivenUp(name=self.name, reason=reason_of(error), patience=patience)
        self._move(LinkEvent.PAUSE)
        self._tell(reason_of(error), delay)
        await deferLater(self.reactor, delay)

    async def _open(self) -> Link:
        known = self._target
        try:
            target = await self._find()
        except Unreachable:
            if known is None:
                raise
            # The registry is down: the peer may still be where it was.
            target = replace(known, is_remembered=True)
        if known is not None and target.key != known.key:
            raise KeyChanged(name=self.name, known=known.key.grouped, now=target.key.grouped)
        self._target = target
        crediting = CreditControl(self._rate, self.reactor.seconds(), self._limits.window)
        core = ReceiverCore(crediting, self._buffers, self._next_id)
        early = await self._early_requests(core, target.key)
        session = await self._opener.open(
            target, credit=crediting.granted, early=early, silence=self._limits.silence
        )
        first, self._first = self._first, None
        link = self._new_link(session, core)
        if first is not None and first.is_dropped:  # after it was requested
            for request in early:
                link.cancel(request.id, Cancelled.BY_USER)
        return link

    def _new_link(self, session: Session, core: ReceiverCore) -> Link:
        return Link(
            self.reactor, session, core, self._lost, self._limits.patience, offers=self._offers
        )

    async def _early_requests(self, core: ReceiverCore, key: PublicKey) -> Sequence[Get]:
        """Return the requests with which a session begins; none is lost if it is not welcomed."""
        first = self._first
        if first is None:
            return ()
        if first.is_dropped or not await first.is_wanted(key):
            self._first = None
            first.not_requested()
            return ()
        request = core.get(first, first.path)
        first.number = request.id
        return (request,)

    def _lost(self, link: Link, reason: P2pshareError | None) -> None:
        """Handle the end of the session; interrupted requests may want another one."""
        if link is not self._link:
            return
        core = link.core
        self._log.debug(
            "session lost: peer={peer} is_busy={busy} why={why!r}",
            peer=self.name,
            busy=core.busy,
            why=str(link.ended_by),
        )
        if isinstance(reason, RemoteProtocolError):
            self._move(LinkEvent.CLOSED, reason)
        else:
            self._move(LinkEvent.LOST)
            if core.busy or self.on_room:
                self._lost_by = link.ended_by
        if core.achieved:
            self._back_off.reset()
        core.interrupt()

    def _connecting_failed(self, failure: Failure) -> None:
        """Fail all who wait for a session; the next caller may try again."""
        self._connecting = self._lost_by = None
        self._back_off.reset()
        self._move(LinkEvent.GIVEN_UP)
        if self._closed_by is None:
            error = failure.value
            if not isinstance(error, P2pshareError | CancelledError):
                self._log.failure("session not opened: peer={peer}", failure, peer=self.name)
                error = LocalProtocolError(reason=f"{type(error).__name__}: {error}")
            self._wake(error)

    def _wake(self, error: BaseException | None) -> None:
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            if error is None:
                each.callback(None)
            else:
                each.errback(error)

    def _tell(self, reason: str = "", retry_in: float = 0.0, *, is_moved: bool = False) -> None:
        """Report the state to the user interface and the log."""
        self._log.debug(
            "link: peer={peer} state={state} retry_in_s={retry_in:.1f} why={why!r}",
            peer=self.name,
            state=self._state.name,
            retry_in=retry_in,
            why=reason,
        )
        path = None if self._link is None else self._link.path
        awaits = self._awaiting_since is not None
        change = LinkChange(
            self._state, self.name, reason, retry_in, self._has_been_up, path, is_moved, awaits
        )
        self._on_link(change)


def _outcome(answer: Listing | Fault | None) -> str:
    """Return the outcome of a request for a page, for the log."""
    if isinstance(answer, Listing):
        return f"{len(answer.entries)} entries"
    return "interrupted" if answer is None else answer.value


def _worth_a_retry(again: bool, has_tries: bool) -> tuple[type[P2pshareError], ...]:
    """Return the errors after which a session is tried again; fewer before there has been one."""
    if again:
        return (Unreachable,)
    return (SessionPostponed, SessionLost, NoSessionThere) if has_tries else (SessionPostponed,)
