"""Rate limits: token buckets that all processes of a registry share through its store."""

# How a limit of all processes costs hardly a round trip.
#
# A process takes tokens out of a bucket in *slices* and spends them from memory. A slice doubles as long as the one
# before is used up within `SLICE_MOMENT`, so a busy client costs few questions to the store. Tokens left of a slice are
# kept until the bucket is full again, when they would be of no more use there, except `SLICE_FIRST` of them. So no
# token is lost to a client that asks slowly. A bucket that was found empty is not asked again until it has a token.
#
# The first request of a client must not wait for the store. A process that knows nothing of a bucket therefore grants
# one use on *credit* while it asks, and asks for that token too; it gives no more credit until that is paid back. So
# over any time, the uses granted are at most the burst, the tokens that came in by the rate, and one for each process.
#
# A store that fails, or takes longer than `STORE_PATIENCE`, does not stop the registry: whoever waits is let through,
# and for `STORE_REST` nobody asks. A late answer still counts, as its tokens are gone from the bucket.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import ceil

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.configuration import RateLimit
from p2pshare.registry.store import NameStore, Tokens
from p2pshare.web.client_addresses import Origin, Origins
from p2pshare.web.problems import RequestError

SLICE_MOMENT = 1.0  # seconds: a slice that is used up sooner is followed by a larger one
SLICE_LIFE = 2.0  # seconds: a slice that lasts longer is followed by a small one
SLICE_FIRST = 3  # tokens, besides those that are used at once; as many are kept for good
SLICE_SHARE = 10  # a slice is at most the burst divided by this
STORE_REST = 2.0  # seconds for which a store that did not answer is not asked
TABLE_MAX = 16384  # clients, or keys, of which a process keeps a slice
STORE_PATIENCE = 0.5  # seconds for the store to answer before a use is granted
LOG_INTERVAL = 10.0  # seconds between two log lines about limits that are reached
WAIT_MAX = 60.0  # seconds for which a bucket is believed to be empty
REASONS = {
    "requests": "too many requests from this address",
    "claims": "too many claims and releases from this address",
    "names": "too many new names from this network",
    "key": "too many claims, releases or heartbeats of this key",
    "access": "too many signals, streams of signals or relays from this address",
    "access-key": "too many signals, streams of signals or relays of this key",
    "signals": "too many signals from this network to this name",
    "inbox": "too many signals to this name",
}
"""The detail of the problem, by the kind of the limit."""


