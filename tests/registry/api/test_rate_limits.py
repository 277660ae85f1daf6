"""The rate limits."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterator
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.rate_limits import (
    LOG_INTERVAL,
    REASONS,
    SLICE_FIRST,
    STORE_PATIENCE,
    STORE_REST,
    Limiter,
)
from p2pshare.registry.configuration import DEFAULT_LIMITS, RateLimit
from p2pshare.registry.store import NameStore, Tokens
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.client_addresses import Origins, origin_of
from p2pshare.web.exchange import Query
from p2pshare.web.problems import RequestError
from tests import examples

ELSEWHERE = origin_of("10.9.9.9")
HERE = origin_of("127.0.0.1")


class CountingStore(MemoryNameStore):
    """A store that counts how often it is asked for tokens."""

    asked = 0

    async def take_tokens(self, bucket: str, wanted: int, per_second: float, burst: int) -> Tokens:
        self.asked += 1
        return await super().take_tokens(bucket, wanted, per_second, burst)


class SlowStore:
    """A store that answers or fails when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Tokens]] = []

    def take_tokens(self, *args: object) -> Awaitable[Tokens]:
        self.asked.append(Deferred())
        return self.asked[-1]


class LimiterTests(SynchronousTestCase):
    """Slices of shared buckets."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = CountingStore(self.clock)

    def limiter(self, store: Any = None, **options: Any) -> Limiter:
        limits = {**DEFAULT_LIMITS, "few": RateLimit(2, 4)}
        return Limiter(cast(NameStore, store or self.store), self.clock, limits, **options)

    def take(self, limiter: Limiter, kind: str, who: str = "x") -> float:
        wait = limiter.take(kind, ELSEWHERE, who)
        return self.successResultOf(wait) if isinstance(wait, Deferred) else wait

    def granted(self, limiter: Limiter, kind: str, times: int, who: str = "x") -> int:
        return sum(self.take(limiter, kind, who) == 0 for _ in range(times))

    def test_burst_and_rate(self) -> None:
        """The burst is granted at once, then the rate; other clients have their own bucket."""
        limiter = self.limiter()
        self.assertEqual(self.granted(limiter, "few", 9), 4)
        self.assertEqual(self.granted(limiter, "few", 9, "y"), 4)
        for _ in range(3):
            self.clock.advance(1)
            self.assertEqual(self.granted(limiter, "few", 9), 2)

    def test_wait(self) -> None:
        """A refusal has the time to wait, and the store is not asked before it has passed."""
        limiter = self.limiter()
        self.granted(limiter, "few", 5)
        asked = self.store.asked
        self.assertAlmostEqual(self.take(limiter, "few"), 0.5)
        self.clock.advance(0.25)
        self.assertAlmostEqual(self.take(limiter, "few"), 0.25)
        self.assertEqual(self.store.asked, asked)
        self.clock.advance(0.25)
        self.assertEqual(self.take(limiter, "few"), 0)

    def test_logged(self) -> None:
        """A limit that is reached is logged, further ones only after a while."""
        limiter = self.limiter()
        with capturedLogs() as events:
            for who in ("10.0.0.1", "10.0.0.2"):
                self.granted(limiter, "few", 5, who)
            self.clock.advance(LOG_INTERVAL)
            self.granted(limiter, "few", 50, "10.0.0.3")
        told = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.info]
        self.assertEqual(told, [f"rate limit reached: bucket=few:10.0.0.{n}" for n in (1, 3)])

    def test_slices(self) -> None:
        """A look-up hardly ever costs a question to the store, for busy and for quiet clients."""
        limiter = self.limiter()
        self.assertEqual(self.granted(limiter, "requests", 400), 400)
        self.assertLess(self.store.asked, 16)
        self.store.asked = 0
        for _ in range(40):
            self.assertEqual(self.granted(limiter, "requests", 1, "y"), 1)
            self.clock.advance(40)
        self.assertEqual(self.store.asked, 40 // (SLICE_FIRST + 1))

    def test_shared(self) -> None:
        """Two processes together grant the burst, and at most one use each on credit."""
        limiters = [self.limiter(), self.limiter()]
        granted = sum(self.granted(limiter, "requests", 3) for limiter in limiters * 300)
        limit = DEFAULT_LIMITS["requests"]
        self.assertLessEqual(granted, limit.burst + 2)
        self.assertGreaterEqual(granted, limit.burst - limit.burst // 10)

    def test_below_the_rate(self) -> None:
        """A client slightly below the rate is never refused: no token is lost (threat 20)."""
        for rate, burst, asks in ((2, 10, 1.5), (2, 100, 1.95), (50, 500, 49.5), (0.1, 1, 0.09)):
            limits = {"some": RateLimit(rate, burst)}
            limiter = Limiter(self.store, self.clock, limits)
            for number in range(3000):
                self.assertEqual(self.take(limiter, "some", str(rate) + str(burst)), 0, number)
                self.clock.advance(1 / asks)

    def test_strict_limits(self) -> None:
        """Small rates and bursts hold, too: every use beyond them is refused."""
        for rate, burst, asks, seconds in (
            (0.1, 5, 1, 20),
            (0.1, 5, 20, 15),
            (2, 5, 20, 15),
            (0.01, 3, 1, 90),
        ):
            limiter = Limiter(self.store, self.clock, {"some": RateLimit(rate, burst)})
            granted = 0
            for _ in range(seconds * asks):
                granted += self.take(limiter, "some", f"{rate} {burst} {asks}") == 0
                self.clock.advance(1 / asks)
            self.assertEqual(granted, burst + int(rate * seconds - 1e-6), (rate, burst, asks))

    def test_whole_rate(self) -> None:
        """A client that asks steadily at the rate, through any process, is never refused."""
        limiters = [self.limiter() for _ in range(3)]
        for number in range(3000):
            self.assertEqual(self.take(limiters[number % 3], "requests"), 0, number)
            self.clock.advance(1 / 50)

    def test_spared(self) -> None:
        """Clients on this machine are spared unless the limit says otherwise, and so is a kind without a limit."""
        limiter = self.limiter()
        self.assertEqual([limiter.take("few", HERE, "x") for _ in range(9)], [0.0] * 9)
        self.assertEqual([limiter.take("none", ELSEWHERE, "x") for _ in range(9)], [0.0] * 9)
        self.assertEqual(self.store.asked, 0)
        strict = Limiter(self.store, self.clock, {"few": RateLimit(2, 4, spares_loopback=False)})
        self.assertFalse(strict.spares("few", HERE))

    def test_admit(self) -> None:
        """The refusal is 429 with whole seconds to wait."""
        limiter = self.limiter()
        self.granted(limiter, "few", 4)
        refused = Deferred.fromCoroutine(limiter.admit("few", ELSEWHERE, "x"))
        reply = self.failureResultOf(refused, RequestError).value.reply
        self.assertEqual((reply.status, dict(reply.headers)), (429, {b"Retry-After": b"1"}))

    def test_reasons(self) -> None:
        """The detail of the problem tells which limit was reached."""
        self.assertEqual(REASONS.keys(), DEFAULT_LIMITS.keys())
        for kind, reason in REASONS.items():
            limiter = Limiter(self.store, self.clock, {kind: RateLimit(1, 1)})
            self.take(limiter, kind)
            refused = Deferred.fromCoroutine(limiter.admit(kind, ELSEWHERE, "x"))
            reply = self.failureResultOf(refused, RequestError).value.reply
            self.assertEqual(json.loads(b"".join(reply.body))["detail"], reason)

    def test_at_hand(self) -> None:
        """Only tokens of a slice are at hand, and except for a few, only until the bucket is full again."""
        limiter = self.limiter()
        self.assertFalse(limiter.take_at_hand("names", ELSEWHERE, "x"))
        self.assertTrue(limiter.take_at_hand("names", HERE, "x"))
        self.granted(limiter, "names", 2)
        self.assertTrue(limiter.take_at_hand("names", ELSEWHERE, "x"))
        self.granted(limiter, "names", 4)
        limit = DEFAULT_LIMITS["names"]
        self.clock.advance(limit.burst / limit.per_second)
        asked = self.store.asked
        for _ in range(SLICE_FIRST):
            self.assertTrue(limiter.take_at_hand("names", ELSEWHERE, "x"))
        self.assertFalse(limiter.take_at_hand("names", ELSEWHERE, "x"))
        self.assertEqual(self.store.asked, asked)

    def test_given_back(self) -> None:
        """A token that is given back can be taken once more; one that was never counted cannot be given back."""
        limiter = self.limiter()
        self.granted(limiter, "few", 4)
        limiter.give_back("few", ELSEWHERE, "x")
        limiter.give_back("few", HERE, "x")
        limiter.give_back("few", ELSEWHERE, "unknown")
        self.assertEqual(self.granted(limiter, "few", 9), 1)
        self.assertEqual(self.granted(limiter, "few", 9, "unknown"), 4)

    def test_table(self) -> None:
        """The table keeps a bounded number of clients, those that asked last."""
        limiter = self.limiter(table_max=10)
        for number in range(25):
            self.take(limiter, "few", str(number))
        self.assertEqual(len(limiter), 10)

    def test_asked_at_once(self) -> None:
        """Many uses at the same moment cost few questions, and get the tokens that there are."""
        store = SlowStore()
        limiter = self.limiter(store)
        on_credit, *waits = [limiter.take("few", ELSEWHERE, "x") for _ in range(6)]
        self.assertEqual(on_credit, 0)
        self.assertEqual(len(store.asked), 1)
        store.asked[0].callback(Tokens(2, 0))
        store.asked[1].callback(Tokens(2, 0.5))
        self.assertEqual(len(store.asked), 2)
        results = [self.successResultOf(cast("Deferred[float]", wait)) for wait in waits]
        self.assertEqual(results, [0, 0, 0, 0.5, 0.5])

    def test_credit(self) -> None:
        """The first use does not wait. If the bucket was empty, no other is granted before the credit is paid back."""
        store = SlowStore()
        limiter = self.limiter(store)
        self.assertEqual(limiter.take("few", ELSEWHERE, "x"), 0)
        store.asked[0].callback(Tokens(0, 0.5))
        self.assertEqual(limiter.take("few", ELSEWHERE, "x"), 1)
        self.clock.advance(1)
        wait = limiter.take("few", ELSEWHERE, "x")
        store.asked[1].callback(Tokens(1, 0.5))
        self.assertEqual(self.successResultOf(cast("Deferred[float]", wait)), 0.5)
        self.clock.advance(0.5)
        self.assertEqual(limiter.take("few", ELSEWHERE, "x"), 0)
        self.assertEqual(len(store.asked), 3)

    def test_store_away(self) -> None:
        """Without the store every use is granted, and only the first one asks it for a while."""
        store = SlowStore()
        limiter = self.limiter(store)
        limiter.take("few", ELSEWHERE, "x")
        wait = limiter.take("few", ELSEWHERE, "x")
        store.asked[0].errback(StoreUnavailable(reason="gone"))
        self.assertEqual(self.successResultOf(cast("Deferred[float]", wait)), 0)
        self.assertEqual([limiter.take("few", ELSEWHERE, "y") for _ in range(9)], [0.0] * 9)
        self.assertEqual(len(store.asked), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_store_silent(self) -> None:
        """A silent store keeps nobody waiting; its late answer counts."""
        store = SlowStore()
        limiter = self.limiter(store)
        limiter.take("few", ELSEWHERE, "x")
        wait = limiter.take("few", ELSEWHERE, "x")
        self.clock.advance(STORE_PATIENCE)
        self.assertEqual(self.successResultOf(cast("Deferred[float]", wait)), 0)
        self.clock.advance(STORE_REST)
        store.asked[0].callback(Tokens(2, 0))
        self.assertEqual(limiter.take("few", ELSEWHERE, "x"), 0.0)

    def test_defect(self) -> None:
        """A defect is logged, and limits nobody."""

        class BrokenStore:
            def take_tokens(self, *args: object) -> Awaitable[Tokens]:
                return fail(ZeroDivisionError())

        self.assertEqual(self.take(self.limiter(BrokenStore()), "few"), 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class FarStore(MemoryNameStore):
    """A store that answers after some time."""

    delay = 0.0

    async def take_tokens(self, bucket: str, wanted: int, per_second: float, burst: int) -> Tokens:
        tokens = await super().take_tokens(bucket, wanted, per_second, burst)
        if self.delay:
            await deferLater(self._clock, self.delay)
        return tokens


class ExactBucket:
    """An exact token bucket without slices."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst, self.level = rate, burst, float(burst)
        self.granted = 0

    def pass_time(self, seconds: float) -> None:
        self.level = min(self.burst, self.level + seconds * self.rate)

    def take(self) -> None:
        if self.level >= 1:
            self.level -= 1
            self.granted += 1


