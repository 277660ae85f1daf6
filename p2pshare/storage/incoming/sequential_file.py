"""A file whose bytes arrive in order: hidden until it is complete, then published, otherwise discarded.

    with SequentialFile.create(folder, "alice.png") as file:
        file.write(data)                        # as often as needed
        path = file.commit(overwrite=False)     # durable, under its final name

A file without `commit` leaves nothing behind. It is published by the steps in `publishing`, like any other file that
arrives. It has no journal, so it cannot be resumed. A killed process leaves at most `.NAME.p2pshare-XXXXXXXX.part`,
which `leftovers` finds and removes.

Every call may block; call it in a thread. Files that arrive in verified blocks are `partial_file`'s.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePath
from types import TracebackType
from typing import BinaryIO, Self

from p2pshare.errors import CannotSave
from p2pshare.storage.disk_space import cannot_save
from p2pshare.storage.incoming.hidden_file import PART_SUFFIX, create_hidden
from p2pshare.storage.incoming.publishing import (
    current_umask,
    publish_durably,
    remove_name,
    set_attributes,
    shortened,
)

WRITE_BACK_SIZE = 16 * 1024 * 1024  # bytes after which the disk starts to write
SHOWN_NAME_MAX = (
    200  # bytes of the final name that the hidden name repeats; a longer one would not fit
)


class SequentialFile(AbstractContextManager["SequentialFile"]):
    """A file that stays hidden until it is committed. Thread-safe; after a `CannotSave` nothing of it is left."""

    def __init__(self, folder_fd: int, fd: int, hidden_name: str, path: Path) -> None:
        self._folder_fd = folder_fd
        self._fd = fd
        self._hidden_name = hidden_name
        self._path = path
        self._open = True
        self._lock = threading.RLock()  # a thread may still write when the caller discards the file
        self._size = 0
        self._size_written_back = 0

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        *,
        random_part: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> Self:
        """Create the hidden file, readable by its owner only, in an existing folder.

        Args:
            folder: the folder of the final file.
            name: a single path component; pass names from strangers through `safe_name` first.
            random_part: returns what distinguishes this hidden file from others.

        Raises:
            CannotSave: the folder accepts no file.
        """
        path = folder / name
        if name in ("", "..") or PurePath(name).name != name:
            raise CannotSave(path=path, reason="that is not the name of a file")
        hidden = f".{shortened(name, SHOWN_NAME_MAX)}.p2pshare-{random_part()}{PART_SUFFIX}"
        try:
            folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = create_hidden(folder_fd, hidden, path)
            except BaseException:
                os.close(folder_fd)
                raise
        except OSError as error:
            raise cannot_save(error, path) from error
        return cls(folder_fd, fd, hidden, path)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`.

        Raises:
            CannotSave: the disk is full, or fails.
        """
        with self._discarding_on_error(), memoryview(data).cast("B") as rest:
            written = 0
            while written < len(rest):
                written += os.write(self._fd, rest[written:])
            self._size += written
            self._start_write_back()

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """Yield a buffered binary file for code that needs one; it is flushed at the end of the block.

        Raises:
            CannotSave: an `OSError` left the block.
        """
        with self._discarding_on_error(), open(self._fd, "r+b", closefd=False) as file:
            yield file

    def commit(self, *, overwrite: bool = False) -> Path:
        """Make the file durable, publish it as in `publishing.publish`, close it, and return its path.

        Raises:
            CannotSave: it failed, and nothing is left behind.
        """
        with self._discarding_on_error():
            set_attributes(self._fd, current_umask())
            os.fsync(self._fd)
            name = publish_durably(
                self._folder_fd, self._fd, self._hidden_name, self._path, overwrite=overwrite
            )
            self.discard()
        return self._path.with_name(name)

    def discard(self) -> None:
        """Remove the file unless it is committed, and close it. May be called again, and from any thread."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            with suppress(OSError):
                remove_name(self._folder_fd, self._hidden_name)
            os.close(self._fd)
            os.close(self._folder_fd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Discard the file unless it is committed."""
        self.discard()

    @contextmanager
    def _discarding_on_error(self) -> Iterator[None]:
        with self._lock:
            if not self._open:  # the descriptors may belong to another file by now
                raise ValueError("the file is committed or discarded already")
            try:
                yield
            except OSError as error:
                self.discard()
                raise cannot_save(error, self._path) from error
            except CannotSave:
                self.discard()
                raise

    def _start_write_back(self) -> None:
        """Let the disk start to write, so that the fsync at the end has little left to do.

        The advice also frees the cache of written pages for the next bytes. Writing and syncing 1 GiB took 0.4 s with
        it, and 0.6 to 3.4 s without.
        """
        length = self._size - self._size_written_back
        if length >= WRITE_BACK_SIZE and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, self._size_written_back, length, os.POSIX_FADV_DONTNEED)
            self._size_written_back = self._size
