"""HTTP for strangers: `twisted.web`'s server with every wait, size and number bounded.

A connection is always in one phase, and each phase has a deadline that no dripping of bytes puts
off. One timer of the site looks at all deadlines once a second, which costs less than a timer for
each. What is refused before it is understood is answered with a problem and the end of the
connection. So ends, after its proper reply, a request of an original client: one whose target has
no leading slash.
"""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from io import BytesIO
from math import inf
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from p2pshare.web.exchange import Answers, Query, Reply, StreamReply
from p2pshare.web.limits import Limits
from p2pshare.web.long_replies import LongReply
from p2pshare.web.problems import AWAY, framing_problem

BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})  # have no length either
HEADERS_EXPECTED = "headers must be NAME: VALUE, with CRLF, at most 500 and 16 KiB of them"
LENGTH_DIGITS_MAX = 19  # of a Content-Length: as many as 2**63 has

_HEADS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Phase(Enum):
    """What a connection is doing."""

    IDLE = auto()
    HEADERS = auto()
    BODY = auto()
    REPLY = auto()
    CLOSING = auto()


_WAITING = (Phase.IDLE, Phase.HEADERS)  # or BODY, which is a part of that wait


class ChannelOwner(Protocol):
    """What a channel needs of the server that it belongs to; `web.site.Site` has it."""

    routes: Answers
    limits: Limits
    date_header: bytes
    reactor: IReactorTime

    def entered(self, channel: Channel, now: float, *, waits: bool) -> None:
        """A connection begins to wait for a request, or no longer does."""

    def closed(self, channel: Channel) -> None:
        """Forget a connection."""

    def has_room_for_long_reply(self, channel: Channel) -> bool:
        """Whether one more long reply can be written."""

    def write_long_reply(self, request: SiteRequest, reply: LongReply) -> None:
        """Write it, and count it until it is over."""


class SiteRequest(Request):
    """A request, answered by the site's routes."""

    channel: Channel
    content: BytesIO
    gone = False

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: it is small."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a part of the body, up to the limit."""
        if self.content.tell() + len(data) > self.channel.limits.body_max:
            self.channel.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer a request that is all there."""
        self.method, self.uri, self.clientproto = command, path, version
        if not path.startswith(b"/"):
            self.channel.persistent = False
        hosts = self.requestHeaders.getRawHeaders(b"Host", ())
        wrong = ""
        if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
            wrong = "there must be one Host header"
        elif b"://" in path or not path.isascii():
            wrong = "the target must be a path, in ASCII"
        if wrong:
            self.channel.refuse(HTTPStatus.BAD_REQUEST, wrong)
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
        )
        self.channel.factory.routes.answer(query).addCallback(self.reply)

    def reply(self, reply: Reply) -> None:
        """Write the reply, at once or, if it is long, bit by bit."""
        if self.gone:
            return
        if isinstance(reply, StreamReply):
            refusal = reply.refusal()
            if refusal is None:
                self._stream(reply)
                return
            reply = refusal
        size = sum(map(len, reply.body))
        is_long = size > self.channel.limits.long_reply and self.method != b"HEAD"
        if is_long and not self.channel.factory.has_room_for_long_reply(self.channel):
            reply, is_long = AWAY, False
            size = sum(map(len, reply.body))
        body = reply.body
        if reply.status in BODILESS or (
            reply.status != HTTPStatus.OK and not self.uri.startswith(b"/")
        ):
            body, size = (), 0  # an original does not read what comes with an error
        self._write_head(reply, size)
        if is_long:
            self.channel.factory.write_long_reply(
                self, LongReply(self, body, self.channel.factory.reactor.seconds)
            )
            return
        if self.method != b"HEAD" and body:
            self.channel.writeSequence(body)
        self.finish()

    def _stream(self, reply: StreamReply) -> None:
        """Write a reply that ends when it likes; the connection goes on after it if its end can be told."""
        is_chunked = self.clientproto == b"HTTP/1.1"
        self.channel.persistent = self.channel.persistent and is_chunked
        self._write_head(reply, None, chunked=is_chunked)
        if self.method == b"HEAD":
            self.finish()
        else:
            self.chunked = int(is_chunked)
            self.channel.lift_deadline()
            reply.begin(self)

    def cut(self) -> None:
        """Break the connection off."""
        self.channel.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The client has left."""
        self.gone = True
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


