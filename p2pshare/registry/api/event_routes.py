"""The route of the stream of presence changes (`GET /v1/events`)."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from twisted.internet.defer import Deferred

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX, is_name
from p2pshare.registry.api.event_streams import Full, Wanted
from p2pshare.registry.api.events import EventHub
from p2pshare.registry.api.v1 import arguments_of, part_of_name
from p2pshare.web.client_addresses import Origin
from p2pshare.web.exchange import LastingRequest, Query, Reply, Route, StreamReply
from p2pshare.web.problems import problem
from p2pshare.web.streams import EVENT_STREAM, HEADERS, StreamOutlet

PARAMETERS = frozenset({"names", "prefix", "after"})
RETRY = 30  # seconds, for a client for which there is no stream


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

        def begin(request: LastingRequest) -> None:
            outlet = StreamOutlet(request, self._hub.limits.unsent_max, self._hub.seconds)
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