class Limiter:
    """Decides whether a client may go on.

    In every method, `kind` is that of the limit, and `origin` is where the request comes from. `who` is the owner of
    the bucket; by default the origin's host, or its network for new names.
    """

    _log = Logger()

    def __init__(
        self,
        store: NameStore,
        clock: IReactorTime,
        limits: Mapping[str, RateLimit],
        origins: Origins | None = None,
        *,
        table_max: int = TABLE_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._table_max = table_max
        self._slices: OrderedDict[tuple[str, str], _Slice] = OrderedDict()
        self._store_rests_until = 0.0
        self._logs_from = 0.0
        self.origin = (origins or Origins()).of

    def __len__(self) -> int:
        """The number of clients, networks and keys of which it keeps a slice."""
        return len(self._slices)

    def spares(self, kind: str, origin: Origin) -> bool:
        """Whether this limit does not apply to a client."""
        limit = self._limits.get(kind)
        return limit is None or (origin.is_here and limit.spares_loopback)

    def take(self, kind: str, origin: Origin, who: str = "") -> float | Deferred[float]:
        """Use one token.

        Returns:
            0 if there was one, else the seconds until there is one; as a Deferred, which never fails, if the store
            has to be asked.
        """
        if self.spares(kind, origin):
            return 0.0
        each = self._slice(_bucket(kind, origin, who))
        now = self._clock.seconds()
        if each.has_tokens(now):
            each.tokens -= 1
            return 0.0
        if now < each.asks_from:
            return self._refusal(each, now)
        return self._ask(each, now)

    def take_at_hand(self, kind: str, origin: Origin, who: str = "") -> bool:
        """Use one token if no question to the store is needed; return whether there was one."""
        if self.spares(kind, origin):
            return True
        each = self._slices.get(_bucket(kind, origin, who))
        if each is None or not each.has_tokens(self._clock.seconds()):
            return False
        each.tokens -= 1
        return True

    async def admit(self, kind: str, origin: Origin, who: str = "") -> None:
        """Use one token; raises `RequestError` if there is none."""
        wait = self.take(kind, origin, who)
        seconds = wait if isinstance(wait, float) else await wait
        if seconds:
            raise too_many(kind, seconds)

    def give_back(self, kind: str, origin: Origin, who: str = "") -> None:
        """Return a token that was not needed after all."""
        each = None if self.spares(kind, origin) else self._slices.get(_bucket(kind, origin, who))
        if each is not None:
            each.tokens += 1

    def _slice(self, bucket: tuple[str, str]) -> _Slice:
        found = self._slices.get(bucket)
        if found is None:
            found = self._slices[bucket] = _Slice(":".join(bucket), self._limits[bucket[0]])
            if len(self._slices) > self._table_max:
                self._slices.popitem(last=False)
        else:
            self._slices.move_to_end(bucket)
        return found

    def _ask(self, each: _Slice, now: float) -> float | Deferred[float]:
        if now < self._store_rests_until:
            return 0.0
        if each.gives_credit(now):
            each.owed = 1
            self._fetch(each)
            return 0.0
        waiting: Deferred[float] = Deferred()
        each.waiting.append(waiting)
        if not each.is_asking:
            self._fetch(each)
        return waiting

    def _fetch(self, each: _Slice) -> None:
        each.is_asking = True
        patience = self._clock.callLater(STORE_PATIENCE, self._grant_all, each)
        wanted = each.wanted(self._clock.seconds())
        asked = Deferred.fromCoroutine(_awaited(self._store, each, wanted))
        asked.addBoth(self._asked, each, patience)
        asked.addCallbacks(self._got, self._failed, (each,), {}, (each,), {})

    def _asked(
        self, result: Tokens | Failure, each: _Slice, patience: IDelayedCall
    ) -> Tokens | Failure:
        each.is_asking = False
        if patience.active():
            patience.cancel()
        return result

    def _got(self, tokens: Tokens, each: _Slice) -> None:
        now = self._clock.seconds()
        each.fill(tokens, now)
        served, others = each.waiting[: each.tokens], each.waiting[each.tokens :]
        each.tokens -= len(served)
        each.waiting = []
        if others and tokens.granted and not tokens.wait:  # they came while the store was asked
            each.waiting, others = others, []
            self._fetch(each)
        for one in served:
            one.callback(0.0)
        for one in others:
            one.callback(self._refusal(each, now))

    def _failed(self, failure: Failure, each: _Slice) -> None:
        if not failure.check(StoreUnavailable):
            self._log.failure("rate limit not read: bucket={bucket}", failure, bucket=each.bucket)
        self._grant_all(each)

    def _refusal(self, each: _Slice, now: float) -> float:
        """Return how long to wait; log a limit that is reached now and then."""
        if now >= self._logs_from:
            self._logs_from = now + LOG_INTERVAL
            self._log.info("rate limit reached: bucket={bucket}", bucket=each.bucket)
        return each.wait(now)

    def _grant_all(self, each: _Slice) -> None:
        """Let all that wait go on without a token, and leave the store alone for a while."""
        self._store_rests_until = self._clock.seconds() + STORE_REST
        waiting, each.waiting = each.waiting, []
        for one in waiting:
            one.callback(0.0)


class _Slice:
    """The tokens that a process has taken out of one bucket."""

    __slots__ = (
        "_asked_at", "_empty_until", "_ends", "_keep", "_largest", "_size", "asks_from", "bucket",
        "is_asking", "limit", "owed", "tokens", "waiting",
    )  # fmt: skip

    def __init__(self, bucket: str, limit: RateLimit) -> None:
        self.bucket = bucket
        self.limit = limit
        self.tokens = 0
        self.owed = 0
        """The uses granted on credit: 0 or 1."""
        self.waiting: list[Deferred[float]] = []
        self.is_asking = False
        self.asks_from = 0.0
        self._ends = 0.0
        self._empty_until = 0.0
        self._keep = limit.burst / limit.per_second
        self._largest = max(1, limit.burst // SLICE_SHARE)
        self._size = 0
        self._asked_at = float("-inf")

    def has_tokens(self, now: float) -> bool:
        """Whether there is a token."""
        if now >= self._ends:
            self.tokens = min(self.tokens, SLICE_FIRST)
        return self.tokens > 0

    def gives_credit(self, now: float) -> bool:
        """Whether a use may be granted before the store answers: nothing is owed, and the bucket may have a token."""
        return not (self.owed or self.is_asking) and now >= self._empty_until

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token."""
        return max(self._empty_until - now, 0.001)

    def wanted(self, now: float) -> int:
        """Return how many tokens to ask for."""
        lasted, self._asked_at = now - self._asked_at, now
        if lasted > SLICE_LIFE:
            self._size = min(SLICE_FIRST, self._largest)
        elif lasted < SLICE_MOMENT:
            self._size = min(2 * self._size, self._largest)
        return self.owed + max(self._size, len(self.waiting))

    def fill(self, tokens: Tokens, now: float) -> None:
        """Add the tokens that the bucket gave, less the credit."""
        paid = min(self.owed, tokens.granted)
        self.owed -= paid
        self.tokens += tokens.granted - paid
        self._ends = now + self._keep
        if tokens.wait:
            wait = max(tokens.wait, 0.001) + self.owed / self.limit.per_second
            self._empty_until, self.asks_from = now + wait, now + min(wait, WAIT_MAX)


def _bucket(kind: str, origin: Origin, who: str) -> tuple[str, str]:
    return kind, who or (origin.network if kind == "names" else origin.host)


async def _awaited(store: NameStore, each: _Slice, wanted: int) -> Tokens:
    limit = each.limit
    return await store.take_tokens(each.bucket, wanted, limit.per_second, limit.burst)


def too_many(kind: str, seconds: float) -> RequestError:
    """Return the error for a client that has to wait."""
    return RequestError("too-many-requests", REASONS.get(kind, ""), retry_after=ceil(seconds))
