"""The measurements of a registry, in the text format of Prometheus.

With several worker processes the parent sets `PROMETHEUS_MULTIPROC_DIR` to an empty folder before the first import of
this module in any of them. Then each process counts in files there, and any of them can be asked for the sum. No label
has a value that comes from a client.
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
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
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
    """The counters of one process."""

    def __init__(self) -> None:
        self._is_shared = FOLDER_VARIABLE in os.environ
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "p2pshare_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        text = "Time from a complete request to its reply."
        self._latencies = Histogram(
            "p2pshare_request_seconds", text, ["route"], registry=registry, buckets=LATENCIES
        )
        self._claims, self._signals, self._limited, self._store_errors, *relay = (
            Counter(f"p2pshare_{name}", text, labels, registry=registry)
            for name, text, labels in (
                ("claims", "Claims, by outcome.", ["outcome"]),
                ("signals", "Signals, by outcome.", ["outcome"]),
                ("limited", "Requests rejected by a rate limit.", ["route"]),
                ("store_errors", "Requests that failed in the store.", []),
                ("relay_refused", "Requests that the relay rejected, by problem.", ["problem"]),
                ("relay_bytes", "Bytes that the relay forwarded.", []),
            )
        )
        self._relay_refused, self._relayed = relay
        self._connections, self._streams, self._signal_streams, self._pairs = (
            Gauge(f"p2pshare_open_{name}", text, registry=registry, multiprocess_mode="livesum")
            for name, text in (
                ("connections", "Open connections of clients."),
                ("streams", "Open event streams."),
                ("signal_streams", "Open streams of signals."),
                ("relay_pairs", "Pairs of peers that the relay joins."),
            )
        )
        stun = Counter(
            "p2pshare_stun", "Datagrams at the STUN ports.", ["outcome"], registry=registry
        )
        self._stun = {each: stun.labels(each).inc for each in ("answered", "limited", "ignored")}
        text = "Delay of a timer in the event loop."
        self._lag = Histogram(
            "p2pshare_event_loop_lag_seconds", text, registry=registry, buckets=LAGS
        )
        if not self._is_shared:
            ProcessCollector(registry=registry)
        self._known: dict[
            tuple[str, bytes, int], tuple[Callable[[], None], Callable[[float], None]]
        ] = {}
        """The counters of a route, method and class of status: to look labels up takes longer than to count."""

    def request(self, route: str, method: bytes, status: int, seconds: float) -> None:
        """Count a request that was answered."""
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
        """Count a claim: `claimed`, `renewed` or the word of a problem; `classic-` precedes those of a classic one."""
        self._claims.labels(outcome).inc()

    def signal(self, outcome: str) -> None:
        """Count a signal: `accepted`, `not-accepted`, `not-listening` or the word of another problem."""
        self._signals.labels(outcome).inc()

    def stun(self, outcome: str) -> None:
        """Count a datagram: `answered`, `limited` or `ignored`."""
        self._stun[outcome]()

    def store_error(self) -> None:
        """Count a request that failed in the store."""
        self._store_errors.inc()

    def relay_refused(self, word: str) -> None:
        """Count a request to the relay that was answered with this problem."""
        self._relay_refused.labels(word).inc()

    def relay(self, pairs: int, size: int) -> None:
        """Record the pairs of the relay, and `size` more bytes that it has forwarded."""
        self._pairs.set(pairs)
        self._relayed.inc(size)

    def pulse(self, lag: float, connections: int, streams: int, signal_streams: int) -> None:
        """Record that the event loop was `lag` seconds late, and what is open."""
        self._lag.observe(lag)
        self._connections.set(connections)
        self._streams.set(streams)
        self._signal_streams.set(signal_streams)

    def text(self, counts: Counts | None) -> bytes:
        """Return the metrics of all processes; `counts` comes from the store, None if it does not answer."""
        registry = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry) + generate_latest(_StoreMetrics(counts))


class _StoreMetrics(CollectorRegistry):
    """The numbers that the store counts, at this moment."""

    def __init__(self, counts: Counts | None) -> None:
        super().__init__()
        self._counts = counts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        up = 0 if self._counts is None else 1
        yield GaugeMetricFamily("p2pshare_store_up", "Whether the store of names answers.", up)
        if self._counts is None:
            return
        for name, text, value in (
            ("p2pshare_names", "Names that are taken.", self._counts.names),
            ("p2pshare_names_online", "Owned names whose peer is online.", self._counts.online),
            ("p2pshare_names_classic", "Names without an owner's key.", self._counts.classic),
        ):
            yield GaugeMetricFamily(name, text, value)


class Pulse:
    """Measures regularly how late the event loop is, and what is open."""

    def __init__(
        self,
        metrics: RegistryMetrics,
        clock: IReactorTime,
        *,
        connections: Callable[[], int],
        streams: Callable[[], int],
        signal_streams: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._connections = connections
        self._streams = streams
        self._signal_streams = signal_streams

    def start(self) -> None:
        """Measure until `stop`."""
        # Not a LoopingCall: it keeps the grid of its start, and does not tell how late a call was.
        due = self._clock.seconds() + PULSE_INTERVAL
        self._next = self._clock.callLater(PULSE_INTERVAL, self._measure, due)

    def stop(self) -> None:
        """Stop measuring."""
        if self._next.active():
            self._next.cancel()

    def _measure(self, due: float) -> None:
        lag = max(0.0, self._clock.seconds() - due)
        open_now = self._connections(), self._streams(), self._signal_streams()
        self._metrics.pulse(lag, *open_now)
        self.start()


class MetricsRoutes:
    """Answers `GET /metrics`: with a token on the public site, without one on an endpoint for the metrics alone."""

    _log = Logger()

    def __init__(
        self, metrics: RegistryMetrics, store: NameStore, token: str | None = None
    ) -> None:
        """Answer with these metrics; without a `token` the public route does not exist."""
        self._metrics = metrics
        self._store = store
        self._token = None if token is None else token.encode()

    def table(self) -> dict[bytes, Route]:
        """Return the public route by its path."""
        return {b"metrics": Route("metrics", {b"GET": self._answer_holder})}

    def answer(self, query: Query) -> Deferred[Reply]:
        """Return the reply on the endpoint for the metrics alone; this never fails."""
        return Deferred.fromCoroutine(self._answer_all(query)).addErrback(self._failed)

    async def _answer_all(self, query: Query) -> Reply:
        if query.path != b"metrics":
            return NOT_FOUND
        return not_allowed("HEAD, GET") if query.method != b"GET" else await self._measure()

    async def _answer_holder(self, query: Query) -> Reply:
        if self._token is None:
            return NOT_FOUND
        scheme, _, given = query.header(b"Authorization").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        return await self._measure() if scheme.lower() == "bearer" and is_right else UNAUTHORIZED

    async def _measure(self) -> Reply:
        counts = None
        try:
            counts = await self._store.count()
        except StoreUnavailable as error:
            self._log.debug("names not counted: reason={error!s}", error=error)
        headers = ((b"Cache-Control", b"no-store"),)
        text = self._metrics.text(counts)
        return Reply(HTTPStatus.OK, (text,), CONTENT_TYPE_LATEST.encode(), headers)

    def _failed(self, failure: Failure) -> Reply:
        self._log.failure("metrics not sent", failure)
        return BROKEN


def metrics_site(
    metrics: RegistryMetrics, store: NameStore, clock: IReactorTime, wall: Callable[[], float]
) -> Site:
    """Return the server for an endpoint for the metrics alone."""
    return Site(MetricsRoutes(metrics, store), clock, SITE_LIMITS, wall=wall)
