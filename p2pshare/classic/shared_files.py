"""What a peer offers in the classic protocol: at most one text and one picture, opened anew for each request."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from p2pshare.classic.datagrams import Kind
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.shares.arguments import (
    PICTURE_SUFFIXES,
    SHARED_STEM,
    TEXT_SUFFIXES,
    SharedPath,
)
from p2pshare.storage.shares.rules import RulesError

# Without O_NONBLOCK, opening a FIFO would wait for a writer.
_OPENING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_REGULAR = "it is not a plain file"
_SUFFIXES = {Kind.TEXT: TEXT_SUFFIXES, Kind.PICTURE: PICTURE_SUFFIXES}

FileIdentity = tuple[int, int, int, int]
"""Device, inode, size in bytes and mtime in ns. Equal identities mean equal content, so a cache can use it as key."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A regular file that is open for reading; the caller closes `file`."""

    path: Path
    file: BinaryIO
    identity: FileIdentity

    @property
    def size(self) -> int:
        """Bytes, at the time when it was opened."""
        return self.identity[2]


class ClassicShare:
    """Where the text and the picture of a peer may be; the first candidate that exists wins."""

    def __init__(self, shares: Iterable[SharedPath]) -> None:
        """Share what the classic protocol can carry: folders that hold a `my_file.*`, now or later, and single files.

        Args:
            shares: folders and files; other kinds of files are skipped.
        """
        self._candidates: dict[Kind, list[tuple[Path, SharedPath]]] = {kind: [] for kind in Kind}
        for shared in shares:
            path = shared.path
            for kind, suffixes in _SUFFIXES.items():
                if os.path.isdir(path):
                    files = [path / f"{SHARED_STEM}{each}" for each in suffixes]
                    self._candidates[kind] += [(each, shared) for each in files]
                elif path.suffix.lower() in suffixes:
                    self._candidates[kind].append((path, shared))

    def has(self, path: Path) -> bool:
        """Whether a path may be what is shared."""
        return any(path == each for found in self._candidates.values() for each, _ in found)

    def open(self, kind: Kind, on_refused: Callable[[Path, str], object]) -> OpenedFile | None:
        """Return the shared file of this kind, or None.

        Args:
            kind: text or picture.
            on_refused: called for each candidate that exists but cannot be served, with the reason.
        """
        for path, shared in self._candidates[kind]:
            try:
                if path != shared.path and _is_left_out(shared, path.name):
                    continue
                return _open_regular(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                no_reader = error.errno == errno.ENXIO  # a socket, or a device without a driver
                on_refused(path, _NOT_REGULAR if no_reader else plain_reason(error))
        return None


def _is_left_out(shared: SharedPath, name: str) -> bool:
    """Whether the rules leave a file in the root of a share out."""
    folder = os.open(shared.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return shared.rules.scope(folder).is_excluded(name, is_folder=False)
    except RulesError as error:
        raise OSError(error.strerror) from error
    finally:
        os.close(folder)


def _open_regular(path: Path) -> OpenedFile:
    fd = os.open(path, _OPENING)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(_NOT_REGULAR)
        identity = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        return OpenedFile(path, open(fd, "rb"), identity)
    except BaseException:
        os.close(fd)
        raise
