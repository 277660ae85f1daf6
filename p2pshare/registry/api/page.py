"""The page for people (`GET /`): who is here, as a browser shows it. It gets all it shows from `/v1`."""

from __future__ import annotations

import hashlib
import html
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from importlib.resources import files

from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply, Route

FILES = {
    b"": ("page.html", b"text/html; charset=utf-8"),
    b"page.css": ("page.css", b"text/css; charset=utf-8"),
    b"page.js": ("page.js", b"text/javascript; charset=utf-8"),
    b"icon.svg": ("icon.svg", b"image/svg+xml"),
}
"""The name and the type of each file, by its path."""
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, no frames, and no text that becomes markup."""
HEADERS = (
    (b"Content-Security-Policy", POLICY),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Permissions-Policy", b"camera=(), geolocation=(), microphone=()"),
    (b"X-Frame-Options", b"DENY"),
    (b"Cache-Control", b"no-cache"),
)
HEADERS_OF_TLS = ((b"Cross-Origin-Opener-Policy", b"same-origin"),)
"""Over plain HTTP, browsers ignore this header and report an error."""
ASKING = b"Ask the person who runs this registry for p2pshare"
"""What the page says of where the program is, if the operator has set no URL."""


class PageRoutes:
    """Answers with the files of the page."""

    def __init__(self, download_url: str = "", origins: Origins | None = None) -> None:
        """Read the files.

        Args:
            download_url: where visitors get the program; empty if the operator has not set it.
            origins: tell which requests came over TLS; without it, no proxy is trusted.
        """
        self._is_secure = (origins or Origins()).is_secure
        folder = files("p2pshare.registry").joinpath("page")
        self._contents = {
            path: folder.joinpath(name).read_bytes() for path, (name, _) in FILES.items()
        }
        if download_url:
            url = html.escape(download_url).encode()
            link = b'<a href="%b" rel="noreferrer">Download p2pshare</a>' % url
            self._contents[b""] = self._contents[b""].replace(ASKING, link)

    def table(self) -> dict[bytes, Route]:
        """Return the routes by path."""
        return {
            path: Route("page", {b"GET": self._answer(self._contents[path], content_type)})
            for path, (_, content_type) in FILES.items()
        }

    def _answer(self, content: bytes, content_type: bytes) -> partial[Reply]:
        tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'.encode()
        headers = (*HEADERS, (b"ETag", tag))
        return partial(
            self._file,
            tag,
            Reply(HTTPStatus.OK, (content,), content_type, headers),
            Reply(HTTPStatus.NOT_MODIFIED, (), content_type, headers),
        )

    def _file(self, tag: bytes, whole: Reply, unchanged: Reply, query: Query) -> Reply:
        reply = unchanged if query.has(tag) else whole
        is_secure = self._is_secure(query)
        return replace(reply, headers=reply.headers + HEADERS_OF_TLS) if is_secure else reply
