"""Shares as a peer has them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pshare.peer.share.live_shares import LiveShares
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.kept import KeptShares


def live_shares(
    reactor: Any, data: Path, shares: Sequence[SharedPath] | None = (), **options: Any
) -> LiveShares:
    """Return shares of a command line, and those that are kept in a data folder."""
    live = LiveShares(reactor, reactor.seconds, KeptShares(data), shares, **options)
    live.load()
    return live
