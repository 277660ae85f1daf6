"""The preamble of a connection back: the line by which the end that has dialled says which attempt it belongs to.

It is no proof of anything. The TLS handshake that follows it authenticates both ends, with the roles of the session:
the end that has dialled accepts the session.
"""

from __future__ import annotations

import re

from p2pshare.errors import RemoteProtocolError

PREAMBLE_MAX = 96  # bytes

_MAGIC = b"p2pshare-back/1 "
_LINE = re.compile(rb"p2pshare-back/1 ([A-Za-z0-9_-]{16,64})\n")


def preamble_of(attempt: str) -> bytes:
    """Return the first bytes of a connection back."""
    return _MAGIC + attempt.encode() + b"\n"


def split_preamble(data: bytes) -> tuple[str, bytes] | None:
    """Split the first bytes of a connection into the attempt that they name and what follows.

    Returns:
        None if more bytes are needed.

    Raises:
        RemoteProtocolError: this is no connection back.
    """
    found = _LINE.match(data)
    if found is not None:
        return found[1].decode(), data[found.end() :]
    start = data[: len(_MAGIC)]
    if b"\n" in data or len(data) >= PREAMBLE_MAX or not _MAGIC.startswith(start):
        raise RemoteProtocolError(reason="it is no connection back")
    return None
