"""Changes of presence (`GET /v1/events`): one poll of the store for all streams of a process."""

# How a listener catches up, and what is dropped.
#
# The store keeps the last changes in order, each with an id. A stream has a `position`, the id up to which its client
# has been sent everything that it wants. So nothing is sent twice or lost between the two states of a stream:
#
# * *Joining*: the client first gets the present state of the names it asked for, or, if it resumes after an id, the
#   changes since then. They are read page by page, and the next page only when the client has read the one before
#   (`Outlet.drained`). At most `joins_max` streams ask the store at once; others wait in line. So a thousand clients
#   that reconnect after a restart cost the store eight queries at a time.
# * *Live*: the stream gets what the poll finds. A stream goes live when it has caught up with the position of the poll,
#   not before; otherwise it would miss the changes between its last page and the next poll.
#
# The newest id is asked for before the head of the reply is sent. A client that lists the peers after it has seen the
# head can therefore miss no change.
#
# Two things break the order, and the client is told of both by `reset`, followed by the present state of its names:
# its id is not kept any longer (or is of a store that was lost), and the store was set back while it was live. Then the
# client has to list the peers again. A client that does not read is dropped, silently: it reconnects with its last id.
#
# The store is polled rather than subscribed to: a stream in Redis can be read from any point, so a connection to Redis
# that breaks loses no change, which pub/sub cannot promise.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.event_streams import (
    EncodedEvent,
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
from p2pshare.web.client_addresses import Origin
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.problems import RequestError
from p2pshare.web.reply_bodies import Outlet
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence

POLL_INTERVAL = 0.3  # seconds between two polls, while a stream is live
RETRY_INTERVAL = 1.0  # seconds until a store that did not answer is asked again
FLUSH_TIME = 0.1  # seconds for the ends of streams to leave this process when it stops
RECONNECT_AFTER = 3000  # ms that a client waits before it reconnects
REFUSED_RETRY = 30  # seconds, for a client for which there is no stream
HEADERS = (
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),  # a proxy must pass each event on at once
    (b"X-Content-Type-Options", b"nosniff"),
)

T = TypeVar("T")


