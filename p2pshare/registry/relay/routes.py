"""`GET /v1/relay`: an authenticated end asks for its partner, and becomes one end of a pair by an upgrade of HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred

from p2pshare.errors import RemoteProtocolError
from p2pshare.registry.api.queries import arguments_of
from p2pshare.registry.relay.pairs import RelayEnd
from p2pshare.registry.relay.relay import RETRY_AFTER, Place
from p2pshare.web.client_addresses import Origin
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.problems import RequestError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.access import RELAY_PROTOCOL, Access, Use, detail_of_room
from p2pshare.wire.statements import is_drawn


class AdmitsOwners(Protocol):
    """Decides whether a request comes from the owner of a name: `registry.api.access.AccessControl`."""

    async def admit(self, query: Query, use: Use, detail: str, name: str | None = None) -> Access:
        """Return the verified statement of a request; raises what `Routes` turns into a problem."""


Enter = Callable[[str, str, str], Deferred[RelayEnd]]
"""Waits in a room for a partner: `Rooms.enter`, or the same across workers."""


class RelayRoutes:
    """Joins two ends: each has proven its key, names the other's, and names the same room."""

    def __init__(
        self,
        access: AdmitsOwners,
        enter: Enter,
        refused: Callable[[str], object],
        *,
        origin: Callable[[Query], Origin],
        per_address_max: int,
    ) -> None:
        """Join ends.

        Args:
            access: admits them.
            enter: lets them wait for each other.
            refused: called with the problem of each request that is refused.
            origin: returns where a request came from.
            per_address_max: ends of one address; clients on the registry's own machine are exempt. Anybody can have
                many keys, so the bound of a key does not keep one client from taking all places.
        """
        self._access = access
        self._enter = enter
        self._refused = refused
        self._origin = origin
        self._per_address_max = per_address_max
        self._of_address: Counter[str] = Counter()

    def table(self) -> dict[bytes, Route]:
        """Return the route by its path."""
        return {b"v1/relay": Route("v1-relay", {b"GET": self._join})}

    async def _join(self, query: Query) -> Reply:
        try:
            end = await self._wait(query)
        except RequestError as error:
            self._refused(error.word)
            raise
        except CancelledError:
            raise RequestError("nobody-came") from None  # nobody reads this: the client has left
        upgrade = (b"Upgrade", RELAY_PROTOCOL.encode())
        return Reply(HTTPStatus.SWITCHING_PROTOCOLS, headers=(upgrade,), upgrade=lambda: end)

    async def _wait(self, query: Query) -> RelayEnd:
        arguments = arguments_of(query, {"room", "with"})
        room = arguments.get("room", "")
        if not is_drawn(room):
            raise RemoteProtocolError(reason="room must be 16 to 64 characters of base64url")
        other = PublicKey.parse(arguments.get("with", ""), "the argument with")
        if RELAY_PROTOCOL not in query.upgrades:
            raise RequestError("upgrade-required")
        gone: Deferred[None] = Deferred()
        query.when_gone(lambda: gone.callback(None))
        access = await self._access.admit(query, Use.RELAY, detail_of_room(room, other))
        if access.key == other:
            raise RemoteProtocolError(reason="a peer cannot meet itself")
        place = self._take_place(self._origin(query))
        try:
            waiting = self._enter(room, str(access.key), str(other))
            gone.addCallback(lambda _: waiting.cancel())
            end = await waiting
            if gone.called:  # its partner was there already, so there was nothing to cancel
                end.pair.abort()
                raise CancelledError
        except BaseException:
            place()
            raise
        end.on_lost = place
        return end

    def _take_place(self, origin: Origin) -> Place:
        """Return a place for an end from there; raises `RequestError` if there is none."""
        host, ends = origin.host, self._of_address
        if ends[host] >= self._per_address_max and not origin.is_here:
            detail = "too many sessions of this address are relayed"
            raise RequestError("too-many-requests", detail, retry_after=RETRY_AFTER)
        ends[host] += 1

        def give_back() -> None:
            ends[host] -= 1
            if not ends[host]:
                del ends[host]

        return give_back
