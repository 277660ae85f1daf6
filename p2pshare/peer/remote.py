"""One other peer, over a session that is opened again when it breaks or falls silent."""

from __future__ import annotations

import enum
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from p2pshare.net.sockets import IPeerReactor
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.registration import PeerAddress
from p2pshare.wire.transfer_messages import PAGE_MAX, Listing

SILENCE = 15.0  # seconds without a word after which a session counts as broken
PATIENCE = 120.0  # seconds without any progress after which there are no more tries

Find = Callable[[], Awaitable[tuple[PeerAddress, PublicKey]]]
"""Where the peer is now, and which key it must have."""


class LinkState(enum.Enum):
    """How it stands with the session to a peer."""

    CONNECTING = "connecting"
    """It is being opened, for the first time or again."""
    UP = "up"
    BROKEN = "broken"
    """It is lost, or could not be opened; there will be another try."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """How it stands with the session to a peer, from now on."""

    state: LinkState
    name: str
    """The peer's."""
    reason: str = ""
    """Why it broke."""
    retry_in: float = 0.0
    """Seconds until the next try, once it broke."""
    again: bool = False
    """Whether there has been a session before."""

    def __str__(self) -> str:
        """Say it on a screen; there is nothing in it that a terminal obeys."""
        raise NotImplementedError


class RemotePeer:
    """One peer. The session to it is opened at first use, and again, with back-off, when it was lost."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        key: SigningKey,
        name: str,
        find: Find,
        *,
        silence: float = SILENCE,
        patience: float = PATIENCE,
        limit: float | None = None,
        on_link: Callable[[LinkChange], object] = lambda _: None,
    ) -> None:
        raise NotImplementedError

    async def list(
        self,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        *,
        recursive: bool = False,
    ) -> Listing:
        """Ask for a page of a folder.

        Raises:
            RemoteNotFound: there is none, or none for who asks.
            RemoteIsFile: it is a file.
            RemoteUnreadable: the peer cannot read it.
            RemoteBusy: it has too much to do.
            P2pshareError: there is no session to be had, by what `open_session` raises.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """End the session; whatever still waits for it fails."""
        raise NotImplementedError
