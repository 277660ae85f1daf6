"""Why a connection could not be made, in words that say something to a user."""

from __future__ import annotations

from twisted.internet.error import ConnectError, DNSLookupError

from p2pshare.storage.reasons import plain_reason


def connect_reason(error: ConnectError | DNSLookupError) -> str:
    """Why `error` happened, as `plain_reason` would say it."""
    if isinstance(error, DNSLookupError):
        return "there is no machine of this name"
    number = error.osError  # which is no OSError, but its errno
    return plain_reason(OSError(number, "")) if number else "it did not answer in time"
