"""Many small files at once: all are written, then made durable by one call, then published.

Each follows the steps in `publishing`, but a batch does each step for all of its files before the next step. Syncing
the file system once for 8 files or more makes 10 000 files five times as fast as syncing each of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import BlockCorrupt, CannotSave, TooManyOpenFiles, TransferFailed
from p2pshare.storage.disk_space import replaced_error, saving_error
from p2pshare.storage.durability import sync_files
from p2pshare.storage.incoming.announcement import WholeFile
from p2pshare.storage.incoming.folder_handles import Folder, FolderHandles, path_of
from p2pshare.storage.incoming.hidden_file import (
    PART_SUFFIX,
    hidden_name,
    open_hidden,
)
from p2pshare.storage.incoming.journal import write_at
from p2pshare.storage.incoming.present_files import read_root
from p2pshare.storage.incoming.publishing import (
    is_still,
    numbered,
    publish,
    remove_name,
    set_attributes,
)
from p2pshare.storage.open_file_limit import is_none_left
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, digest_of, root_of

BATCH_MAX = 256  # files that are open at once, each perhaps in a folder of its own
FILES_PART = 5  # one in 5 of the open files that the limit leaves, and as many folders


@dataclass(slots=True)
class _Written:
    """A file that is written and hidden."""

    number: int
    file: WholeFile
    path: Path
    folder_fd: int
    hidden: str
    fd: int
    name: str = ""
    """The final name, once it has one."""
    is_ours: bool = False
    """Whether it was published here, and not by another process."""
    status: os.stat_result | None = None
    """The status of the published file."""


class WholeFiles:
    """A batch of at most `BATCH_MAX` files."""

    def __init__(self, root: Path, handles: FolderHandles, witness: int, umask: int) -> None:
        """Args:
        root: the folder of the job, as the user calls it.
        handles: its open folders.
        witness: as in `sync_files`.
        umask: of the process.
        """
        self._root = root
        self._handles = handles
        self._witness = witness
        self._umask = umask
        self._using = ExitStack()
        self._folders: dict[Folder, int] = {}
        self._paths: dict[
            Folder, Path
        ] = {}  # of these folders now, since somebody may have moved them
        self.saved: list[tuple[WholeFile, str, os.stat_result]] = []
        """The published files, with their final names and statuses."""

    def store(self, files: Sequence[WholeFile]) -> list[Path | TransferFailed]:
        """Store files, or the first of them if no more can be open; return the path or the error of each of these."""
        count = len(files)
        results: dict[int, Path | TransferFailed] = {}
        written: list[_Written] = []
        with self._using:
            try:
                for number, file in enumerate(files):
                    try:
                        written.append(self._write(number, file))
                    except TooManyOpenFiles as error:
                        if written:  # the caller stores the others when these are closed
                            count = number
                            break
                        results[number] = error
                    except TransferFailed as error:
                        results[number] = error
                refused = sync_files([each.fd for each in written], self._witness)
                for each in written:
                    results[each.number] = self._publish(each, refused.get(each.fd))
                self._sync_folders(written, results)
                for each in written:
                    if each.status is not None and isinstance(results[each.number], Path):
                        self.saved.append((each.file, each.name, each.status))
            finally:
                for each in written:
                    os.close(each.fd)
        return [results[number] for number in range(count)]

    def _write(self, number: int, file: WholeFile) -> _Written:
        path = self._root.joinpath(*file.place.folder, file.place.name)
        _verify(file, path)
        folder_fd = self._folder_fd(file.place.folder, path)
        path = self._paths[file.place.folder] / file.place.name
        hidden = hidden_name(file.place, file.origin)
        part = hidden + PART_SUFFIX
        try:
            fd = self._open_hidden(folder_fd, hidden, path)
        except OSError as error:
            raise saving_error(error, folder_fd, file.announced.size, path) from error
        try:
            with memoryview(file.data).cast("B") as view:
                write_at(fd, view, 0)
            said = file.announced
            set_attributes(fd, self._umask, said.mtime_ns, executable=said.executable)
        except OSError as error:
            failure = saving_error(error, folder_fd, file.announced.size, path)
            with suppress(OSError):
                remove_name(folder_fd, part)
            os.close(fd)
            raise failure from error
        return _Written(number, file, path, folder_fd, part, fd)

    def _open_hidden(self, folder_fd: int, hidden: str, path: Path) -> int:
        try:
            return open_hidden(folder_fd, hidden, path)
        except OSError as error:
            if not is_none_left(error) or not self._handles.free():
                raise
            return open_hidden(folder_fd, hidden, path)

    def _folder_fd(self, folder: Folder, path: Path) -> int:
        if folder not in self._folders:
            try:
                fd = self._using.enter_context(self._handles.using(folder, make=True))
            except OSError as error:
                raise saving_error(error, self._witness, 0, path) from error
            self._folders[folder] = fd
            self._paths[folder] = path_of(fd, path.parent) or path.parent
        return self._folders[folder]

    def _publish(self, each: _Written, refused: OSError | None) -> Path | TransferFailed:
        try:
            if refused is not None:
                raise refused
            if not is_still(each.fd, each.folder_fd, each.hidden):
                reason = "somebody has removed its part"
                return CannotSave(path=each.path, reason=reason)
            overwrite = each.file.overwrite
            number, size = each.file.place.number, each.file.announced.size
            name = numbered(each.path.name, number)
            found = None if overwrite else read_root(each.folder_fd, name, size)
            if found is not None and found[0] == each.file.root:
                each.name, each.status = name, found[1]  # another process has just published it
            else:
                each.name = publish(
                    each.folder_fd,
                    each.hidden,
                    each.path,
                    overwrite=overwrite,
                    number=number,
                    replaces=each.file.replaces,
                )
                each.is_ours = True
            remove_name(each.folder_fd, each.hidden)
            if each.is_ours:
                each.status = os.fstat(each.fd)  # after the removal, which changes the file's ctime
        except OSError as error:
            failure: TransferFailed = saving_error(
                error, each.folder_fd, each.file.announced.size, each.path
            )
        except CannotSave as error:
            failure = error
        else:
            return each.path.with_name(each.name)
        with suppress(OSError):
            remove_name(each.folder_fd, each.hidden)
        return failure

    def _sync_folders(
        self, written: Sequence[_Written], results: dict[int, Path | TransferFailed]
    ) -> None:
        """Make the final names durable, and take back those that cannot be."""
        failed = self._handles.sync(self._folders, self._witness)
        for each in written:
            error = failed.get(each.file.place.folder)
            if error is not None and not isinstance(results[each.number], TransferFailed):
                if each.file.overwrite:
                    results[each.number] = replaced_error(error, each.path)
                    continue
                results[each.number] = saving_error(error, each.folder_fd, 0, each.path)
                if each.is_ours:
                    with suppress(OSError):
                        remove_name(each.folder_fd, each.name)


def _verify(file: WholeFile, path: Path) -> None:
    size = file.announced.size
    with memoryview(file.data).cast("B") as view:
        if len(view) != size:
            raise BlockCorrupt(path=path, reason=f"{len(view)} bytes came, not {size}")
        digests = tuple(
            digest_of(view[at : at + BLOCK_SIZE])
            for at in range(0, block_count(size) * BLOCK_SIZE, BLOCK_SIZE)
        )
    if digests != file.digests:
        raise BlockCorrupt(path=path, reason="a block has another hash")
    if root_of(size, digests) != file.root:
        raise BlockCorrupt(
            path=path, reason="the digest of the whole file does not match its blocks"
        )
