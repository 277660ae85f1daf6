"""HTTP for strangers: `twisted.web`'s server with every wait, size and number bounded; see `web.limits`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from http import HTTPStatus
from io import BytesIO
from math import inf
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolNegotiationFactory,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request, datetimeToString
from zope.interface import alsoProvides, implementer

from p2pshare.errors import P2pshareError
from p2pshare.web.client_addresses import origin_of, plain_ip
from p2pshare.web.connections import Connections
from p2pshare.web.exchange import Answers, Query, Reply
from p2pshare.web.limits import Limits
from p2pshare.web.problems import AWAY, framing_problem
from p2pshare.web.ranges import apply_range
from p2pshare.web.reply_bodies import LongReplies, Outlet, read_pieces, send_pieces
from p2pshare.web.request_bodies import IncomingBody

CHECK_INTERVAL = 1.0  # seconds between two looks at the deadlines
LENGTH_DIGITS_MAX = (
    19  # of a Content-Length, as many as 2**63 has; Python refuses to read thousands
)
BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})  # have no length either

# The details of a refusal.
REQUEST_LINE = "The request line must be METHOD /PATH HTTP/1.1, or 1.0."
HEADERS = "Headers must be NAME: VALUE, with CRLF, at most 500 and 16 KiB of them."
HEADER_SIZE = "A header has at most 8 KiB. If it is Cookie: delete the cookies of this address in the browser."
NO_FOLDING = "A line of the head must not begin with a space."
ONE_LENGTH = "The body must have one length: Content-Length, or chunked."
CHUNKS = "The chunks of the body must be as in RFC 9112, section 7.1."
ONE_HOST = "There must be one Host header."
TARGET = "The target must be a path, in ASCII."

_HEADS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


@implementer(IProtocolNegotiationFactory)
class Site(HTTPFactory):
    """A server: its connections, its long replies, and the one timer for all deadlines."""

    _log = Logger()
    protocol: Any  # `Channel`, set below; the default would also speak HTTP/2
    noisy = False

    def __init__(
        self,
        routes: Answers,
        reactor: IReactorTime,
        limits: Limits | None = None,
        *,
        wall: Callable[[], float] | None = None,
        streams: Callable[[bytes, bytes], bool] = lambda _method, _path: False,
        admits: Callable[[Any], bool] = lambda _address: True,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Serve `routes`.

        Args:
            routes: answers queries.
            reactor: measures deadlines.
            limits: the bounds.
            wall: the Unix time in s, for the `Date` header.
            streams: tells by the method and the path of a request whether its body is passed on as it arrives.
            admits: tells by the address of a client whether it may connect; others do not count.
            headers: of the replies that the site makes itself, without the routes.
        """
        super().__init__(reactor=reactor)
        self.timeOut = None  # `Channel` has its own deadlines
        self.routes = routes
        self.streams = streams
        self.admits = admits
        self.headers = headers
        self.limits = limits or Limits()
        self.date_header = b""
        self.connections = Connections(
            self.limits.connections_max, self.limits.connections_per_address_max
        )
        self.long_replies = LongReplies(self.limits)
        self._wall = wall or reactor.seconds
        self._checking = LoopingCall(self._check)
        self._checking.clock = reactor

    def startFactory(self) -> None:
        """Start the timer. (The base class would open a log of all requests.)"""
        self._checking.start(CHECK_INTERVAL)

    def stopFactory(self) -> None:
        """Break off the connections that are still open."""
        self._checking.stop()
        for channel in self.connections:
            channel.abort()

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - IProtocolNegotiationFactory
        """Return what may be spoken over TLS: Twisted refuses clients that offer protocols if it knows none of ours."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """Log nothing: look-ups are many and say little."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Accept a connection, unless too many are busy, in all or of this client."""
        host, now = plain_ip(getattr(addr, "host", "")), self.reactor.seconds()
        origin = origin_of(host).host
        if not self.admits(addr) or not self.connections.has_room(origin, now):
            self._log.debug("connection refused: client={host}", host=host)
            return None
        channel = cast(Channel, super().buildProtocol(addr))
        channel.client_host, channel.origin = host, origin
        channel.client_port = getattr(addr, "port", 0)
        self.connections.add(channel, now)
        return channel

    def _check(self) -> None:
        now = self.reactor.seconds()
        self.date_header = b"Date: %b\r\n" % datetimeToString(self._wall())
        for channel in self.connections:
            channel.check(now)
        self.long_replies.check(now)


