"""What a peer offers: a text and a picture."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from p2pshare.errors import WrongUsage
from p2pshare.storage.reasons import plain_reason
from p2pshare.storage.shares.arguments import PICTURE_SUFFIXES, SHARED_STEM, TEXT_SUFFIXES

# Without O_NONBLOCK, opening a FIFO would wait for somebody to write to it.
_OPENING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_REGULAR = "it is not a plain file"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which bytes a file holds: equal ones hold the same, so it can be the key of a cache."""

    device: int
    inode: int
    size: int
    """Bytes."""
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class OpenedFile(AbstractContextManager["OpenedFile"]):
    """A regular file open for reading; close it, or use it as a context manager."""

    path: Path
    file: BinaryIO
    identity: FileIdentity

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self.identity.size

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def _ignore(path: Path, reason: str) -> None:
    pass


class Share:
    """Where a peer's text and picture may be; looked up at each request, the first there wins."""

    def __init__(self, texts: Iterable[Path], pictures: Iterable[Path]) -> None:
        self._texts = tuple(texts)
        self._pictures = tuple(pictures)

    @classmethod
    def of_paths(cls, paths: Iterable[Path]) -> Self:
        """What the user named: folders that hold `my_file.*`, now or later, and single files.

        Raises:
            WrongUsage: there is no such path, or it is a file that cannot be shared.
        """
        texts: list[Path] = []
        pictures: list[Path] = []
        for path in paths:
            # Absolute, for a daemon changes its folder.
            _sort_path(path.absolute(), texts, pictures)
        return cls(texts, pictures)

    @classmethod
    def snapshot(cls, folder: Path) -> Self:
        """The default share: those `my_file.*` that are in a folder now, and none that come later."""
        return cls(
            filter(os.path.lexists, _expected(folder.absolute(), TEXT_SUFFIXES)),
            filter(os.path.lexists, _expected(folder.absolute(), PICTURE_SUFFIXES)),
        )

    def __bool__(self) -> bool:
        """Whether anything could ever be fetched from it."""
        return bool(self._texts or self._pictures)

    def open_text(self, refused: Callable[[Path, str], None] = _ignore) -> OpenedFile | None:
        """The shared text, or None.

        Args:
            refused: called for each path that is there but cannot be served, with the reason.
        """
        return _open_first(self._texts, refused)

    def open_picture(self, refused: Callable[[Path, str], None] = _ignore) -> OpenedFile | None:
        """The shared picture, or None. `refused` is as for `open_text`."""
        return _open_first(self._pictures, refused)


def _sort_path(path: Path, texts: list[Path], pictures: list[Path]) -> None:
    if os.path.isdir(path):
        texts.extend(_expected(path, TEXT_SUFFIXES))
        pictures.extend(_expected(path, PICTURE_SUFFIXES))
    elif not os.path.lexists(path):
        raise WrongUsage(reason=f"There is nothing to share at {str(path)!r}.")
    elif path.suffix.lower() in TEXT_SUFFIXES:
        texts.append(_openable(path))
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        pictures.append(_openable(path))
    else:
        kinds = ", ".join(TEXT_SUFFIXES + PICTURE_SUFFIXES)
        raise WrongUsage(reason=f"{str(path)!r} cannot be shared: only {kinds} files can.")


def _openable(path: Path) -> Path:
    try:
        _open_regular(path).close()
    except OSError as error:
        raise WrongUsage(reason=f"{str(path)!r} cannot be shared: {_reason(error)}.") from error
    return path


def _expected(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [folder / f"{SHARED_STEM}{suffix}" for suffix in suffixes]


def _open_first(paths: tuple[Path, ...], refused: Callable[[Path, str], None]) -> OpenedFile | None:
    for path in paths:
        try:
            return _open_regular(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            refused(path, _reason(error))
    return None


def _reason(error: OSError) -> str:
    return _NOT_REGULAR if error.errno == errno.ENXIO else plain_reason(error)


def _open_regular(path: Path) -> OpenedFile:
    fd = os.open(path, _OPENING)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(_NOT_REGULAR)
        identity = FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        return OpenedFile(path, open(fd, "rb"), identity)
    except BaseException:
        os.close(fd)
        raise
