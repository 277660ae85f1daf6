"""Silence of the other end while it should be sending.

An end that only receives has nothing in flight, so no timer of its own tells it that nothing comes any more. If a NAT
between the ends has forgotten it, the other end sends to an address that is dead, and cannot learn the new one. So an
end with an incoming transfer that is not complete sends a PING after a silence: it comes from the new address, and the
connection moves there. Later ones follow after twice as long each, and after `PINGS_MAX` none: an incomplete transfer
that nobody wants any more costs no timer for ever.

An end with an outgoing transfer does the same. While it waits for credit it has nothing in flight either. If its own
NAT has forgotten the connection then, all that the other end sends is dropped there, and the PING opens it again.
"""

from __future__ import annotations

SILENCE = 1.0  # seconds until the first PING: longer than a probe timeout on most paths
PINGS_MAX = (
    5  # the last one after 31 s, when most NATs have forgotten a mapping (RFC 4787, section 4.3)
)


class SilenceTimer:
    """The time of the next PING to an end that is silent."""

    def __init__(self, now: float) -> None:
        """Begin at `now`, in s."""
        self._since = now
        self._pings = 0

    def heard(self, now: float) -> None:
        """Note that the other end has sent something of its own, and not just an ACK."""
        self._since = now
        self._pings = 0

    @property
    def due(self) -> float | None:
        """When the next PING goes out if a transfer is incomplete; None if there was the last one."""
        if self._pings >= PINGS_MAX:
            return None
        return self._since + SILENCE * ((2 << self._pings) - 1)

    def pinged(self) -> None:
        """Note that a PING goes out."""
        self._pings += 1
