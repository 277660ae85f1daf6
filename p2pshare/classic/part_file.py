"""A download on its way to its final name.

The promise is that a file under its final name is complete, and that nothing is overwritten unless
asked. So the bytes go into a hidden file beside it, which is synced, and only then published: by a
hard link, which fails if the name exists. A process that is killed leaves at most a file named
`.NAME.p2pshare-XXXXXXXX.part`.

Every call may block: call them in a thread.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePath
from types import TracebackType
from typing import BinaryIO, Self

from p2pshare.errors import CannotSave
from p2pshare.storage.durability import sync_folder
from p2pshare.storage.incoming.publishing import (
    NEW_FILE,
    current_umask,
    publish,
    remove_name,
    set_mode,
    shortened,
)
from p2pshare.storage.reasons import plain_reason

WRITE_BACK_SIZE = 16 * 1024 * 1024  # bytes after which the disk is set to work
PART_SUFFIX = ".part"


class PartFile(AbstractContextManager["PartFile"]):
    """A file that nobody sees until it is committed.

    Use it as a context manager: what is not committed by its end is discarded. After a `CannotSave`
    it is gone, too.
    """

    def __init__(self, folder: Path, name: str, folder_fd: int, fd: int, hidden_name: str) -> None:
        self._folder = folder
        self._name = name
        self._folder_fd = folder_fd
        self._fd = fd
        self._hidden_name = hidden_name
        self._owned_name: str | None = hidden_name  # what a failure has to remove
        self._open = True
        self._lock = threading.RLock()  # one that is given up may still be written to by a thread
        self._size = 0
        self._size_on_its_way = 0

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        *,
        random_part: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> Self:
        """Make the hidden file, readable by its owner alone, where `name` is to appear.

        Args:
            folder: where the file will be; it must exist.
            name: a single path component; one from a stranger must have passed `safe_name`.
            random_part: returns what tells this hidden file from others.

        Raises:
            CannotSave: the folder takes no file.
        """
        if name in ("", "..") or PurePath(name).name != name:
            raise CannotSave(path=folder / name, reason="that is not the name of a file")
        # Not all of a long name fits beside the marks of a hidden file; nobody needs it there.
        hidden_name = f".{shortened(name, 200)}.p2pshare-{random_part()}{PART_SUFFIX}"
        try:
            folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = os.open(hidden_name, NEW_FILE, 0o600, dir_fd=folder_fd)
                with suppress(OSError):  # a disk that knows no locks
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(folder_fd)
                raise
        except OSError as error:
            raise CannotSave(path=folder / name, reason=plain_reason(error)) from error
        return cls(folder, name, folder_fd, fd, hidden_name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`.

        Raises:
            CannotSave: the disk is full, or fails.
        """
        with self._cleaning_up(), memoryview(data).cast("B") as rest:
            written = 0
            while written < len(rest):
                written += os.write(self._fd, rest[written:])
            self._size += written
            self._begin_write_back()

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """A buffered binary file for code that wants one; it is flushed at the end of the block.

        Raises:
            CannotSave: an `OSError` left the block.
        """
        with self._cleaning_up(), open(self._fd, "r+b", closefd=False) as file:
            yield file

    def commit(self, *, overwrite: bool = False) -> Path:
        """Make the file durable and give it its final name.

        Args:
            overwrite: replace a file of that name; else take the first free of `alice.png`,
                `alice (1).png` and so on.

        Returns:
            The path under which the file now is.

        Raises:
            CannotSave: it could not be; nothing is left behind.
        """
        with self._cleaning_up():
            set_mode(self._fd, current_umask())
            os.fsync(self._fd)
            path = self._folder / self._name
            final_name = publish(self._folder_fd, self._hidden_name, path, overwrite=overwrite)
            remove_name(self._folder_fd, self._hidden_name)
            self._owned_name = None if overwrite else final_name
            sync_folder(self._folder_fd)
            self._owned_name = None
            self.discard()
        return self._folder / final_name

    def discard(self) -> None:
        """Remove the file, unless it is committed. May be called again, and from any thread."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            if self._owned_name is not None:
                with suppress(OSError):
                    os.unlink(self._owned_name, dir_fd=self._folder_fd)
            os.close(self._fd)
            os.close(self._folder_fd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Discard the file, unless it is committed."""
        self.discard()

    @contextmanager
    def _cleaning_up(self) -> Iterator[None]:
        with self._lock:
            if not self._open:  # its descriptors may be another file's by now
                raise ValueError("the file is committed or discarded already")
            try:
                yield
            except OSError as error:
                self.discard()
                reason = plain_reason(error)
                raise CannotSave(path=self._folder / self._name, reason=reason) from error
            except CannotSave:
                self.discard()
                raise

    def _begin_write_back(self) -> None:
        """Let the disk begin with what has come, so that the sync at the end has little left to do.

        The advice also frees the memory of what is on the disk, which the next bytes then use: of
        1 GiB, writing and syncing took 0.4 s with it, and 0.6 to 3.4 s without.
        """
        length = self._size - self._size_on_its_way
        if length >= WRITE_BACK_SIZE and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, self._size_on_its_way, length, os.POSIX_FADV_DONTNEED)
            self._size_on_its_way = self._size
