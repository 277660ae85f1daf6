"""The metrics of a registry."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.metrics import (
    PULSE_INTERVAL,
    MetricsRoutes,
    Pulse,
    RegistryMetrics,
    metrics_site,
)
from p2pshare.registry.store import Counts, NameStore
from p2pshare.web.exchange import Query, Reply
from p2pshare.wire.registry_answers import Problem
from tests.registry.connections import HOST, Client

WORKER = """
import sys
from p2pshare.registry.api.metrics import RegistryMetrics
metrics = RegistryMetrics()
metrics.request("peers", b"GET", 200, 0.25)
metrics.pulse(0.5, 3, 2, 1)
sys.stdout.write(metrics.text(None).decode() if sys.argv[1] == "tell" else "")
"""


def values(text: bytes) -> dict[str, float]:
    """Return the value of every sample by its name and labels."""
    return {
        " ".join(
            [sample.name, *(f"{key}={each}" for key, each in sorted(sample.labels.items()))]
        ): (sample.value)
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class CountingStore:
    """A store with three fixed counts."""

    away = False
    broken = False

    def count(self) -> Deferred[Counts]:
        if self.away:
            raise StoreUnavailable(reason="it is away")
        if self.broken:
            raise ZeroDivisionError
        return succeed(Counts(7, 3, 2))

    @property
    def as_store(self) -> NameStore:
        return cast(NameStore, self)


class CountingTests(SynchronousTestCase):
    """The counters."""

    def setUp(self) -> None:
        self.metrics = RegistryMetrics()

    def values(self) -> dict[str, float]:
        return values(self.metrics.text(Counts(7, 3, 2)))

    def test_requests(self) -> None:
        """Requests are counted by route, method and class of status, and timed by route."""
        for status, seconds in ((200, 0.004), (404, 0.2), (400, 0.3)):
            self.metrics.request("peer", b"GET", status, seconds)
        found = self.values()
        self.assertEqual(found["p2pshare_requests_total method=GET route=peer status=2xx"], 1)
        self.assertEqual(found["p2pshare_requests_total method=GET route=peer status=4xx"], 2)
        self.assertEqual(found["p2pshare_request_seconds_count route=peer"], 3)
        self.assertEqual(found["p2pshare_request_seconds_bucket le=0.005 route=peer"], 1)

    def test_no_label_of_a_client(self) -> None:
        """Threat: methods that clients invent do not increase the number of series."""
        for n in range(1000):
            self.metrics.request("none", f"M{n}".encode(), 404, 0.0)
        found = [key for key in self.values() if key.startswith("p2pshare_requests_total")]
        self.assertEqual(found, ["p2pshare_requests_total method=other route=none status=4xx"])
        self.assertEqual(len(self.metrics._known), 1)

    def test_others(self) -> None:
        """Claims are counted by outcome; limits, errors of the store and the numbers of names are counted, too."""
        self.metrics.claim("taken")
        self.metrics.store_error()
        self.metrics.request("peers", b"GET", 429, 0.0)
        found = self.values()
        for key, value in (
            ("p2pshare_claims_total outcome=taken", 1),
            ("p2pshare_store_errors_total", 1),
            ("p2pshare_limited_total route=peers", 1),
            ("p2pshare_store_up", 1),
            ("p2pshare_names", 7),
            ("p2pshare_names_online", 3),
            ("p2pshare_names_classic", 2),
        ):
            self.assertEqual(found[key], value, key)

    def test_two(self) -> None:
        """Two registries in one process count separately."""
        RegistryMetrics().claim("taken")
        self.assertNotIn("p2pshare_claims_total outcome=taken", self.values())

    def test_pulse(self) -> None:
        """The lag of the event loop and the open connections and streams are measured until `stop`."""
        clock = Clock()
        pulse = Pulse(
            self.metrics,
            clock,
            connections=lambda: 5,
            streams=lambda: 4,
            signal_streams=lambda: 3,
        )
        pulse.start()
        clock.advance(PULSE_INTERVAL)
        clock.advance(PULSE_INTERVAL + 0.3)
        found = self.values()
        self.assertEqual(found["p2pshare_event_loop_lag_seconds_count"], 2)
        self.assertAlmostEqual(found["p2pshare_event_loop_lag_seconds_sum"], 0.3)
        self.assertEqual(found["p2pshare_open_connections"], 5)
        self.assertEqual(found["p2pshare_open_streams"], 4)
        pulse.stop()
        self.assertEqual(clock.getDelayedCalls(), [])


class WorkersTests(SynchronousTestCase):
    """Several processes."""

    def test_sum(self) -> None:
        """Any process returns the sum; the open connections of a process that has ended do not count."""
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder.name}

        def run(code: str, *words: str) -> str:
            command = [sys.executable, "-W", "error", "-c", code, *words]
            done = subprocess.run(
                command,
                env=environment,
                cwd=Path(__file__).parents[3],
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout

        first = "import os; print(os.getpid())" + WORKER
        pid = run(first, "work").strip()
        found = values(run(WORKER, "tell").encode())
        self.assertEqual(found["p2pshare_requests_total method=GET route=peers status=2xx"], 2)
        self.assertEqual(found["p2pshare_request_seconds_sum route=peers"], 0.5)
        self.assertEqual(found["p2pshare_open_streams"], 4)
        mark_process_dead(int(pid), folder.name)
        found = values(run(WORKER, "tell").encode())
        self.assertEqual(found["p2pshare_requests_total method=GET route=peers status=2xx"], 3)
        self.assertEqual(found["p2pshare_open_streams"], 4)  # the second's and the third's


class RouteTests(SynchronousTestCase):
    """The two routes of the metrics."""

    def setUp(self) -> None:
        self.store = CountingStore()
        self.metrics = RegistryMetrics()

    def ask(self, token: str | None, authorization: str | None) -> Reply:
        routes = MetricsRoutes(self.metrics, self.store.as_store, token)
        headers = (
            Headers() if authorization is None else Headers({"Authorization": [authorization]})
        )
        (route,) = routes.table().values()
        answer: Any = route.methods[b"GET"]
        asked = answer(Query(b"GET", b"metrics", b"", "10.0.0.1", headers=headers))
        reply: Reply = self.successResultOf(Deferred.fromCoroutine(asked))
        return reply

    def test_token(self) -> None:
        """On the public port the metrics need the token; without a configured token the route does not exist."""
        for token, authorization, status in (
            (None, None, 404),
            (None, "Bearer ", 404),
            ("secret", None, 401),
            ("secret", "Bearer wrong", 401),
            ("secret", "Bearer secret2", 401),
            ("secret", "Bearer \xe9", 401),
            ("secret", "Basic secret", 401),
            ("secret", "Bearer secret", 200),
            ("secret", "bearer secret", 200),
        ):
            self.assertEqual(self.ask(token, authorization).status, status, authorization)
        reply = self.ask("secret", None)
        self.assertEqual(dict(reply.headers), {b"WWW-Authenticate": b'Bearer realm="metrics"'})
        self.assertEqual(Problem.parse(reply.status, reply.body[0]).word, "unauthorized")

    def test_own_endpoint(self) -> None:
        """On an endpoint of its own, the metrics are public, and there is no other route."""
        clock = Clock()
        site = metrics_site(self.metrics, self.store.as_store, clock, clock.seconds)
        site.doStart()
        self.addCleanup(site.doStop)
        for request, status in (
            (b"GET /metrics", 200),
            (b"HEAD /metrics", 200),
            (b"POST /metrics", 405),
            (b"GET /", 404),
            (b"GET /v1/peers", 404),
        ):
            answer = Client(site).send(request + b" HTTP/1.1\r\n" + HOST)
            self.assertEqual(int(answer.split(b" ")[1]), status, request)
        head, _, body = (
            Client(site).send(b"GET /metrics HTTP/1.1\r\n" + HOST).partition(b"\r\n\r\n")
        )
        self.assertIn(b"Content-Type: text/plain; version=", head)
        self.assertEqual(values(body)["p2pshare_names"], 7)

    def test_store_away(self) -> None:
        """While the store is unavailable, the other metrics are returned, and `p2pshare_store_up` is 0."""
        self.store.away = True
        found = values(self.ask("secret", "Bearer secret").body[0])
        self.assertEqual(found["p2pshare_store_up"], 0)
        self.assertNotIn("p2pshare_names", found)

    def test_defect(self) -> None:
        """A defect is logged and answered with 500."""
        self.store.broken = True
        routes = MetricsRoutes(self.metrics, self.store.as_store)
        reply = self.successResultOf(routes.answer(Query(b"GET", b"metrics", b"", "")))
        self.assertEqual(reply.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
