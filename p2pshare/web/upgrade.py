"""The client's side of an upgrade of HTTP (RFC 9110, section 7.8): a request, its reply, and then another protocol."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

HEAD_MAX = 16 * 1024  # bytes of the head of a reply
BODY_MAX = 16 * 1024  # bytes of the body of a reply

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")


class UpgradeRequest(Protocol):
    """Sends a request on a connection of its own.

    `done` fires with None when the other protocol has the connection. If the server refuses, it fires with the status,
    the headers and the body of the reply. It fails with `ResponseFailed` if there is no proper reply.
    """

    transport: Any

    def __init__(self, request: bytes, protocol: str, make: Callable[[], IProtocol]) -> None:
        """Ask by `request` for an upgrade to `protocol`; `make` is called when that is granted."""
        self.done: Deferred[tuple[int, Headers, bytes] | None] = Deferred(lambda _: self._abort())
        self._request = request
        self._protocol = protocol
        self._make = make
        self._buffer = b""
        self._refusal: tuple[int, Headers] | None = None
        self._upgraded: IProtocol | None = None

    def connectionMade(self) -> None:
        """Send the request."""
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Read the reply, or pass bytes on."""
        if self._upgraded is not None:
            self._upgraded.dataReceived(data)
        elif not self.done.called:
            self._buffer += data
            self._read_head()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass the end on, or fail."""
        if self._upgraded is not None:
            self._upgraded.connectionLost(reason)
        else:
            self._fail(reason)

    def _read_head(self) -> None:
        while self._refusal is None:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                if len(head) > HEAD_MAX:
                    self._fail(Failure(PotentialDataLoss()))
                return
            status_line, *lines = head.split(b"\r\n")
            match = _STATUS.fullmatch(status_line)
            if match is None or len(head) > HEAD_MAX:
                self._fail(Failure(ValueError("this is no reply of HTTP")))
                return
            status, headers = int(match[1]), Headers()
            for name, colon, value in (line.partition(b":") for line in lines):
                if colon:
                    headers.addRawHeader(name.strip().decode("latin-1"), value.strip())
            self._buffer = rest
            if status == 101:
                self._hand_over(headers)
                return
            if status >= 200:  # others are interim replies
                self._refusal = status, headers
        self._read_body(*self._refusal)

    def _hand_over(self, headers: Headers) -> None:
        granted = b",".join(headers.getRawHeaders(b"Upgrade", ())).decode("latin-1").lower()
        if granted.strip() != self._protocol:
            self._fail(Failure(ValueError("this is an upgrade to another protocol")))
            return
        self._upgraded = upgraded = self._make()
        early, self._buffer = self._buffer, b""
        upgraded.makeConnection(self.transport)
        self.done.callback(None)
        if early:
            upgraded.dataReceived(early)

    def _read_body(self, status: int, headers: Headers) -> None:
        """Read a body of a known length; any other is ignored."""
        length = headers.getRawHeaders(b"Content-Length", [b"0"])[-1]
        size = int(length) if re.fullmatch(rb"[0-9]{1,6}", length) else 0
        if len(self._buffer) >= min(size, BODY_MAX):
            body = self._buffer[:size] if size <= BODY_MAX else b""
            self._abort()
            self.done.callback((status, headers, body))

    def _fail(self, reason: Failure) -> None:
        if not self.done.called:
            self._abort()
            self.done.errback(ResponseFailed([reason]))

    def _abort(self) -> None:
        self.transport.abortConnection()
