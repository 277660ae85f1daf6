"""The rows that users see of everything that is on its way, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from p2pshare.core.session_interface import SessionPath
from p2pshare.peer.control import Fields
from p2pshare.peer.transfers.reasons import CONNECTING, QUEUE

PATHS_SHOWN = 4  # paths in a row; the others are counted
TITLE_MAX = 1024  # characters
LEFT_MAX = 99 * 86400  # seconds


class RowOwner(Protocol):
    """Is told of changes of rows."""

    def row_changed(self, row_id: str) -> None:
        """Note that a row is new, has changed, or is gone."""

    def shown_path(self, path: SessionPath | None) -> Fields | None:
        """Return the way of a session as programs see it."""


def row_fields(*, paths: Sequence[str], **fields: Any) -> Fields:
    """Return a row as programs see it; all have the same fields."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    title = (paths[0][: TITLE_MAX - len(more)] if paths else "") + more
    return {
        "title": title,
        "paths": list(paths[:PATHS_SHOWN]),
        "more_paths": max(0, len(paths) - PATHS_SHOWN),
        "folder": None,
        "why": None,
        "why_text": None,
        "path": None,
        "offer": None,
        "turn": None,
        "retry_at": None,
        **fields,
    }


def live_actions(state: str, why: str | None) -> list[str]:
    """Return what a user may do with what is being fetched, or is to be fetched."""
    if state == "paused":
        return ["go_on", "cancel"]
    waits = state == "waiting" and why not in (QUEUE, CONNECTING)
    return ["pause", "cancel", *(["retry"] if waits else [])]


def seconds_left(size: int, rate: float) -> float | None:
    """Return the seconds until `size` bytes have arrived; None if that cannot be said."""
    if rate <= 0 or size < 0:
        return None
    return round(min(LEFT_MAX, size / rate), 1)
