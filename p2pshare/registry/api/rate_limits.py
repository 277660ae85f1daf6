"""How much a client may ask: token buckets that all processes of a registry share through its store.

A process takes tokens out of a bucket in slices and spends them, so that a request hardly ever waits for a second
round trip. A slice doubles as long as the one before is used up within a moment; what is left of it is kept until the
bucket is full again, when it would be of no more use there, but for a few: so no token is lost to who asks slowly, and
who asks now and then costs few questions. A bucket that was found empty is not asked again until it has a token. A
process that knows nothing of a bucket grants one use on credit while it asks, and asks for that token too; it gives no
more credit until that is paid back. So over any time from the start, what is granted is at most the burst, what has
come in by the rate, and one for each process.
"""

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

SLICE_MOMENT = 1.0  # seconds: a slice that is used up sooner is followed by a greater one
SLICE_LIFE = 2.0  # seconds: one that lasts longer is followed by a small one
SLICE_FIRST = 3  # tokens, besides those that are used at once; so many are kept for good
SLICE_SHARE = 10  # a slice is at most so many-th part of a burst
STORE_REST = 2.0  # seconds for which a store that did not answer is not asked
TABLE_MAX = 16384  # clients, or keys, of which a process keeps a slice
STORE_PATIENCE = 0.5  # seconds for the store to answer before a use is granted unasked
TELL_INTERVAL = 10.0  # seconds between two lines in the log about limits that are reached
WAIT_MAX = 60.0  # seconds for which a bucket is believed to be empty
REASONS = {
    "requests": "this address has asked too often",
    "claims": "this address has claimed or given up names too often",
    "names": "this network has claimed too many new names",
    "key": "this key has claimed or given up names, or sent heartbeats, too often",
}
"""What a client is told, by kind."""


class Limiter:
    """Says whether a client may go on."""

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
        self._tells_from = 0.0
        self.origin = (origins or Origins()).of

    def __len__(self) -> int:
        """Of how many clients, networks and keys it keeps a slice."""
        return len(self._slices)

    def spares(self, kind: str, origin: Origin) -> bool:
        """Whether a client is not limited in this."""
        limit = self._limits.get(kind)
        return limit is None or (origin.is_here and limit.spares_loopback)

    def take(self, kind: str, origin: Origin, who: str) -> float | Deferred[float]:
        """Use one up.

        Args:
            kind: of the limit.
            origin: where the request comes from.
            who: whose bucket it is: of the client, its network or a key.

        Returns:
            0 if it was there, else the seconds until there is one; as a Deferred, which never fails, if the store
            has to be asked.
        """
        if self.spares(kind, origin):
            return 0.0
        each = self._slice(kind, who)
        now = self._clock.seconds()
        if each.has_tokens(now):
            each.tokens -= 1
            return 0.0
        if now < each.asks_from:
            return self._refusal(each, now)
        return self._ask(each, now)

    def at_hand(self, kind: str, origin: Origin, who: str) -> bool:
        """Whether `take` would grant without asking the store."""
        if self.spares(kind, origin):
            return True
        each = self._slices.get((kind, who))
        return each is not None and each.has_tokens(self._clock.seconds())

    async def admit(self, kind: str, origin: Origin, who: str) -> None:
        """Use one up; raises `RequestError` if there is none."""
        wait = self.take(kind, origin, who)
        seconds = wait if isinstance(wait, float) else await wait
        if seconds:
            raise too_many(kind, seconds)

    def give_back(self, kind: str, origin: Origin, who: str) -> None:
        """Let one that was taken, and turned out not to be needed, be taken again."""
        each = None if self.spares(kind, origin) else self._slices.get((kind, who))
        if each is not None:
            each.tokens += 1

    def _slice(self, kind: str, who: str) -> _Slice:
        found = self._slices.get((kind, who))
        if found is None:
            found = self._slices[kind, who] = _Slice(kind, who, self._limits[kind])
            if len(self._slices) > self._table_max:
                self._slices.popitem(last=False)
        else:
            self._slices.move_to_end((kind, who))
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
        patience = self._clock.callLater(STORE_PATIENCE, self._grant_unasked, each)
        wanted = each.wanted(self._clock.seconds())
        asked: Deferred[Tokens] = Deferred.fromCoroutine(_awaited(self._store, each, wanted))
        asked.addCallbacks(
            self._got,
            self._failed,
            callbackArgs=(each, patience),
            errbackArgs=(each, patience),
        )

    def _got(self, tokens: Tokens, each: _Slice, patience: IDelayedCall) -> None:
        self._asked(each, patience)
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

    def _refusal(self, each: _Slice, now: float) -> float:
        """How long to wait; the log tells of it now and then."""
        if now >= self._tells_from:
            self._tells_from = now + TELL_INTERVAL
            self._log.info("the limit {bucket} is reached", bucket=each.bucket)
        return each.wait(now)

    def _failed(self, failure: Failure, each: _Slice, patience: IDelayedCall) -> None:
        if not failure.check(StoreUnavailable):
            self._log.failure("a limit could not be looked up", failure)
        self._asked(each, patience)
        self._grant_unasked(each)

    def _asked(self, each: _Slice, patience: IDelayedCall) -> None:
        each.is_asking = False
        if patience.active():
            patience.cancel()

    def _grant_unasked(self, each: _Slice) -> None:
        self._store_rests_until = self._clock.seconds() + STORE_REST
        waiting, each.waiting = each.waiting, []
        for one in waiting:
            one.callback(0.0)


