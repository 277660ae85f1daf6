"""One other peer, over a session that is opened again when it breaks or falls silent."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.back_off import LimitedBackOff
from p2pshare.core.block_buffers import BlockBuffers
from p2pshare.core.credit import CREDIT_WINDOW, LIMITED_STEP_MIN, CreditControl
from p2pshare.core.in_flight import InFlight
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import Receiver, ReceiverCore, Runs
from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    KeyChanged,
    LinkClosed,
    LinkGivenUp,
    LocalProtocolError,
    NoSessionThere,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    RemoteProtocolError,
    SessionLost,
    SessionPostponed,
    Unreachable,
)
from p2pshare.net.session.dialling import open_session
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.link import Link
from p2pshare.peer.fetch.link_change import LinkChange, LinkState, reason_of
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import (
    PAGE_MAX,
    Cancelled,
    Fault,
    Job,
    Listing,
)

__all__ = ["PATIENCE", "SILENCE", "Find", "LinkChange", "LinkState", "RemotePeer"]

SILENCE = 15.0  # seconds without a word after which a session counts as broken
PATIENCE = 120.0  # seconds without any progress after which there are no more tries
FIRST_TRIES = (
    4  # times that the first session is tried where a connection breaks, as it does in a crowd
)
FIRST_PATIENCE = 8.0  # seconds after which there is no other of these tries
FAREWELL = 1.0  # seconds for the last words
RETRY_FIRST, RETRY_MAX = 0.3, 25.0  # seconds until the next try, before jitter
BUSY_TRIES = 4  # times that a listing is asked for of a peer that has too much to do

Find = Callable[[], Awaitable[tuple[Sequence[PeerAddress], PublicKey]]]
"""Where the peer may be, the likeliest address first, and which key it must have."""

NOT_AT_ADDRESS = (PeerUnreachable, NoSessionThere, OtherKeyThere)
"""Errors of one address, after which the next one is tried."""

Open = Callable[..., Awaitable[Session]]
"""What opens a session, as `open_session` does."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of a folder that was asked for."""

    answer: Deferred[Listing | Fault | None]

    def listed(self, listing: Listing) -> None:
        self.answer.callback(listing)

    def failed(self, why: Fault) -> None:
        self.answer.callback(why)

    def interrupted(self) -> None:
        self.answer.callback(None)


