"""Presence: whether the peers that somebody waits for are online, from one event stream of the directory.

Theory of operation. Offers and `get --wait` wait for peers that are away. A stream for each of them would cost a
registry too much, and polling would find them late. So there is one stream for all names that are watched. A new name
needs a new stream, because a stream begins with its names; names that are not watched any more stay in it until then.
Names that are added in the same turn share one start, and two starts are at least `RESTART_GAP` apart.

A stream of some names begins with the present state of each, as does one that has missed changes. So the state here
becomes right again whatever was missed, and a callback is called only if it differs from what it was told last. A
registry takes `STREAM_NAMES_MAX` names for one stream. With more, all changes are followed, and the list of all peers
that are online gives the state at the beginning.

Somebody who looks at the list of people wants all names. A `PresenceFollower` hears each peer of the whole list, then
each change, over the same stream; it is one for the whole peer, which keeps the list for all who look.

While the directory is away, nothing is known to have changed. The stream itself reconnects with back-off; one that is
refused for good is tried again after `REFUSED_RETRY`, because registries are upgraded.

A peer that is online may still not be reachable, and one that crashed and came back within its lease was never shown
offline. Therefore presence is when to try, and never proof: callers retry with a back-off of their own, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError, Refused, Unreachable
from p2pshare.peer.find.directory import Directory
from p2pshare.wire.registry_answers import PeerSummary, Presence

NAMES_MAX = 10_000  # names that are watched
STREAM_NAMES_MAX = 100  # names of one stream; with more, a stream has all names of the directory
RESTART_GAP = 1.0  # seconds between two starts of the stream because of new names
LIST_AGAIN = 2.0  # seconds until a list that failed is requested again
REFUSED_RETRY = 60.0  # seconds until a stream is tried again that was refused for good

OnChange = Callable[[bool], object]
"""Called with whether a peer is online: as soon as that is known, and at each change."""


class PresenceFollower(Protocol):
    """Hears of all peers of the directory. None of the methods may raise."""

    def list_begun(self) -> None:
        """Handle that all peers are told again from now on, because changes may have been missed."""

    def peer_told(self, peer: PeerSummary, *, is_change: bool) -> None:
        """Handle the state of a peer: a line of the list, or a change."""

    def list_told(self) -> None:
        """Handle that the list was complete: peers that were not told since it began do not exist."""

    def link_changed(self, is_up: bool, why: BaseException | None) -> None:
        """Handle that the directory reports changes now, or does not, and why; also called if nothing has changed."""

    def not_listed(self, why: BaseException | None) -> None:
        """Handle that the list cannot be read; it is asked for again after a while."""


class PresenceWatch:
    """Tells who comes and goes; ask for each name with `watch` or `until_online`, and call `stop` in the end."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        directory: Directory,
        *,
        names_max: int = NAMES_MAX,
        stream_names_max: int = STREAM_NAMES_MAX,
    ) -> None:
        """Watch peers of `directory`; nothing is requested before the first name.

        Args:
            clock: measures the delays.
            rng: draws their jitter.
            directory: knows who is online.
            names_max: the most names that are watched.
            stream_names_max: the most names of which a stream is requested, and not one of all names.
        """
        self._clock = clock
        self._rng = rng
        self._directory = directory
        self._names_max = names_max
        self._stream_names_max = stream_names_max
        self._watchers: dict[str, dict[int, OnChange]] = {}
        self._numbers = count()
        self._waiting: dict[Deferred[None], Callable[[], None]] = {}
        self._states: dict[str, bool] = {}
        self._streamed: frozenset[str] | None = frozenset()  # None: all
        self._stream: Deferred[None] | None = None
        self._listing: Deferred[None] | None = None
        self._heard: set[str] = set()  # names with an event since the list was requested
        self._follower: PresenceFollower | None = None
        self._start: IDelayedCall | None = None
        self._started = -RESTART_GAP
        self._has_stopped = False

    def is_online(self, name: str) -> bool | None:
        """Return whether a watched peer is online; None if that is not known."""
        return self._states.get(name)

    def watch(self, name: str, on_change: OnChange) -> Callable[[], None]:
        """Call `on_change` with the state of a peer, never within this call; return what ends that.

        Raises:
            Refused: `names_max` names are watched already.
        """
        if name not in self._watchers and len(self._watchers) >= self._names_max:
            raise Refused(reason=f"At most {self._names_max} peers can be waited for at once.")
        number = next(self._numbers)
        watchers = self._watchers.setdefault(name, {})
        watchers[number] = on_change
        if name in self._states:
            self._clock.callLater(0, self._tell, name, number)
        if name not in self._states and (self._streamed is None or name not in self._streamed):
            self._start_soon()

        def stop() -> None:
            watchers.pop(number, None)
            if not watchers and self._watchers.get(name) is watchers:
                del self._watchers[name]
                if self._streamed is None:  # nobody looks at the events of this name any more
                    self._states.pop(name, None)
                if not self._is_wanted():
                    self._end()

        return stop

    def follow(self, follower: PresenceFollower) -> Callable[[], None]:
        """Let `follower` hear of all peers, never within this call; return what ends that. There is at most one."""
        assert self._follower is None, "the peer has one list of people"
        self._follower = follower
        self._start_soon()

        def stop() -> None:
            if self._follower is follower:
                self._follower = None
                if not self._is_wanted():
                    self._end()
                elif self._streamed is None:  # the others need a smaller stream
                    self._start_soon()

        return stop

    async def until_online(self, name: str) -> None:
        """Return when a peer is online; at once if it is.

        Raises:
            P2pshareError: the directory tells nothing about presence.
            Refused: too many peers are waited for.
        """
        waiting: Deferred[None] = Deferred()

        def changed(is_online: bool) -> None:
            if is_online and not waiting.called:
                waiting.callback(None)

        stop = self._waiting[waiting] = self.watch(name, changed)
        try:
            await waiting
        finally:
            del self._waiting[waiting]
            stop()

    def stop(self) -> None:
        """End the stream; those who wait get `CancelledError`."""
        self._has_stopped = True
        self._end()
        for waiting in tuple(self._waiting):
            waiting.cancel()

    def _tell(self, name: str, number: int) -> None:
        """Tell a watcher that came later what is known."""
        on_change = self._watchers.get(name, {}).get(number)
        if on_change is not None and name in self._states:
            on_change(self._states[name])

    def _start_soon(self, delay: float = 0.0) -> None:
        if self._start is None and not self._has_stopped:
            gap = self._started + RESTART_GAP - self._clock.seconds()
            self._start = self._clock.callLater(max(delay, gap, 0.0), self._begin)

    def _begin(self) -> None:
        """Start the stream with the names that are watched now."""
        self._start = None
        self._end_stream()
        if not self._is_wanted():
            return
        names = frozenset(self._watchers)
        follows_all = self._follower is not None or len(names) > self._stream_names_max
        self._streamed = None if follows_all else names
        self._states = {name: self._states[name] for name in names & self._states.keys()}
        self._started = self._clock.seconds()
        self._log.debug("presence: names={names} all={all}", names=len(names), all=follows_all)
        self._stream = Deferred.fromCoroutine(
            self._directory.watch(
                () if follows_all else sorted(names),
                self._changed,
                self._list if follows_all else lambda: None,
                on_link=self._link_changed,
                rng=self._rng,
            )
        )
        self._stream.addErrback(self._refused)
        if not self._is_wanted():  # all of them had their answer at once
            self._end()

    def _is_wanted(self) -> bool:
        return bool(self._watchers) or self._follower is not None

    def _link_changed(self, is_up: bool, why: BaseException | None) -> None:
        if self._follower is not None:
            self._follower.link_changed(is_up, why)

    def _end(self) -> None:
        if self._start is not None:
            self._start.cancel()
            self._start = None
        self._end_stream()
        self._streamed = frozenset()
        self._states.clear()

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        listing, self._listing = self._listing, None
        for each in (stream, listing):
            if each is not None:
                each.cancel()

    def _refused(self, failure: Failure) -> None:
        """Tell those who wait that nothing will be known, and try again later for the others."""
        if failure.check(CancelledError):
            return
        self._stream, self._streamed = None, frozenset()
        if failure.check(P2pshareError):
            self._log.warn("presence not followed: reason={why}", why=failure.value)
        else:
            self._log.failure("presence not followed", failure)
        for waiting in tuple(self._waiting):
            if not waiting.called:
                waiting.errback(failure)
        self._link_changed(False, failure.value)
        if self._is_wanted():
            self._start_soon(REFUSED_RETRY)

    def _changed(self, peer: PeerSummary) -> None:
        """Take an event. A mark means another key than the one that is known: that is somebody else."""
        names = self._watchers if self._streamed is None else self._streamed
        is_watched = peer.name in names and not peer.mark
        if is_watched or (self._follower is not None and self._listing is not None):
            self._heard.add(peer.name)
        if self._follower is not None and self._streamed is None:
            self._follower.peer_told(peer, is_change=True)
        if is_watched:
            self._know(peer.name, peer.presence is Presence.ONLINE)

    def _know(self, name: str, is_online: bool) -> None:
        if self._states.get(name) is is_online:
            return
        self._states[name] = is_online
        for on_change in tuple(self._watchers.get(name, {}).values()):
            try:
                on_change(is_online)
            except Exception:  # one that fails keeps the news from nobody else
                self._log.failure("presence not taken: peer={peer}", peer=name)

    def _list(self) -> None:
        """Request the state of all names, since changes may have been missed."""
        if self._listing is not None:
            self._listing.cancel()
        self._heard = set()
        self._listing = listing = Deferred.fromCoroutine(self._list_all())
        listing.addErrback(self._not_listed).addCallback(self._list_over, listing)

    async def _list_all(self) -> None:
        while True:
            follower, online = self._follower, set[str]()
            if follower is not None:
                follower.list_begun()
            try:
                async for peer in self._directory.peers(online=follower is None):
                    if follower is not None and peer.name not in self._heard:
                        follower.peer_told(peer, is_change=False)
                    if peer.presence is Presence.ONLINE and peer.name in self._watchers:
                        online.add(peer.name)
                break
            except Unreachable as error:
                if follower is not None:
                    follower.not_listed(error)
                asked = error.fields.get("retry_after")
                at_least = min(asked, REFUSED_RETRY) if isinstance(asked, int) else 0.0
                await deferLater(self._clock, max(LIST_AGAIN, at_least))
        for name in set(self._watchers) - self._heard:  # an event is newer than the list
            self._know(name, name in online)
        if follower is not None and follower is self._follower:
            follower.list_told()

    def _list_over(self, _result: object, listing: Deferred[None]) -> None:
        if self._listing is listing:
            self._listing, self._heard = None, set()

    def _not_listed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.warn("peers not listed: reason={why}", why=failure.value)
            if self._follower is not None:
                self._follower.not_listed(failure.value)
