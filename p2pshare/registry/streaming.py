"""A reply without an end, over HTTP: what it costs is bounded, whoever does not read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX, is_name
from p2pshare.registry.api.client_addresses import Origin
from p2pshare.registry.api.event_streams import Full, Wanted
from p2pshare.registry.api.events import EventHub
from p2pshare.registry.api.v1 import arguments_of, part_of_name
from p2pshare.registry.exchange import Query, Reply, Route
from p2pshare.registry.problems import problem

if TYPE_CHECKING:
    from p2pshare.registry.channel import RegistryRequest

EVENT_STREAM = b"text/event-stream"
HEADERS = (
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),  # a proxy is not to wait for more
    (b"X-Content-Type-Options", b"nosniff"),
)
PARAMETERS = frozenset({"names", "prefix", "after"})
RETRY = 30  # seconds, for a client for which there is no stream


@dataclass(frozen=True, slots=True)
class StreamReply(Reply):
    """The head of a stream, and what follows."""

    refusal: Callable[[], Reply | None] = lambda: None
    """What to reply instead; asked just before the head is written."""
    begin: Callable[[RegistryRequest], None] = lambda _request: None
    """Called when the head is written, unless the request was only for the head."""


class EventRoutes:
    """`v1/events`."""

    def __init__(self, hub: EventHub, origin: Callable[[Query], Origin]) -> None:
        self._hub = hub
        self._origin = origin

    def table(self) -> dict[bytes, Route]:
        """The route by its path."""
        return {b"v1/events": Route("events", {b"GET": self._watch})}

    def _watch(self, query: Query) -> Deferred[Reply]:
        return Deferred.fromCoroutine(self._answer(query))

    async def _answer(self, query: Query) -> Reply:
        wanted, address = read_wanted(query, self._hub.limits.names_max), self._origin(query).host
        refused = self._refusal(address)
        if refused is not None:
            return refused
        newest = await self._hub.newest()  # before the head: who lists after it misses nothing

        def begin(request: RegistryRequest) -> None:
            outlet = StreamOutlet(request, self._hub.limits.unsent_max)
            outlet.when_over(self._hub.open(wanted, newest, address, outlet))

        return StreamReply(
            HTTPStatus.OK,
            (),
            EVENT_STREAM,
            HEADERS,
            refusal=lambda: self._refusal(address),
            begin=begin,
        )

    def _refusal(self, address: str) -> Reply | None:
        full = self._hub.refusal(address)
        if full is Full.HERE:
            return problem("unavailable", "There are too many event streams.", retry_after=RETRY)
        if full is Full.FOR_ADDRESS:
            return problem(
                "too-many-requests", "Your address has too many event streams.", retry_after=RETRY
            )
        return None


def read_wanted(query: Query, names_max: int) -> Wanted:
    """What a query asks to be told.

    Raises:
        RemoteProtocolError: it asks for what cannot be.
    """
    given = arguments_of(query, PARAMETERS)
    names = given.get("names")
    listed = None if names is None else names.split(",")
    if listed is not None and len(listed) > names_max:
        raise RemoteProtocolError(reason=f"there are more than {names_max} names")
    for name in listed or ():
        if not is_name(name):
            raise RemoteProtocolError(reason=f"{name[:NAME_MAX]!r} is no name")
    after = query.header(b"Last-Event-ID") or given.get("after") or None
    return Wanted(
        None if listed is None else frozenset(listed),
        part_of_name(given, "prefix"),
        after,
    )


class StreamOutlet:
    """Writes a stream as fast as the client takes it (an `Outlet` and an `IPushProducer`)."""

    stalled_since: float | None = None

    def __init__(self, request: RegistryRequest, unsent_max: int) -> None:
        self._request = request
        self._unsent_max = unsent_max
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._is_over = False
        self._drained: Deferred[None] | None = None
        self._then: Callable[[], None] = lambda: None
        request.notifyFinish().addBoth(self._over)
        request.registerProducer(self, True)

    def when_over(self, then: Callable[[], None]) -> None:
        """Call this when the stream is over, or now if it is already."""
        self._then = then
        if self._is_over:
            then()

    def write(self, text: bytes) -> None:
        """See `Outlet`."""
        if self._is_over:
            return
        if self.stalled_since is None:
            self._request.write(text)
            return
        self._unsent.append(text)
        self._unsent_size += len(text)
        if self._unsent_size > self._unsent_max:
            self.drop()

    def drained(self) -> Deferred[None]:
        """See `Outlet`."""
        if self._is_over or self.stalled_since is None:
            return succeed(None)
        if self._drained is None:
            self._drained = Deferred()
        return self._drained

    def finish(self) -> None:
        """See `Outlet`."""
        if self._is_over:
            return
        self._flush()
        self._request.unregisterProducer()
        self._request.finish()

    def drop(self) -> None:
        """See `Outlet`."""
        if not self._is_over:
            self._request.channel.transport.abortConnection()
            self._over(None)

    def resumeProducing(self) -> None:
        """Write what has come together."""
        self.stalled_since = None
        if not self._is_over:
            self._flush()
        if self.stalled_since is None:
            self._tell_drained()

    def pauseProducing(self) -> None:
        """Keep what comes."""
        if self.stalled_since is None:
            self.stalled_since = self._request.channel.factory.reactor.seconds()

    def stopProducing(self) -> None:
        """Stop: the client has left."""
        self._over(None)

    def _flush(self) -> None:
        unsent, self._unsent, self._unsent_size = b"".join(self._unsent), [], 0
        if unsent:
            self._request.write(unsent)

    def _over(self, _result: object) -> None:
        if not self._is_over:
            self._is_over = True
            self._unsent = []
            self._then()
            self._tell_drained()

    def _tell_drained(self) -> None:
        waiting, self._drained = self._drained, None
        if waiting is not None:
            waiting.callback(None)
