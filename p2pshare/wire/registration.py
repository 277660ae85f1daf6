"""What a peer says to the registry of itself, and what the registry says of a peer (`docs/protocol.md`, "Registry")."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from p2pshare.errors import IllegalName, RemoteProtocolError
from p2pshare.names import check_name

LEASE_MAX = 7 * 24 * 3600  # seconds
TOKEN_MAX = 128  # characters


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer's welcome port is."""

    ip: str
    """An IPv4 address in dotted form."""
    port: int
    """1 to 65535."""

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"

    def to_json(self) -> bytes:
        """The body of the reply to a look-up."""
        return json.dumps({"ip": self.ip, "port": self.port}).encode()


@dataclass(frozen=True, slots=True)
class Registration:
    """The body of `POST name`."""

    name: str
    address: PeerAddress
    token: str | None = None
    """The secret by which a peer of ours shows that a name is its own; an original sends none."""
    lease: int | None = None
    """Seconds until the name is given up unless it is registered again; 0 gives it up now; None is the registry's choice."""

    def to_json(self) -> bytes:
        """The body of the request."""
        body: dict[str, Any] = {
            "name": self.name,
            "ip": self.address.ip,
            "port": self.address.port,
        }
        if self.token is not None:
            body["token"] = self.token
        if self.lease is not None:
            body["lease"] = self.lease
        return json.dumps(body).encode()
