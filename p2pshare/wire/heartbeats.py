"""Heartbeats: how a peer says that it is still there, for no more than a MAC.

The registry answers a claim with a session and a key for it; a heartbeat is authenticated by that key (HMAC-SHA-256,
RFC 2104) and numbered, so that none counts twice and none counts after the peer has left.
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
    """The peer's; it stands in the route, and is covered by the MAC."""
    session: str
    """As the registry gave it."""
    beat: int
    """Greater than in any heartbeat of the session before."""
    online: bool
    """False says that the peer is leaving."""
    mac: bytes = b""

    def to_json(self, mac_key: bytes) -> bytes:
        """The body, authenticated by the session's key."""
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
        """Read the body; whether it is authentic is to be asked yet.

        Raises:
            RemoteProtocolError: it is none.
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
        """The MAC that it must have."""
        state = "online" if self.online else "offline"
        message = f"p2pshare-presence-v1\0{self.name}\0{self.session}\0{self.beat}\0{state}"
        return hmac.digest(mac_key, message.encode(), "sha256")

    def is_authentic(self, mac_key: bytes) -> bool:
        """Whether it comes from who has the session's key."""
        return hmac.compare_digest(self.mac, self.authenticate(mac_key))
