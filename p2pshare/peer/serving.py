"""A session at the sharer: what its files are read by, and what goes out of them."""

from __future__ import annotations

from typing import Any

from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError
from p2pshare.peer.uploads import Uploads
from p2pshare.wire.message_fields import Message


class Serving:
    """Answers one session; a `SessionUser`."""

    def __init__(
        self, reactor: Any, session: Session, tree: Any, limit: RateLimit, uploads: Uploads
    ) -> None:
        raise NotImplementedError

    def message_received(self, message: Message) -> None:
        """Take what is asked for."""
        raise NotImplementedError

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Refuse what only a sharer may send."""
        raise NotImplementedError

    def room_again(self) -> None:
        """Go on sending."""
        raise NotImplementedError

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Close everything."""
        raise NotImplementedError
