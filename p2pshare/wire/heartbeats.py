"""Heartbeats, by which a peer stays online at the cost of one MAC.

The registry answers a claim with a session and a key for it. A heartbeat carries an HMAC-SHA-256 (RFC 2104) by that
key, and a number. The registry rejects a number that it has seen, and every number after the peer has left.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Self

from p2pshare.wire.keys import from_base64url, to_base64url
from p2pshare.wire.strict_json import boolean, integer, parse_object, text

SESSION_MAX = 64  # characters


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The body of `POST /v1/peers/NAME/presence`."""

    name: str
    """The peer's; it is part of the route, and the MAC covers it."""
    session: str
    """The session that the registry granted."""
    beat: int
    """A number greater than in any earlier heartbeat of the session."""
    online: bool
    """False if the peer is leaving."""
    mac: bytes = b""

    def to_json(self, mac_key: bytes) -> bytes:
        """Return the body, with the MAC by the session's key."""
        return json.dumps(
            {
                "session": self.session,
                "beat": self.beat,
                "online": self.online,
                "mac": to_base64url(self.authenticate(mac_key)),
            }
        ).encode()

    @classmethod
    def parse(cls, name: str, body: bytes) -> Self:
        """Read the body; its MAC is not verified.

        Raises:
            RemoteProtocolError: it is not valid.
        """
        values = parse_object(body, "the body")
        return cls(
            name,
            text(values, "session", SESSION_MAX),
            integer(values, "beat", 1),
            boolean(values, "online"),
            from_base64url(text(values, "mac", 64), "the mac"),
        )

    def authenticate(self, mac_key: bytes) -> bytes:
        """Return the MAC of this heartbeat."""
        state = "online" if self.online else "offline"
        message = f"p2pshare-presence-v1\0{self.name}\0{self.session}\0{self.beat}\0{state}"
        return hmac.digest(mac_key, message.encode(), "sha256")

    def is_authentic(self, mac_key: bytes) -> bool:
        """Whether the MAC is by the session's key."""
        return hmac.compare_digest(self.mac, self.authenticate(mac_key))
