"""Replies written only as fast as their clients take them: how many there may be, and for how long they wait."""

from __future__ import annotations

from collections.abc import Callable

from p2pshare.web.exchange import LastingRequest
from p2pshare.web.limits import Limits

PATIENCE = 1.0  # seconds for which a reply may stall before it has to make room for another one


class LongReply:
    """Writes a long body as fast as the client takes it (an `IPushProducer`)."""

    def __init__(
        self, request: LastingRequest, pieces: tuple[bytes, ...], now: Callable[[], float]
    ) -> None:
        """Write `pieces` in reply to `request`; `now` gives seconds."""
        self.stalled_since: float | None = None
        """When the client had enough; None while it takes more."""
        self._request = request
        self._pieces = iter(pieces)
        self._now = now

    def begin(self) -> None:
        """Write."""
        self._request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Write until the transport says that it has enough."""
        self.stalled_since = None
        while self.stalled_since is None:
            piece = next(self._pieces, None)
            if piece is None:
                self._request.unregisterProducer()
                self._request.finish()
                return
            self._request.write(piece)

    def pauseProducing(self) -> None:
        """Wait."""
        self.stalled_since = self._now()

    def stopProducing(self) -> None:
        """Stop: the client has left."""
        self.pauseProducing()

    def cut(self) -> None:
        """Break it off."""
        self._request.cut()


class LongReplies:
    """Those under way: so many in all, and so many for one client.

    One that its client does not take holds its place for a while only, and for less if another one needs it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all: dict[LongReply, str] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def has_room(self, origin: str, now: float) -> bool:
        """Whether one to this client can be added; if need be, another one is cut for it."""
        own = [each for each, whose in self._all.items() if whose == origin]
        if len(own) >= self._limits.long_replies_per_address_max:
            return self._cut_one(own, now)
        return len(self._all) < self._limits.long_replies_max or self._cut_one(list(self._all), now)

    def add(self, reply: LongReply, origin: str) -> None:
        """Count it in, until `discard`."""
        self._all[reply] = origin

    def discard(self, reply: LongReply) -> None:
        """Forget it, if it is still there."""
        self._all.pop(reply, None)

    def check(self, now: float) -> None:
        """Cut those that have stalled for too long."""
        for reply in list(self._all):
            if _stalled(reply, now) >= self._limits.long_reply_stalled_max:
                self._cut(reply)

    def _cut_one(self, among: list[LongReply], now: float) -> bool:
        longest = max(among, key=lambda each: _stalled(each, now))
        if _stalled(longest, now) < PATIENCE:
            return False
        self._cut(longest)
        return True

    def _cut(self, reply: LongReply) -> None:
        self.discard(reply)
        reply.cut()


def _stalled(reply: LongReply, now: float) -> float:
    return 0.0 if reply.stalled_since is None else now - reply.stalled_since
