"""Messages between all processes of a registry, by Redis's publish and subscribe."""

# Redis does not keep a message: it reaches those that are subscribed at that moment. So nothing is sent this way that
# has to arrive, and whoever waits for an answer has a timeout.
#
# A connection that is subscribed takes no other commands, so it is a second one, beside that of the link; messages are
# published through the link. It is opened for the first subscription. When it is lost, it is replaced, and subscribed
# to all channels again. Redis may be silent for hours when there is no message, so a PING shows that it is still there.

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txredisapi import RedisError

from p2pshare.core.back_off import BackOff
from p2pshare.registry.redis.connection import RedisConnector, RedisProtocol
from p2pshare.registry.redis.link import (
    LOG_AFTER,
    OPEN_TIMEOUT,
    RETRY_FIRST,
    RETRY_MAX,
    STEADY,
    RedisLink,
)

PREFIX = "p2p:"
PING_INTERVAL = 3.0  # seconds
SUBSCRIBE_MAX = 256  # channels in one command

_Receive = Callable[[bytes], object]


class SubscribedProtocol(RedisProtocol):
    """A connection that receives messages."""

    on_message: Callable[[str, bytes], object] = staticmethod(lambda _channel, _message: None)
    on_subscribed: Callable[[str], object] = staticmethod(lambda _channel: None)

    def send(self, command: str, channels: Iterable[str]) -> None:
        """Send a command to which the reply comes among the messages, one for each channel."""
        self.transport.write(self._build_command(command, *channels))

    def replyReceived(self, reply: object) -> None:  # noqa: N802 - the library calls it
        """Pass on messages and subscriptions; what else arrives is the reply to a command."""
        match reply:
            case [b"message", bytes(channel), bytes(message)]:
                self.on_message(channel.decode("ascii", "replace"), message)
            case [b"subscribe", bytes(channel), _]:
                self.on_subscribed(channel.decode("ascii", "replace"))
            case [b"unsubscribe", *_]:
                pass
            case _ if self.replyQueue.waiting:
                super().replyReceived(reply)
            case _:  # the refusal of a subscription
                self.why = str(reply)
                self.drop()


class RedisChannels:
    """See `registry.api.signals.Channels`."""

    _log = Logger()

    def __init__(self, connector: RedisConnector, link: RedisLink, clock: IReactorTime) -> None:
        """Prepare it; `connector` opens the connection for messages, and `link` publishes them."""
        self._connector = connector
        self._link = link
        self._clock = clock
        self._receivers: dict[str, _Receive] = {}
        self._subscribed: set[str] = set()
        """The channels that Redis has confirmed on the present connection."""
        self._waiting: dict[str, list[Deferred[None]]] = {}
        self._connection: SubscribedProtocol | None = None
        self._pause: Deferred[None] | None = None
        self._running: Deferred[None] | None = None
        self._stopped = False

    def subscribe(self, channel: str, receive: _Receive) -> Deferred[None]:
        """See `Channels`."""
        key = PREFIX + channel
        self._receivers[key] = receive
        if key in self._subscribed:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.setdefault(key, []).append(waiting)
        if self._connection is not None:
            self._connection.send("SUBSCRIBE", [key])
        elif self._running is None and not self._stopped:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return waiting

    def unsubscribe(self, channel: str) -> None:
        """See `Channels`."""
        key = PREFIX + channel
        self._waiting.pop(key, None)
        self._subscribed.discard(key)
        if self._receivers.pop(key, None) is not None and self._connection is not None:
            self._connection.send("UNSUBSCRIBE", [key])

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """See `Channels`."""
        return self._link.in_time(self._publish(PREFIX + channel, message))

    async def _publish(self, key: str, message: bytes) -> int:
        return int(await self._link.call("PUBLISH", key, message))

    def stop(self) -> None:
        """Disconnect."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()
        if self._connection is not None:
            self._connection.drop()

    async def _run(self) -> None:
        """Keep one connection until `stop`."""
        back_off, failures = BackOff(RETRY_FIRST, RETRY_MAX), 0
        while not self._stopped:
            began = self._clock.seconds()
            try:
                why = await self._use_one()
            except (RedisError, TimeoutError) as error:
                why = str(error)
            failures += 1
            if self._clock.seconds() - began > STEADY:
                back_off.reset()
                failures = 0
            if failures == LOG_AFTER:
                self._log.warn("redis messages unusable: reason={why!r}, trying again", why=why)
            await deferLater(self._clock, back_off.next_delay())

    async def _use_one(self) -> str:
        """Use one connection until it is lost; return why it was."""
        connecting = Deferred.fromCoroutine(self._connector.connect(kind=SubscribedProtocol))
        opened = await connecting.addTimeout(OPEN_TIMEOUT, self._clock)
        connection = self._connection = cast(SubscribedProtocol, opened)
        connection.on_message, connection.on_subscribed = self._received, self._confirmed
        connection.gone.addCallback(lambda _: self._lost(connection))
        keys = list(self._receivers)
        for first in range(0, len(keys), SUBSCRIBE_MAX):
            connection.send("SUBSCRIBE", keys[first : first + SUBSCRIBE_MAX])
        while self._connection is connection:
            self._pause = deferLater(self._clock, PING_INTERVAL)
            try:
                await self._pause
            except CancelledError:
                if self._stopped:
                    raise
            else:
                await connection.execute_command("PING")  # it aborts a connection that is silent
        return connection.why

    def _lost(self, connection: SubscribedProtocol) -> None:
        if self._connection is connection:
            self._connection = None
            self._subscribed.clear()
            if self._pause is not None and not self._stopped:
                self._pause.cancel()

    def _received(self, key: str, message: bytes) -> None:
        receive = self._receivers.get(key)
        if receive is not None:
            receive(message)

    def _confirmed(self, key: str) -> None:
        if key in self._receivers:
            self._subscribed.add(key)
        for waiting in self._waiting.pop(key, ()):
            waiting.callback(None)