class ExactnessTests(SynchronousTestCase):
    """Random uses, compared with an exact bucket."""

    def run_pattern(
        self, limit: RateLimit, processes: int, delay: float, pattern: list[tuple[float, int, int]]
    ) -> Iterator[tuple[float, int, int]]:
        """Run random uses. Return for each the elapsed time, the uses granted so far, and those of the exact bucket."""
        clock = Clock()
        store = FarStore(clock)
        store.delay = delay
        limiters = [Limiter(store, clock, {"some": limit}) for _ in range(processes)]
        exact, granted = ExactBucket(limit.per_second, limit.burst), 0

        def count(wait: float) -> None:
            nonlocal granted
            granted += wait == 0

        for gap, process, uses in pattern:
            clock.pump([gap / 4] * 4)
            exact.pass_time(gap)
            for _ in range(uses):
                wait = limiters[process % processes].take("some", ELSEWHERE, "x")
                if isinstance(wait, Deferred):
                    wait.addCallback(count)
                else:
                    count(wait)
                exact.take()
                yield clock.seconds(), granted, exact.granted

    # Fractions that floats hold exactly: rounding would make one use of a burst come a moment late, now and then.
    gaps = st.sampled_from([0, 0, 1, 10, 60]) | st.integers(0, 320).map(lambda number: number / 64)
    patterns = st.lists(
        st.tuples(gaps, st.integers(0, 1), st.integers(1, 20)), min_size=1, max_size=60
    )
    limits = st.builds(
        RateLimit,
        st.sampled_from([1 / 64, 1 / 8, 1 / 4, 1, 2, 8, 64]),
        st.sampled_from([1, 2, 3, 5, 10, 40, 100]),
    )

    @settings(database=None, max_examples=examples(200))
    @given(limits, st.sampled_from([1, 2]), st.sampled_from([0, 1 / 32, 3 / 8]), patterns)
    def test_never_more(
        self, limit: RateLimit, processes: int, delay: float, pattern: list[tuple[float, int, int]]
    ) -> None:
        """At most the burst, the tokens that came in, and one for each process are granted (threat 20)."""
        for seconds, granted, _ in self.run_pattern(limit, processes, delay, pattern):
            most = limit.burst + limit.per_second * seconds + processes
            self.assertLessEqual(granted, most + 1e-6)

    @settings(database=None, max_examples=examples(200))
    @given(limits, patterns)
    def test_never_less(self, limit: RateLimit, pattern: list[tuple[float, int, int]]) -> None:
        """One process grants as many uses as an exact bucket: no token is lost (threat 20)."""
        for _, granted, exactly in self.run_pattern(limit, 1, 0, pattern):
            self.assertGreaterEqual(granted, exactly)


