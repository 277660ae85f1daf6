"""The relay of one process: it admits ends, forwards between the two of a pair, and closes idle pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from p2pshare.net.clocks import LazyTimer
from p2pshare.registry.configuration import RelayLimits
from p2pshare.registry.relay.pairs import Pair, RelayEnd
from p2pshare.registry.relay.turns import Flow, Turns
from p2pshare.web.problems import RequestError

CHECK_INTERVAL = 1.0  # seconds between two looks at idle pairs
RETRY_AFTER = 5  # seconds, for an end that finds no place

LINK = ""
"""The key of a link to another worker, which has checked that the key of its end has a place."""

Place = Callable[[], None]
"""Gives a place back; only the first call counts."""


class Relay:
    """Forwards between pairs of ends, within `RelayLimits`.

    An end takes a place before it waits for its partner, and keeps it until its pair is over. The places bound the ends
    of one key, and all ends.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        limits: RelayLimits,
        measured: Callable[[int, int], object] = lambda _pairs, _size: None,
    ) -> None:
        """Keep `limits`, and tell `measured` every second of the pairs and how many more bytes were forwarded."""
        self._clock = clock
        self._measured = measured
        self._limits = limits
        self._turns = Turns(limits.rate, limits.rate_per_key, clock.seconds())
        self.turn = self._turns.turn
        """Bytes that are read from an end at once."""
        self._pairs: dict[Pair, tuple[Place, Place]] = {}
        self._ends: dict[Flow, RelayEnd] = {}
        self._places: Counter[str] = Counter()
        """Places in use, by key."""
        self._number = 0
        self._timer = LazyTimer(clock, self._turns_due)
        self._checking = LoopingCall(self._check)
        self._checking.clock = clock
        self._size = 0
        """Bytes that were forwarded since `measured` was told."""

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self._pairs)

    @property
    def places(self) -> int:
        """The number of ends that wait or are in a pair."""
        return self._places.total()

    def start(self) -> None:
        """Look for idle pairs regularly."""
        self._checking.start(CHECK_INTERVAL, now=False)

    def stop(self) -> None:
        """Close all pairs."""
        if self._checking.running:
            self._checking.stop()
        self._timer.cancel()
        for pair in list(self._pairs):
            pair.abort()

    def take_place(self, key: str) -> Place:
        """Return a place for an end with this key, or for a `LINK`; raises `RequestError` if there is none."""
        if key != LINK and self._places[key] >= self._limits.pairs_per_key:
            detail = "too many sessions of this key are relayed"
            raise RequestError("too-many-requests", detail, retry_after=RETRY_AFTER)
        if self.places >= 2 * self._limits.pairs:
            raise RequestError("relay-full", retry_after=RETRY_AFTER)
        self._places[key] += 1
        is_taken = [True]

        def give_back() -> None:
            if is_taken:
                is_taken.clear()
                self._places[key] -= 1
                if not self._places[key]:
                    del self._places[key]

        return give_back

    def join(
        self, keys: tuple[str, str], places: tuple[Place, Place], *, is_counted: bool = True
    ) -> Pair:
        """Return a new pair of ends with these keys, which have these places.

        A pair of an end and a link is not counted, as another worker counts it.
        """
        now = self._clock.seconds()
        self._number += 1
        pair = Pair(self, self._number, keys, now)
        pair.is_counted = is_counted
        self._pairs[pair] = places
        for end in pair.ends:
            end.flow = self._turns.open(keys, now)
            self._ends[end.flow] = end
        self._say(
            pair,
            "relay began: pair={pair} keys={keys} pairs={pairs}",
            keys=",".join(keys),
            pairs=len(self),
        )
        return pair

    def forwarded(self, end: RelayEnd, size: int) -> bool:
        """Count bytes that an end has sent; return whether it may be read on."""
        now = self._clock.seconds()
        if end.pair.is_counted:
            self._size += size
        end.pair.size += size
        end.pair.active_at = now
        if self._turns.received(end.flow, size, now):
            return True
        self._timer.set(self._turns.get_timer())
        return False

    def lost(self, pair: Pair) -> None:
        """Note that an end is lost; when both are, the pair is over."""
        now = self._clock.seconds()
        pair.active_at = now
        if not pair.is_over or pair not in self._pairs:
            return
        for place in self._pairs.pop(pair):
            place()
        for end in pair.ends:
            del self._ends[end.flow]
            self._turns.close(end.flow, now)
        self._say(
            pair,
            "relay ended: pair={pair} bytes={size} s={s:.1f}",
            size=pair.size,
            s=now - pair.began,
        )

    def _turns_due(self) -> None:
        self._turns.handle_timer(self._clock.seconds())
        while (flow := self._turns.next_turn()) is not None:
            self._ends[flow].take_turn()
        self._timer.set(self._turns.get_timer())

    def _check(self) -> None:
        now = self._clock.seconds()
        self._measured(sum(pair.is_counted for pair in self._pairs), self._size)
        self._size = 0
        for pair in list(self._pairs):
            if now - pair.active_at >= self._limits.idle:
                self._say(pair, "relay idle: pair={pair}")
                pair.abort()

    def _say(self, pair: Pair, event: str, **facts: object) -> None:
        """Log an event of a pair, unless another worker does."""
        if pair.is_counted:
            self._log.info(event, pair=pair.number, **facts)