class Channel(HTTPChannel):
    """One connection."""

    requestFactory = SiteRequest
    transport: Any
    factory: ChannelOwner
    _peer: IAddress
    _host: IAddress
    limits: Limits
    client_host = ""
    origin = ""
    local: tuple[str, int] | None = None
    _is_originals = False
    _is_head = False
    _in_head = False
    _expected = ""

    def connectionMade(self) -> None:
        """Count the connection, and wait for its first request."""
        self._peer = self.transport.getPeer()
        self._host = self.transport.getHost()
        if isinstance(self._host, IPv4Address | IPv6Address):
            self.local = (self._host.host, self._host.port)
        self.limits = self.factory.limits
        self.MAX_LENGTH = self.limits.line_max
        self._enter(Phase.HEADERS, self.limits.headers_timeout)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, unless the connection is being closed."""
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEADERS, self.limits.headers_timeout)
        if self._phase is not Phase.CLOSING:
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Take a line of the request's head, unless it goes on with the one before (RFC 9112, section 5.2)."""
        if self._phase is Phase.CLOSING:
            return
        if line[:1] in (b" ", b"\t"):
            self.refuse(HTTPStatus.BAD_REQUEST, "no line of the head may begin with a space")
            return
        if self._in_head:
            self._expected = HEADERS_EXPECTED
        else:
            self._look_at(line)
        super().lineReceived(line)

    def _look_at(self, line: bytes) -> None:
        """Learn from a request line how the request would have to be refused."""
        method, _, rest = line.partition(b" ")
        self._in_head = bool(line)
        self._expected = "the request line must be METHOD /PATH HTTP/1.1, or 1.0"
        self._is_head = method == b"HEAD"
        self._is_originals = rest[:1].isalpha() and b" HTTP/" in rest and b"://" not in rest

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body, or what follows a request that is not answered yet."""
        if self._phase is not Phase.CLOSING:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is far too long."""
        if self._in_head:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            self._look_at(line[: self.limits.line_max] + b" HTTP/1.1")
            self.refuse(HTTPStatus.REQUEST_URI_TOO_LONG)

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802 - the base class calls it
        """Refuse a length of so many digits that Python makes no number of it; keep other headers."""
        name, _, value = line.partition(b":")
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._expected = "the body must have one length: Content-Length, or chunked"
            if len(value.strip()) > LENGTH_DIGITS_MAX:
                self._respondToBadRequestAndDisconnect()
                return False
        accepted: bool = super().headerReceived(line)
        return accepted

    def allHeadersReceived(self) -> None:
        """Refuse a body that is announced too long; else wait for it."""
        if self.length is not None and self.length > self.limits.body_max:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        self._enter(Phase.BODY, self.limits.request_timeout)
        super().allHeadersReceived()
        self._expected = "the chunks of the body must be as in RFC 9112, section 7.1"

    def allContentReceived(self) -> None:
        """The request is all there."""
        if self._phase is not Phase.CLOSING:
            self._enter(Phase.REPLY, self.limits.reply_timeout)
            self._in_head = False
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """The request is answered."""
        if self._phase is not Phase.CLOSING:
            self._enter(Phase.IDLE, self.limits.idle_timeout)
        super().requestDone(request)

    def lift_deadline(self) -> None:
        """Let the present reply take as long as it likes: it has bounds of its own."""
        self._enter(Phase.REPLY, inf)

    def loseConnection(self) -> None:
        """Close, once what was written is with the kernel, or soon anyway."""
        self._enter(Phase.CLOSING, self.limits.close_timeout)
        super().loseConnection()

    def refuse(self, status: HTTPStatus, detail: str = "") -> None:
        """Answer with a problem, which may say a detail, to an original with a bare status, and close.

        The client may still be sending. If we closed at once, our kernel would answer that with a reset, which
        can overtake the reply: so we say that we are done and let the client close, for a while.
        """
        if self._phase is Phase.CLOSING:
            return
        body = b"" if self._is_originals else framing_problem(status, detail)
        self.transport.resumeProducing()
        self.transport.write(
            _HEADS[status]
            + self.factory.date_header
            + b"Content-Length: %d\r\n" % len(body)
            + (b"Content-Type: application/problem+json\r\n" if body else b"")
            + b"Connection: close\r\n\r\n"
            + (b"" if self._is_head else body)
        )
        self.transport.unregisterProducer()
        self._enter(Phase.CLOSING, self.limits.close_timeout)
        if ITCPTransport.providedBy(self.transport) and not ISSLTransport.providedBy(
            self.transport
        ):
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
            self.transport.abortConnection()

    def make_room(self) -> None:
        """Close at once, for another one."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is over."""
        self.factory.closed(self)
        super().connectionLost(reason)

    def getPeer(self) -> IAddress:
        """The client's address."""
        return self._peer

    def getHost(self) -> IAddress:
        """Our own."""
        return self._host

    def _enter(self, phase: Phase, timeout: float) -> None:
        if phase is not Phase.BODY:
            self._entered = self.factory.reactor.seconds()
            self.factory.entered(self, self._entered, waits=phase in _WAITING)
        self._phase = phase
        self._deadline = self._entered + timeout

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - the base class calls it
        self.refuse(HTTPStatus.BAD_REQUEST, self._expected)