class RemotePeer:
    """One peer. The session to it is opened at first use, and again, with back-off, when it was lost."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        key: SigningKey,
        name: str,
        find: Find,
        *,
        silence: float = SILENCE,
        patience: float = PATIENCE,
        limit: float | None = None,
        window: int = CREDIT_WINDOW,
        on_link: Callable[[LinkChange], object] = lambda _: None,
        open: Open = open_session,
    ) -> None:
        """Args:
        reactor: for sessions and timers.
        rng: source of jitter.
        key: this side's.
        name: the peer's.
        find: is asked for its addresses before each try.
        silence: seconds without a word after which a session counts as broken.
        patience: seconds without any progress after which there are no more tries.
        limit: bytes of files that may come in a second.
        window: bytes of files that may be on their way or in memory at once.
        on_link: told whenever the session breaks, is tried again and is back.
        open: opens sessions.
        """
        self.reactor = reactor
        self.name = name
        self.in_flight = InFlight()
        """What may be asked for; for all who fetch from this peer."""
        self.on_room: set[Callable[[], object]] = set()
        """Called when there is room in `in_flight` again."""
        self.on_up: set[Callable[[], object]] = set()
        """Called when there is a new session, before those who waited for it ask for anything."""
        self._key = key
        self._find = find
        self._silence = silence
        self._window = window
        self._on_link = on_link
        self._open_session = open
        self._limit = RateLimit(limit, reactor.seconds(), burst_min=LIMITED_STEP_MIN)
        self._back_off = LimitedBackOff(RETRY_FIRST, RETRY_MAX, rng, patience)
        self._buffers = BlockBuffers()
        self._next_id = 1
        self._addresses: Sequence[PeerAddress] = ()
        self._remote_key: PublicKey | None = None
        self._link: Link | None = None
        self._been_up = False
        self._broken: P2pshareError | None = None  # why what was going on was interrupted
        self._is_connecting = False
        self._connecting: Deferred[None] | None = None
        self._waiting: set[Deferred[None]] = set()
        self._end: P2pshareError | None = None  # why there will be no session any more

    @property
    def key(self) -> PublicKey:
        """The peer's, once there has been a session."""
        assert self._remote_key is not None
        return self._remote_key

    @property
    def is_up(self) -> bool:
        """Whether there is a session just now."""
        return self._link is not None

    async def ready(self) -> None:
        """Return as soon as there is a session.

        Raises:
            P2pshareError: there is none to be had: at first by whatever `open_session` and `find` raise, later by
                `LinkGivenUp`.
        """
        while self._link is None:
            if self._end is not None:
                raise self._end
            waiting: Deferred[None] = Deferred()
            self._waiting.add(waiting)
            self._begin_connecting()
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
        """Ask for a page of a folder.

        Raises:
            RemoteNotFound: there is none, or none for who asks.
            RemoteIsFile: it is a file.
            RemoteUnreadable: the peer cannot read it.
            RemoteBusy: it has too much to do.
            P2pshareError: there is no session to be had, by what `ready` raises.
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
        """End the session; whatever still waits for it fails. Returns once the peer has heard, or had the time to."""
        if self._end is None:
            self._end = LinkClosed(name=self.name)
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.close()
            self._keep_number(link)
            link.core.interrupt()
        self._wake(self._end)
        if link is not None:  # a program that ended now would take its last words along
            await link.over.addTimeout(FAREWELL, self.reactor, lambda *_: None)

    def get(
        self,
        receiver: Receiver,
        path: RemotePath,
        version: str = "",
        have: Runs = (),
        most: int | None = None,
    ) -> int:
        """Ask for a file, as `ReceiverCore.get` does, while the session `is_up`; the transfer's number."""
        assert self._link is not None
        question = self._link.core.get(receiver, path, version, have, most)
        self._link.send(question)
        return question.id

    def cancel(self, number: int, why: Cancelled) -> None:
        """Want nothing more of a transfer that has not failed, nor is done."""
        if self._link is not None:
            self._link.cancel(number, why)

    def done(self, numbers: Iterable[int]) -> None:
        """Tell the peer of files that are there under their names."""
        if self._link is not None:
            self._link.done(numbers)

    def tell_job(self, job: Job) -> None:
        """Tell the peer how much is still to come."""
        if self._link is not None:
            self._link.send(job)

    def arriving(self, number: int) -> int:
        """Bytes of a block of this transfer that is not whole yet."""
        return 0 if self._link is None else self._link.core.filled(number)

    def room_freed(self) -> None:
        """Let all who fetch from this peer ask for more."""
        for call in tuple(self.on_room):
            call()

    async def _page(
        self, path: RemotePath, after: RemotePath, limit: int, recursive: bool
    ) -> Listing | Fault | None:
        link = self._link
        assert link is not None
        answer: Deferred[Listing | Fault | None] = Deferred()
        question = link.core.list(_Page(answer), path, after, limit, recursive)
        link.send(question)
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
            link.core.forget(question.id)

    def _begin_connecting(self) -> None:
        if self._is_connecting:
            return
        self._is_connecting = True
        connecting = Deferred.fromCoroutine(self._connect())
        connecting.addErrback(self._given_up)
        if self._is_connecting:
            self._connecting = connecting

    async def _connect(self) -> None:
        """Open a session, or try until patience is at its end."""
        error, again = self._broken, self._broken is not None
        tries, try_until = 0, self.reactor.seconds() + FIRST_PATIENCE
        while True:
            if error is not None:
                await self._pause(error)
            self._tell(LinkState.CONNECTING)
            try:
                link = await self._open()
            except P2pshareError as failed:
                tries += 1
                has_tries = tries < FIRST_TRIES and self.reactor.seconds() < try_until
                if not isinstance(failed, _passing(again, has_tries)):
                    raise
                error = failed
                continue
            self._link, self._broken = link, None
            link.begin()
            if self.is_up:
                break
            if self._end is not None:
                raise self._end
            error, again = link.ended_by, True
        self._is_connecting, self._connecting = False, None
        self._tell(LinkState.UP)
        self._been_up = True
        for call in tuple(self.on_up):
            call()
        self._wake(None)

    async def _pause(self, error: P2pshareError) -> None:
        asked = error.fields.get("retry_after")
        at_least = float(asked) if isinstance(asked, int) else 0.0
        delay = self._back_off.failed(self.reactor.seconds(), at_least)
        if delay is None:
            raise (
                LinkGivenUp(
                    name=self.name, reason=reason_of(error), patience=round(self._back_off.patience)
                )
                if self._been_up
                else error
            )
        self._tell(LinkState.BROKEN, reason_of(error), delay)
        await deferLater(self.reactor, delay)

    async def _open(self) -> Link:
        try:
            self._addresses, key = await self._find()
        except Unreachable:
            if not self._addresses or self._remote_key is None:
                raise
            key = self._remote_key  # the registry is away: it may well be where it was
        if self._remote_key is not None and key != self._remote_key:
            raise KeyChanged(name=self.name, known=self._remote_key.grouped, now=key.grouped)
        self._remote_key = key
        crediting = CreditControl(self._limit, self.reactor.seconds(), self._window)
        session = await self._open_at_any(key, crediting.granted)
        core = ReceiverCore(crediting, self._buffers, self._next_id)
        return Link(self.reactor, session, core, self._lost, self._back_off.patience)

    async def _open_at_any(self, key: PublicKey, credit: int) -> Session:
        """Open a session at the first address where the peer is; the error is that of the likeliest address."""
        first: P2pshareError | None = None
        places = ",".join(map(str, self._addresses))
        self._log.debug(
            "dialling: peer={peer} key={key} addresses={places}",
            peer=self.name,
            key=key,
            places=places,
        )
        for address in self._addresses:
            try:
                return await self._open_session(
                    self.reactor,
                    self._key,
                    self.name,
                    address,
                    key,
                    credit=credit,
                    silence=self._silence,
                )
            except NOT_AT_ADDRESS as error:
                first = first or error
        assert first is not None, "there is an address"
        raise first

    def _lost(self, link: Link, reason: P2pshareError | None) -> None:
        """The session is over: those who were waiting for something may want another one."""
        if link is not self._link:
            return
        self._log.debug(
            "session lost: peer={peer} is_busy={busy} why={why!r}",
            peer=self.name,
            busy=link.core.busy,
            why=str(link.ended_by),
        )
        self._link = None
        self._keep_number(link)
        core = link.core
        if core.achieved:
            self._back_off.reset()
        if isinstance(reason, RemoteProtocolError):
            self._end = reason
        elif core.busy or self.on_room:
            self._broken = link.ended_by
        core.interrupt()

    def _keep_number(self, link: Link) -> None:
        self._next_id = link.core.next_id

    def _given_up(self, failure: Failure) -> None:
        """There is no session to be had: those who wait for it get to know, and the next who asks may try again."""
        error = failure.value
        self._is_connecting, self._connecting = False, None
        self._broken = None
        self._back_off.reset()
        if self._end is None:
            if not isinstance(error, P2pshareError | CancelledError):
                self._log.failure("no session could be opened", failure)
                error = LocalProtocolError(reason=f"{type(error).__name__}: {error}")
            self._wake(error)

    def _wake(self, error: BaseException | None) -> None:
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            if error is None:
                each.callback(None)
            else:
                each.errback(error)

    def _tell(self, state: LinkState, reason: str = "", retry_in: float = 0.0) -> None:
        self._log.debug(
            "link: peer={peer} state={state} retry_in_s={retry_in:.1f} why={why!r}",
            peer=self.name,
            state=state.name,
            retry_in=retry_in,
            why=reason,
        )
        self._on_link(LinkChange(state, self.name, reason, retry_in, self._been_up))


def _outcome(answer: Listing | Fault | None) -> str:
    """What came of a question for a page, for the log."""
    if isinstance(answer, Listing):
        return f"{len(answer.entries)} entries"
    return "interrupted" if answer is None else answer.value


def _passing(again: bool, has_tries: bool) -> tuple[type[P2pshareError], ...]:
    """What is worth another try: of the first session, less than once there has been one."""
    if again:
        return (Unreachable,)
    return (SessionPostponed, SessionLost, NoSessionThere) if has_tries else (SessionPostponed,)
