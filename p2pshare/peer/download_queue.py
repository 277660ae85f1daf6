"""The queue of everything that a peer downloads: a few at once, again and again until each is over.

Theory of operation
===================

*Tries.* A download is a series of tries (`Series`). What has been verified stays, so a try after a restart, a lost
session or a full disk goes on where the last one ended. A try that fails with an error is repeated after a back-off.
A try that returns ends the series.

*People.* An error that concerns a person, such as one who is offline, keeps all downloads from that person waiting, and
they share one back-off: a thousand downloads from somebody who is away cost one try now and then. All of them go on at
once when the person comes online. Other errors, such as that of a full disk, delay one series alone.

*Slots.* At most `RUNNING_MAX` tries run at once, and one that has got nothing for `STALL` gives its slot to the next.
One person has no more than `RUNNING_OF_PERSON_MAX` of them, however slow. A try that was cancelled has its slot until
it has wound up, and the next try of its series begins after that.

*Rate limit.* What runs shares one limit, also with what the user looks at meanwhile (`looked`). Twice a second it is
divided by what each has used of late, so that a slow sharer leaves to others what it cannot use, and nobody starves.

*Cost.* Nothing here looks at all waiting series, except when a person's state changes. Slots are filled once for all
events of one turn of the reactor, and no more tries begin in one turn than there are slots, even if they fail at once.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.back_off import BackOff
from p2pshare.core.rate import RateMeter, fair_shares
from p2pshare.errors import (
    KeyChanged,
    KeyGone,
    LocalProtocolError,
    OtherKeyThere,
    P2pshareError,
    Refused,
    SessionLost,
    Unreachable,
)
from p2pshare.names import ON_NETWORK
from p2pshare.peer.fetch.tally import JobProgress
from p2pshare.peer.find.presence import PresenceWatch

RUNNING_MAX = 4  # downloads that run at once
RUNNING_OF_PERSON_MAX = 2  # of them from one person, who may be slow
RETRY_FIRST, RETRY_MAX = 5.0, 600.0  # seconds until the next try
STALL = 600.0  # seconds without a byte after which a try gives its slot to another download
TICK = 0.5  # seconds between two looks at the progress
BETWEEN_TURNS = 0.01  # seconds until more tries begin, after as many as there are slots
RATE_TICKS = 8  # looks over which a rate is measured
GROWTH = 1.5  # times the measured rate that a try may use, so that it can become faster
RATE_MIN = 16 * 1024  # bytes per second that each may use beyond that

OF_A_PERSON = (Unreachable, KeyChanged, KeyGone, OtherKeyThere)
"""Errors that keep everything from waiting that comes from the same person."""


class Series(Protocol):
    """A download that is tried until it is over."""

    @property
    def id(self) -> str:
        """Its ID in the queue."""

    @property
    def peer(self) -> str:
        """The name of the person, with `ON_NETWORK` behind one that proves nothing."""

    @property
    def person(self) -> Hashable:
        """What distinguishes the person from others, for slots and back-off."""

    def progress(self) -> JobProgress | None:
        """Return the progress of the try that runs; None before it has begun to fetch."""

    def changed(self) -> None:
        """Note that progress, rate or trouble have changed."""

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of the try that runs from now on; None is no limit."""

    async def attempt(self) -> Callable[[], object]:
        """Try to fetch what is missing. If it is cancelled, it keeps what has arrived.

        Returns:
            What to call now that the series is over. It is not called if the series was removed meanwhile.

        Raises:
            P2pshareError: another try may succeed.
        """


@dataclass(frozen=True, slots=True)
class Standing:
    """How a series is doing."""

    is_trying: bool
    trouble: P2pshareError | None
    """Why the last try failed, or what keeps all downloads from this person; None once bytes arrive."""
    retry_in: float | None
    """Seconds until the next try; None if a try runs, or waits for nothing but its turn."""
    turn: int
    """Lower numbers have their turn first."""
    bytes_done: int
    rate: int
    """Bytes per second."""


@dataclass(slots=True, eq=False)
class _Person:
    """Somebody from whom something is downloaded."""

    key: Hashable
    back_off: BackOff
    queue: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    """Those that wait for their turn."""
    entries: int = 0
    """All of them."""
    running: int = 0
    """Tries, also those that wind up."""
    waiting: IDelayedCall | None = None
    """The end of the pause in which nothing is tried."""
    trouble: P2pshareError | None = None


