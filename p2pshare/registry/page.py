"""The page for people (`GET /`): who is here, as a browser shows it. It gets all it shows from `/v1`."""

from __future__ import annotations

import hashlib
from functools import partial
from http import HTTPStatus
from importlib.resources import files

from p2pshare.registry.exchange import Query, Reply, Route

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
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Permissions-Policy", b"camera=(), geolocation=(), microphone=()"),
    (b"X-Frame-Options", b"DENY"),
    (b"Cache-Control", b"no-cache"),
)


class PageRoutes:
    """Answers with the files of the page."""

    def table(self) -> dict[bytes, Route]:
        """The routes by path."""
        folder = files("p2pshare.registry").joinpath("page")
        return {
            path: Route("page", {b"GET": _answer(folder.joinpath(name).read_bytes(), content_type)})
            for path, (name, content_type) in FILES.items()
        }


def _answer(content: bytes, content_type: bytes) -> partial[Reply]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'.encode()
    headers = (*HEADERS, (b"ETag", tag))
    return partial(
        _file,
        tag,
        Reply(HTTPStatus.OK, (content,), content_type, headers),
        Reply(HTTPStatus.NOT_MODIFIED, (), content_type, headers),
    )


def _file(tag: bytes, whole: Reply, unchanged: Reply, query: Query) -> Reply:
    return unchanged if query.has(tag) else whole
