"""Rooms, in which an end waits for its partner. Nobody else can enter, and a room is used once."""

# The place in the table is the room together with both keys. So whoever asks for the same room with another key, or for
# another partner, has another place, and neither disturbs nor notices the two that agreed on it. Both ends have proven
# their keys before (`registry.api.access`).
#
# If an end asks again while it waits, its older request is given up: the connection of that one is probably dead.
# After a meeting, the place is remembered for `MEMORY` seconds, longer than a statement of access is valid. An end that
# asks again then is told so at once; for a new session, the peers have to agree on a new room.

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.registry.relay.pairs import RelayEnd
from p2pshare.registry.relay.relay import LINK, Place, Relay
from p2pshare.web.problems import RequestError
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX

WAIT = 10.0  # seconds for which an end waits
MEMORY = 2.0 * CLOCK_SKEW_MAX  # seconds for which a used room is remembered
USED_MAX = 16_384  # used rooms that are remembered

Spot = tuple[str, str, str]
"""A room, and both keys in their order as texts."""


@dataclass(slots=True)
class _Waiting:
    key: str
    place: Place
    met: Deferred[RelayEnd]
    timeout: IDelayedCall


def spot_of(room: str, key: str, other: str) -> Spot:
    """Return the place of a room in the table."""
    return (room, min(key, other), max(key, other))


class Rooms:
    """The rooms of one process."""

    def __init__(self, relay: Relay, clock: IReactorTime, *, used_max: int = USED_MAX) -> None:
        self._relay = relay
        self._clock = clock
        self._waiting: dict[Spot, _Waiting] = {}
        self._used: OrderedDict[Spot, float] = OrderedDict()
        """When each was used, the oldest first."""
        self._used_max = used_max

    def __len__(self) -> int:
        """The number of rooms in which somebody waits."""
        return len(self._waiting)

    def enter(
        self, room: str, key: str, other: str, *, is_link: bool = False
    ) -> Deferred[RelayEnd]:
        """Wait in a room for the end with the key `other`; return the own end of their pair.

        With `is_link`, the end is at another worker, where it has a place among those of its key.

        Cancel the Deferred if the end leaves. It fails with `RequestError` if the other one does not come in time. This
        raises `RequestError` if the room is used, or the relay has no place.
        """
        spot, now = spot_of(room, key, other), self._clock.seconds()
        while self._used and next(iter(self._used.values())) <= now - MEMORY:
            self._used.popitem(last=False)
        if spot in self._used:
            raise RequestError("room-used")
        found = self._waiting.get(spot)
        if found is not None and found.key == key:
            self._fail(spot, found.met)
            found = None
        place = self._relay.take_place(LINK if is_link else key)
        if found is None:
            met: Deferred[RelayEnd] = Deferred(lambda own: self._forget(spot, own))
            timeout = self._clock.callLater(WAIT, self._fail, spot, met)
            self._waiting[spot] = _Waiting(key, place, met, timeout)
            return met
        del self._waiting[spot]
        found.timeout.cancel()
        self._used[spot] = now
        while len(self._used) > self._used_max:
            self._used.popitem(last=False)
        pair = self._relay.join((found.key, key), (found.place, place))
        found.met.callback(pair.ends[0])
        return succeed(pair.ends[1])

    def stop(self) -> None:
        """Let nobody wait any longer."""
        for spot, each in list(self._waiting.items()):
            self._fail(spot, each.met)

    def _fail(self, spot: Spot, met: Deferred[RelayEnd]) -> None:
        self._forget(spot, met)
        met.errback(RequestError("nobody-came"))

    def _forget(self, spot: Spot, met: Deferred[RelayEnd]) -> None:
        found = self._waiting.get(spot)
        if found is not None and found.met is met:
            del self._waiting[spot]
            found.place()
            if found.timeout.active():
                found.timeout.cancel()
