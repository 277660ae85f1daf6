"""How much a client may ask: token buckets that all processes of a registry share through its store.

A process takes tokens out of a bucket in slices and spends them for a moment, so that a request hardly ever
costs a second round trip. A slice starts with one token and doubles as long as it is used up before it expires. A
bucket that was found empty is not asked again until it has a token. For what is counted roughly (`FREE`), the first
few of a moment are not counted at all: each process may grant a client that much more.
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
from p2pshare.registry.origins import Origin, Origins
from p2pshare.registry.problems import RequestError
from p2pshare.registry.store import NameStore, Tokens

SLICE_LIFE = 2.0  # seconds until the tokens of a slice that are left are lost
FREE = {"requests": 5, "key": 1}  # uses in `SLICE_LIFE` that cost no token, by kind
TABLE_MAX = 16384  # clients, or keys, of which a process keeps a slice
STORE_PATIENCE = 0.5  # seconds for the store to answer before a use is granted unasked
TELL_INTERVAL = 10.0  # seconds between two lines in the log about limits that are reached
WAIT_MAX = 60.0  # seconds for which a bucket is believed to be empty


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
        self._store_away_until = 0.0
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
        return each.take(now) if each.knows(now) else self._ask(each)

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
            raise too_many(seconds)

    def _slice(self, kind: str, who: str) -> _Slice:
        found = self._slices.get((kind, who))
        if found is None:
            found = self._slices[kind, who] = _Slice(kind, who, self._limits[kind])
            if len(self._slices) > self._table_max:
                self._slices.popitem(last=False)
        else:
            self._slices.move_to_end((kind, who))
        return found

    def _ask(self, each: _Slice) -> float | Deferred[float]:
        if self._clock.seconds() < self._store_away_until:
            return 0.0
        waiting: Deferred[float] = Deferred()
        each.waiting.append(waiting)
        if not each.is_asking:
            self._fetch(each)
        return waiting

    def _fetch(self, each: _Slice) -> None:
        each.is_asking = True
        patience = self._clock.callLater(STORE_PATIENCE, self._give_up, each)
        wanted, limit = max(each.next_size(), len(each.waiting)), each.limit
        asked: Deferred[Tokens] = Deferred.fromCoroutine(
            _awaited(self._store, each.bucket, wanted, limit)
        )
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
        if tokens.granted == 0 and now >= self._tells_from:
            self._tells_from = now + TELL_INTERVAL
            self._log.info("the limit {bucket} is reached", bucket=each.bucket)
        waiting, each.waiting = each.waiting, []
        served, others = waiting[: tokens.granted], waiting[tokens.granted :]
        each.tokens -= len(served)
        if others and tokens.granted:  # they came while the store was asked
            each.waiting = others
            self._fetch(each)
            others = []
        for one in served:
            one.callback(0.0)
        for one in others:
            one.callback(each.wait(now))

    def _failed(self, failure: Failure, each: _Slice, patience: IDelayedCall) -> None:
        if not failure.check(StoreUnavailable):
            self._log.failure("a limit could not be looked up", failure)
        self._asked(each, patience)
        self._grant_unasked(each)

    def _give_up(self, each: _Slice) -> None:
        self._grant_unasked(each)

    def _asked(self, each: _Slice, patience: IDelayedCall) -> None:
        each.is_asking = False
        if patience.active():
            patience.cancel()

    def _grant_unasked(self, each: _Slice) -> None:
        self._store_away_until = self._clock.seconds() + SLICE_LIFE
        waiting, each.waiting = each.waiting, []
        for one in waiting:
            one.callback(0.0)


class _Slice:
    """What a process has taken out of one bucket."""

    __slots__ = (
        "_empty_until", "_free", "_free_since", "_size", "_spent_by", "bucket", "ends", "is_asking",
        "limit", "tokens", "waiting",
    )  # fmt: skip

    def __init__(self, kind: str, who: str, limit: RateLimit) -> None:
        self.bucket = f"{kind}:{who}"
        self.limit = limit
        self.tokens = 0
        self.ends = 0.0
        self.waiting: list[Deferred[float]] = []
        self.is_asking = False
        self._size = 0
        self._empty_until = 0.0
        self._free = FREE.get(kind, 0)
        self._free_since = float("-inf")
        self._spent_by = 0

    def knows(self, now: float) -> bool:
        """Whether `take` can answer."""
        if self._free and now - self._free_since >= SLICE_LIFE:
            self._free_since, self._spent_by = now, 0
        return self._spent_by < self._free or self.has_tokens(now) or now < self._empty_until

    def has_tokens(self, now: float) -> bool:
        """Whether there is one that has not expired."""
        return self.tokens > 0 and now < self.ends

    def take(self, now: float) -> float:
        """Use one up, or say how many seconds there is none."""
        if self._spent_by < self._free:
            self._spent_by += 1
            return 0.0
        if self.has_tokens(now):
            self.tokens -= 1
            return 0.0
        return self.wait(now)

    def wait(self, now: float) -> float:
        """Seconds until there is one."""
        return max(self._empty_until - now, 0.001)

    def next_size(self) -> int:
        """How many to ask for."""
        used_up = self.tokens == 0 and self._size > 0
        largest = max(1, self.limit.burst // 10)
        self._size = min(2 * self._size, largest) if used_up else 1
        return self._size

    def fill(self, tokens: Tokens, now: float) -> None:
        """Take what the bucket gave."""
        self.tokens, self.ends = tokens.granted, now + SLICE_LIFE
        if tokens.granted == 0:
            self._empty_until = now + min(max(tokens.wait, 0.001), WAIT_MAX)


async def _awaited(store: NameStore, bucket: str, wanted: int, limit: RateLimit) -> Tokens:
    return await store.take_tokens(bucket, wanted, limit.per_second, limit.burst)


def too_many(seconds: float) -> RequestError:
    """What a client is told that has to wait."""
    return RequestError("too-many-requests", retry_after=ceil(seconds))
