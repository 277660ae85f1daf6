"""How a session with another peer is opened."""

from __future__ import annotations

from p2pshare.core.session_interface import Session
from p2pshare.net.sockets import IPeerReactor
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registration import PeerAddress

SILENCE = 15.0  # seconds without a byte after which a session counts as lost
TIMEOUT = 10.0  # seconds until the other side must have welcomed us


async def open_session(
    reactor: IPeerReactor,
    key: SigningKey,
    name: str,
    address: PeerAddress,
    expected: PublicKey,
    *,
    credit: int,
    silence: float = SILENCE,
    timeout: float = TIMEOUT,
) -> Session:
    """Open a session with the peer `name`, which must have the key `expected`."""
    raise NotImplementedError