class SiteRequest(Request):
    """A request, answered by the site's routes."""

    _log = Logger()
    channel: Channel
    content: BytesIO
    gone = False
    incoming: IncomingBody | None = None
    _on_gone: Callable[[], object] = staticmethod(lambda: None)

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: it is small."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Collect a part of the body, up to the limit, or pass it on."""
        if self.incoming is not None:
            self.channel.body_goes_on()
            self.incoming.feed(data)
        elif self.content.tell() + len(data) > self.channel.limits.body_max:
            self.channel.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self.content.write(data)

    def begin(self, command: bytes, path: bytes, version: bytes, length: int | None) -> None:
        """Answer a request whose body is yet to arrive."""
        self.incoming = IncomingBody(length, self.channel.let_body_wait)
        self._answer(command, path, version)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer a request that is complete, unless that has begun."""
        if self.incoming is None:
            self._answer(command, path, version)
        else:
            self.incoming.complete()

    def _answer(self, command: bytes, path: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = command, path, version
        if not path.startswith(b"/"):
            self.channel.persistent = False
        hosts = self.requestHeaders.getRawHeaders(b"Host", ())
        if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
            self.channel.refuse(HTTPStatus.BAD_REQUEST, ONE_HOST)
            return
        if b"://" in path or not path.isascii():
            self.channel.refuse(HTTPStatus.BAD_REQUEST, TARGET)
            return
        path, _, arguments = path.partition(b"?")
        query = Query(
            b"GET" if command == b"HEAD" else command,
            path.removeprefix(b"/"),
            self.content.getvalue(),
            self.channel.client_host,
            arguments,
            self.requestHeaders,
            self.channel.local,
            bool(self.isSecure()),
            self._upgrades(),
            self._when_gone,
            self.channel.client_port,
            self.incoming,
        )
        self.channel.factory.routes.answer(query).addCallback(self.reply)

    def reply(self, reply: Reply) -> None:
        """Write the reply: at once, or as fast as the client reads it."""
        if self.gone:
            if reply.source is not None:
                reply.source.close()
            return
        if self.incoming is not None and not self.incoming.is_complete:
            self.channel.refuse_with(reply)
            return
        if reply.upgrade is not None:
            self._upgrade(reply, reply.upgrade)
            return
        if reply.stream is not None:
            self._begin_stream(reply, reply.stream)
            return
        site, channel = self.channel.factory, self.channel
        is_head, is_originals = self.method == b"HEAD", not self.uri.startswith(b"/")
        part, source = range(0), reply.source
        if source is not None:
            headers = None if is_head or is_originals else self.requestHeaders
            reply, part = apply_range(reply, headers)
            if reply.source is None:  # the range is beyond the end
                reply = replace(reply, headers=(*reply.headers, *site.headers))
        size = len(part) if reply.source else sum(map(len, reply.body))
        is_long = size > channel.limits.long_reply and not is_head
        if is_long and not site.long_replies.has_room(channel.origin, site.reactor.seconds()):
            reply = replace(AWAY, headers=(*AWAY.headers, *site.headers))
            is_long = False
            size = sum(map(len, reply.body))
        body = reply.body
        if reply.status in BODILESS or (reply.status != HTTPStatus.OK and is_originals):
            body, size = (), 0  # an original does not read the body of an error
        self._write_head(reply, size)
        if source is not None and (is_head or reply.source is None):
            source.close()
        if is_head or not (is_long or reply.source):
            if body and not is_head:
                channel.writeSequence(body)
            self.finish()
            return
        outlet = Outlet(self, site.reactor.seconds)
        if is_long:
            site.long_replies.add(outlet, channel.origin)
            if (
                reply.source is not None
            ):  # a download may take long; from now on only a stall ends it
                channel.lift_deadline()
        if reply.source is None:
            sending = send_pieces(outlet, (piece for piece in body))
        else:
            sending = send_pieces(outlet, read_pieces(reply.source, part, site.reactor))
        Deferred.fromCoroutine(sending).addErrback(self._not_sent, outlet)

    def _begin_stream(self, reply: Reply, begin: Callable[[Outlet], object]) -> None:
        """Write a body without an end; the connection can only be reused if the body's end can be marked."""
        is_chunked = self.clientproto == b"HTTP/1.1"
        self.channel.persistent = self.channel.persistent and is_chunked
        self._write_head(reply, None, chunked=is_chunked)
        if self.method == b"HEAD":
            self.finish()
        else:
            self.chunked = int(is_chunked)
            self.channel.lift_deadline()
            begin(Outlet(self, self.channel.factory.reactor.seconds))

    def _upgrade(self, reply: Reply, make: Callable[[], IProtocol]) -> None:
        """Hand the connection over to another protocol."""
        head = [_HEADS[reply.status], self.channel.factory.date_header, b"Connection: Upgrade\r\n"]
        head.extend(b"%b: %b\r\n" % header for header in reply.headers)
        self.channel.writeSequence([*head, b"\r\n"])
        self.channel.upgrade(make())

    def _upgrades(self) -> tuple[str, ...]:
        """Return the protocols of `Upgrade`, if `Connection` names it: HTTP/1.0 and HEAD have no upgrade."""
        offered = self.requestHeaders.getRawHeaders(b"Upgrade", ())
        if not offered or self.clientproto != b"HTTP/1.1" or self.method == b"HEAD":
            return ()
        connection = b",".join(self.requestHeaders.getRawHeaders(b"Connection", ()))
        if b"upgrade" not in (each.strip() for each in connection.lower().split(b",")):
            return ()
        listed = b",".join(offered).decode("latin-1").lower().split(",")
        return tuple(each.strip() for each in listed if each.strip())

    def _when_gone(self, then: Callable[[], object]) -> None:
        self._on_gone = then

    def _not_sent(self, failure: Failure, outlet: Outlet) -> None:
        if failure.check(
            P2pshareError, TimeoutError
        ):  # of what the body comes from, which may be another machine
            self._log.debug("reply cut short: why={why!r}", why=failure.getErrorMessage())
        else:
            self._log.failure("reply not sent: path={path}", failure, path=self.uri)
        outlet.drop()

    def connectionLost(self, reason: Failure) -> None:
        """Note that the client has left."""
        self.gone = True
        self._on_gone()
        if self.incoming is not None:
            self.incoming.leave()
        super().connectionLost(reason)

    def _write_head(self, reply: Reply, size: int | None, *, chunked: bool = False) -> None:
        self.startedWriting = 1
        head = [_HEADS[reply.status], self.channel.factory.date_header]
        if chunked:
            head.append(b"Transfer-Encoding: chunked\r\n")
        elif size is not None and reply.status not in BODILESS:
            head.append(b"Content-Length: %d\r\n" % size)
        if size != 0:
            head.append(b"Content-Type: %b\r\n" % reply.content_type)
        head.extend(b"%b: %b\r\n" % header for header in reply.headers)
        head.append(b"\r\n" if self.channel.persistent else b"Connection: close\r\n\r\n")
        self.channel.writeSequence(head)


