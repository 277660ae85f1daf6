"""The folders that accepted offers are saved in: made, measured, and cleared of what will not be completed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.storage.durability import sync_path
from p2pshare.storage.identity.data_folder import is_among_keys
from p2pshare.storage.incoming.destination import shown_name
from p2pshare.storage.incoming.leftovers import leftovers, remove
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.paths import RemotePath

ENTRIES_MAX = 1_000_000  # files and folders that are counted; a folder with more is taken for full
_BLOCK = 512  # bytes; the unit of `st_blocks`


def expect_folder(path: Path, what: str, private: Sequence[Path] = ()) -> None:
    """Check that `what` can be saved in a folder which the user has chosen. This blocks.

    Files of others do not belong among the keys and lists of p2pshare, which it would read as its own.

    Raises:
        WrongUsage: the path is not absolute, is a file, or leads into a `private` folder. If there are some, it must
            not lead into the data folder of another peer either.
        CannotSave: too many files are open.
    """
    if not path.is_absolute() or "\0" in str(path):
        raise WrongUsage(reason=f"The folder for {what} has to be an absolute path.")
    if path.is_file():
        raise WrongUsage(reason=f"{str(path)!r} is a file. Name a folder to save {what} in.")
    real = Path(os.path.realpath(path))
    is_private = any(real.is_relative_to(os.path.realpath(each)) for each in private)
    try:
        is_private = is_private or (bool(private) and is_among_keys(real))
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error
    if is_private:
        reason = (
            f"{str(path)!r} belongs to p2pshare, with keys in it. Save {what} in another folder."
        )
        raise WrongUsage(reason=reason)


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


def remove_parts(folder: Path, items: Iterable[str], paths: Iterable[RemotePath]) -> int:
    """Remove the partial files of a download that is over, and return their number. Complete files stay.

    Args:
        folder: where it was saved.
        items: the names at its top; only folders of these names are looked into.
        paths: what was downloaded: with one of them the remote paths of its files begin.
    """
    below = [folder / name for name in dict.fromkeys(map(shown_name, items))]
    found = chain(
        leftovers(folder, lambda _: None, recursive=False),
        *(leftovers(each, lambda _: None) for each in below if not each.is_symlink()),
    )
    wanted, removed = tuple(paths), 0
    for each in found:
        origin = () if each.origin is None else each.origin.path
        if any(path and origin[: len(path)] == path for path in wanted):
            with suppress(CannotSave):
                remove(each)
                removed += 1
    return removed
