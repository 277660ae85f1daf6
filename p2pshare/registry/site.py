"""The registry's HTTP server: all its connections, how many there may be, and their one timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.http import HTTPFactory, Request, datetimeToString

from p2pshare.registry.api.client_addresses import origin_of
from p2pshare.registry.channel import Limits, RegistryChannel, RegistryRequest
from p2pshare.registry.connections import Connections
from p2pshare.registry.exchange import Query, Reply
from p2pshare.registry.long_replies import LongReplies, LongReply

CHECK_INTERVAL = 1.0  # seconds between two looks at the deadlines


class Answers(Protocol):
    """Answers queries: `Routes`, or what a test puts there."""

    def answer(self, query: Query) -> Deferred[Reply]:
        """The reply to a query; this never fails."""


class RegistrySite(HTTPFactory):
    """The registry's HTTP server."""

    _log = Logger()
    protocol = RegistryChannel  # type: ignore[assignment]  # the default would also speak HTTP/2
    noisy = False

    def __init__(
        self,
        routes: Answers,
        reactor: IReactorTime,
        limits: Limits | None = None,
        *,
        wall: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(reactor=reactor)
        self.timeOut = None  # deadlines are ours
        self.routes = routes
        self.limits = limits or Limits()
        self.date_header = b""
        self._wall = wall or reactor.seconds
        self._channels: Connections[RegistryChannel] = Connections(
            self.limits.connections_max, self.limits.connections_per_address_max
        )
        self._long_replies = LongReplies(self.limits)
        self._checking = LoopingCall(self._check)
        self._checking.clock = reactor

    @property
    def open_connections(self) -> int:
        """How many there are."""
        return len(self._channels)

    def startFactory(self) -> None:
        """Begin to look at the deadlines. (The base class would open a log of all requests.)"""
        self._checking.start(CHECK_INTERVAL)

    def stopFactory(self) -> None:
        """End what is still open."""
        self._checking.stop()
        for channel in self._channels:
            channel.transport.abortConnection()

    def log(self, request: Request) -> None:
        """Log nothing: look-ups are many and say little."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Take the connection of a client, unless there are too many, or too many of its own, that are at work."""
        host = getattr(addr, "host", "")
        origin = origin_of(host).host
        if not self._channels.has_room(origin, self.reactor.seconds()):
            self._log.debug("too many connections: {host} is turned away", host=host)
            return None
        channel = cast(RegistryChannel, super().buildProtocol(addr))
        channel.client_host, channel.origin = host, origin
        self._channels.add(channel, self.reactor.seconds())
        return channel

    def entered(self, channel: RegistryChannel, now: float, *, waits: bool) -> None:
        """A connection begins to wait for a request, or no longer does."""
        if waits:
            self._channels.waits(channel, now)
        else:
            self._channels.works(channel)

    def closed(self, channel: RegistryChannel) -> None:
        """Forget a connection."""
        self._channels.discard(channel)

    def has_room_for_long_reply(self, channel: RegistryChannel) -> bool:
        """Whether one more long reply can be written; if need be, one that its client does not take is cut for it."""
        return self._long_replies.has_room(channel.origin, self.reactor.seconds())

    def write_long_reply(self, request: RegistryRequest, reply: LongReply) -> None:
        """Write it, and count it until that is done, or its client has left."""
        self._long_replies.add(reply, request.channel.origin)
        request.notifyFinish().addBoth(lambda _result: self._long_replies.discard(reply))
        reply.begin()

    def _check(self) -> None:
        now = self.reactor.seconds()
        self.date_header = b"Date: %b\r\n" % datetimeToString(self._wall())
        for channel in self._channels:
            channel.check(now)
        self._long_replies.check(now)
