"""Drafts: files and folders that arrive one by one in the spool, until they are offered together.

A draft is a folder of the spool with several names at its top. A file has a reserved name at the top while it is
written, and gets its own name when it is complete. So what is offered never has a part of a file. The spool removes a
draft with its offer, or a day after the last write.

**Room.** A draft copies bytes on this machine, so it may fill the disk that the peer itself needs. Before a file is
begun its length is compared with what is free, less `RESERVE` and less what other files are still to bring.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from p2pshare.errors import ControlRefused, NoRoomForDraft, WrongUsage
from p2pshare.storage.disk_space import free_bytes, saving_error
from p2pshare.storage.durability import sync_files, sync_path
from p2pshare.wire.paths import RemotePath, component_fault, format_path, is_within_bounds
from p2pshare.wire.quantities import size_text

FILES_MAX = 100_000  # files and folders of a draft
BYTES_MAX = 2**40  # bytes of a draft
RESERVE = 256 * 1024 * 1024  # bytes of the disk that drafts leave free
SYNCED_AT_ONCE = 200  # files that are open at a time while a draft is made durable

_MAKING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = ".p2pshare-draft-{number}"  # a reserved name: nothing with it is ever offered


class Draft:
    """A draft that is being filled. All methods may be called in any thread, and block."""

    def __init__(
        self,
        folder: Path,
        *,
        files_max: int = FILES_MAX,
        bytes_max: int = BYTES_MAX,
        reserve: int = RESERVE,
    ) -> None:
        """Fill `folder`, which is in the spool and belongs to nothing else."""
        self.id = folder.name
        self._folder = folder
        self._files_max = files_max
        self._bytes_max = bytes_max
        self._reserve = reserve
        self._lock = threading.Lock()
        self._number = 0  # of parts
        self._names: set[RemotePath] = set()
        self._bytes = 0  # of the files that are complete
        self._coming: dict[int, int] = {}  # bytes that parts are still to bring, by their number
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the draft is being sent."""
        return self._is_closed

    @property
    def is_busy(self) -> bool:
        """Whether a file is being written, or the draft is being sent."""
        return self._is_closed or bool(self._coming)

    def add_folder(self, path: RemotePath) -> None:
        """Make a folder, unless it is there.

        Raises:
            WrongUsage: it is not possible under this name.
            CannotSave: it cannot be made.
        """
        self._check(path)
        with self._lock:
            self._make_folders(path)

    def begin(self, path: RemotePath, length: int) -> DraftFile:
        """Begin a file of `length` bytes.

        Raises:
            WrongUsage: it has no valid name, or something else has it, or the draft is full.
            NoRoomForDraft: the disk has no room for it.
            CannotSave: it cannot be made.
        """
        self._check(path)
        with self._lock:
            self._expect_open()
            if path in self._names or os.path.lexists(self._path(path)):
                raise WrongUsage(reason=f"The draft has {format_path(path)!r} already.")
            if self._bytes + sum(self._coming.values()) + length > self._bytes_max:
                raise self._too_large()
            self._count(path)
            try:
                self._expect_room(format_path(path), length)
            except NoRoomForDraft:
                self._names.discard(path)
                raise
            self._number += 1
            number = self._number
            self._coming[number] = length
        part = self._folder / _PART.format(number=number)
        try:
            return DraftFile(self, path, part, number, length)
        except OSError as error:
            self._over(path, number)
            raise saving_error(error, self._folder, length, part) from error

    def expect_room(self, files: int, length: int) -> None:
        """Check that there is room for so many files, of so many bytes together.

        Raises:
            WrongUsage: they are too many.
            NoRoomForDraft: the disk has no room.
        """
        with self._lock:
            if len(self._names) + files > self._files_max:
                raise self._too_many()
            if self._bytes + sum(self._coming.values()) + length > self._bytes_max:
                raise self._too_large()
            self._expect_room("What you send", length)

    def close(self) -> tuple[Path, ...]:
        """Take no more files, make those that are there durable, and return the paths at the top.

        Raises:
            ControlRefused: a file is still arriving.
            WrongUsage: the draft is empty.
            CannotSave: the files cannot be made durable.
        """
        with self._lock:
            if self._coming:
                raise ControlRefused(reason="files of the draft are still arriving")
            if not self._names:
                raise WrongUsage(reason="The draft is empty: add files first.")
            self._is_closed = True
        try:
            self._sync()
        except OSError as error:
            self.reopen()
            raise saving_error(error, self._folder, 0, self._folder) from error
        return self.paths()

    def reopen(self) -> None:
        """Take files again, since it was not offered after all."""
        self._is_closed = False

    def paths(self) -> tuple[Path, ...]:
        """Return the paths at the top that are complete, in the order of their names."""
        with self._lock:
            return tuple(self._folder / name for name in sorted({path[0] for path in self._names}))

    def _check(self, path: RemotePath) -> None:
        fault = next(filter(None, map(component_fault, path)), None) if path else "is empty"
        if fault is None and not is_within_bounds(path):
            fault = "is too long or too deep"
        if fault is not None:
            shown = format_path(path)
            raise WrongUsage(reason=f"Nothing can be sent under the name {shown!r}: it {fault}.")

    def _expect_open(self) -> None:
        if self._is_closed:
            raise WrongUsage(reason="The draft is being sent, and takes no more files.")

    def _count(self, path: RemotePath) -> None:
        if len(self._names) >= self._files_max:
            raise self._too_many()
        self._names.add(path)

    def _too_many(self) -> WrongUsage:
        most = self._files_max
        return WrongUsage(reason=f"At most {most} files and folders can be put together.")

    def _too_large(self) -> WrongUsage:
        most = size_text(self._bytes_max)
        return WrongUsage(reason=f"At most {most} can be put together for one offer.")

    def _expect_room(self, what: str, length: int) -> None:
        free = free_bytes(self._folder) - self._reserve - sum(self._coming.values())
        if length > free:
            needed, left = size_text(length), size_text(max(0, free))
            raise NoRoomForDraft(path=what, needed=needed, free=left)

    def _path(self, path: RemotePath) -> Path:
        return self._folder.joinpath(*path)

    def _make_folders(self, path: RemotePath) -> None:
        """Make a folder with those above it; the lock is held."""
        self._expect_open()
        for depth in range(1, len(path) + 1):
            above = path[:depth]
            if above in self._names and self._path(above).is_dir():
                continue
            try:
                self._path(above).mkdir(mode=0o700)
            except FileExistsError as error:
                raise WrongUsage(reason=f"The draft has {format_path(above)!r} already.") from error
            except OSError as error:
                raise saving_error(error, self._folder, 0, self._path(above)) from error
            self._count(above)

    def _complete(self, file: DraftFile, length: int) -> None:
        with self._lock:
            self._coming.pop(file.number, None)
            try:
                self._make_folders(file.path[:-1])
                if os.path.lexists(self._path(file.path)):
                    raise WrongUsage(reason=f"The draft has {format_path(file.path)!r} already.")
                os.rename(file.part, self._path(file.path))
            except BaseException:
                self._names.discard(file.path)
                raise
            self._bytes += length

    def _over(self, path: RemotePath, number: int) -> None:
        with self._lock:
            if self._coming.pop(number, None) is not None:
                self._names.discard(path)

    def _came(self, number: int, size: int) -> None:
        with self._lock:
            self._coming[number] -= size

    def _sync(self) -> None:
        """Make everything durable: files in groups, since they may be synced together, then the folders."""
        witness = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            group: list[Path] = []
            folders: list[Path] = []
            for folder, _, names in os.walk(self._folder):
                folders.append(Path(folder))
                group += [Path(folder, name) for name in names]
                while len(group) >= SYNCED_AT_ONCE:
                    _sync_group(group[:SYNCED_AT_ONCE], witness)
                    del group[:SYNCED_AT_ONCE]
            _sync_group(group, witness)
            for each in reversed(folders):
                sync_path(each)
            for above in self._folder.parents[:2]:
                sync_path(above, follow=True)
        finally:
            os.close(witness)


