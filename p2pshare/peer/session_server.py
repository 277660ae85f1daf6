"""Where a peer takes sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from p2pshare.core.session_interface import Session, SessionUser
from p2pshare.net.sockets import IPeerReactor
from p2pshare.wire.keys import PublicKey, SigningKey


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds on the sessions that a peer takes."""

    half_open: int = 64
    """Connections that are not welcomed yet."""
    half_open_per_host: int = 16
    total: int = 500
    """Sessions."""
    per_key: int = 16
    """Sessions of one key."""
    handshake: float = 10.0
    """Seconds from the connection to `Hello`."""
    idle: float = 600.0
    """Seconds without a transfer, and without a message other than pings."""
    silence: float = 60.0
    """Seconds without a byte."""


class SessionServer:
    """Takes sessions on a port."""

    def __init__(
        self,
        reactor: IPeerReactor,
        key: Callable[[], SigningKey],
        admit: Callable[[PublicKey], Awaitable[str]],
        serve: Callable[[Session], SessionUser],
        limits: SessionLimits = SessionLimits(),
    ) -> None:
        self.sessions = 0

    def listen(self, port: int, interface: str) -> None:
        """Raises `PortUnusable`."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Say Bye to all, and close the port."""
        raise NotImplementedError
