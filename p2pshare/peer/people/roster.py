"""The roster: a copy of the directory's list of names, kept up to date by one stream of changes while it is wanted.

A registry has thousands of names, and a page wants to search and scroll through all of them. So the list is read once,
page by page, and after that only changes come (`peer/find/presence.py`). The copy ends when nobody has asked for it
for a while and nobody follows events; the next question begins it again.

A name costs some 200 bytes, and at most `PEOPLE_MAX` names are kept. Those beyond are counted as `left_out`. A person
whose key is pinned always has a place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from p2pshare.errors import P2pshareError
from p2pshare.peer.find.presence import PresenceWatch
from p2pshare.wire.registry_answers import PeerSummary, Presence

PEOPLE_MAX = 20_000  # names of the directory that are kept

_ONLINE = {Presence.ONLINE: True, Presence.OFFLINE: False, Presence.UNKNOWN: None}


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the directory says of a name."""

    online: bool | None
    """None if the directory does not know."""
    since: int | None = None
    """The Unix time in s, by the directory's clock: since when they are online, or when they were seen last; None if
    that is not known."""
    is_other: bool = False
    """Whether, on a local network, it is only another key than the known one that uses the name."""


class Roster:
    """The names of the directory; a `PresenceFollower`."""

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        presence: PresenceWatch,
        on_change: Callable[[str], object],
        is_kept: Callable[[str], bool],
        *,
        people_max: int = PEOPLE_MAX,
    ) -> None:
        """Follow `presence` between `start` and `stop`.

        Args:
            clock: measures waits.
            wall: the Unix time in s, by the directory's clock.
            presence: tells of all peers.
            on_change: called with each name whose sighting has changed.
            is_kept: whether a name has a place in any case, and stays when its owner is gone.
            people_max: the most other names.
        """
        self._clock = clock
        self._wall = wall
        self._presence = presence
        self._on_change = on_change
        self._is_kept = is_kept
        self._people_max = people_max
        self._sightings: dict[str, Sighting] = {}
        self._listed: set[str] | None = None  # names that were told since the list has begun
        self._unfollow: Callable[[], None] | None = None
        self._is_linked = False  # whether changes arrive
        self._waiting: set[Deferred[None]] = set()
        self.is_complete = False
        """Whether the list was read to its end since `start`."""
        self.trouble: P2pshareError | None = None
        """Why the list cannot be read, or gets no changes."""
        self.old_since: float | None = None
        """The Unix time in s, by the directory's clock, since which changes may be missing; None if the list is up to
        date, or was never complete."""
        self.left_out = 0
        """Names of the directory that have no place."""

    @property
    def is_running(self) -> bool:
        """Whether the list is kept now."""
        return self._unfollow is not None

    @property
    def is_current(self) -> bool:
        """Whether the list is complete, and changes arrive."""
        return self.is_complete and self._is_linked and self._listed is None

    @property
    def names(self) -> set[str]:
        """The names that have a sighting."""
        return set(self._sightings)

    def sighting(self, name: str) -> Sighting | None:
        """Return what the directory says of a name; None if it has no such name, as far as is known."""
        return self._sightings.get(name)

    def start(self) -> None:
        """Begin, if that was not done."""
        if self._unfollow is None:
            self._unfollow = self._presence.follow(self)

    def stop(self) -> None:
        """End, and forget all names. May be called again."""
        if self._unfollow is not None:
            self._unfollow()
        self._unfollow = self._listed = None
        self.is_complete = self._is_linked = False
        self.trouble = self.old_since = None
        self._sightings.clear()
        self._wake()

    async def complete(self, seconds: float) -> None:
        """Return when the list is complete, or cannot be read now, or after some seconds."""
        if self.is_complete or self.trouble is not None or not self.is_running:
            return
        waiting: Deferred[None] = Deferred()
        self._waiting.add(waiting)
        waiting.addTimeout(seconds, self._clock, lambda *_: None)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def list_begun(self) -> None:
        """See `PresenceFollower`."""
        self._listed, self.left_out = set(), 0
        self._look_at_age()

    def peer_told(self, peer: PeerSummary, *, is_change: bool) -> None:
        """See `PresenceFollower`."""
        before = self._sightings.get(peer.name)
        if peer.mark and before is not None and before.online and not before.is_other:
            return  # the known one is here, too
        if peer.presence is Presence.GONE:
            self._remove(peer.name)
            return
        is_full = len(self._sightings) >= self._people_max
        if before is None and is_full and not self._is_kept(peer.name):
            self.left_out += not is_change
            return
        if self._listed is not None:
            self._listed.add(peer.name)
        self._see(peer.name, Sighting(_ONLINE[peer.presence], peer.since, bool(peer.mark)))

    def list_told(self) -> None:
        """See `PresenceFollower`."""
        listed, self._listed = self._listed, None
        if listed is not None:
            for name in self._sightings.keys() - listed:
                self._remove(name)
        self.is_complete = True
        self.trouble = self.trouble if not self._is_linked else None
        self._look_at_age()
        self._wake()

    def link_changed(self, is_up: bool, why: BaseException | None) -> None:
        """See `PresenceFollower`."""
        self._is_linked = is_up
        self.not_listed(why)

    def not_listed(self, why: BaseException | None) -> None:
        """See `PresenceFollower`."""
        self.trouble = why if isinstance(why, P2pshareError) else None
        self._look_at_age()
        if self.trouble is not None or not self._is_linked:
            self._wake()  # nobody waits for a directory that is away

    def _look_at_age(self) -> None:
        if self.is_current or not self.is_complete:
            self.old_since = None
        elif self.old_since is None:
            self.old_since = self._wall()

    def _see(self, name: str, sighting: Sighting) -> None:
        if self._sightings.get(name) != sighting:
            self._sightings[name] = sighting
            self._on_change(name)

    def _remove(self, name: str) -> None:
        before = self._sightings.get(name)
        if before is None:
            return
        if not self._is_kept(name):
            del self._sightings[name]
            self._on_change(name)
        elif before.online is not False:
            self._see(name, Sighting(False, int(self._wall())))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            if not each.called:
                each.callback(None)
