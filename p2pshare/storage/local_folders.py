"""The folders of this machine, for a user who chooses one: to save in, to share, or to send from.

Only names are read, and nothing is opened but the folder that is listed. A symbolic link is listed as what it leads to,
and marked; it is followed when the user opens it, and not before. What cannot be chosen is counted: devices and
sockets, links that lead nowhere, and names that are not Unicode.
"""

from __future__ import annotations

import heapq
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import CannotRead, CannotSave, WrongUsage
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.paths import component_fault

ENTRIES_MAX = 100_000  # names that are read of a folder; of more, these are shown
ENTRIES_SHOWN = 1000  # entries of a part
PATH_MAX = 4096  # characters of a path


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """A folder or file that can be chosen."""

    name: str
    is_folder: bool
    is_link: bool
    bytes: int
    """Size of a file; 0 of a folder."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder with what is in it."""

    path: Path
    parent: Path | None
    """None at the top of the file system."""
    entries: tuple[LocalEntry, ...]
    """Sorted as a person looks for them; hidden names are last."""
    more: bool
    """Whether other entries follow."""
    left_out: int
    """Names of this part and of those behind it that cannot be chosen."""
    is_cut: bool
    """Whether there are more than `ENTRIES_MAX` names."""
    can_write: bool
    """Whether the user may make something in it."""


def read_local_path(text: str, home: Path) -> Path:
    """Return an absolute path; `~` is the home folder, and empty text, too.

    Raises:
        WrongUsage: it is not absolute, or is no path at all.
    """
    if text in ("", "~"):
        return home
    path = home / text[2:] if text.startswith("~/") else Path(text)
    if not path.is_absolute() or "\0" in text:
        raise WrongUsage(reason=f"{text!r} is not an absolute path.")
    return Path(os.path.normpath(path))


def list_local(
    path: Path,
    *,
    hidden: bool,
    files: bool,
    after: str = "",
    most: int = ENTRIES_SHOWN,
    entries_max: int = ENTRIES_MAX,
) -> LocalFolder:
    """Read a part of a folder. This blocks.

    All names are read for each part, but they are not sorted at once: that would hold up the other threads of Python.

    Args:
        path: absolute.
        hidden: include names that begin with a dot.
        files: include files, and not folders alone.
        after: only entries behind this name; empty for all.
        most: entries of the part.
        entries_max: names after which no more are read.

    Raises:
        CannotRead: it does not exist, is no folder, or may not be read.
    """
    found: list[LocalEntry] = []
    left_out = looked_at = 0
    try:
        with os.scandir(path) as names:
            for each in names:
                looked_at += 1
                if looked_at > entries_max:
                    break
                if each.name.startswith(".") and not hidden:
                    continue
                if after and order(each.name) <= order(after):
                    continue
                entry = _entry(each)
                if entry is None:
                    left_out += 1
                elif entry.is_folder or files:
                    found.append(entry)
    except OSError as error:
        raise CannotRead(path=path, reason=plain_reason(error)) from error
    first = heapq.nsmallest(most + 1, found, key=lambda each: order(each.name))
    parent = None if path.parent == path else path.parent
    can_write = os.access(path, os.W_OK | os.X_OK)
    is_cut = looked_at > entries_max
    more = len(first) > most
    return LocalFolder(path, parent, tuple(first[:most]), more, left_out, is_cut, can_write)


def order(name: str) -> tuple[bool, str, str]:
    """Return what names are sorted by: hidden ones last, then without regard to case."""
    return name.startswith("."), name.casefold(), name


def make_local(path: Path) -> None:
    """Make a folder in one that exists. This blocks.

    Raises:
        WrongUsage: its name is not valid.
        CannotSave: it cannot be made.
    """
    fault = component_fault(path.name)
    if fault is not None:
        raise WrongUsage(reason=f"No folder can have the name {path.name!r}: it {fault}.")
    try:
        path.mkdir()
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error


def _entry(found: os.DirEntry[str]) -> LocalEntry | None:
    """Return what can be chosen, or None."""
    if component_fault(found.name) is not None:
        return None
    try:
        status = found.stat()
    except OSError:
        return None
    is_folder = stat.S_ISDIR(status.st_mode)
    if not (is_folder or stat.S_ISREG(status.st_mode)):
        return None
    size = 0 if is_folder else status.st_size
    return LocalEntry(found.name, is_folder, found.is_symlink(), size)