class Phase(Enum):
    """The phases of a connection; each has its deadline."""

    IDLE = auto()
    HEADERS = auto()
    BODY = auto()
    UPLOAD = auto()
    REPLY = auto()
    CLOSING = auto()
    UPGRADED = auto()


_WAITING = (Phase.IDLE, Phase.HEADERS)  # a connection in BODY still waits: it has not left this set


class Channel(HTTPChannel):
    """One connection; a `web.connections.Connection`.

    A request of an original client, whose target has no leading slash, ends the connection after its proper reply.

    After an upgrade the connection belongs to another protocol, which gets the transport itself, and bounds its own
    times and buffers. The channel passes on what arrives. The connection still counts, and `abort` still closes it.
    """

    requestFactory = SiteRequest
    transport: Any
    factory: Site
    limits: Limits
    client_host = ""
    client_port = 0
    origin = ""
    local: tuple[str, int] | None = None
    _peer: IAddress
    _host: IAddress
    _is_originals = False
    _is_head = False
    _in_head = False
    _expected = ""
    _upgraded: IProtocol | None = None

    def connectionMade(self) -> None:
        """Wait for the first request."""
        self._peer = self.transport.getPeer()
        self._host = self.transport.getHost()
        if isinstance(self._host, IPv4Address | IPv6Address):
            self.local = (plain_ip(self._host.host), self._host.port)
        self.limits = self.factory.limits
        self.MAX_LENGTH = self.limits.line_max
        self._enter(Phase.HEADERS, self.limits.headers_timeout)
        super().connectionMade()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause a new producer if the transport is full already: over TLS it tells that only once."""
        super().registerProducer(producer, streaming)
        if self._waitingForTransport:
            producer.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        """Parse bytes, unless the connection is being closed."""
        if self._upgraded is not None:
            self._upgraded.dataReceived(data)
            return
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEADERS, self.limits.headers_timeout)
        if self._phase is not Phase.CLOSING:
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Parse a line of the head; reject a folded one (RFC 9112, section 5.2)."""
        if self._phase is Phase.CLOSING:
            return
        if line[:1] in (b" ", b"\t"):
            self.refuse(HTTPStatus.BAD_REQUEST, NO_FOLDING)
            return
        if self._in_head:
            self._expected = HEADERS
        else:
            self._read_request_line(line)
        super().lineReceived(line)

    def _read_request_line(self, line: bytes) -> None:
        """Learn from a request line how the request would have to be refused."""
        method, _, rest = line.partition(b" ")
        self._in_head = bool(line)
        self._expected = REQUEST_LINE
        self._is_head = method == b"HEAD"
        self._is_originals = rest[:1].isalpha() and b" HTTP/" in rest and b"://" not in rest

    def rawDataReceived(self, data: bytes) -> None:
        """Parse a part of a body, or keep the bytes after a request that is not answered yet."""
        if self._upgraded is not None:  # they came with the request, which was answered at once
            self._upgraded.dataReceived(data)
        elif self._phase is not Phase.CLOSING:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long."""
        if self._in_head:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEADER_SIZE)
        else:
            self._read_request_line(line[: self.limits.line_max] + b" HTTP/1.1")
            self.refuse(HTTPStatus.REQUEST_URI_TOO_LONG)

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802 - the base class calls it
        """Reject a length of too many digits; keep other headers."""
        name, _, value = line.partition(b":")
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._expected = ONE_LENGTH
            if len(value.strip()) > LENGTH_DIGITS_MAX:
                self._respondToBadRequestAndDisconnect()
                return False
        accepted: bool = super().headerReceived(line)
        return accepted

    def allHeadersReceived(self) -> None:
        """Refuse a body whose announced length is too large; else wait for the body, or pass it on."""
        path = self._path.partition(b"?")[0].removeprefix(b"/")
        if self.length != 0 and self.factory.streams(self._command, path):
            self._enter(Phase.UPLOAD, self.limits.upload_stalled_max)
            super().allHeadersReceived()
            self._expected = CHUNKS
            self.requests[-1].begin(self._command, self._path, self._version, self.length)
            return
        if self.length is not None and self.length > self.limits.body_max:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        self._enter(Phase.BODY, self.limits.request_timeout)
        super().allHeadersReceived()
        self._expected = CHUNKS

    def body_goes_on(self) -> None:
        """Note that a part of a body has arrived that is passed on."""
        if self._phase is Phase.UPLOAD:
            self._enter(Phase.UPLOAD, self.limits.upload_stalled_max)

    def let_body_wait(self, has_to: bool) -> None:
        """Let the client wait with the rest of a body, or go on; it has no deadline while it waits."""
        if self._phase is Phase.UPLOAD:
            self._enter(Phase.UPLOAD, inf if has_to else self.limits.upload_stalled_max)
        if self._phase in (Phase.UPLOAD, Phase.REPLY):
            producer = self.transport
            (producer.pauseProducing if has_to else producer.resumeProducing)()

    def allContentReceived(self) -> None:
        """Answer the request, which is complete."""
        if self._phase is not Phase.CLOSING:
            self._enter(Phase.REPLY, self.limits.reply_timeout)
            self._in_head = False
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """Wait for the next request, as this one is answered."""
        if self._phase is not Phase.CLOSING:
            self._enter(Phase.IDLE, self.limits.idle_timeout)
        super().requestDone(request)

    def lift_deadline(self) -> None:
        """Remove the deadline of the present reply, which has bounds of its own."""
        self._enter(Phase.REPLY, inf)

    def upgrade(self, protocol: IProtocol) -> None:
        """Hand the connection over to another protocol, with the bytes that came after the request."""
        self._enter(Phase.UPGRADED, inf)
        early, self._dataBuffer = b"".join(self._dataBuffer), []
        self.requests.clear()
        self.transport.unregisterProducer()  # this channel
        self.transport.resumeProducing()
        self._upgraded = protocol
        if IHalfCloseableProtocol.providedBy(
            protocol
        ):  # HTTP itself is not: there, a FIN ends the connection
            alsoProvides(self, IHalfCloseableProtocol)
        protocol.makeConnection(self.transport)
        if early:
            protocol.dataReceived(early)

    def loseConnection(self) -> None:
        """Close when the kernel has all that was written, or after `close_timeout`."""
        self._enter(Phase.CLOSING, self.limits.close_timeout)
        super().loseConnection()

    def refuse(self, status: HTTPStatus, detail: str = "") -> None:
        """Answer with a problem, or to an original with a bare status, and close; `web.limits` says in which way."""
        body = b"" if self._is_originals else framing_problem(status, detail)
        self.refuse_with(Reply(status, (body,), b"application/problem+json", self.factory.headers))

    def refuse_with(self, reply: Reply) -> None:
        """Answer with a reply in memory before the request is complete, and close, as `refuse` does."""
        if self._phase is Phase.CLOSING:
            return
        body = b"".join(reply.body)
        self.transport.resumeProducing()
        self.transport.write(
            _HEADS[reply.status]
            + self.factory.date_header
            + b"Content-Length: %d\r\n" % len(body)
            + (b"Content-Type: %b\r\n" % reply.content_type if body else b"")
            + b"".join(b"%b: %b\r\n" % header for header in reply.headers)
            + b"Connection: close\r\n\r\n"
            + (b"" if self._is_head else body)
        )
        self.transport.unregisterProducer()
        self._enter(Phase.CLOSING, self.limits.close_timeout)
        is_tls = ISSLTransport.providedBy(self.transport)
        if ITCPTransport.providedBy(self.transport) and not is_tls:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def check(self, now: float) -> None:
        """Act if the deadline of the present phase has passed."""
        if now < self._deadline:
            return
        if self._phase is Phase.IDLE:
            self.loseConnection()
        elif self._phase in (Phase.HEADERS, Phase.BODY):
            self.refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection, which is over."""
        self.factory.connections.discard(self)
        super().connectionLost(reason)
        if self._upgraded is not None:
            self._upgraded.connectionLost(reason)

    def readConnectionLost(self) -> None:  # noqa: N802 - IHalfCloseableProtocol
        """Pass on that the client sends nothing more."""
        cast(IHalfCloseableProtocol, self._upgraded).readConnectionLost()

    def writeConnectionLost(self) -> None:  # noqa: N802 - IHalfCloseableProtocol
        """Pass on that the client was told that nothing follows."""
        cast(IHalfCloseableProtocol, self._upgraded).writeConnectionLost()

    def getPeer(self) -> IAddress:
        """Return the client's address."""
        return self._peer

    def getHost(self) -> IAddress:
        """Return our own address."""
        return self._host

    def _enter(self, phase: Phase, timeout: float) -> None:
        if phase is not Phase.BODY:
            self._entered = self.factory.reactor.seconds()
            if phase in _WAITING:
                self.factory.connections.waits(self, self._entered)
            else:
                self.factory.connections.works(self)
        self._phase = phase
        self._deadline = self._entered + timeout

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - the base class calls it
        self.refuse(HTTPStatus.BAD_REQUEST, self._expected)


Site.protocol = Channel
