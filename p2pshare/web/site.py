"""An HTTP server: all its connections, how many there may be, and their one timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.http import HTTPFactory, Request, datetimeToString

from p2pshare.web.channel import Channel, SiteRequest
from p2pshare.web.client_addresses import origin_of
from p2pshare.web.connections import Connections
from p2pshare.web.exchange import Answers
from p2pshare.web.limits import Limits
from p2pshare.web.long_replies import LongReplies, LongReply

CHECK_INTERVAL = 1.0  # seconds between two looks at the deadlines


class Site(HTTPFactory):
    """An HTTP server; a `web.channel.ChannelOwner`."""

    _log = Logger()
    protocol = Channel  # type: ignore[assignment]  # the default would also speak HTTP/2
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
        self._channels: Connections[Channel] = Connections(
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
        channel = cast(Channel, super().buildProtocol(addr))
        channel.client_host, channel.origin = host, origin
        self._channels.add(channel, self.reactor.seconds())
        return channel

    def entered(self, channel: Channel, now: float, *, waits: bool) -> None:
        """A connection begins to wait for a request, or no longer does."""
        if waits:
            self._channels.waits(channel, now)
        else:
            self._channels.works(channel)

    def closed(self, channel: Channel) -> None:
        """Forget a connection."""
        self._channels.discard(channel)

    def has_room_for_long_reply(self, channel: Channel) -> bool:
        """Whether one more long reply can be written; if need be, one that its client does not take is cut for it."""
        return self._long_replies.has_room(channel.origin, self.reactor.seconds())

    def write_long_reply(self, request: SiteRequest, reply: LongReply) -> None:
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