class EventHub:
    """Sends the changes in the store to all open streams."""

    _log = Logger()

    def __init__(
        self, store: NameStore, clock: IReactorTime, limits: StreamLimits | None = None
    ) -> None:
        self.limits = limits or StreamLimits()
        self._store = store
        self._clock = clock
        self._streams: set[Stream] = set()
        self._live: set[Stream] = set()
        self._joins = DeferredSemaphore(self.limits.joins_max)
        self._position: Position | None = None
        """The position of the poll; None while no stream is live."""
        self._polling = False
        self._next_poll: IDelayedCall | None = None
        self._store_is_away = False
        self._stopped = False
        self._looking = LoopingCall(self._look_after_streams)
        self._looking.clock = clock

    def __len__(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    def table(self, origin: Callable[[Query], Origin]) -> dict[bytes, Route]:
        """Return the route by its path; `origin` tells where a query comes from."""
        return {b"v1/events": Route("events", {b"GET": partial(self._answer, origin)})}

    async def _answer(self, origin: Callable[[Query], Origin], query: Query) -> Reply:
        wanted, address = Wanted.parse(query, self.limits.names_max), origin(query).host
        self.check_room(address)
        newest = await self.newest()
        self.check_room(address)  # others may have come meanwhile
        return Reply(
            HTTPStatus.OK,
            (),
            b"text/event-stream",
            HEADERS,
            stream=partial(self.open, wanted, newest, address),
        )

    def check_room(self, address: str) -> None:
        """Raise `RequestError` if a client at this address cannot have one more stream."""
        if self._stopped or len(self._streams) >= self.limits.streams_max:
            detail = "There are too many event streams."
            raise RequestError("unavailable", detail, retry_after=REFUSED_RETRY)
        own = sum(stream.address == address for stream in self._streams)
        if own >= self.limits.streams_per_address_max:
            detail = "Your address has too many event streams."
            raise RequestError("too-many-requests", detail, retry_after=REFUSED_RETRY)

    async def newest(self) -> str:
        """Return the id of the newest event, with which a stream begins; raises `StoreUnavailable`."""
        return (await self._store.events()).last

    def open(self, wanted: Wanted, newest: str, address: str, outlet: Outlet) -> None:
        """Begin a stream for which there is room."""
        outlet.unsent_max = self.limits.unsent_max
        stream = Stream(wanted, address, outlet, self._clock.seconds())
        self._streams.add(stream)
        if not self._looking.running:
            self._looking.start(self.limits.keep_alive, now=False)
        outlet.when_over(partial(self._forget, stream))
        stream.send(b"retry: %d\n\n" % RECONNECT_AFTER)
        self._join(stream, newest)

    def stop(self) -> Deferred[None]:
        """End all streams; fires when the ends have had time to be sent."""
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
            self._stop_polling()
        if stream.waiting is not None:
            stream.waiting.cancel()

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

    def _join(self, stream: Stream, newest: str | None) -> None:
        """Bring a stream up to date, then let it go live; without a `newest` id, it has missed changes."""
        self._live.discard(stream)
        Deferred.fromCoroutine(self._catch_up(stream, newest)).addErrback(self._fail, stream)

    def _fail(self, failure: Failure, stream: Stream) -> None:
        self._log.failure("event stream failed: address={address}", failure, address=stream.address)
        stream.outlet.drop()

    async def _catch_up(self, stream: Stream, newest: str | None) -> None:
        after, is_reset = stream.wanted.after, newest is None
        if newest is None:
            await self._wait(stream, deferLater(self._clock, POLL_INTERVAL))
            page = await self._ask(stream, self._store.events)
            if page is None:
                return
            newest = page.last
        elif after is not None:
            is_reset = not await self._resume(stream, after, newest)
        if is_reset or after is None:
            await self._send_all(stream, newest, is_reset=is_reset)
        await self._send_changes(stream)

    async def _resume(self, stream: Stream, after: str, newest: str) -> bool:
        """Whether the store still has all changes since the id `after`."""
        if not is_event_id(after) or position_of(after) > position_of(newest):
            return False  # it is malformed, or of a store that was lost
        page = await self._ask(stream, lambda: self._store.events(after, 1))
        if page is None or not page.complete:
            return False
        stream.position = position_of(after)
        return True

    async def _send_all(self, stream: Stream, newest: str, *, is_reset: bool) -> None:
        """Send the present state of the names that the stream asked for."""
        stream.send(event_text("reset", {}, newest) if is_reset else f"id: {newest}\n\n".encode())
        stream.position = position_of(newest)
        for name in sorted(filter(stream.wanted.includes, stream.wanted.names or ())):
            view = await self._ask(stream, partial(self._store.look_up_peer, name))
            if not stream.open:
                return
            nobody = PeerSummary(name, NameKind.CLASSIC, Presence.GONE, None)
            stream.send(presence_text(nobody if view is None else view.summary, newest))

    async def _send_changes(self, stream: Stream) -> None:
        """Send all changes that the store has, then go live."""
        while True:
            await stream.outlet.drained()
            page = await self._ask(stream, lambda: self._since(stream.position))
            if page is None:
                return
            if not page.complete:
                self._join(stream, None)
                return
            events = [EncodedEvent.of(event) for event in page.events]
            stream.follow(events, position_of(page.last))
            is_all = len(page.events) < self.limits.events_max
            if is_all and (self._position is None or stream.position >= self._position):
                break
        if not stream.open:
            return
        self._live.add(stream)
        if self._position is None:
            self._position = stream.position
            self._poll_later(POLL_INTERVAL)

    async def _ask(self, stream: Stream, question: Callable[[], Awaitable[T]]) -> T | None:
        """Ask the store until it answers; None if the stream is over."""
        while stream.open and await self._wait(stream, self._joins.acquire()):
            try:
                answer = await question()
            except StoreUnavailable as error:
                self._store_failed(error)
            else:
                self._store_is_away = False
                return answer if stream.open else None
            finally:
                # Not from here if streams wait: the next one would run, and release, within this call. A store that
                # fails at once would nest the whole line.
                if self._joins.waiting:
                    self._clock.callLater(0, self._joins.release)
                else:
                    self._joins.release()
            await self._wait(stream, deferLater(self._clock, RETRY_INTERVAL))
        return None

    async def _wait(self, stream: Stream, waiting: Deferred[Any]) -> bool:
        """Wait for as long as the stream is open; False if it is over."""
        if not stream.open:
            waiting.cancel()
        stream.waiting = waiting
        try:
            await waiting
        except CancelledError:
            return False
        finally:
            stream.waiting = None
        return True

    # The poll

    def _since(self, position: Position) -> Awaitable[EventPage]:
        return self._store.events(f"{position[0]}-{position[1]}", self.limits.events_max)

    def _poll_later(self, delay: float) -> None:
        if self._next_poll is None and not self._polling:
            self._next_poll = self._clock.callLater(delay, self._begin_to_poll)

    def _stop_polling(self) -> None:
        self._position = None
        if self._next_poll is not None:
            self._next_poll.cancel()
            self._next_poll = None

    def _begin_to_poll(self) -> None:
        self._next_poll = None
        self._polling = True
        polling = Deferred.fromCoroutine(self._poll())
        polling.addErrback(lambda failure: self._log.failure("poll of events failed", failure))

    async def _poll(self) -> None:
        delay = RETRY_INTERVAL
        position = self._position
        try:
            assert position is not None
            page = await self._since(position)
            self._store_is_away = False
            delay = POLL_INTERVAL
            if self._position == position:  # else all clients have left meanwhile
                delay = self._pass_on(page, position)
        except StoreUnavailable as error:
            self._store_failed(error)
        finally:
            self._polling = False
            if self._live:
                self._poll_later(delay)

    def _pass_on(self, page: EventPage, position: Position) -> float:
        """Pass a page to all live streams; return the seconds until the next poll."""
        last = position_of(page.last)
        if not page.complete or last < position:
            live, self._position = tuple(self._live), None
            for stream in live:
                self._join(stream, None)
            return POLL_INTERVAL
        self._position = last
        events = [EncodedEvent.of(event) for event in page.events]
        for stream in tuple(self._live):
            stream.follow(events, last)
        return 0.0 if len(events) >= self.limits.events_max else POLL_INTERVAL

    def _store_failed(self, error: StoreUnavailable) -> None:
        if not self._store_is_away:
            self._store_is_away = True
            self._log.warn("event streams paused: reason={error!s}", error=error)
