"""The table of all routes, by path and method; every error becomes a reply."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import RemoteProtocolError, StoreUnavailable
from p2pshare.registry.api.access import AccessControl
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.claims import Claims
from p2pshare.registry.api.classic import ClassicRoutes
from p2pshare.registry.api.listing import NameList
from p2pshare.registry.api.metrics import RegistryMetrics
from p2pshare.registry.api.rate_limits import Limiter, too_many
from p2pshare.registry.api.v1 import V1Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import NameStore
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.problems import BROKEN, NOT_FOUND, RequestError, answer_to, not_allowed

DONE = Reply(HTTPStatus.OK)


class Routes:
    """Answers queries from a store of names; a `web.exchange.Answers`.

    `table` has the routes by path, without its leading slash. A `*` stands for the last of two or three segments, or
    for the third of four. Callers may add routes.
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
        metrics: RegistryMetrics | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics or RegistryMetrics()
        self.limiter = Limiter(store, clock, settings.limits, Origins(settings.trusted_proxies))
        self.access = AccessControl(store, self.limiter, wall=wall, registry=authority.public)
        """For routes that callers add."""
        names = NameList(store, clock)
        classic = ClassicRoutes(store, names, self.limiter, settings, self._metrics.claim)
        claims = Claims(
            store,
            names,
            self.limiter,
            wall=wall,
            authority=authority,
            invite_only=settings.invite_only,
            count=self._metrics.claim,
        )
        self.v1 = V1Routes(store, claims, wall=wall, authority=authority, settings=settings)
        health = {
            b"healthz": Route("healthz", {b"GET": lambda _query: DONE}),
            b"readyz": Route("readyz", {b"GET": self._ping}),
        }
        self._unlimited = tuple(health.values())
        self.table: dict[bytes, Route] = {**classic.table(), **self.v1.table(), **health}

    def answer(self, query: Query) -> Deferred[Reply]:
        """Return the reply to a query; this never fails."""
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
        origin = self.limiter.origin(query)
        return self.limiter.take("requests", origin, origin.host)

    def _go_on(self, wait: float, route: Route | None, query: Query) -> Reply | Deferred[Reply]:
        return too_many("requests", wait).reply if wait else self._answer(route, query)

    def _find(self, path: bytes) -> Route | None:
        route = self.table.get(path)
        if route is None:
            parts = path.split(b"/", 4)
            if parts[0] == b"user" and len(parts) > 1:
                parts = [b"user", b"*"]  # for originals the rest is a name, which cannot exist
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
        if not isinstance(reply, Deferred):
            reply = Deferred.fromCoroutine(reply)
        return reply.addErrback(self._failed)

    def _count(self, reply: Reply, route: Route | None, method: bytes, since: float) -> Reply:
        label = route.label if route else "none"
        self._metrics.request(label, method, reply.status, self._clock.seconds() - since)
        return reply

    async def _ping(self, _query: Query) -> Reply:
        await self._store.ping()
        return DONE

    def _failed(self, failure: Failure) -> Reply:
        """Return the reply for an error."""
        error = failure.value
        if isinstance(error, StoreUnavailable):
            self._metrics.store_error()
        if isinstance(error, RequestError | RemoteProtocolError | StoreUnavailable):
            return answer_to(error)[1]
        self._log.failure("request failed", failure)
        return BROKEN
