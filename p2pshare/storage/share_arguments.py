"""What a user shares, and with whom, as said on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SharedPath:
    """A file or folder that is shared under a name."""

    name: str
    path: Path
    """Absolute."""
    allow: frozenset[str] | None = None
    """The names of those who may see it; None: everyone who owns a name."""
    private: Path | None = None
    """A folder of which nothing is shared, wherever it lies."""


def shared_paths(
    share: Sequence[str], allow: Sequence[str], cwd: Path, private: Path | None = None
) -> tuple[SharedPath, ...]:
    """Read the options `--share` and `--allow`.

    Args:
        share: "[NAME=]PATH" each; none: the `my_file.*` that are in `cwd` now.
        allow: "NAME,NAME" is the default, "SHARE=NAME,NAME" for one share.
        cwd: the folder that relative paths start from.
        private: a folder of which nothing is shared: where the peer's key is.

    Raises:
        WrongUsage: something of it cannot be.
    """
    raise NotImplementedError
