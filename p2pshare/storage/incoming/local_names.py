"""The names that the file system of a folder accepts, and those that it treats as equal.

A name is kept if possible. The file system is probed with a hidden file that has the characters in question and is
removed at once. Its answer is remembered for the job.
"""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pshare.storage.incoming.announcement import Place
from p2pshare.storage.incoming.destination import (
    SAFE_NAME_MAX,
    fitting_name,
    safe_name,
    storable_name,
)
from p2pshare.storage.incoming.folder_handles import FolderHandles
from p2pshare.storage.open_file_limit import is_none_left

NAME_MIN = 32  # bytes that every file system accepts in a name
ANSWERS_MAX = 1000  # remembered answers, one for each set of characters

_PROBE = ".p2pshare-probe"
_PROBE_MAX = 64  # characters of one probe
_MAKING = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = re.compile(r'[^/\\:<>"|?*]*[^/\\:<>"|?*. ]')


class LocalNames:
    """The names in a folder and beneath. Calls block, and may come from several threads."""

    def __init__(self, path: Path, handles: FolderHandles, *, portable: bool = False) -> None:
        """Args:
        path: the folder.
        handles: its open folders.
        portable: whether to make all names portable, whatever this file system accepts.
        """
        self._path = path
        self._handles = handles
        self._portable = portable
        self._lock = threading.Lock()
        self._name_max: int | None = None
        self._taken: dict[tuple[str, str], bool] = {}
        self._folds: bool | None = None

    def place(self, place: Place) -> Place:
        """Return the place with names that the file system accepts."""
        folder, name = tuple(map(self.name, place.folder)), self.name(place.name)
        return place if (folder, name) == (place.folder, place.name) else Place(folder, name)

    def name(self, name: str) -> str:
        """Return the name if the file system accepts it, otherwise a portable one."""
        if self._portable:
            return safe_name(name)
        is_plain = name.isprintable() and _PLAIN.fullmatch(name) is not None
        if is_plain and len(name) <= NAME_MIN:
            return name
        with self._lock:
            if self._name_max is None:
                self._name_max = self._ask_name_max()
            if not is_plain:
                stored = storable_name(name)
                name = stored if self._takes(stored) else safe_name(stored)
            return fitting_name(name, self._name_max)

    def key(self, place: Place, name: str) -> str:
        """Return a text that is the same for all names of one file in the folder of `place`."""
        path = "/".join((*place.folder, name))
        if (folded := _folded(path)) == path:
            return path
        with self._lock:
            if self._folds is None:
                self._folds = self._ask_folds()
        return folded if self._folds else path

    def _takes(self, name: str) -> bool:
        """Whether the file system accepts the characters of a name that are not portable."""
        odd = "".join(sorted({each for each in name if safe_name(f"a{each}a") != f"a{each}a"}))
        end = name[-1] if name[-1] in ". " else ""
        if not odd and not end:
            return True
        known = self._taken.get((odd, end))
        if known is None:
            if len(self._taken) >= ANSWERS_MAX:
                self._taken.clear()
            known = self._taken[odd, end] = self._ask(f"{_PROBE}{odd[:_PROBE_MAX]}a", end)
        return known

    def _ask(self, probe: str, end: str) -> bool:
        with self._handles.using((), make=False) as folder_fd:
            try:
                with _made(folder_fd, probe + end):
                    return not end or not _is_there(
                        folder_fd, probe
                    )  # some file systems cut off the end
            except OSError as error:
                if is_none_left(error):
                    raise
            try:
                with _made(folder_fd, _PROBE):
                    return False
            except OSError:
                return True  # no file can be made at all, whatever its name

    def _ask_name_max(self) -> int:
        with self._handles.using((), make=False) as folder_fd, suppress(OSError):
            return max(NAME_MIN, min(SAFE_NAME_MAX, os.fstatvfs(folder_fd).f_namemax))
        return SAFE_NAME_MAX

    def _ask_folds(self) -> bool:
        """Whether names that differ in case are equal. Usually the folder's own name tells, and nothing is written."""
        real = Path(os.path.realpath(self._path))
        other = real.with_name(real.name.swapcase()) if real.name else real
        with suppress(OSError):
            if other != real and os.stat(real.parent).st_dev == os.stat(real).st_dev:
                return other.exists() and other.samefile(real)
        with (
            self._handles.using((), make=False) as folder_fd,
            suppress(OSError),
            _made(folder_fd, _PROBE),
        ):
            return _is_there(folder_fd, _PROBE.upper())
        return False


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@contextmanager
def _made(folder_fd: int, name: str) -> Iterator[None]:
    """Keep an empty file during the block.

    Raises:
        OSError: it cannot be created.
    """
    os.close(os.open(name, _MAKING, 0o600, dir_fd=folder_fd))
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder_fd)


def _is_there(folder_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return False
    return True
