"""Partial files that earlier transfers left below a folder: their origins, and how to remove them.

A part that a running process uses is locked, and never removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import CannotSave
from p2pshare.storage.incoming.hidden_file import (
    JOURNAL_SUFFIX,
    PART_SUFFIX,
    discard_hidden,
    held_since,
)
from p2pshare.storage.incoming.journal import HEADER_MAX, Summary, summary_of
from p2pshare.storage.incoming.publishing import READ_FILE
from p2pshare.storage.os_errors import plain_reason

BLOCK = 512  # bytes; the unit of `st_blocks`

_HIDDEN = re.compile(
    r"(?P<stem>\.p2pshare-[0-9a-f]{16}|\.(?P<name>.+)\.p2pshare-[0-9a-f]{8})\.(?:part|journal)",
    re.DOTALL,
)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Leftover:
    """A partial file."""

    folder: Path
    stem: str
    """The common start of its hidden names."""
    path: Path
    """The path of the file that it was to become, if known."""
    origin: Summary | None
    """The summary of its journal; None if nothing was verified."""
    on_disk: int
    """Bytes that it takes on the disk."""
    mtime: float
    """Time of the last write, in seconds since 1970."""
    in_use: bool
    """Whether a running process uses it."""


def leftovers(
    folder: Path, on_error: Callable[[CannotSave], object], *, recursive: bool = True
) -> Iterator[Leftover]:
    """Yield the partial files in a folder and below, without following links.

    Args:
        folder: the folder.
        on_error: called with an error for each folder that cannot be read.
        recursive: whether to look below.
    """

    def unreadable(error: OSError) -> None:
        on_error(CannotSave(path=error.filename, reason=plain_reason(error)))

    for above, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(folders) if recursive else ()
        stems: dict[str, str | None] = {}
        for name in sorted(names):
            if (match := _HIDDEN.fullmatch(name)) is not None:
                stems[match["stem"]] = match["name"]
        for stem, classic in stems.items():
            if (found := _leftover(Path(above), stem, classic)) is not None:
                yield found


def remove(leftover: Leftover) -> None:
    """Remove a partial file and its journal.

    Raises:
        InUse: a running process uses it.
        CannotSave: it cannot be removed.
    """
    path = leftover.folder / (leftover.stem + PART_SUFFIX)
    try:
        folder_fd = os.open(leftover.folder, _FOLDER)
        try:
            discard_hidden(folder_fd, leftover.stem, leftover.path)
        finally:
            os.close(folder_fd)
    except OSError as error:
        raise CannotSave(path=path, reason=plain_reason(error)) from error


def _leftover(folder: Path, stem: str, classic: str | None) -> Leftover | None:
    part, journal = folder / (stem + PART_SUFFIX), folder / (stem + JOURNAL_SUFFIX)
    statuses = []
    for each in (part, journal):
        with suppress(OSError):
            statuses.append(os.lstat(each))
    if not statuses:
        return None
    origin = None
    with suppress(OSError):
        fd = os.open(journal, READ_FILE)
        with open(fd, "rb") as file:
            origin = summary_of(file.read(HEADER_MAX), iter(lambda: file.read(HEADER_MAX), b""))
    name = classic if origin is None else origin.name
    return Leftover(
        folder,
        stem,
        folder / (name or part.name),
        origin,
        sum(status.st_blocks * BLOCK for status in statuses),
        max(status.st_mtime for status in statuses),
        held_since(part) is not None,
    )