class OriginTests(SynchronousTestCase):
    """The origin of a request."""

    def origin(self, source: str, forwarded: str, *trusted: str) -> str:
        headers = Headers({"X-Forwarded-For": [forwarded]} if forwarded else {})
        return Origins(trusted).of(Query(b"GET", b"", b"", source, headers=headers)).ip

    def test_networks(self) -> None:
        """One client and one network, for both address families."""
        for source, ip, host, network in (
            ("10.1.2.3", "10.1.2.3", "10.1.2.3", "10.1.2.0/24"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.3", "10.1.2.0/24"),
            (
                "2001:db8:1:2ff:3::4",
                "2001:db8:1:2ff:3::4",
                "2001:db8:1:2ff::/64",
                "2001:db8:1:200::/56",
            ),
            ("fe80::1%eth0", "fe80::1", "fe80::/64", "fe80::/56"),
            ("", "", "local", "local"),
        ):
            origin = origin_of(source)
            self.assertEqual((origin.ip, origin.host, origin.network), (ip, host, network))

    def test_here(self) -> None:
        """Loopback and Unix sockets belong to this machine."""
        for source, here in (("127.8.8.8", True), ("::1", True), ("", True), ("10.1.2.3", False)):
            self.assertEqual(origin_of(source).is_here, here, source)

    def test_own_address(self) -> None:
        """A client with the server's own address is on this machine, unless it may be a proxy."""
        forwarded = Headers({"X-Forwarded-For": ["192.0.2.9"]})

        def is_here(source: str, local: str, headers: Headers = forwarded, *trusted: str) -> bool:
            query = Query(b"GET", b"", b"", source, headers=headers, local=(local, 8000))
            return Origins(trusted).of(query).is_here

        direct = Headers()
        for own, other in (("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")):
            self.assertTrue(is_here(own, own, direct))
            self.assertTrue(is_here(own, own, direct, own))
            self.assertFalse(is_here(own, other, direct))
            self.assertFalse(is_here(own, own, forwarded))
            self.assertFalse(is_here(own, own, forwarded, own))
        self.assertTrue(is_here("::ffff:192.0.2.1", "::ffff:192.0.2.1", direct))
        self.assertFalse(is_here("127.0.0.1", "127.0.0.1", forwarded))

    def test_forwarded(self) -> None:
        """The rightmost address that is not a trusted proxy's is the client's."""
        proxy = "192.0.2.1"
        for forwarded, client in (
            ("10.1.1.1", "10.1.1.1"),
            ("127.0.0.1, 10.1.1.1", "10.1.1.1"),
            ("10.1.1.1, 192.0.2.9", "10.1.1.1"),
            ("10.1.1.1,10.2.2.2", "10.2.2.2"),
            ("10.1.1.1:4711", "10.1.1.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:10.1.1.1", "10.1.1.1"),
            ("10.1.1.1, nonsense", proxy),
            ("10.1.1.1, nonsense, 192.0.2.9", "192.0.2.9"),
            ("", proxy),
            (", " * 2000, proxy),
            ("192.0.2.7", "192.0.2.7"),
        ):
            self.assertEqual(self.origin(proxy, forwarded, "192.0.2.0/24"), client, forwarded)
            self.assertEqual(self.origin("10.5.5.5", forwarded, "192.0.2.0/24"), "10.5.5.5")
            self.assertEqual(self.origin(proxy, forwarded), proxy)

    def test_secure(self) -> None:
        """Only a trusted proxy can state that it was reached over TLS."""
        proxy = "192.0.2.1"
        for source, trusted, said, is_secure in (
            (proxy, [proxy], "https", True),
            (proxy, [proxy], "HTTPS", True),
            (proxy, [proxy], "http, https", True),
            (proxy, [proxy], "https, http", False),
            (proxy, [proxy], "", False),
            ("192.0.2.2", [proxy], "https", False),
            (proxy, [], "https", False),
            ("", [proxy], "https", True),
            ("", [], "https", False),
        ):
            headers = Headers({"X-Forwarded-Proto": [said]} if said else {})
            query = Query(b"GET", b"", b"", source, headers=headers)
            self.assertEqual(Origins(trusted).is_secure(query), is_secure, (source, said))
        direct = Query(b"GET", b"", b"", "192.0.2.2", is_secure=True)
        self.assertTrue(Origins([proxy]).is_secure(direct))

    def test_no_proxy_lends_its_place(self) -> None:
        """A request through a proxy on this machine never counts as this machine's."""
        headers = Headers({"X-Forwarded-For": ["127.0.0.1"]})
        for source in ("127.0.0.1", ""):
            query = Query(b"GET", b"", b"", source, headers=headers)
            self.assertFalse(Origins(["127.0.0.1"]).of(query).is_here)
