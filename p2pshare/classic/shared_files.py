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
from p2pshare.storage.shares.arguments import PICTURE_SUFFIXES, SHARED_STEM, TEXT_SUFFIXES

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

    def __init__(self, paths: Iterable[Path]) -> None:
        """Offer what the classic protocol can carry: folders that hold a `my_file.*`, now or later, and single files.

        Args:
            paths: absolute, as a daemon changes its working folder; other kinds of files are skipped.
        """
        self._candidates: dict[Kind, list[Path]] = {kind: [] for kind in Kind}
        for path in paths:
            for kind, suffixes in _SUFFIXES.items():
                if os.path.isdir(path):
                    self._candidates[kind] += [path / f"{SHARED_STEM}{each}" for each in suffixes]
                elif path.suffix.lower() in suffixes:
                    self._candidates[kind].append(path)

    def open(self, kind: Kind, on_refused: Callable[[Path, str], object]) -> OpenedFile | None:
        """Return the shared file of this kind, or None.

        Args:
            kind: text or picture.
            on_refused: called for each candidate that exists but cannot be served, with the reason.
        """
        for path in self._candidates[kind]:
            try:
                return _open_regular(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                no_reader = error.errno == errno.ENXIO  # a socket, or a device without a driver
                on_refused(path, _NOT_REGULAR if no_reader else plain_reason(error))
        return None


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
