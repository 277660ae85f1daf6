"""Every error that the registry answers, in one table (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from p2pshare.errors import RemoteProtocolError, StoreRecovering, StoreUnavailable
from p2pshare.web.exchange import Reply
from p2pshare.wire.registry_answers import PROBLEM_PREFIX, Problem

RETRY_AFTER = 2  # seconds

PROBLEMS: dict[str, tuple[HTTPStatus, str]] = {
    "malformed": (HTTPStatus.BAD_REQUEST, "The request is malformed"),
    "wrong-name": (HTTPStatus.BAD_REQUEST, "The statement is about another name"),
    "wrong-audience": (HTTPStatus.BAD_REQUEST, "The statement is meant for another registry"),
    "wrong-time": (HTTPStatus.BAD_REQUEST, "The statement is not of this time"),
    "wrong-signature": (HTTPStatus.UNAUTHORIZED, "The signature or MAC is wrong"),
    "unknown-session": (HTTPStatus.UNAUTHORIZED, "The session is over: claim the name again"),
    "unauthorized": (HTTPStatus.UNAUTHORIZED, "This takes a token"),
    "invitation-needed": (HTTPStatus.FORBIDDEN, "A new name needs an invitation here"),
    "invitation-refused": (HTTPStatus.FORBIDDEN, "The invitation cannot be used"),
    "not-owner": (HTTPStatus.FORBIDDEN, "The name is not this key's"),
    "not-found": (HTTPStatus.NOT_FOUND, "There is no such thing"),
    "method-not-allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "This method does nothing here"),
    "timeout": (HTTPStatus.REQUEST_TIMEOUT, "The request took too long"),
    "taken": (HTTPStatus.CONFLICT, "The name is somebody else's"),
    "stale": (HTTPStatus.CONFLICT, "A later statement was here before"),
    "too-large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "too-many-requests": (HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "A defect of the registry"),
    "unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The registry cannot do its work just now"),
    "recovering": (HTTPStatus.SERVICE_UNAVAILABLE, "The registry is recovering its names"),
}
"""The status and the title of every problem, by the word that ends its type."""

FRAMING = {
    HTTPStatus.REQUEST_URI_TOO_LONG: ("too-large", "The request line is too long"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("too-large", "A header is too long"),
}
"""Statuses that share a problem with another one, and their titles."""


def problem(word: str, detail: str = "", *, retry_after: int = 0, **extra: int | str) -> Reply:
    """A reply with an error.

    Args:
        word: a key of `PROBLEMS`.
        detail: a sentence for people.
        retry_after: seconds until it makes sense to ask again; 0 for no saying.
        extra: further members of the body.
    """
    status, title = PROBLEMS[word]
    body = Problem(status, PROBLEM_PREFIX + word, title, detail, tuple(extra.items())).to_json()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if retry_after:
        headers = ((b"Retry-After", b"%d" % retry_after),)
    if status == HTTPStatus.UNAUTHORIZED:  # which must name a scheme (RFC 9110, section 11.6.1)
        headers = ((b"WWW-Authenticate", b"p2pshare"),)
    return Reply(status, (body,), b"application/problem+json", headers)


def framing_problem(status: HTTPStatus, detail: str = "") -> bytes:
    """The body for a request that was refused before it was understood."""
    for word, (known, title) in PROBLEMS.items():
        if known is status:
            return Problem(status, PROBLEM_PREFIX + word, title, detail).to_json()
    word, title = FRAMING[status]
    return Problem(status, PROBLEM_PREFIX + word, title, detail).to_json()


def not_allowed(allowed: str) -> Reply:
    """The reply to a method that a route does not know; `allowed` names those that it does."""
    reply = problem("method-not-allowed")
    return Reply(reply.status, reply.body, reply.content_type, ((b"Allow", allowed.encode()),))


class RequestError(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self, word: str, detail: str = "", *, retry_after: int = 0, **extra: int | str
    ) -> None:
        super().__init__(word)
        self.word = word
        self.reply = problem(word, detail, retry_after=retry_after, **extra)


def word_of(error: RequestError | RemoteProtocolError | StoreUnavailable) -> str:
    """The word of the problem that an error is answered with."""
    if isinstance(error, RequestError):
        return error.word
    if isinstance(error, RemoteProtocolError):
        return "malformed"
    return "recovering" if isinstance(error, StoreRecovering) else "unavailable"


AWAY = problem("unavailable", retry_after=RETRY_AFTER)
BROKEN = problem("internal")
NOT_FOUND = problem("not-found")
