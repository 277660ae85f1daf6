"""Sessions with peers whose files a user looks at: bounded, shared by all questions, and open for a while.

A user who looks at one folder will look at the next one, and a page of pictures is a hundred questions. So a session
stays open for `IDLE_MAX` after its last use. A new peer takes the place of the session that was unused longest. All of
them share one rate limit.

**Pins.** To complete a word is no decision to trust a key, so completion checks pins and makes none. To open a person's
files is one, as `p2pshare ls` is: `use` pins the key at first contact then, also in a session that completion opened.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall

from p2pshare.core.credit import LIMITED_STEP_MIN
from p2pshare.core.rate import RateLimit
from p2pshare.errors import ControlRefused, P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer, SessionOpener
from p2pshare.peer.find.lookup import FoundPeer, PeerFinder
from p2pshare.peer.find.target import Target

SESSIONS_MAX = 8  # peers with an open session
IDLE_MAX = 60.0  # seconds after its last use until a session is closed
PATIENCE = 30.0  # seconds for opening a session, and for opening it again: a user who looks at a page waits no longer
LISTINGS_MAX = 4  # pages that one peer is asked for at once
PREVIEWS_MAX = 16  # previews that one peer is asked for at once


class RemoteSession:
    """A session with a peer, and how many questions use it."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        opener: SessionOpener,
        peer: str,
        rate: RateLimit,
    ) -> None:
        limits = LinkLimits(patience=PATIENCE, acceptance=0.0, rate=rate)
        self.peer = peer
        """The name of the peer."""
        self.remote = RemotePeer(reactor, rng, peer, self._find, opener, limits)
        self.listings = DeferredSemaphore(LISTINGS_MAX)
        """Bounds the pages that the peer is asked for at once; it refuses too many."""
        self.previews = DeferredSemaphore(PREVIEWS_MAX)
        """Bounds the previews that the peer is asked for at once."""
        self.users = 0
        self.idle: IDelayedCall | None = None
        """Closes the session when it has not been used for `IDLE_MAX`."""
        self.finder: PeerFinder | None = None
        """Looks the peer up before the session is opened."""
        self.looked_up_by: PeerFinder | None = None
        """The one that has looked the peer up last."""
        self.found: FoundPeer | None = None
        """The latest answer."""

    async def _find(self) -> Target:
        assert self.finder is not None
        finder = self.finder
        self.found = await finder.find(self.peer)
        self.looked_up_by = finder
        return self.found.target

    def explained(self, error: P2pshareError) -> P2pshareError:
        """Return an error with the facts of the look-up."""
        return error if self.found is None else self.found.explained(error)


class RemoteSessions:
    """The sessions of a running peer with those at whose files its user looks."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        finder: PeerFinder,
        pinning: PeerFinder,
        opener: SessionOpener,
    ) -> None:
        """Open sessions as the user of a running peer.

        Args:
            reactor: for sessions and timers.
            rng: source of jitter.
            finder: finds the peers, and pins no keys.
            pinning: finds the peers, and pins their keys at first contact.
            opener: opens sessions.
        """
        self.reactor = reactor
        self._rng = rng
        self._finder = finder
        self._pinning = pinning
        self._opener = opener
        self._rate = RateLimit(None, reactor.seconds(), burst_min=LIMITED_STEP_MIN)
        self._sessions: dict[str, RemoteSession] = {}  # the one that was used last at the end
        self._has_stopped = False

    async def acquire(self, peer: str, *, pins: bool = True) -> RemoteSession:
        """Return the session with a peer, which stays open until `release`.

        Args:
            peer: its name.
            pins: whether to pin its key at first contact.

        Raises:
            ControlRefused: there are `SESSIONS_MAX` sessions, and all are in use; or the peer is ending.
            P2pshareError: the peer fails the pin check.
        """
        if self._has_stopped:
            raise ControlRefused(reason="the peer is ending")
        session = self._session(peer)
        _cancel(session.idle)
        session.users += 1
        is_current = True
        try:
            if pins:
                session.finder = self._pinning
                if session.remote.is_up and session.looked_up_by is not self._pinning:
                    found = await self._pinning.find(peer)
                    session.looked_up_by = self._pinning
                    is_current = found.key == session.remote.key
        except BaseException:
            self.release(session)
            raise
        if is_current:
            return session
        if self._sessions.get(peer) is session:  # the name has another key by now, which is pinned
            self._close_soon(peer)
        self.release(session)
        return await self.acquire(peer)

    def release(self, session: RemoteSession) -> None:
        """Note that a session is not used any more by one that has acquired it."""
        session.users -= 1
        if not session.users and self._sessions.get(session.peer) is session:
            session.idle = self.reactor.callLater(IDLE_MAX, self._close_soon, session.peer)

    @asynccontextmanager
    async def use(self, peer: str, *, pins: bool = True) -> AsyncIterator[RemoteSession]:
        """Use the session with a peer, which is opened at the first request; as `acquire` and `release`.

        Raises:
            P2pshareError: as for `acquire`, or from within, with the facts of the look-up.
        """
        session = await self.acquire(peer, pins=pins)
        try:
            yield session
        except P2pshareError as error:
            explained = session.explained(error)
            if explained is error:
                raise
            raise explained from error
        finally:
            self.release(session)

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of all sessions together from now on; None is no limit."""
        self._rate.change(bytes_per_second, self.reactor.seconds())

    async def stop(self) -> None:
        """Close all sessions. May be called again."""
        self._has_stopped = True
        while self._sessions:  # an idle session may end meanwhile
            await self._close(next(iter(self._sessions)))

    def _session(self, peer: str) -> RemoteSession:
        """Return the session with a peer, which counts as the last one used from now on."""
        session = self._sessions.pop(peer, None)
        if session is not None and session.remote.has_ended:  # the peer broke the protocol
            _cancel(session.idle)
            session = None
        if session is None:
            if len(self._sessions) >= SESSIONS_MAX:
                unused = next(
                    (name for name, each in self._sessions.items() if not each.users), None
                )
                if unused is None:
                    raise ControlRefused(reason="it looks at too many peers now")
                self._close_soon(unused)
            session = RemoteSession(self.reactor, self._rng, self._opener, peer, self._rate)
            session.finder = self._finder
        self._sessions[peer] = session
        return session

    def _close_soon(self, peer: str) -> None:
        closing = Deferred.fromCoroutine(self._close(peer))
        closing.addErrback(lambda failure: failure.trap(P2pshareError))

    async def _close(self, peer: str) -> None:
        session = self._sessions.pop(peer)
        _cancel(session.idle)
        await session.remote.close()


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
