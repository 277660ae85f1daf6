"""What the registry answers: its routes, and every error as a status, apart from the HTTP around them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import RemoteProtocolError, StoreUnavailable
from p2pshare.names import is_name
from p2pshare.registry.listing import NameList
from p2pshare.registry.store import Claim, NameStore, Outcome
from p2pshare.wire.registration import PeerAddress, Registration, parse_registration

CLASSIC_LEASE = 24 * 3600  # seconds, for those who ask for none
RETRY_AFTER = 2  # seconds


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks."""

    method: bytes
    """`GET` also stands for HEAD, whose reply has the same head."""
    path: bytes
    """Without the leading slash, which originals leave out, and without what follows a `?`."""
    body: bytes
    source: str
    """The client's IP address."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What it is told."""

    status: int
    body: tuple[bytes, ...] = ()
    """In pieces, none larger than a page of names."""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem(status: HTTPStatus, **headers: str) -> Reply:
    """An error with a body that says so (RFC 9457)."""
    body = json.dumps({"title": status.phrase, "status": status.value}).encode()
    named = tuple((key.replace("_", "-").encode(), headers[key].encode()) for key in headers)
    return Reply(status, (body,), b"application/problem+json", named)


DONE = Reply(HTTPStatus.OK)
REFUSED = Reply(HTTPStatus.BAD_REQUEST)
AWAY = problem(HTTPStatus.SERVICE_UNAVAILABLE, Retry_After=str(RETRY_AFTER))
BROKEN = problem(HTTPStatus.INTERNAL_SERVER_ERROR)
NOT_FOUND = problem(HTTPStatus.NOT_FOUND)


_Route = Callable[[Query], Coroutine[Deferred[Any], Any, Reply]]


class Routes:
    """Answers queries out of a store of names."""

    _log = Logger()

    def __init__(
        self, store: NameStore, clock: IReactorTime, *, classic_lease: int = CLASSIC_LEASE
    ) -> None:
        self._store = store
        self._classic_lease = classic_lease
        self._names = NameList(store, clock)
        self._fixed: dict[bytes, tuple[bytes, _Route]] = {
            b"list": (b"GET", self._list),
            b"name": (b"POST", self._register),
            b"healthz": (b"GET", self._alive),
            b"readyz": (b"GET", self._ready),
        }

    def answer(self, query: Query) -> Deferred[Reply]:
        """The reply to a query; this never fails."""
        if query.path.startswith(b"user/"):
            if query.method != b"GET":
                return succeed(_allow(b"GET"))
            name = query.path[5:].decode("latin-1")
            if not is_name(name):
                return succeed(REFUSED)
            return self._store.look_up(name).addCallback(_found).addErrback(self._failed)
        if query.path not in self._fixed:
            return succeed(NOT_FOUND)
        method, route = self._fixed[query.path]
        if query.method != method:
            return succeed(_allow(method))
        return Deferred.fromCoroutine(route(query)).addErrback(self._failed)

    async def _list(self, _query: Query) -> Reply:
        return Reply(HTTPStatus.OK, await self._names.json())

    async def _register(self, query: Query) -> Reply:
        registration = _reachable(parse_registration(query.body), query.source)
        outcome = await self._store.claim(Claim.of(registration, self._classic_lease))
        if outcome in (Outcome.CLAIMED, Outcome.RELEASED):
            self._names.changed()
        return REFUSED if outcome is Outcome.TAKEN else DONE

    async def _alive(self, _query: Query) -> Reply:
        return DONE

    async def _ready(self, _query: Query) -> Reply:
        await self._store.ping()
        return DONE

    def _failed(self, failure: Failure) -> Reply:
        """Every error as a status."""
        if failure.check(RemoteProtocolError):
            self._log.debug("refused: {error!s}", error=failure.value)
            return REFUSED
        if failure.check(StoreUnavailable):
            return AWAY
        self._log.failure("a request could not be answered", failure)
        return BROKEN


def _found(address: PeerAddress | None) -> Reply:
    return REFUSED if address is None else Reply(HTTPStatus.OK, (address.to_json(),))


def _allow(method: bytes) -> Reply:
    allowed = "GET, HEAD" if method == b"GET" else method.decode()
    return problem(HTTPStatus.METHOD_NOT_ALLOWED, Allow=allowed)


def _reachable(registration: Registration, source: str) -> Registration:
    """Put the address that the request came from for one that means nothing on another machine.

    An original, which has no token, binds its sockets to the address that it registers: it knows best.
    """
    given = ipaddress.IPv4Address(registration.address.ip)
    if registration.token is None or not (given.is_loopback or given.is_unspecified):
        return registration
    seen = _ipv4(source)
    if seen is None or seen.is_loopback:
        return registration
    return replace(registration, address=replace(registration.address, ip=str(seen)))


def _ipv4(source: str) -> ipaddress.IPv4Address | None:
    try:
        address = ipaddress.ip_address(source)
    except ValueError:  # a Unix socket has none
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped
    return address
