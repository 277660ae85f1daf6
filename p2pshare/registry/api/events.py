"""Changes of presence for those who watch (`GET /v1/events`): one poll of the store for all of them.

A stream is first *joining*: it is told the present state of the names that it asked for, or what it has missed since
the event that it saw last, page by page and only as fast as it reads. Once it has seen all that there was it is
*live*: it gets what the poll finds. A stream knows its position, so that nothing is told twice or left out where
joining ends and the poll goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.admission_queue import AdmissionQueue
from p2pshare.registry.api.event_streams import (
    Full,
    News,
    Outlet,
    Position,
    Stream,
    StreamLimits,
    Wanted,
    event_text,
    is_event_id,
    position_of,
    presence_text,
)
from p2pshare.registry.store import EventPage, NameStore
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence

POLL_INTERVAL = 0.3  # seconds between two polls, while somebody watches
RETRY_INTERVAL = 1.0  # seconds until the store is asked again that did not answer
FLUSH_TIME = 0.1  # seconds for the ends of streams to leave this process when it stops
RECONNECT_AFTER = 3000  # ms: what a client is told to wait

T = TypeVar("T")


class EventHub:
    """Tells all open streams what the store says."""

    _log = Logger()

    def __init__(
        self, store: NameStore, clock: IReactorTime, limits: StreamLimits | None = None
    ) -> None:
        self.limits = limits or StreamLimits()
        self._store = store
        self._clock = clock
        self._streams: set[Stream] = set()
        self._live: set[Stream] = set()
        self._turns = AdmissionQueue(self.limits.joins_max, clock)
        self._position: Position | None = None
        self._polling = False
        self._next_poll: IDelayedCall | None = None
        self._store_is_away = False
        self._stopped = False
        self._looking = LoopingCall(self._look_after_streams)
        self._looking.clock = clock

    def seconds(self) -> float:
        """The time by which streams are measured."""
        return self._clock.seconds()

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def refusal(self, address: str) -> Full | None:
        """Why a client at this address cannot have one more stream; None if it can."""
        if self._stopped or len(self._streams) >= self.limits.streams_max:
            return Full.HERE
        own = sum(stream.address == address for stream in self._streams)
        if own >= self.limits.streams_per_address_max:
            return Full.FOR_ADDRESS
        return None

    async def newest(self) -> str:
        """The id of the newest event: what a stream begins with. Raises `StoreUnavailable`."""
        return (await self._store.events()).last

    def open(self, wanted: Wanted, newest: str, address: str, outlet: Outlet) -> Callable[[], None]:
        """Begin a stream for which there is no `refusal`; call what is returned when its client is gone."""
        stream = Stream(wanted, address, outlet, self._clock.seconds())
        self._streams.add(stream)
        if not self._looking.running:
            self._looking.start(self.limits.keep_alive, now=False)
        stream.tell(b"retry: %d\n\n" % RECONNECT_AFTER)
        self._begin(stream, self._join(stream, newest))
        return lambda: self._forget(stream)

    def stop(self) -> Deferred[None]:
        """End all streams; fires when their clients could have been told."""
        self._stopped = True
        ending = tuple(self._streams)
        for stream in ending:
            stream.outlet.finish()
        return deferLater(self._clock, FLUSH_TIME if ending else 0.0)

    def _forget(self, stream: Stream) -> None:
        if not stream.open:
            return
        stream.open = False
        self._streams.discard(stream)
        self._live.discard(stream)
        if not self._streams and self._looking.running:
            self._looking.stop()
        if not self._live:
            self._rest()
        self._turns.leave(stream)
        if stream.pause is not None:
            stream.pause.cancel()

    def _look_after_streams(self) -> None:
        now, limits = self._clock.seconds(), self.limits
        for stream in tuple(self._streams):
            stalled = stream.outlet.stalled_since
            if stalled is not None and now - stalled >= limits.stalled_max:
                stream.outlet.drop()
            elif now - stream.opened >= limits.life:
                stream.outlet.finish()
            else:
                stream.keep_alive()

    # Joining

    def _begin(self, stream: Stream, joining: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(joining).addErrback(lambda failure: self._fail(stream, failure))

    def _fail(self, stream: Stream, failure: Failure) -> None:
        self._log.failure("an event stream could not go on", failure)
        if stream.open:
            stream.outlet.drop()

    async def _join(self, stream: Stream, newest: str) -> None:
        after = stream.wanted.after
        if after is None or not await self._resume(stream, after, newest):
            await self._tell_all(stream, newest, is_reset=after is not None)
        await self._catch_up(stream)

    async def _join_anew(self, stream: Stream) -> None:
        """Tell a stream that it has missed something, and the present state."""
        await self._pause(stream, POLL_INTERVAL)
        newest = await self._ask(stream, self._store.events)
        if newest is not None:
            await self._tell_all(stream, newest.last, is_reset=True)
            await self._catch_up(stream)

    async def _resume(self, stream: Stream, after: str, newest: str) -> bool:
        """Whether all that happened since is still known."""
        if not is_event_id(after) or position_of(after) > position_of(newest):
            return False  # it is no id, or one of a store that was lost
        page = await self._ask(stream, lambda: self._store.events(after, 1))
        if page is None or not page.complete:
            return False
        stream.position = position_of(after)
        return True

    async def _tell_all(self, stream: Stream, newest: str, *, is_reset: bool) -> None:
        if is_reset:
            stream.tell(event_text("reset", {}, newest))
        else:
            stream.tell(f"id: {newest}\n\n".encode())
        stream.position = position_of(newest)
        await self._tell_states(stream, newest)

    async def _tell_states(self, stream: Stream, id: str) -> None:
        for name in sorted(filter(stream.wanted.includes, stream.wanted.names or ())):
            view = await self._ask(stream, partial(self._store.look_up_peer, name))
            if not stream.open:
                return
            nobody = PeerSummary(name, NameKind.CLASSIC, Presence.GONE, None)
            stream.tell(presence_text(nobody if view is None else view.summary, id))

    async def _catch_up(self, stream: Stream) -> None:
        """Tell all that there is, then go live."""
        while True:
            await stream.outlet.drained()
            page = await self._ask(stream, lambda: self._since(stream.position))
            if page is None:
                return
            if not page.complete:
                self._start_anew(stream)
                return
            stream.follow([News.of(event) for event in page.events], position_of(page.last))
            is_all = len(page.events) < self.limits.events_max
            if is_all and (self._position is None or stream.position >= self._position):
                break
        if not stream.open:
            return
        self._live.add(stream)
        if self._position is None:
            self._position = stream.position
            self._poll_later(POLL_INTERVAL)

    def _start_anew(self, stream: Stream) -> None:
        self._live.discard(stream)
        self._begin(stream, self._join_anew(stream))

    async def _ask(self, stream: Stream, question: Callable[[], Awaitable[T]]) -> T | None:
        """Ask the store until it answers; None if the stream is over."""
        while stream.open:
            turn = await self._turns.take(stream)
            if turn is None:
                break
            try:
                answer = await question()
            except StoreUnavailable as error:
                self._store_failed(error)
            else:
                self._store_is_away = False
                return answer if stream.open else None
            finally:
                self._turns.end(turn)
            await self._pause(stream, RETRY_INTERVAL)
        return None

    async def _pause(self, stream: Stream, delay: float) -> None:
        """Wait, for as long as the stream is open."""
        if stream.open:
            stream.pause = deferLater(self._clock, delay)
            with suppress(CancelledError):
                await stream.pause
            stream.pause = None

    # The poll

    def _since(self, position: Position) -> Awaitable[EventPage]:
        return self._store.events(f"{position[0]}-{position[1]}", self.limits.events_max)

    def _poll_later(self, delay: float) -> None:
        if self._next_poll is None and not self._polling:
            self._next_poll = self._clock.callLater(delay, self._begin_to_poll)

    def _rest(self) -> None:
        self._position = None
        if self._next_poll is not None:
            self._next_poll.cancel()
            self._next_poll = None

    def _begin_to_poll(self) -> None:
        self._next_poll = None
        self._polling = True
        polling = Deferred.fromCoroutine(self._poll())
        polling.addErrback(lambda failure: self._log.failure("events could not be read", failure))

    async def _poll(self) -> None:
        delay = RETRY_INTERVAL
        position = self._position
        try:
            assert position is not None
            page = await self._since(position)
            self._store_is_away = False
            delay = POLL_INTERVAL
            if self._position == position:  # else all have left meanwhile
                delay = self._take(page, position)
        except StoreUnavailable as error:
            self._store_failed(error)
        finally:
            self._polling = False
            if self._live:
                self._poll_later(delay)

    def _take(self, page: EventPage, position: Position) -> float:
        """Pass a page on; how long to wait for the next."""
        last = position_of(page.last)
        if not page.complete or last < position:
            live, self._position = tuple(self._live), None
            for stream in live:
                self._start_anew(stream)
            return POLL_INTERVAL
        self._position = last
        news = [News.of(event) for event in page.events]
        for stream in tuple(self._live):
            stream.follow(news, last)
        return 0.0 if len(news) >= self.limits.events_max else POLL_INTERVAL

    def _store_failed(self, error: StoreUnavailable) -> None:
        if not self._store_is_away:
            self._store_is_away = True
            self._log.warn("who watches has to wait: {error!s}", error=error)
