"""Queries and replies: HTTP without the bytes around it, and the interfaces between a server and what answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

_NO_HEADERS = Headers()


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks."""

    method: bytes
    """`GET` also stands for HEAD, whose reply has the same head."""
    path: bytes
    """Without the leading slash, which originals leave out, and without what follows a `?`."""
    body: bytes
    source: str
    """The IP address of the other end of the connection; empty for a Unix socket."""
    arguments: bytes = b""
    """What follows the `?`, as it came."""
    headers: Headers = _NO_HEADERS
    local: tuple[str, int] | None = None
    """The IP address and the port of our end of the connection; None for a Unix socket."""
    is_secure: bool = False
    """Whether it came over TLS to this process; a reverse proxy's TLS does not count."""

    def header(self, name: bytes) -> str:
        """The value of a header, its lines joined by commas; empty if there is none."""
        values = self.headers.getRawHeaders(name)
        return b",".join(values).decode("latin-1") if values else ""

    def has(self, tag: bytes) -> bool:
        """Whether the client has what this entity tag stands for (`If-None-Match`: RFC 9110, section 13.1.2)."""
        known = [
            each.strip().removeprefix("W/") for each in self.header(b"If-None-Match").split(",")
        ]
        return tag.decode() in known or known == ["*"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What it is told."""

    status: int
    body: tuple[bytes, ...] = ()
    """In pieces, none larger than a page of names."""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class LastingRequest(Protocol):
    """A request whose reply is written bit by bit, as the code sees it that writes one; `web.channel` has it."""

    def write(self, data: bytes) -> object:
        """Write a part of the body."""

    def finish(self) -> object:
        """The body is complete."""

    def registerProducer(self, producer: Any, streaming: bool) -> object:
        """Tell `producer` when the client takes no more, and when it does again."""

    def unregisterProducer(self) -> object:
        """Tell it no more."""

    def notifyFinish(self) -> Deferred[None]:  # noqa: N802 - its name in twisted.web
        """Fires when the reply is over; fails when the client has left."""

    def cut(self) -> None:
        """Break the connection off."""


@dataclass(frozen=True, slots=True)
class StreamReply(Reply):
    """The head of a stream, and what follows."""

    refusal: Callable[[], Reply | None] = lambda: None
    """What to reply instead; asked just before the head is written."""
    begin: Callable[[LastingRequest], None] = lambda _request: None
    """Called when the head is written, unless the request was only for the head."""


class Answers(Protocol):
    """Answers queries: `registry.api.routes.Routes`, or what a test puts there."""

    def answer(self, query: Query) -> Deferred[Reply]:
        """The reply to a query; this never fails."""


Answer = Callable[[Query], Reply | Deferred[Reply]]
"""Answers a query; it may raise or fail, with the errors that `Routes` knows."""


@dataclass(frozen=True, slots=True)
class Route:
    """What can be asked at one path, or at all paths of one shape."""

    label: str
    """What the metrics call it."""
    methods: Mapping[bytes, Answer]
    """By method; the one of `GET` also answers HEAD."""

    @property
    def allowed(self) -> str:
        """The value of `Allow`."""
        names = [name.decode() for name in self.methods]
        return ", ".join(["HEAD", *names] if "GET" in names else names)
