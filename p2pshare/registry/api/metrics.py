"""What a registry measures of itself, in the text format of Prometheus.

With several worker processes the parent sets `PROMETHEUS_MULTIPROC_DIR` to an empty folder before the first import of
this module in any of them: then each counts in files there, and any of them can be asked for the sum. No label holds
what comes from a client.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.store import Counts, NameStore
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.limits import Limits
from p2pshare.web.problems import BROKEN, NOT_FOUND, not_allowed, problem
from p2pshare.web.site import Site

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PULSE_INTERVAL = 0.5  # seconds between two measurements of the event loop
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)  # seconds
LAGS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1)  # seconds
METHODS = {b"GET": "GET", b"PUT": "PUT", b"POST": "POST", b"DELETE": "DELETE"}
SITE_LIMITS = Limits(connections_max=32, connections_per_address_max=32)
"""Of the endpoint for the metrics alone."""
UNAUTHORIZED = replace(
    problem("unauthorized"), headers=((b"WWW-Authenticate", b'Bearer realm="metrics"'),)
)


class RegistryMetrics:
    """Counts what a registry does."""

    def __init__(self) -> None:
        self._is_shared = FOLDER_VARIABLE in os.environ
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "p2pshare_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._latencies = Histogram(
            "p2pshare_request_seconds",
            "Time from a whole request to its reply.",
            ["route"],
            registry=registry,
            buckets=LATENCIES,
        )
        self._claims = Counter(
            "p2pshare_claims", "Claims judged, by outcome.", ["outcome"], registry=registry
        )
        self._limited = Counter(
            "p2pshare_limited", "Requests refused by a limit.", ["route"], registry=registry
        )
        self._store_errors = Counter(
            "p2pshare_store_errors", "Requests that the store did not serve.", registry=registry
        )
        self._connections = Gauge(
            "p2pshare_open_connections",
            "Connections of clients.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._streams = Gauge(
            "p2pshare_open_streams",
            "Clients that watch presence.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._lag = Histogram(
            "p2pshare_event_loop_lag_seconds",
            "How late the event loop ran what was due.",
            registry=registry,
            buckets=LAGS,
        )
        if not self._is_shared:
            ProcessCollector(registry=registry)
        self._known: dict[
            tuple[str, bytes, int], tuple[Callable[[], None], Callable[[float], None]]
        ] = {}

    def request(self, route: str, method: bytes, status: int, seconds: float) -> None:
        """A request was answered."""
        if method not in METHODS:
            method = b""
        key = (route, method, status // 100)
        known = self._known.get(key)
        if known is None:
            labels = (route, METHODS.get(method, "other"), f"{status // 100}xx")
            counted, timed = self._requests.labels(*labels), self._latencies.labels(route)
            known = self._known[key] = (counted.inc, timed.observe)
        known[0]()
        known[1](seconds)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._limited.labels(route).inc()

    def claim(self, outcome: str) -> None:
        """A claim was judged."""
        self._claims.labels(outcome).inc()

    def store_error(self) -> None:
        """The store did not do what it should."""
        self._store_errors.inc()

    def pulse(self, lag: float, connections: int, streams: int) -> None:
        """The event loop was `lag` seconds late; so much is open."""
        self._lag.observe(lag)
        self._connections.set(connections)
        self._streams.set(streams)

    def text(self, counts: Counts | None) -> bytes:
        """All of it, of all processes; `counts` is what the store says, None if it does not answer."""
        registry = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry) + generate_latest(_Names(counts))


class _Names(CollectorRegistry):
    """What the store says, as it is at this moment."""

    def __init__(self, counts: Counts | None) -> None:
        super().__init__()
        self._counts = counts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        up = 0 if self._counts is None else 1
        yield GaugeMetricFamily("p2pshare_store_up", "Whether the store of names answers.", up)
        if self._counts is None:
            return
        for name, text, value in (
            ("p2pshare_names", "Names that are somebody's.", self._counts.names),
            ("p2pshare_names_online", "Owned names whose peer is there.", self._counts.online),
            ("p2pshare_names_classic", "Names that no key owns.", self._counts.classic),
        ):
            yield GaugeMetricFamily(name, text, value)


class Pulse(Service):
    """Measures how late the event loop is, and what is open."""

    def __init__(
        self,
        metrics: RegistryMetrics,
        clock: IReactorTime,
        connections: Callable[[], int],
        streams: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._connections = connections
        self._streams = streams
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._wait()

    def stopService(self) -> None:
        """Stop."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _wait(self) -> None:
        due = self._clock.seconds() + PULSE_INTERVAL
        self._next = self._clock.callLater(PULSE_INTERVAL, self._beat, due)

    def _beat(self, due: float) -> None:
        lag = max(0.0, self._clock.seconds() - due)
        self._metrics.pulse(lag, self._connections(), self._streams())
        self._wait()


class MetricsRoutes:
    """Answers `GET /metrics`: to everybody, where it is alone on an endpoint; else to who has the token."""

    _log = Logger()

    def __init__(
        self, metrics: RegistryMetrics, store: NameStore, token: str | None = None
    ) -> None:
        """Make one; without a `token` the public route does not exist."""
        self._metrics = metrics
        self._store = store
        self._token = None if token is None else token.encode()

    def table(self) -> dict[bytes, Route]:
        """The public route by its path."""
        return {b"metrics": Route("metrics", {b"GET": self._answer_holder})}

    def answer(self, query: Query) -> Deferred[Reply]:
        """The reply on the endpoint for metrics alone; this never fails."""
        if query.path != b"metrics":
            return succeed(NOT_FOUND)
        if query.method != b"GET":
            return succeed(not_allowed("HEAD, GET"))
        return Deferred.fromCoroutine(self._measure()).addErrback(self._failed)

    def _answer_holder(self, query: Query) -> Deferred[Reply]:
        if self._token is None:
            return succeed(NOT_FOUND)
        scheme, _, given = query.header(b"Authorization").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not is_right:
            return succeed(UNAUTHORIZED)
        return Deferred.fromCoroutine(self._measure())

    async def _measure(self) -> Reply:
        counts = None
        try:
            counts = await self._store.count()
        except StoreUnavailable as error:
            self._log.debug("the names could not be counted: {error!s}", error=error)
        text = self._metrics.text(counts)
        return Reply(
            HTTPStatus.OK,
            (text,),
            CONTENT_TYPE_LATEST.encode(),
            ((b"Cache-Control", b"no-store"),),
        )

    def _failed(self, failure: Failure) -> Reply:
        self._log.failure("the metrics could not be told", failure)
        return BROKEN


def metrics_site(
    metrics: RegistryMetrics, store: NameStore, clock: IReactorTime, wall: Callable[[], float]
) -> Site:
    """The server for an endpoint of its own."""
    return Site(MetricsRoutes(metrics, store), clock, SITE_LIMITS, wall=wall)
