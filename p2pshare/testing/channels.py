"""The messages between the processes of a registry, in memory: for tests, each of whose registries is one "process"."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from p2pshare.errors import StoreUnavailable

_Receive = Callable[[bytes], object]


class MemoryBus:
    """Carries messages from any registry to all of them, in one order; each takes a turn of the reactor."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.subscribers: dict[str, dict[MemoryChannels, _Receive]] = {}
        self.is_away = False
        """Whether nothing can be published, as when Redis is away."""

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """Send a message to all that are subscribed to the channel now; return their number."""
        if self.is_away:
            return fail(StoreUnavailable(reason="it is away"))
        receivers = dict(self.subscribers.get(channel, {}))
        self._clock.callLater(0, self._deliver, channel, message, list(receivers))
        return succeed(len(receivers))

    def _deliver(self, channel: str, message: bytes, receivers: list[MemoryChannels]) -> None:
        for each in receivers:
            receive = self.subscribers.get(channel, {}).get(each)
            if receive is not None:
                receive(message)


class MemoryChannels:
    """The end of one registry; a `registry.api.signals.Channels`."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def subscribe(self, channel: str, receive: _Receive) -> Deferred[None]:
        """See `Channels`."""
        self._bus.subscribers.setdefault(channel, {})[self] = receive
        return succeed(None)

    def unsubscribe(self, channel: str) -> None:
        """See `Channels`."""
        left = self._bus.subscribers.get(channel, {})
        left.pop(self, None)
        if not left:
            self._bus.subscribers.pop(channel, None)

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """See `Channels`."""
        return self._bus.publish(channel, message)
