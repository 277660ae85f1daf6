"""A zip that is written while its files arrive, and read from as it grows: nothing of it goes to a disk.

Files are stored and not compressed: pictures and films would not get smaller, and the browser saves at the speed of the
network. The standard library writes the format, with Zip64 where it is needed. Sizes and checksums follow the bytes of
a file (flag bit 3), since they are not known before.

Names come from a stranger. Each component is made portable and harmless as for a file that is saved (`safe_name`), so
no program that unpacks the zip meets a backslash, a colon, `..` or a device of DOS. Two files never have one name.
"""

from __future__ import annotations

import stat
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import IO

from p2pshare.storage.incoming.destination import safe_name

FIRST_YEAR, LAST_YEAR = 1980, 2107  # of the format
_FILE, _EXECUTABLE, _FOLDER = 0o644, 0o755, 0o755


class ZipStream:
    """Writes a zip. Each call returns what of it is complete.

    `add` may take milliseconds for a MiB, and `end` most of a second for 100 000 files, which take 110 MB of memory.
    """

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]
        self._entry: IO[bytes] | None = None
        self._numbers: dict[str, int] = {}  # that the latest file with the same name got

    def begin_file(
        self, path: Sequence[str], size: int, mtime: float, executable: bool = False
    ) -> bytes:
        """Begin a file.

        Args:
            path: its components in the zip, as the sharer calls them.
            size: bytes that will be added.
            mtime: Unix time of the last change.
            executable: whether its owner may execute it.
        """
        info = self._info(path, mtime, stat.S_IFREG | (_EXECUTABLE if executable else _FILE))
        info.file_size = size  # decides about Zip64
        self._entry = self._zip.open(info, "w")
        return self._sink.take()

    def add(self, data: bytes) -> bytes:
        """Add bytes of the file that has begun."""
        assert self._entry is not None
        self._entry.write(data)
        return self._sink.take()

    def end_file(self) -> bytes:
        """End the file that has begun."""
        assert self._entry is not None
        self._entry.close()
        return self._sink.take()

    def add_folder(self, path: Sequence[str], mtime: float) -> bytes:
        """Add an empty folder, or one whose files follow."""
        info = self._info(path, mtime, stat.S_IFDIR | _FOLDER, "/")
        info.external_attr |= 0x10  # a folder to DOS
        self._zip.writestr(info, b"")
        return self._sink.take()

    def abandon(self) -> None:
        """Write nothing more, not even the end. May be called after the end."""
        if self._entry is not None:
            self._entry.close()
        self._zip.fp = None

    def end(self) -> bytes:
        """End the zip."""
        self._zip.close()
        return self._sink.take()

    def _info(
        self, path: Sequence[str], mtime: float, mode: int, mark: str = ""
    ) -> zipfile.ZipInfo:
        try:
            moment = time.localtime(mtime)[:6]
        except (OverflowError, OSError, ValueError):
            moment = (FIRST_YEAR, 1, 1, 0, 0, 0)
        if not FIRST_YEAR <= moment[0] <= LAST_YEAR:
            year = min(max(moment[0], FIRST_YEAR), LAST_YEAR)
            moment = (year, 1, 1, 0, 0, 0)
        known = self._zip.NameToInfo  # the library only warns of a name that comes twice
        wanted = "/".join(map(safe_name, path))
        begin = self._numbers.get(wanted + mark, 1)
        name, number = unused(wanted, lambda each: f"{each}{mark}" in known, begin)
        if number > 1:
            self._numbers[wanted + mark] = number
        info = zipfile.ZipInfo(f"{name}{mark}", moment)
        info.create_system = 3  # Unix, whose modes follow
        info.external_attr = mode << 16
        return info


def unused(name: str, is_taken: Callable[[str], bool], number: int = 1) -> tuple[str, int]:
    """Return a path that is not taken, with a number in front of the end of its name if need be, and that number.

    Args:
        name: the path, which stands for number 1.
        is_taken: whether something has a path.
        number: of the first path that is tried. A stranger's folder may have 100 000 names that become the same.
    """
    folder, slash, own = name.rpartition("/")
    stem, dot, end = own.rpartition(".")
    if not stem:
        stem, dot, end = own, "", ""
    while is_taken(found := name if number == 1 else f"{folder}{slash}{stem} ({number}){dot}{end}"):
        number += 1
    return found, number


class _Sink:
    """Where the zip is written to: memory that is taken at once. It cannot seek, so nothing is written twice."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        """Return what was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