class _Slice:
    """What a process has taken out of one bucket."""

    __slots__ = (
        "_asked_at", "_empty_until", "_ends", "_keep", "_largest", "_size", "asks_from", "bucket",
        "is_asking", "limit", "owed", "tokens", "waiting",
    )  # fmt: skip

    def __init__(self, kind: str, who: str, limit: RateLimit) -> None:
        self.bucket = f"{kind}:{who}"
        self.limit = limit
        self.tokens = 0
        self._ends = 0.0
        self.owed = 0
        """What was granted on credit: 0 or 1."""
        self.waiting: list[Deferred[float]] = []
        self.is_asking = False
        self.asks_from = 0.0
        self._empty_until = 0.0
        self._keep = limit.burst / limit.per_second
        self._largest = max(1, limit.burst // SLICE_SHARE)
        self._size = 0
        self._asked_at = float("-inf")

    def has_tokens(self, now: float) -> bool:
        """Whether there is one."""
        if now >= self._ends:
            self.tokens = min(self.tokens, SLICE_FIRST)
        return self.tokens > 0

    def gives_credit(self, now: float) -> bool:
        """Whether one may be granted before the store has answered: nothing is owed, and the bucket may have one."""
        return not (self.owed or self.is_asking) and now >= self._empty_until

    def wait(self, now: float) -> float:
        """Seconds until there is one."""
        return max(self._empty_until - now, 0.001)

    def wanted(self, now: float) -> int:
        """How many to ask for."""
        lasted, self._asked_at = now - self._asked_at, now
        if lasted > SLICE_LIFE:
            self._size = min(SLICE_FIRST, self._largest)
        elif lasted < SLICE_MOMENT:
            self._size = min(2 * self._size, self._largest)
        return self.owed + max(self._size, len(self.waiting))

    def fill(self, tokens: Tokens, now: float) -> None:
        """Take what the bucket gave, and pay what is owed."""
        paid = min(self.owed, tokens.granted)
        self.owed -= paid
        self.tokens += tokens.granted - paid
        self._ends = now + self._keep
        if tokens.wait:
            wait = max(tokens.wait, 0.001) + self.owed / self.limit.per_second
            self._empty_until, self.asks_from = now + wait, now + min(wait, WAIT_MAX)


async def _awaited(store: NameStore, each: _Slice, wanted: int) -> Tokens:
    limit = each.limit
    return await store.take_tokens(each.bucket, wanted, limit.per_second, limit.burst)


def too_many(kind: str, seconds: float) -> RequestError:
    """What a client is told that has to wait."""
    return RequestError("too-many-requests", REASONS.get(kind, ""), retry_after=ceil(seconds))
