"""Byte ranges of a reply (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import replace
from http import HTTPStatus

from twisted.web.http_headers import Headers

from p2pshare.web.exchange import Reply
from p2pshare.web.problems import problem

_RANGE = re.compile(rb"bytes[ \t]*=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)


def apply_range(reply: Reply, headers: Headers | None) -> tuple[Reply, range]:
    """Return a reply with its range headers, and which bytes of its source it has.

    `headers` are those of the request; None for a request that can have no part.

    A `Range` of one part is answered with 206, or with 416 if the part is empty. As RFC 9110 permits, it is ignored if
    it is malformed or has several parts, each of which would cost a read. It is also ignored if `If-Range` is not the
    reply's strong entity tag: the client holds a part of another version, and gets the whole body.
    """
    source = reply.source
    assert source is not None
    whole = range(source.length)
    if reply.status != HTTPStatus.OK or not source.can_seek:
        return reply, whole
    reply = replace(reply, headers=(*reply.headers, (b"Accept-Ranges", b"bytes")))
    part = None if headers is None else _wanted(headers, dict(reply.headers).get(b"ETag"), whole)
    if part is None:
        return reply, whole
    if not part:
        unsatisfiable = problem("range-not-satisfiable")
        extent = (b"Content-Range", b"bytes */%d" % source.length)
        return replace(unsatisfiable, headers=(extent,)), part
    extent = (b"Content-Range", b"bytes %d-%d/%d" % (part.start, part.stop - 1, source.length))
    return replace(reply, status=HTTPStatus.PARTIAL_CONTENT, headers=(*reply.headers, extent)), part


def _wanted(headers: Headers, tag: bytes | None, whole: range) -> range | None:
    """Return the part of `whole` that a request asks for, maybe empty; None if it gets the whole body."""
    wanted, condition = headers.getRawHeaders(b"Range", []), headers.getRawHeaders(b"If-Range")
    if len(wanted) != 1:
        return None
    if condition is not None and (tag is None or condition != [tag] or tag.startswith(b"W/")):
        return None
    match = _RANGE.fullmatch(wanted[0])
    if match is None or match[1] + match[2] == b"":
        return None
    if not match[1]:  # the last bytes
        return whole[max(0, len(whole) - int(match[2])) :]
    first, last = int(match[1]), int(match[2] or len(whole))
    return None if match[2] and last < first else whole[first : last + 1]
