"""The routes of the original protocol: a name belongs to the first client that asks, until its lease ends."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from p2pshare.classic.registration import Registration, parse_registration
from p2pshare.errors import RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.registry.api.listing import NameList
from p2pshare.registry.api.rate_limits import Limiter
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import Claim, NameStore, Outcome
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.wire.addresses import PeerAddress, address_fault

DONE = Reply(HTTPStatus.OK)
REFUSED = Reply(HTTPStatus.BAD_REQUEST)


class ClassicRoutes:
    """`list`, `user/NAME` and `name`, as originals request them; their errors have no body."""

    _log = Logger()

    def __init__(
        self,
        store: NameStore,
        names: NameList,
        limiter: Limiter,
        settings: RegistrySettings,
        count: Callable[[str], None],
    ) -> None:
        """Answer from `store`; `count` is called with the outcome of each claim."""
        self._store = store
        self._names = names
        self._limiter = limiter
        self._settings = settings
        self._count = count

    def table(self) -> dict[bytes, Route]:
        """Return the routes by path."""
        return {
            b"list": Route("list", {b"GET": self._list}),
            b"user/*": Route("user", {b"GET": self._look_up}),
            b"name": Route("name", {b"POST": self._register}),
        }

    def _look_up(self, query: Query) -> Deferred[Reply]:
        name = query.path[5:].decode("latin-1")
        if not is_name(name):
            return succeed(REFUSED)
        return self._store.look_up(name).addCallback(_address)

    async def _list(self, _query: Query) -> Reply:
        return Reply(HTTPStatus.OK, await self._names.json())

    async def _register(self, query: Query) -> Reply:
        origin = self._limiter.origin(query)
        try:
            registration = _reachable(parse_registration(query.body), origin.ip)
            fault = address_fault(registration.address.ip)
            if fault is not None:  # no record may have this address either
                raise RemoteProtocolError(reason=f"the address {registration.address} {fault}")
        except RemoteProtocolError as error:
            self._log.debug("classic registration rejected: reason={error!s}", error=error)
            return REFUSED
        await self._limiter.admit("claims", origin)
        is_limited = self._settings.invite_only or not self._limiter.spares("names", origin)
        may_be_new = is_limited and registration.lease != 0
        if may_be_new and await self._store.look_up(registration.name) is None:
            if self._settings.invite_only:
                return REFUSED
            await self._limiter.admit("names", origin)
        lease = self._settings.classic_lease if registration.lease is None else registration.lease
        claim = Claim.of(registration.name, registration.address, lease, registration.token)
        outcome = await self._store.claim(claim)
        self._count(f"classic-{outcome.value}")
        if outcome in (Outcome.CLAIMED, Outcome.RELEASED):
            self._log.info(
                "classic name changed: name={name} outcome={outcome}",
                name=registration.name,
                outcome=outcome.value,
            )
            self._names.changed()
        return REFUSED if outcome is Outcome.TAKEN else DONE


def _address(address: PeerAddress | None) -> Reply:
    return REFUSED if address is None else Reply(HTTPStatus.OK, (address.to_json(),))


def _reachable(registration: Registration, source: str) -> Registration:
    """Replace an address that is valid on the peer's machine only by the one that the request came from.

    Only for peers of ours, which send a token. An original binds its sockets to the address that it registers.
    """
    given = ipaddress.IPv4Address(registration.address.ip)
    if registration.token is None or not (given.is_loopback or given.is_unspecified):
        return registration
    try:
        seen = ipaddress.IPv4Address(source)
    except ValueError:  # an IPv6 address, or none for a Unix socket
        return registration
    if seen.is_loopback:
        return registration
    return replace(registration, address=replace(registration.address, ip=str(seen)))
