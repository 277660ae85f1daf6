"""The spool: files that are offered and exist nowhere else, such as a text or what was read from standard input.

Each is `outgoing/ID/NAME` in the data folder, so that it has a name of its own. The process that has the bytes writes
it (`SpoolFile`), and the peer removes it with its offer (`Spool`), or later if that can be sent again. A draft
(`drafts`) is such a folder with many names at its top. What belongs to no offer was left by a process that was killed
before it made one, or by a page that was closed; it is removed a day after the last write.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Self

from p2pshare.errors import WrongUsage
from p2pshare.storage.disk_space import saving_error
from p2pshare.storage.durability import sync_path
from p2pshare.wire.offers.messages import ID_BYTES, ID_FORM, id_from
from p2pshare.wire.paths import component_fault

FOLDER_NAME = "outgoing"
ORPHAN_LIFE = 86400.0  # seconds that a file without an offer is kept after the last write
_MAKING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SpoolFile:
    """A file that is being written into the spool. All methods block, and raise `CannotSave`."""

    def __init__(self, folder: Path, name: str) -> None:
        """Own the new file `name` in a folder of the spool, which is named by its ID."""
        self.id = folder.name
        self.path = folder / name
        try:
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700)
            self._file = open(os.open(self.path, _MAKING, 0o600), "wb")  # noqa: SIM115 - until `finish`
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise saving_error(error, folder.parent, 0, self.path) from error

    @classmethod
    def create(cls, data: Path, name: str) -> Self:
        """Begin a file in the spool of a data folder, under a new ID.

        Raises:
            WrongUsage: nothing can be sent under the name.
        """
        fault = component_fault(name)
        if fault is not None:
            raise WrongUsage(reason=f"Nothing can be sent under the name {name!r}: it {fault}.")
        drawn = id_from(secrets.token_bytes(ID_BYTES))
        return cls(data / FOLDER_NAME / drawn, name)

    def write(self, piece: bytes) -> None:
        """Write more of it."""
        try:
            self._file.write(piece)
        except OSError as error:
            raise saving_error(error, self.path, len(piece), self.path) from error

    def finish(self) -> None:
        """Make the file durable."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            for folder in self.path.parents[:3]:
                sync_path(folder, follow=True)
        except OSError as error:
            raise saving_error(error, self.path, 0, self.path) from error

    def discard(self) -> None:
        """Remove the file, written or not. May be called again."""
        with suppress(OSError):  # what could not be written
            self._file.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Spool:
    """The spooled files in a data folder. All methods block."""

    def __init__(self, data: Path) -> None:
        """Use the folder in the data folder `data`, which need not exist."""
        self._data = data
        self._folder = data / FOLDER_NAME

    def add(self, name: str, content: bytes) -> str:
        """Write a whole file, and return its ID.

        Raises:
            CannotSave: it cannot be written.
            WrongUsage: nothing can be sent under the name.
        """
        file = SpoolFile.create(self._data, name)
        try:
            file.write(content)
            file.finish()
        except BaseException:
            file.discard()
            raise
        return file.id

    def make_folder(self) -> Path:
        """Make the folder of a new draft, and return it.

        Raises:
            CannotSave: it cannot be made.
        """
        folder = self._folder / id_from(secrets.token_bytes(ID_BYTES))
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise saving_error(error, self._data, 0, folder) from error
        return folder

    def find(self, spool_id: str) -> Path:
        """Return the path of a spooled file.

        Raises:
            WrongUsage: there is none.
        """
        with suppress(OSError):
            for path in self._folder_of(spool_id).iterdir():
                return path
        raise WrongUsage(reason=f"There is no spooled file {spool_id!r}.")

    def remove(self, spool_id: str) -> None:
        """Remove a file, if it is there."""
        shutil.rmtree(self._folder_of(spool_id), ignore_errors=True)

    def remove_orphans(self, kept: Collection[str], now: float) -> None:
        """Remove old files that belong to no offer.

        Args:
            kept: the IDs of those that do.
            now: Unix time in s.
        """
        with suppress(OSError):
            for folder in self._folder.iterdir():
                if folder.name not in kept and ID_FORM[0].fullmatch(folder.name):
                    written = max(each.lstat().st_mtime for each in (folder, *folder.iterdir()))
                    if written < now - ORPHAN_LIFE:
                        self.remove(folder.name)

    def _folder_of(self, spool_id: str) -> Path:
        pattern, _, form = ID_FORM
        if pattern.fullmatch(spool_id) is None:
            raise WrongUsage(reason=f"The ID of a spooled file is {form}.")
        return self._folder / spool_id
