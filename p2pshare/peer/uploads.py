"""Who fetches what from this peer, and at what rate: for its log and for `p2pshare status`."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime


class Uploads:
    """All sessions in which somebody fetches."""

    def __init__(self, clock: IReactorTime) -> None:
        raise NotImplementedError

    def status(self) -> list[dict[str, Any]]:
        """What goes on, a JSON object for each name."""
        raise NotImplementedError