@dataclass(slots=True, eq=False)
class _Entry:
    """A series in the queue."""

    series: Series
    owner: _Person
    back_off: BackOff
    turn: int
    running: Deferred[None] | None = None
    waiting: IDelayedCall | None = None
    unwatch: Callable[[], object] = lambda: None
    trouble: P2pshareError | None = None
    fetched: deque[int] = field(default_factory=lambda: deque(maxlen=RATE_TICKS))
    """Bytes that had arrived in this try, at the latest looks."""
    bytes_done: int = 0
    moved: float = 0.0
    """When bytes arrived last."""
    ends: list[Deferred[None]] = field(default_factory=list)
    """Fire when the try that runs has wound up."""

    @property
    def rate(self) -> float:
        """Bytes per second."""
        seen = self.fetched
        rate = (seen[-1] - seen[0]) / (TICK * (len(seen) - 1)) if len(seen) > 1 else 0.0
        return max(0.0, rate)

    def end(self) -> Deferred[None]:
        """Return when the try that runs has wound up."""
        ended: Deferred[None] = Deferred()
        self.ends.append(ended)
        return ended


class DownloadQueue:
    """The downloads of a peer."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        presence: PresenceWatch,
        *,
        running_max: int = RUNNING_MAX,
        running_of_person_max: int = RUNNING_OF_PERSON_MAX,
        on_received: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Begin without downloads.

        Args:
            clock: for the delays.
            rng: draws their jitter.
            presence: tells who comes online.
            running_max: downloads that run at once.
            running_of_person_max: those of them from one person.
            on_received: called with the bytes that have arrived since the last call.
        """
        self._clock = clock
        self._rng = rng
        self._presence = presence
        self._running_max = running_max
        self._running_of_person_max = running_of_person_max
        self.on_received = on_received
        self._limit: float | None = None
        self._looks = RateMeter(clock.seconds())
        self._limit_looks: Callable[[float | None], object] = lambda _: None
        self._entries: dict[str, _Entry] = {}
        self._people: dict[Hashable, _Person] = {}
        self._turns = count()
        self._trying: dict[Deferred[None], _Entry] = {}  # also those that wind up
        self._ending: dict[str, _Entry] = {}  # removed series whose tries wind up
        self._filling: IDelayedCall | None = None
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = clock
        self._has_stopped = False

    def add(self, series: Series) -> None:
        """Download something; it goes to the end of the queue. A series of the same ID is removed first."""
        if self._has_stopped:
            return
        self.remove(series.id)
        person = self._people.get(series.person)
        if person is None:
            person = _Person(series.person, self._back_off())
            self._people[series.person] = person
        person.entries += 1
        entry = _Entry(series, person, self._back_off(), next(self._turns))
        self._entries[series.id] = entry
        try:
            entry.unwatch = self._presence.watch(
                series.peer.removesuffix(ON_NETWORK), partial(self._came, entry)
            )
        except Refused as error:
            self._log.warn(
                "presence not watched: peer={peer} why={why}", peer=series.peer, why=error
            )
        self._enqueue(entry)

    def remove(self, series_id: str) -> Deferred[None]:
        """Download a series no more; what has arrived is kept. Fires when its try has wound up."""
        entry = self._entries.get(series_id)
        if entry is not None:
            self._drop(entry)
            if entry.running is not None:
                self._ending[series_id] = entry
                entry.running.cancel()
        ending = self._ending.get(series_id)
        return succeed(None) if ending is None else ending.end()

    def try_now(self, series_id: str) -> None:
        """End the pause before the next try of a series, and of others from the same person."""
        entry = self._entries.get(series_id)
        if entry is not None and entry.running is None:
            self._resume(entry.owner)
            self._enqueue(entry)

    async def stop(self) -> None:
        """End all, and keep what has arrived."""
        self._has_stopped = True
        for each in list(self._entries.values()):
            self.remove(each.series.id)
        _stop(self._filling)
        await gatherResults([each.end() for each in self._trying.values()])

    def standing(self, series_id: str) -> Standing | None:
        """Return how a series is doing; None if it is not here."""
        entry = self._entries.get(series_id)
        if entry is None:
            return None
        waits = entry.waiting or entry.owner.waiting
        retry_in = None
        if entry.running is None and waits is not None and waits.active():
            retry_in = max(0.0, waits.getTime() - self._clock.seconds())
        done, rate = self.progress(series_id)
        is_trying = entry.running is not None
        return Standing(is_trying, self._trouble(entry), retry_in, entry.turn, done, rate)

    @property
    def limit(self) -> float | None:
        """Bytes per second of all downloads together, and of what is looked at; None for no limit."""
        return self._limit

    @limit.setter
    def limit(self, bytes_per_second: float | None) -> None:
        self._limit = bytes_per_second
        self._divide()

    def share_limit(self, limit_looks: Callable[[float | None], object]) -> None:
        """Call `limit_looks` with the part of the limit that is for what the user looks at; see `looked`."""
        self._limit_looks = limit_looks
        self._divide()

    def looked(self, size: int) -> None:
        """Note that bytes have arrived of what the user looks at, which is no download."""
        self._looks.add(size, self._clock.seconds())

    @property
    def share(self) -> float | None:
        """Bytes per second for one more try that begins; None for no limit."""
        return None if self.limit is None else self.limit / max(1, len(self._trying))

    def is_running(self, series_id: str) -> bool:
        """Whether a series is being tried now."""
        entry = self._entries.get(series_id)
        return entry is not None and entry.running is not None

    def progress(self, series_id: str) -> tuple[int, int]:
        """Return the bytes of a series that are here, and the rate in bytes per second."""
        entry = self._entries.get(series_id)
        return (0, 0) if entry is None else (entry.bytes_done, int(entry.rate))

    def trouble(self, series_id: str) -> P2pshareError | None:
        """Return why a series is not being downloaded at the moment."""
        entry = self._entries.get(series_id)
        return None if entry is None else self._trouble(entry)

    def _trouble(self, entry: _Entry) -> P2pshareError | None:
        return entry.trouble or entry.owner.trouble

    def _back_off(self) -> BackOff:
        return BackOff(RETRY_FIRST, RETRY_MAX, self._rng)

    def _drop(self, entry: _Entry) -> None:
        """Forget a series."""
        del self._entries[entry.series.id]
        person = entry.owner
        person.queue.pop(entry.series.id, None)
        entry.unwatch()
        _stop(entry.waiting)
        person.entries -= 1
        self._forget_person(person)

    def _forget_person(self, person: _Person) -> None:
        if not (person.entries or person.running):
            _stop(person.waiting)
            self._people.pop(person.key, None)

    def _came(self, entry: _Entry, is_online: bool) -> None:
        """Try at once what waits for a person who is online now."""
        if self._entries.get(entry.series.id) is not entry:
            return
        entry.series.changed()
        if is_online:
            self._resume(entry.owner)
            if entry.waiting is not None:
                entry.back_off.reset()
                self._enqueue(entry)

    def _resume(self, person: _Person) -> None:
        """End the pause of a person."""
        if person.waiting is not None:
            _stop(person.waiting)
            person.waiting = None
            person.back_off.reset()
            self._fill_soon()

    def _enqueue(self, entry: _Entry) -> None:
        _stop(entry.waiting)
        entry.waiting = None
        person, series_id = entry.owner, entry.series.id
        if entry.running is None and series_id not in person.queue:
            person.queue[series_id] = entry
        self._fill_soon()

    def _fill_soon(self, delay: float = 0.0) -> None:
        if self._filling is None and not self._has_stopped:
            self._filling = self._clock.callLater(delay, self._fill)

    def _fill(self) -> None:
        """Begin tries, as many as there are slots."""
        has_more = False
        try:
            for _ in range(
                self._running_max
            ):  # tries may fail at once, a thousand after each other
                entry = self._take_next() if len(self._trying) < self._running_max else None
                has_more = entry is not None
                if entry is None:
                    break
                self._begin(entry)
        finally:
            self._filling = None
        if has_more:
            self._fill_soon(BETWEEN_TURNS)
        if self._trying and not self._ticks.running:
            self._ticks.start(TICK, now=False).addErrback(self._tick_failed)

    def _begin(self, entry: _Entry) -> None:
        """Begin a try."""
        entry.owner.running += 1
        entry.moved = self._clock.seconds()
        entry.running = running = Deferred.fromCoroutine(self._try(entry))
        self._trying[running] = entry
        running.addBoth(self._tried, entry, running)
        entry.series.changed()

    def _take_next(self) -> _Entry | None:
        """Take the series whose turn it is, of those whose person has a slot left; None if there is none."""
        first: _Entry | None = None
        for person in self._people.values():
            if person.waiting is None and person.running < self._running_of_person_max:
                found = next(
                    (each for key, each in person.queue.items() if key not in self._ending), None
                )
                if found is not None and (first is None or found.turn < first.turn):
                    first = found
        if first is not None:
            del first.owner.queue[first.series.id]
        return first

    async def _try(self, entry: _Entry) -> None:
        series = entry.series
        try:
            over = await series.attempt()
        except P2pshareError as error:
            self._failed(entry, error)
            return
        if self._entries.get(series.id) is entry:
            self._heal(entry)
            self._drop(entry)
            over()

    def _failed(self, entry: _Entry, error: P2pshareError) -> None:
        """Try again later, unless the series was removed."""
        series, person = entry.series, entry.owner
        if self._entries.get(series.id) is not entry:
            return
        if str(error) != str(self._trouble(entry)):
            self._log.info(
                "download waits: id={id} peer={peer} why={why}",
                id=series.id,
                peer=series.peer,
                why=error,
            )
        # The frames of its traceback have the whole try, which would stay in memory as long as the series waits.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        wait = error.fields.get("retry_after")
        at_least = min(float(wait), RETRY_MAX) if isinstance(wait, int) else 0.0
        if not isinstance(error, OF_A_PERSON):
            entry.trouble = error
            self._pause(entry, at_least)
            return
        entry.trouble, person.trouble = None, error
        person.queue[series.id] = entry
        person.queue.move_to_end(series.id, last=False)
        if person.waiting is None:
            delay = person.back_off.next_delay(at_least)
            person.waiting = self._clock.callLater(delay, self._waited, person)
        for each in list(person.queue.values()):
            each.series.changed()

    def _waited(self, person: _Person) -> None:
        person.waiting = None
        self._fill_soon()

    def _pause(self, entry: _Entry, at_least: float = 0.0) -> None:
        """Let a series wait for its next try."""
        if self._entries.get(entry.series.id) is entry and not self._has_stopped:
            delay = entry.back_off.next_delay(at_least)
            entry.waiting = self._clock.callLater(delay, self._enqueue, entry)
            entry.series.changed()

    def _heal(self, entry: _Entry) -> None:
        """Forget troubles, since bytes have arrived."""
        entry.trouble = entry.owner.trouble = None
        entry.back_off.reset()
        entry.owner.back_off.reset()

    def _tried(self, result: object, entry: _Entry, running: Deferred[None]) -> None:
        self._look_at(entry)
        del self._trying[running]
        if self._ending.get(entry.series.id) is entry:
            del self._ending[entry.series.id]
        entry.owner.running -= 1
        entry.running = None
        entry.fetched.clear()
        if isinstance(result, Failure):
            if not result.check(CancelledError):
                self._log.failure("download failed: id={id}", result, id=entry.series.id)
                entry.trouble = LocalProtocolError(reason=result.getErrorMessage())
            self._pause(entry)
        elif self._entries.get(entry.series.id) is entry:
            entry.series.changed()
        self._forget_person(entry.owner)
        ends, entry.ends = entry.ends, []
        for each in ends:
            each.callback(None)
        if not self._trying and self._ticks.running:
            self._ticks.stop()
            self._divide()
        self._fill_soon()

    def _tick_failed(self, failure: Failure) -> None:
        self._log.failure("progress not looked at", failure)

    def _tick(self) -> None:
        """Look at the progress of all tries."""
        now = self._clock.seconds()
        for entry in list(self._trying.values()):
            if self._entries.get(entry.series.id) is not entry or entry.running is None:
                continue
            if self._look_at(entry):
                entry.series.changed()
            if now - entry.moved > STALL and self._is_wanted():
                stalled = f"nothing has arrived for {STALL:g} s"
                entry.trouble = SessionLost(name=entry.series.peer, reason=stalled)
                entry.running.cancel()

        self._divide()

    def _divide(self) -> None:
        """Divide the rate limit among the tries and what is looked at."""
        running = [each for each in self._trying.values() if each.running is not None]
        wanted = [
            GROWTH * each.rate + RATE_MIN if len(each.fetched) == RATE_TICKS else inf
            for each in running
        ]
        wanted.append(GROWTH * self._looks.rate(self._clock.seconds()) + RATE_MIN)
        if self._limit is None:
            shares: Sequence[float | None] = [None] * len(wanted)
        else:
            shares = fair_shares(self._limit, wanted)
        *shares_of_tries, share_of_looks = shares
        for entry, share in zip(running, shares_of_tries, strict=True):
            entry.series.limit(share)
        self._limit_looks(share_of_looks)

    def _is_wanted(self) -> bool:
        """Whether another series waits for its turn."""
        return any(each.queue for each in self._people.values())

    def _look_at(self, entry: _Entry) -> bool:
        """Note the progress of a try; whether something has changed."""
        progress = entry.series.progress()
        if progress is None:
            return False
        arrived = progress.bytes_fetched - (entry.fetched[-1] if entry.fetched else 0)
        done = progress.bytes_done
        if not progress.bytes_fetched:  # a new try has yet to find what is here
            done = max(done, entry.bytes_done)
        has_changed = done != entry.bytes_done or len(set(entry.fetched)) > 1
        if done != entry.bytes_done:
            entry.bytes_done, entry.moved = done, self._clock.seconds()
        entry.fetched.append(progress.bytes_fetched)
        if arrived > 0:
            entry.moved = self._clock.seconds()
            self._heal(entry)
            self.on_received(arrived)
        return has_changed or arrived > 0


def _stop(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
