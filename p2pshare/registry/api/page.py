"""The page for people (`GET /`). It shows who is online, and gets all that it shows from `/v1`."""

from __future__ import annotations

import hashlib
import html
from http import HTTPStatus
from importlib.resources import files

from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.reply_bodies import BytesSource

FILES = {
    b"": ("registry/page/page.html", b"text/html; charset=utf-8"),
    b"page.css": ("registry/page/page.css", b"text/css; charset=utf-8"),
    b"page.js": ("registry/page/page.js", b"text/javascript; charset=utf-8"),
    b"design.css": ("web/assets/design.css", b"text/css; charset=utf-8"),
    b"icon.svg": ("web/assets/icon.svg", b"image/svg+xml"),
}
"""The place and the type of each file, by its path. The design is that of the peer's page."""
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Allows no other origin, nothing inline, no frames, and no text that becomes markup."""
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
"""The text that a link replaces if the operator has set a URL for downloads."""


class PageRoutes:
    """The files of the page, which are read once, and their replies."""

    def __init__(self, download_url: str = "", origins: Origins | None = None) -> None:
        """Read the files.

        Args:
            download_url: where visitors get the program; empty if the operator has not set it.
            origins: tells which requests came over TLS; without it, no proxy is trusted.
        """
        self._is_secure = (origins or Origins()).is_secure
        self._files: dict[bytes, tuple[BytesSource, bytes]] = {}
        """The content and the entity tag of each file."""
        for path, (name, _) in FILES.items():
            content = files("p2pshare").joinpath(*name.split("/")).read_bytes()
            if download_url and path == b"":
                url = html.escape(download_url).encode()
                link = b'<a href="%b" rel="noreferrer">Download p2pshare</a>' % url
                content = content.replace(ASKING, link)
            tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'.encode()
            self._files[path] = BytesSource(content), tag

    def table(self) -> dict[bytes, Route]:
        """Return the routes by path."""
        return {path: Route("page", {b"GET": self._answer}) for path in FILES}

    def _answer(self, query: Query) -> Reply:
        source, tag = self._files[query.path]
        of_tls = HEADERS_OF_TLS if self._is_secure(query) else ()
        headers = (*HEADERS, (b"ETag", tag), *of_tls)
        if query.has(tag):
            return Reply(HTTPStatus.NOT_MODIFIED, headers=headers)
        content_type = FILES[query.path][1]
        return Reply(HTTPStatus.OK, (), content_type, headers, source=source)
