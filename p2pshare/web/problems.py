"""Every error that the registry answers, in one table (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from p2pshare.errors import RemoteProtocolError, StoreRecovering, StoreUnavailable
from p2pshare.web.exchange import Reply
from p2pshare.wire.registry_answers import PROBLEM_PREFIX, Problem

RETRY_AFTER = 2  # seconds, while the store is unavailable
RECOVERING_RETRY = 30  # seconds, at most

PROBLEMS: dict[str, tuple[HTTPStatus, str]] = {
    "malformed": (HTTPStatus.BAD_REQUEST, "The request is malformed"),
    "wrong-name": (HTTPStatus.BAD_REQUEST, "The statement names another name than the path"),
    "wrong-audience": (HTTPStatus.BAD_REQUEST, "The statement is for another registry"),
    "wrong-time": (HTTPStatus.BAD_REQUEST, "The statement is expired or its time is wrong"),
    "wrong-signature": (HTTPStatus.UNAUTHORIZED, "The signature or MAC is invalid"),
    "unknown-session": (HTTPStatus.UNAUTHORIZED, "The session has ended: claim the name again"),
    "unauthorized": (HTTPStatus.UNAUTHORIZED, "A token or an access statement is required"),
    "replayed": (HTTPStatus.UNAUTHORIZED, "The access statement was used before"),
    "invitation-needed": (HTTPStatus.FORBIDDEN, "A new name needs an invitation"),
    "invitation-refused": (HTTPStatus.FORBIDDEN, "The invitation is not valid"),
    "not-owner": (HTTPStatus.FORBIDDEN, "Another key owns the name"),
    "not-accepted": (HTTPStatus.FORBIDDEN, "The peer does not accept signals of this sender"),
    "not-found": (HTTPStatus.NOT_FOUND, "Not found"),
    "not-listening": (HTTPStatus.NOT_FOUND, "The peer does not listen for signals"),
    "method-not-allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The method is not allowed here"),
    "timeout": (HTTPStatus.REQUEST_TIMEOUT, "The request took too long"),
    "taken": (HTTPStatus.CONFLICT, "The name is taken"),
    "stale": (HTTPStatus.CONFLICT, "A newer statement exists"),
    "room-used": (HTTPStatus.CONFLICT, "The two peers have met in this room before"),
    "too-large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "range-not-satisfiable": (
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        "The range is beyond the end of the body",
    ),
    "upgrade-required": (HTTPStatus.UPGRADE_REQUIRED, "The relay needs an upgrade of HTTP/1.1"),
    "too-many-requests": (HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "The registry has a defect"),
    "unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The registry is unavailable at the moment"),
    "recovering": (HTTPStatus.SERVICE_UNAVAILABLE, "The registry is recovering its names"),
    "relay-full": (HTTPStatus.SERVICE_UNAVAILABLE, "The relay has no room for another pair"),
    "nobody-came": (HTTPStatus.GATEWAY_TIMEOUT, "The other peer did not come to the relay"),
}
"""The status and the title of every problem, by the last word of its type."""

FRAMING = {
    HTTPStatus.BAD_REQUEST: ("malformed", "The request is malformed"),
    HTTPStatus.REQUEST_TIMEOUT: ("timeout", "The request took too long"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", "The body is too large"),
    HTTPStatus.REQUEST_URI_TOO_LONG: ("too-large", "The request line is too long"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("too-large", "A header is too long"),
}
"""The problem and its title for each status that refuses a request before it is understood."""


def problem(word: str, detail: str = "", *, retry_after: int = 0, **extra: int | str) -> Reply:
    """Return the reply for an error.

    Args:
        word: a key of `PROBLEMS`.
        detail: a sentence for people.
        retry_after: seconds after which to try again; 0 omits the header.
        extra: further members of the body.
    """
    return problem_of(PROBLEMS[word], word, detail, extra, retry_after)


def problem_of(
    kind: tuple[HTTPStatus, str],
    word: str,
    detail: str,
    extra: Mapping[str, int | str],
    retry_after: int = 0,
) -> Reply:
    """Return the reply for an error of any server (RFC 9457).

    Args:
        kind: the status and the title.
        word: the last word of the type.
        detail: a sentence for people; may be empty.
        extra: further members of the body.
        retry_after: seconds after which to try again; 0 omits the header.
    """
    status, title = kind
    body = Problem(status, PROBLEM_PREFIX + word, title, detail, tuple(extra.items())).to_json()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if retry_after:
        headers = ((b"Retry-After", b"%d" % retry_after),)
    if status == HTTPStatus.UNAUTHORIZED:  # which must name a scheme (RFC 9110, section 11.6.1)
        headers = ((b"WWW-Authenticate", b"p2pshare"),)
    if status == HTTPStatus.UPGRADE_REQUIRED:  # which must name a protocol (section 15.5.22)
        headers = ((b"Connection", b"Upgrade"), (b"Upgrade", b"p2pshare-relay"))
    return Reply(status, (body,), b"application/problem+json", headers)


def framing_problem(status: HTTPStatus, detail: str = "") -> bytes:
    """Return the body for a request that is refused before it is understood."""
    word, title = FRAMING[status]
    return Problem(status, PROBLEM_PREFIX + word, title, detail).to_json()


def not_allowed(allowed: str) -> Reply:
    """Return the reply to a method that a route does not have; `allowed` lists those that it has."""
    return replace(problem("method-not-allowed"), headers=((b"Allow", allowed.encode()),))


class RequestError(Exception):
    """A request that is answered with a problem; the arguments are those of `problem`."""

    def __init__(
        self, word: str, detail: str = "", *, retry_after: int = 0, **extra: int | str
    ) -> None:
        super().__init__(word)
        self.word = word
        self.reply = problem(word, detail, retry_after=retry_after, **extra)


AWAY = problem("unavailable", retry_after=RETRY_AFTER)
BROKEN = problem("internal")
NOT_FOUND = problem("not-found")


def answer_to(error: RequestError | RemoteProtocolError | StoreUnavailable) -> tuple[str, Reply]:
    """Return the word and the reply for an error of a request."""
    if isinstance(error, RequestError):
        return error.word, error.reply
    if isinstance(error, RemoteProtocolError):
        return "malformed", problem("malformed", str(error.fields["reason"]))
    if isinstance(error, StoreRecovering):
        seconds = min(RECOVERING_RETRY, int(str(error.fields["seconds"])))
        return "recovering", problem("recovering", str(error), retry_after=max(1, seconds))
    return "unavailable", AWAY