def _sync_group(paths: Sequence[Path], witness: int) -> None:
    with ExitStack() as opened:
        fds = []
        for path in paths:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            fds.append(fd)
        for error in sync_files(fds, witness).values():
            raise error


class DraftFile:
    """A file of a draft that is being written.

    All methods block, and may be called in any thread: `discard` waits until a `write` is over, whose caller has left.
    Otherwise that might write into another file that has the same descriptor by then.
    """

    def __init__(
        self, draft: Draft, path: RemotePath, part: Path, number: int, length: int
    ) -> None:
        """Make the file; see `Draft.begin`.

        Raises:
            OSError: it cannot be made.
        """
        self.path = path
        self.part = part
        self.number = number
        self._draft = draft
        self._length = length
        self._written = 0
        self._using = threading.Lock()  # of the descriptor
        self._file = open(os.open(part, _MAKING, 0o600), "wb", buffering=0)  # noqa: SIM115 - until the end

    def write(self, piece: bytes) -> None:
        """Write more of it.

        Raises:
            WrongUsage: it is longer than announced.
            CannotSave: it cannot be written.
        """
        if self._written + len(piece) > self._length:
            raise WrongUsage(reason=f"{format_path(self.path)!r} is longer than announced.")
        rest = memoryview(piece)
        try:
            with self._using:
                while rest:
                    rest = rest[self._file.write(rest) :]
        except OSError as error:
            left = self._length - self._written
            raise saving_error(error, self.part.parent, left, self.part) from error
        self._written += len(piece)
        self._draft._came(self.number, len(piece))

    def finish(self) -> None:
        """Give the complete file its name.

        Raises:
            WrongUsage: bytes are missing, or something else has its name.
            CannotSave: it cannot be named.
        """
        if self._written != self._length:
            raise WrongUsage(reason=f"{format_path(self.path)!r} is shorter than announced.")
        try:
            with self._using:
                self._file.close()
            self._draft._complete(self, self._length)
        except OSError as error:
            raise saving_error(error, self.part.parent, 0, self.part) from error

    def discard(self) -> None:
        """Remove what was written, unless it is complete. May be called again."""
        with suppress(OSError), self._using:
            self._file.close()
        self._draft._over(self.path, self.number)
        with suppress(OSError):
            self.part.unlink()
