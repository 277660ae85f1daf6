"""The folders that accepted offers are saved in."""

from __future__ import annotations

import os
from pathlib import Path

from p2pshare.errors import CannotSave
from p2pshare.storage.durability import sync_path
from p2pshare.storage.os_errors import plain_reason

ENTRIES_MAX = 1_000_000  # files and folders that are counted; a folder with more is taken for full
_BLOCK = 512  # bytes; the unit of `st_blocks`


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, unless it exists.

    Raises:
        CannotSave: it cannot be made.
    """
    try:
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for each in missing:
            sync_path(each.parent, follow=True)
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error


def folder_size(path: Path, entries_max: int = ENTRIES_MAX) -> int | None:
    """Return the bytes that a folder takes with everything in it, links not followed; 0 if there is none.

    Returns:
        None if it has more than `entries_max` files and folders, or cannot be read.
    """
    total = count = 0
    failed: list[OSError] = []
    for folder, folders, files in os.walk(path, onerror=failed.append):
        count += len(folders) + len(files)
        if count > entries_max:
            return None
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * _BLOCK
            except OSError:  # it was removed just now
                continue
    if any(not isinstance(each, FileNotFoundError) for each in failed):
        return None
    return total
