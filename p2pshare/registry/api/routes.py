"""What the registry answers: its routes, and every error as a status, apart from the HTTP around them."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import RemoteProtocolError, StoreRecovering, StoreUnavailable
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.claims import Claims
from p2pshare.registry.api.classic import ClassicRoutes
from p2pshare.registry.api.listing import NameList
from p2pshare.registry.api.rate_limits import Limiter, too_many
from p2pshare.registry.api.v1 import V1Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import NameStore
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.problems import (
    AWAY,
    BROKEN,
    NOT_FOUND,
    RequestError,
    not_allowed,
    problem,
)

DONE = Reply(HTTPStatus.OK)
RECOVERING_RETRY = 30  # seconds, at most


class Metrics(Protocol):
    """What counts."""

    def request(self, route: str, method: bytes, status: int, seconds: float) -> None:
        """A request was answered."""

    def claim(self, outcome: str) -> None:
        """A claim was judged: `claimed`, `renewed` or the word of a problem; a classic one has `classic-` before it."""

    def store_error(self) -> None:
        """The store did not do what it should."""


class _NoMetrics:
    def request(self, route: str, method: bytes, status: int, seconds: float) -> None:
        pass

    def claim(self, outcome: str) -> None:
        pass

    def store_error(self) -> None:
        pass


class Routes:
    """Answers queries out of a store of names.

    `table` has the routes: by path, without its leading slash; a `*` stands for the last of two or three segments, or
    the third of four. Further routes can be put there.
    """

    _log = Logger()

    def __init__(
        self,
        store: NameStore,
        clock: IReactorTime,
        *,
        wall: Callable[[], float],
        authority: Authority,
        settings: RegistrySettings,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics: Metrics = metrics or _NoMetrics()
        self._limiter = Limiter(store, clock, settings.limits, Origins(settings.trusted_proxies))
        names = NameList(store, clock)
        classic = ClassicRoutes(store, names, self._limiter, settings, self._metrics.claim)
        claims = Claims(
            store,
            names,
            self._limiter,
            wall=wall,
            authority=authority,
            settings=settings,
            count=self._metrics.claim,
        )
        v1 = V1Routes(store, claims, wall=wall, authority=authority, settings=settings)
        health = {
            b"healthz": Route("healthz", {b"GET": self._alive}),
            b"readyz": Route("readyz", {b"GET": self._ready}),
        }
        self._unlimited = tuple(health.values())
        self.table: dict[bytes, Route] = {**classic.table(), **v1.table(), **health}

    def answer(self, query: Query) -> Deferred[Reply]:
        """The reply to a query; this never fails."""
        since = self._clock.seconds()
        route = self._find(query.path)
        wait = 0.0 if route in self._unlimited else self._take(query)
        if wait == 0:
            reply = self._answer(route, query)
        elif isinstance(wait, Deferred):
            reply = wait.addCallback(self._go_on, route, query)
        else:
            reply = succeed(too_many("requests", wait).reply)
        return reply.addCallback(self._count, route, query.method, since)

    def _take(self, query: Query) -> float | Deferred[float]:
        origin = self._limiter.origin(query)
        return self._limiter.take("requests", origin, origin.host)

    def _go_on(self, wait: float, route: Route | None, query: Query) -> Reply | Deferred[Reply]:
        return too_many("requests", wait).reply if wait else self._answer(route, query)

    def _find(self, path: bytes) -> Route | None:
        route = self.table.get(path)
        if route is None:
            parts = path.split(b"/", 4)
            if parts[0] == b"user" and len(parts) > 1:
                parts = [b"user", b"*"]  # to originals all of it is a name, and one that is none
            elif len(parts) in (2, 3):
                parts[-1] = b"*"
            elif len(parts) == 4:
                parts[2] = b"*"
            route = self.table.get(b"/".join(parts))
        return route

    def _answer(self, route: Route | None, query: Query) -> Deferred[Reply]:
        if route is None:
            return succeed(NOT_FOUND)
        answer = route.methods.get(query.method)
        if answer is None:
            return succeed(not_allowed(route.allowed))
        try:
            reply = answer(query)
        except Exception:
            return succeed(self._failed(Failure()))
        if isinstance(reply, Reply):
            return succeed(reply)
        return reply.addErrback(self._failed)

    def _count(self, reply: Reply, route: Route | None, method: bytes, since: float) -> Reply:
        label = route.label if route else "none"
        self._metrics.request(label, method, reply.status, self._clock.seconds() - since)
        return reply

    def _alive(self, _query: Query) -> Reply:
        return DONE

    def _ready(self, _query: Query) -> Deferred[Reply]:
        return Deferred.fromCoroutine(self._ping())

    async def _ping(self) -> Reply:
        await self._store.ping()
        return DONE

    def _failed(self, failure: Failure) -> Reply:
        """Every error as a reply."""
        error = failure.value
        if isinstance(error, RequestError):
            return error.reply
        if isinstance(error, RemoteProtocolError):
            return problem("malformed", str(error.fields["reason"]))
        if isinstance(error, StoreUnavailable):
            self._metrics.store_error()
            if isinstance(error, StoreRecovering):
                seconds = min(RECOVERING_RETRY, int(str(error.fields["seconds"])))
                return problem("recovering", str(error), retry_after=max(1, seconds))
            return AWAY
        self._log.failure("a request could not be answered", failure)
        return BROKEN
