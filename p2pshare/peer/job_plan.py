"""What a job has to fetch: folders with all that is in them, globs, and where each file goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2pshare.wire.paths import RemotePath


@dataclass(frozen=True, slots=True)
class JobItem:
    """What a user asked for: a file, a folder with all that is in it, or a glob of either."""

    path: RemotePath
    """Its components may hold `*`, `?` and `[…]`; if there is something of that very name, that is meant."""
    folder: Path
    """Where it goes: an existing folder on this machine."""
    name: str | None = None
    """What it is called there; None for its last component, made harmless. Not for globs."""
    overwrite: bool = False
    """Replace a file of that name, rather than number the new one."""
