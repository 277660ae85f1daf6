"""The turns of the flows through the relay: rates per key and in total, shared fairly. No clock, no sockets."""

# A *flow* is one direction of a pair. Its reader calls `received`. As long as all of its buckets have tokens and no
# flow waits for them, the flow reads on, and this costs three subtractions. Otherwise it has to pass its buckets one
# after the other, and waits in the queue of each that has no tokens. Then it has a turn: one read of at most `turn`
# bytes. So flows that all have enough to send get equal shares, whatever the sizes of their reads were before. A low
# rate has short turns: a session must not count as silent because a hundred others have their turns before it.
#
# A turn is paid at each bucket as the flow passes it, and the rest is given back when the read is known. If flows paid
# only when all of their buckets have tokens, a flow between two busy keys could wait for ever. A flow that has nothing
# to send keeps its turn, so a quiet pair does not wait when it speaks.
#
# What arrives while a flow waits (TLS may have decrypted more than was asked for) is counted as well; the bucket then
# has a debt, and its queue waits until that is paid.

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from p2pshare.core.rate import RateLimit

TURN_MIN, TURN_MAX = 16 * 1024, 128 * 1024  # bytes that are read at once
TURN_TIME = 0.01  # seconds of the lowest rate that a turn takes, within these bounds
TICK = 0.002  # seconds between two rounds of turns, at least
IDLE_BUCKETS_MAX = 1024  # keys without a flow whose debts are remembered


class Bucket:
    """A rate that several flows share, and the flows that wait for it."""

    __slots__ = ("flows", "limit", "waiting")

    def __init__(self, rate: float | None, now: float) -> None:
        self.limit = RateLimit(rate, now)
        self.waiting: deque[Flow] = deque()
        self.flows = 0

    def is_closed(self, now: float) -> bool:
        """Whether there are no tokens."""
        return self.limit.available(now) <= 0


class Flow:
    """One direction of a pair."""

    __slots__ = ("buckets", "is_over", "keys", "passed", "waits_for")

    def __init__(self, keys: Sequence[str], buckets: Sequence[Bucket]) -> None:
        self.keys = keys
        self.buckets = buckets
        self.passed = 0
        """How many of its buckets have been paid for the next turn."""
        self.waits_for: Bucket | None = None
        self.is_over = False


class Turns:
    """Gives flows their turns."""

    def __init__(
        self,
        rate: float | None,
        rate_per_key: float | None,
        now: float,
        *,
        idle_buckets_max: int = IDLE_BUCKETS_MAX,
    ) -> None:
        """Share `rate` bytes/s among all flows, and `rate_per_key` among those of one key; None is no limit."""
        lowest = min(
            (each for each in (rate, rate_per_key) if each is not None),
            default=TURN_MAX / TURN_TIME,
        )
        self.turn = min(TURN_MAX, max(TURN_MIN, int(lowest * TURN_TIME)))
        """Bytes of a turn."""
        self._total = Bucket(rate, now)
        self._rate_per_key = rate_per_key
        self._of_key: dict[str, Bucket] = {}
        self._idle: OrderedDict[str, Bucket] = OrderedDict()
        self._idle_max = idle_buckets_max
        self._busy: dict[Bucket, None] = {}
        """The buckets for which flows wait."""
        self._ready: deque[Flow] = deque()
        self._due: float | None = None

    def open(self, keys: Sequence[str], now: float) -> Flow:
        """Return a new flow between these keys; it may read."""
        buckets = [self._bucket(key, now) for key in keys]
        for each in buckets:
            each.flows += 1
        return Flow(keys, (*buckets, self._total))

    def close(self, flow: Flow, now: float) -> None:
        """Forget a flow."""
        if flow.is_over:
            return
        flow.is_over = True
        self._stop_waiting(flow)
        for bucket in flow.buckets[: flow.passed]:
            bucket.limit.spend(-self.turn, now)
        for key, bucket in zip(flow.keys, flow.buckets, strict=False):
            bucket.flows -= 1
            if not bucket.flows:
                self._idle[key] = self._of_key.pop(key)
        while len(self._idle) > self._idle_max:
            self._idle.popitem(last=False)

    def received(self, flow: Flow, size: int, now: float) -> bool:
        """Count bytes that were read, and return whether the flow may read on. If not, it waits for `next_turn`."""
        if flow.passed and flow.waits_for is None:
            flow.passed = 0
            size -= self.turn
        for bucket in flow.buckets:
            bucket.limit.spend(size, now)
        if flow.waits_for is not None:
            return False
        for bucket in flow.buckets:
            if bucket.waiting or bucket.is_closed(now):
                return self._move_on(flow, now)
        return True

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer`; None if no flow waits."""
        return self._due

    def handle_timer(self, now: float) -> None:
        """Give turns, as many as there are tokens for."""
        self._due = None
        busy = [each for each in self._busy if each is not self._total]
        for bucket in (*busy, self._total):
            while bucket.waiting and not bucket.is_closed(now):
                flow = bucket.waiting.popleft()
                flow.waits_for = None
                self._pass(flow, bucket, now)
                if self._move_on(flow, now):
                    self._ready.append(flow)
            if not bucket.waiting:
                self._busy.pop(bucket, None)
        for bucket in self._busy:
            self._arm(bucket, now)

    def next_turn(self) -> Flow | None:
        """Return a flow whose turn has come: it may read. None if there is none."""
        while self._ready:
            flow = self._ready.popleft()
            if not flow.is_over:
                return flow
        return None

    def _bucket(self, key: str, now: float) -> Bucket:
        found = self._of_key.get(key) or self._idle.pop(key, None)
        self._of_key[key] = found = found or Bucket(self._rate_per_key, now)
        return found

    def _move_on(self, flow: Flow, now: float) -> bool:
        """Let a flow pass its next buckets; return whether it has passed all, or else let it wait for one."""
        for bucket in flow.buckets[flow.passed :]:
            if bucket.waiting or bucket.is_closed(now):
                flow.waits_for = bucket
                bucket.waiting.append(flow)
                self._busy[bucket] = None
                self._arm(bucket, now)
                return False
            self._pass(flow, bucket, now)
        return True

    def _pass(self, flow: Flow, bucket: Bucket, now: float) -> None:
        flow.passed += 1
        bucket.limit.spend(self.turn, now)

    def _stop_waiting(self, flow: Flow) -> None:
        bucket, flow.waits_for = flow.waits_for, None
        if bucket is not None:
            bucket.waiting.remove(flow)
            if not bucket.waiting:
                del self._busy[bucket]

    def _arm(self, bucket: Bucket, now: float) -> None:
        due = max(bucket.limit.when(1, now), now + TICK)
        self._due = due if self._due is None else min(self._due, due)
