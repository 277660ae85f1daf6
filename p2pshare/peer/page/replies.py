"""Replies of the peer's page: JSON, problems, and the headers that every reply has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.web.assets import PAGE_HEADERS
from p2pshare.web.exchange import Reply
from p2pshare.web.problems import problem_of

POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    b"media-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types p2pshare-worker"
)
"""Allows no other origin, nothing inline, no frames, and no text that becomes markup. The one policy for trusted types
lets the page start its own workers."""
HEADERS = (
    *PAGE_HEADERS,
    (b"Content-Security-Policy", POLICY),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cache-Control", b"no-store"),
)
"""Of every reply, unless it has another value itself."""

PROBLEMS = {
    "failed": (HTTPStatus.CONFLICT, "The action failed"),
    "wrong-usage": (HTTPStatus.BAD_REQUEST, "The action was not asked for properly"),
    "refused": (HTTPStatus.FORBIDDEN, "The action is not allowed"),
    "not-found": (HTTPStatus.NOT_FOUND, "Not found"),
    "unreachable": (HTTPStatus.BAD_GATEWAY, "The other side cannot be reached"),
    "malformed": (HTTPStatus.BAD_REQUEST, "The request is malformed"),
    "unauthorized": (HTTPStatus.UNAUTHORIZED, "Open the page again, or sign in"),
    "forbidden": (HTTPStatus.FORBIDDEN, "The request does not come from this page"),
    "method-not-allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The method is not allowed here"),
    "wrong-content-type": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON"),
    "range-not-satisfiable": (
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        "The range is beyond the end of the file",
    ),
    "too-many-requests": (HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "The peer has a defect"),
    "unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The peer cannot answer at the moment"),
}
"""The status and the title of every problem, by the last word of its type."""
_WORDS = {1: "failed", 2: "wrong-usage", 3: "refused", 4: "not-found", 5: "unreachable"}


class PageError(Exception):
    """A request that is answered with a problem; the arguments are those of `problem`."""

    def __init__(self, word: str, detail: str = "", **extra: int | str) -> None:
        super().__init__(word)
        self.reply = problem(word, detail, **extra)


class PageMoved(PageError):  # noqa: N818 - it is no error for the browser
    """A request for the page under another address than its own."""

    def __init__(self, url: str) -> None:
        super().__init__("forbidden")
        headers = ((b"Location", url.encode()),)
        self.reply = Reply(HTTPStatus.TEMPORARY_REDIRECT, headers=headers)


def json_reply(fields: Mapping[str, Any]) -> Reply:
    """Return a reply with an object. A byte of a local path that is not UTF-8 becomes a question mark."""
    body = json.dumps(fields, ensure_ascii=False).encode(errors="replace")
    return Reply(HTTPStatus.OK, (body,))


def problem(word: str, detail: str = "", **extra: int | str) -> Reply:
    """Return the reply for an error (RFC 9457).

    Args:
        word: a key of `PROBLEMS`.
        detail: a sentence for people.
        extra: further members; `retry_after`, in s, is also a header.
    """
    return problem_of(PROBLEMS[word], word, detail, extra, int(extra.get("retry_after", 0)))


def failed_action(error: P2pshareError) -> Reply:
    """Return the reply for an error of an action: its sentence, its class and its exit code."""
    word = _WORDS.get(error.exit_code, "failed")
    if isinstance(error, RemoteProtocolError):
        word = "malformed"
    return problem(word, str(error), error=type(error).__name__, exit_code=error.exit_code)


def with_headers(reply: Reply) -> Reply:
    """Return a reply with the headers that every reply has, except those that it has itself."""
    own = {name.lower() for name, _ in reply.headers}
    missing = tuple(each for each in HEADERS if each[0].lower() not in own)
    return replace(reply, headers=(*reply.headers, *missing))
