"""Why a connection could not be made, in words that say something to a user."""

from __future__ import annotations

from twisted.internet.error import ConnectError, DNSLookupError

from p2pshare.net.look_up import NO_SUCH_NAME, LookUpError
from p2pshare.storage.reasons import plain_reason


def connect_reason(error: ConnectError | DNSLookupError) -> str:
    """Why `error` happened, as `plain_reason` would say it."""
    if isinstance(error, DNSLookupError):
        return error.reason if isinstance(error, LookUpError) else NO_SUCH_NAME
    number = error.osError  # which is no OSError, but its errno
    return plain_reason(OSError(number, "")) if number else "it did not answer in time"
