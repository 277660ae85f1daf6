"""The routes of the original system: a name belongs to who asks first, for as long as its lease."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from p2pshare.classic.registration import Registration, parse_registration
from p2pshare.errors import RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.registry.api.listing import NameList
from p2pshare.registry.api.rate_limits import Limiter
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import Claim, NameStore, Outcome
from p2pshare.web.exchange import Answer, Query, Reply, Route
from p2pshare.wire.addresses import PeerAddress, address_fault

DONE = Reply(HTTPStatus.OK)
REFUSED = Reply(HTTPStatus.BAD_REQUEST)


class ClassicRoutes:
    """`list`, `user/NAME` and `name`, which originals ask for; their errors have no body."""

    _log = Logger()

    def __init__(
        self,
        store: NameStore,
        names: NameList,
        limiter: Limiter,
        settings: RegistrySettings,
        claimed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._names = names
        self._limiter = limiter
        self._settings = settings
        self._claimed = claimed

    def table(self) -> dict[bytes, Route]:
        """The routes by path."""
        return {
            b"list": Route("list", {b"GET": _coroutine(self._list)}),
            b"user/*": Route("user", {b"GET": self._look_up}),
            b"name": Route("name", {b"POST": _coroutine(self._register)}),
        }

    def _look_up(self, query: Query) -> Deferred[Reply]:
        name = query.path[5:].decode("latin-1")
        if not is_name(name):
            return succeed(REFUSED)
        return self._store.look_up(name).addCallback(_found)

    async def _list(self, _query: Query) -> Reply:
        return Reply(HTTPStatus.OK, await self._names.json())

    async def _register(self, query: Query) -> Reply:
        origin = self._limiter.origin(query)
        try:
            registration = _reachable(parse_registration(query.body), origin.ip)
            _expect_usable(registration.address)
        except RemoteProtocolError as error:
            self._log.debug("refused: {error!s}", error=error)
            return REFUSED
        await self._limiter.admit("claims", origin, origin.host)
        matters = self._settings.invite_only or not self._limiter.spares("names", origin)
        if matters and registration.lease != 0 and await self._is_new(registration.name):
            if self._settings.invite_only:
                return REFUSED
            await self._limiter.admit("names", origin, origin.network)
        outcome = await self._store.claim(Claim.of(registration, self._settings.classic_lease))
        self._claimed(f"classic-{outcome.value}")
        if outcome in (Outcome.CLAIMED, Outcome.RELEASED):
            self._log.info(
                "{name}, a classic one, is {outcome}", name=registration.name, outcome=outcome.value
            )
            self._names.changed()
        return REFUSED if outcome is Outcome.TAKEN else DONE

    async def _is_new(self, name: str) -> bool:
        return await self._store.look_up(name) is None


def _coroutine(
    answer: Callable[[Query], Coroutine[Deferred[Any], Any, Reply]],
) -> Answer:
    return lambda query: Deferred.fromCoroutine(answer(query))


def _found(address: PeerAddress | None) -> Reply:
    return REFUSED if address is None else Reply(HTTPStatus.OK, (address.to_json(),))


def _expect_usable(address: PeerAddress) -> None:
    """Reject an address that no record may have either; raises `RemoteProtocolError`."""
    fault = address_fault(address.ip)
    if fault is not None:
        raise RemoteProtocolError(reason=f"the address {address} {fault}")


def _reachable(registration: Registration, source: str) -> Registration:
    """Put the address that the request came from for one that means nothing on another machine.

    An original, which has no token, binds its sockets to the address that it registers: it knows best.
    """
    given = ipaddress.IPv4Address(registration.address.ip)
    if registration.token is None or not (given.is_loopback or given.is_unspecified):
        return registration
    try:
        seen = ipaddress.IPv4Address(source)
    except ValueError:  # it is an IPv6 address, or a Unix socket's, which is none
        return registration
    if seen.is_loopback:
        return registration
    return replace(registration, address=replace(registration.address, ip=str(seen)))
