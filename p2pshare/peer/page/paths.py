"""The decoded parts of a request's target."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote_to_bytes

from p2pshare.peer.page.replies import PageError
from p2pshare.web.exchange import Query

SEGMENTS_MAX = 256  # of a path
ARGUMENTS_MAX = 1024  # of a query


def segments_of(query: Query, prefix: bytes) -> tuple[str, ...]:
    """Return the decoded segments of a path after its prefix; none of them can be or contain a separator.

    Raises:
        PageError: they are not UTF-8, one is empty or `.` or `..`, or has a slash or a NUL, or they are too many.
    """
    rest = query.path.removeprefix(prefix)
    raw = rest.split(b"/") if rest else []
    try:
        segments = tuple(unquote_to_bytes(each).decode() for each in raw)
    except UnicodeDecodeError:
        raise PageError("malformed", "The path is not UTF-8.") from None
    if len(segments) > SEGMENTS_MAX:
        raise PageError("malformed", "The path is too deep.")
    if any(each in ("", ".", "..") or "/" in each or "\0" in each for each in segments):
        raise PageError("malformed", "The path has a part that no file can be called.")
    return segments


def arguments(query: Query) -> dict[str, list[str]]:
    """Return the arguments after the `?`, each with its values in order.

    Raises:
        PageError: they are malformed, or too many.
    """
    try:
        return parse_qs(
            query.arguments.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=ARGUMENTS_MAX,
        )
    except ValueError:
        raise PageError("malformed", "The arguments of the request are malformed.") from None
