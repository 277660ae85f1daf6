"""Requests and replies without the bytes around them, and the interfaces between a server and its routes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.web.http_headers import Headers

from p2pshare.web.reply_bodies import Outlet, Source
from p2pshare.web.request_bodies import IncomingBody

_NO_HEADERS = Headers()


def _never(_then: Callable[[], object]) -> None:
    """Stand for a client that does not leave."""


@dataclass(frozen=True, slots=True)
class Query:
    """A request of a client."""

    method: bytes
    """`GET` also stands for HEAD, whose reply has the same head."""
    path: bytes
    """The target without its leading slash, which original clients omit, and without the `?` and its arguments."""
    body: bytes
    source: str
    """The IP address of the other end of the connection; empty for a Unix socket."""
    arguments: bytes = b""
    """The bytes after the `?`, not decoded."""
    headers: Headers = _NO_HEADERS
    local: tuple[str, int] | None = None
    """The IP address and the port of our end of the connection; None for a Unix socket."""
    is_secure: bool = False
    """Whether the request came over TLS to this process; TLS of a reverse proxy does not count."""
    upgrades: tuple[str, ...] = ()
    """The protocols, in lower case, to which the client offers to upgrade the connection (RFC 9110, section 7.8)."""
    when_gone: Callable[[Callable[[], object]], object] = _never
    """Registers a function that is called if the client leaves before the reply."""
    source_port: int = 0
    """The port of the other end of the connection; 0 for a Unix socket."""
    incoming: IncomingBody | None = None
    """The body, for a route with `streams`; then `body` is empty."""

    def header(self, name: bytes) -> str:
        """Return the value of a header, its lines joined by commas; empty if there is none."""
        values = self.headers.getRawHeaders(name)
        return b",".join(values).decode("latin-1") if values else ""

    def has(self, tag: bytes) -> bool:
        """Whether `If-None-Match` has this entity tag (RFC 9110, section 13.1.2)."""
        known = [
            each.strip().removeprefix("W/") for each in self.header(b"If-None-Match").split(",")
        ]
        return tag.decode() in known or known == ["*"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, headers, and one of three kinds of body; or an upgrade to another protocol."""

    status: int
    body: tuple[bytes, ...] = ()
    """A body in memory, in pieces; none is larger than a page of names."""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    source: Source | None = None
    """A body that is read while it is sent. If it can seek, the server answers byte ranges of it (status 200 only)."""
    stream: Callable[[Outlet], object] | None = None
    """Begins a body without an end, after the head is written; not called for HEAD."""
    upgrade: Callable[[], IProtocol] | None = None
    """Makes the protocol that takes over the connection after the head (status 101, with a header `Upgrade`). Only for
    a query with `upgrades`; not called if the client has left."""


class Answers(Protocol):
    """Answers queries: `registry.api.routes.Routes`, or a double in tests."""

    def answer(self, query: Query) -> Deferred[Reply]:
        """Return the reply to a query; this never fails."""


Answer = Callable[[Query], Reply | Deferred[Reply] | Coroutine[Deferred[Any], Any, Reply]]
"""Answers a query; it may raise or fail with the errors that `Routes` turns into replies."""


@dataclass(frozen=True, slots=True)
class Route:
    """The methods of one path, or of all paths of one shape."""

    label: str
    """Its name in the metrics."""
    methods: Mapping[bytes, Answer]
    """The answer for each method; the one of `GET` also answers HEAD."""
    streams: bool = False
    """Whether the bodies of other requests than GET are passed on as they arrive, see `web.request_bodies`. Only for a
    `Site` that is told so."""

    @property
    def allowed(self) -> str:
        """The value of `Allow`."""
        names = [name.decode() for name in self.methods]
        return ", ".join(["HEAD", *names] if "GET" in names else names)
