"""The page for people (`GET /`). It shows who is online, and gets all that it shows from `/v1`."""

from __future__ import annotations

import html
from importlib.resources import files

from p2pshare.web.assets import PAGE_HEADERS, REVALIDATED, Asset
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply, Route

FILES = {
    b"": "registry/page/page.html",
    b"page.css": "registry/page/page.css",
    b"page.js": "registry/page/page.js",
    b"design.css": "web/assets/design.css",
    b"icon.svg": "web/assets/icon.svg",
}
"""The place of each file, by its path. The design is that of the peer's page."""
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Allows no other origin, nothing inline, no frames, and no text that becomes markup."""
HEADERS = (*PAGE_HEADERS, (b"Content-Security-Policy", POLICY), REVALIDATED)
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
        self._files: dict[bytes, Asset] = {}
        for path, name in FILES.items():
            content = files("p2pshare").joinpath(*name.split("/")).read_bytes()
            if download_url and path == b"":
                url = html.escape(download_url).encode()
                link = b'<a href="%b" rel="noreferrer">Download p2pshare</a>' % url
                content = content.replace(ASKING, link)
            self._files[path] = Asset.of(name, content)

    def table(self) -> dict[bytes, Route]:
        """Return the routes by path."""
        return {path: Route("page", {b"GET": self._answer}) for path in FILES}

    def _answer(self, query: Query) -> Reply:
        of_tls = HEADERS_OF_TLS if self._is_secure(query) else ()
        return self._files[query.path].answer(query, (*HEADERS, *of_tls))
