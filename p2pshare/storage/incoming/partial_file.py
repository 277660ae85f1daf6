"""A file that comes in blocks, and may be kept, half done, for another day.

It is two hidden files in the folder where it will be: the bytes (`part`), and a journal of the blocks that are known to
be durable. Data is synced before its blocks are journalled, so a journal never says more than the disk has; and what it
says is hashed again before it is believed. Publishing goes: times and mode, fsync, link to the final name, fsync of the
folder, and only then are the part's name and the journal removed. So a kill between any two steps leaves something to
go on with, or the file under its name with leftovers that are recognised: a part that has a second name, or a journal
without a part.

`reserve` takes the room for the whole file before the first block comes, so that a full disk is noticed then. The part
keeps that room only while it is open: what is kept for another day holds its verified blocks and nothing else, and a
part without one is removed. After a kill, `reverify` gives back what the process could not.

A sync that failed is not tried again: what it was to make durable is forgotten, and has to come again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pshare.errors import BlockCorrupt, CannotSave
from p2pshare.storage.disk_space import check_room, saving_error
from p2pshare.storage.durability import sync_folder
from p2pshare.storage.incoming.announcement import Announced, Origin, Place, identity_of
from p2pshare.storage.incoming.block_table import BlockState, BlockTable
from p2pshare.storage.incoming.folder_handles import path_of
from p2pshare.storage.incoming.hidden_file import JOURNAL_SUFFIX, PART_SUFFIX, remove_hidden
from p2pshare.storage.incoming.journal import PartJournal, write_at
from p2pshare.storage.incoming.present_files import Stopped
from p2pshare.storage.incoming.publishing import (
    is_still,
    publish_durably,
    remove_name,
    set_attributes,
)
from p2pshare.storage.system_calls import preallocate, punch_hole
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, block_length, digest_of, root_of


class Incoming:
    """A partial file, locked for as long as this object is open.

    Every call may block, and may come from any thread. A call that comes after `finish`, `suspend` or `discard` is a
    `ValueError`; one that is under way then is waited for.
    """

    def __init__(
        self,
        folder_fd: int,
        fd: int,
        hidden: str,
        path: Path,
        place: Place,
        origin: Origin,
        announced: Announced,
        *,
        umask: int,
        overwrite: bool,
        sync_folders: Callable[[], object],
        check_folder: Callable[[], object],
        on_published: Callable[[str, os.stat_result, bytes], object] = lambda *_: None,
        journal: PartJournal | None = None,
    ) -> None:
        """Take over the descriptors, of the folder and the locked part; the journal is made when it is needed.

        Args:
            folder_fd: the folder of the file.
            fd: the part.
            hidden: what its name and that of the journal have in common.
            path: the final one, as the user calls it.
            place: where it goes.
            origin: which file it is.
            announced: what is said of it.
            umask: the user's.
            overwrite: replace a plain file of that name.
            check_folder: raises `DestinationGone` if the folder of the job is not there any more.
            sync_folders: makes durable the folders that were made on the way; raises `OSError`.
            on_published: told the final name, what is known of the file, and its root.
            journal: what was read of it, if it was.
        """
        self.place = place
        self.origin = origin
        self.announced = announced
        """What is said of it; whether it is executable may be said anew until it is finished."""
        self._folder_fd = folder_fd
        self._fd = fd
        self._hidden = hidden
        self._path = path
        self._umask = umask
        self._overwrite = overwrite
        self._sync_folders = sync_folders
        self._check_folder = check_folder
        self._on_published = on_published
        self._journal = journal
        self._table = BlockTable(block_count(announced.size))
        self._changed = threading.Condition()
        self._sync_lock = threading.Lock()  # taken before that of `_changed`, never within
        self._working = 0  # calls that use the descriptors
        self._open = True
        self._writing: set[int] = set()
        self._fresh: list[int] = []  # written, and not yet being synced
        self._unsynced = 0
        self._is_reserved = False  # room for all of it
        self._journal_in_folder = True  # for good
        self._failures = 0  # of syncs; what was written before one does not count

    @property
    def have(self) -> tuple[tuple[int, int], ...]:
        """Runs of the blocks that are there and verified: the first, and the one behind the last; ascending."""
        with self._changed:
            return self._table.runs()

    @property
    def complete(self) -> bool:
        """Whether all blocks are there, so that it can be finished."""
        with self._changed:
            return self._table.there == self._table.count

    @property
    def bytes_there(self) -> int:
        """Bytes of the blocks that are there and verified."""
        return sum(
            (end - first - 1) * BLOCK_SIZE + self._length(end - 1) for first, end in self.have
        )

    @property
    def unsynced(self) -> int:
        """Bytes that are written and not yet journalled: a kill costs so many."""
        with self._changed:
            return self._unsynced

    def reserve(self) -> None:
        """Reserve room on the disk for what is missing, unless that was done; it is given back in the end.

        Raises:
            DiskFull: the disk has no such room; what is there is kept.
            CannotSave: the disk fails.
        """
        with self._using():
            if not self._is_reserved:
                check_room(self._fd, self.announced.size - self.bytes_there, self._path)
                preallocate(self._fd, self.announced.size)
                self._is_reserved = True

    def write_block(self, index: int, data: bytes | bytearray | memoryview, digest: bytes) -> None:
        """Verify a block, and write it; of one that is there already, nothing is written.

        Raises:
            BlockCorrupt: it is not what was announced, or there is no such block; nothing was written.
            DiskFull, CannotSave: it is not written; what is there is kept, and this may be tried again.
        """
        with memoryview(data).cast("B") as view:
            self._verify(index, view, digest)
            with self._using():
                with self._changed:
                    if self._table.state(index) is not BlockState.MISSING:
                        if self._table.digest(index) != digest:
                            raise self._corrupt(f"block {index} came twice, and not the same")
                        return
                    if index in self._writing:
                        raise ValueError(f"block {index} is being written by another thread")
                    self._writing.add(index)
                    failures = self._failures
                try:
                    write_at(self._fd, view, index * BLOCK_SIZE)
                    with self._changed:
                        if failures != self._failures:
                            raise self._distrusted()
                        self._table.put(index, BlockState.WRITTEN, digest)
                        self._fresh.append(index)
                        self._unsynced += len(view)
                finally:
                    with self._changed:
                        self._writing.discard(index)

    def sync(self) -> None:
        """Make durable what was written before this call, and journal it, if the part is still there.

        Meanwhile other threads may write blocks, which are not covered.

        Raises:
            DestinationGone: the folder of the job is not there any more.
            DiskFull, CannotSave: it is not journalled. If it was a sync that failed, all that was not journalled before
                is forgotten, so look at `have` again.
        """
        with self._sync_lock, self._using():
            self._check_there()
            self._sync()

    def finish(self, root: bytes) -> Path:
        """Publish the file under its name, or the first numbered one that is free, with its times.

        Raises:
            BlockCorrupt: a block is missing, and all is kept; or the root is not `root`, and all is discarded.
            DiskFull, CannotSave: it is not published, and what is there is kept.
        """
        with self._sync_lock:
            with self._using():
                if self._table.there != self._table.count:
                    raise self._corrupt("blocks are missing")
                sound = root_of(self.announced.size, self._table.digests()) == root
                if sound:
                    path = self._publish(root)
            if sound:
                self._close()
                return path
        self.discard()
        raise self._corrupt("the file as a whole is another one than its blocks")

    def suspend(self) -> None:
        """Keep for later the verified blocks that the disk lets be synced, and close. May be called again.

        Nothing is left if there is no such block.
        """
        with self._sync_lock:
            self._close(self._keep_verified)

    def discard(self) -> None:
        """Remove what is there, and close. May be called again."""
        self._close(self._remove)

    def close(self) -> None:
        """Close, and leave all as it is. May be called again."""
        self._close()

    def reverify(self, on_progress: Callable[[int, int], object], stop: Callable[[], bool]) -> None:
        """Hash again the blocks that the journal tells of, and keep those that are what it says.

        Args:
            on_progress: is told how many of how many blocks were hashed.
            stop: is asked before each of them.

        Raises:
            Stopped: `stop` said so.
            OSError: the part or the journal cannot be read.
        """
        assert self._journal is not None
        for index, digest in self._journal.records(self._table.count):
            self._table.put(index, BlockState.SYNCED, digest)
        self._free_room()
        total = self._table.there
        for done, index in enumerate(self._table.indexes(BlockState.SYNCED)):
            on_progress(done, total)
            if stop():
                raise Stopped
            block = os.pread(self._fd, self._length(index), index * BLOCK_SIZE)
            if digest_of(block) != self._table.digest(index):
                self._table.move(index, BlockState.MISSING)
        if self._table.there < total:
            self._free_room()
        on_progress(total, total)

    def _verify(self, index: int, view: memoryview, digest: bytes) -> None:
        if not 0 <= index < self._table.count:
            raise self._corrupt(f"there is no block {index}")
        if len(view) != self._length(index):
            raise self._corrupt(f"block {index} has {len(view)} bytes, not {self._length(index)}")
        if digest_of(view) != digest:
            raise self._corrupt(f"block {index} has another hash")

    def _length(self, index: int) -> int:
        return block_length(self.announced.size, index)

    def _sync(self) -> None:
        with self._changed:
            blocks, self._fresh = self._fresh, []
        if not blocks:
            return
        with self._forgetting():
            os.fdatasync(self._fd)
        try:
            self._note(blocks)
        except OSError:  # no sync has failed, so the data is there: it is noted the next time
            with self._changed:
                self._fresh[:0] = blocks
            raise
        with self._forgetting():
            self._make_journal_durable()
        with self._changed:
            for index in blocks:
                self._table.move(index, BlockState.SYNCED)
                self._unsynced -= self._length(index)

    def _note(self, blocks: list[int]) -> None:
        if self._journal is None:
            name = self._hidden + JOURNAL_SUFFIX
            identity = identity_of(self.place, self.origin)
            remove_name(self._folder_fd, name)
            self._journal = PartJournal.create(
                self._folder_fd, name, identity, self.announced, self.origin.peer
            )
            self._journal_in_folder = False
        self._journal.write([(index, self._table.digest(index)) for index in blocks])

    def _make_journal_durable(self) -> None:
        assert self._journal is not None
        self._journal.sync()
        if not self._journal_in_folder:
            sync_folder(self._folder_fd)
            self._sync_folders()
            self._journal_in_folder = True

    def _keep_verified(self) -> None:
        """Make durable what is there, and remove everything else; the part is not being written to any more."""
        with suppress(OSError):
            self._free_room()  # of which the journal may need some on a full disk
            self._sync()
        with self._changed:
            self._forget_unsynced()
        if self._table.there:
            self._free_room()
        else:
            self._remove()

    def _free_room(self) -> None:
        """Give back the room of the part that no verified block needs, reserved or written to."""
        self._is_reserved = False
        behind = 0
        runs = self.have
        for first, end in runs:
            if first > behind:
                punch_hole(self._fd, behind * BLOCK_SIZE, (first - behind) * BLOCK_SIZE)
            behind = end
        os.ftruncate(self._fd, min(behind * BLOCK_SIZE, self.announced.size))

    def _forget_unsynced(self) -> None:
        """Count as missing the blocks that were not journalled; to be called with `_changed`."""
        for index in list(self._table.indexes(BlockState.WRITTEN)):
            self._table.move(index, BlockState.MISSING)
        self._fresh.clear()
        self._unsynced = 0

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """After a sync that fails, forget all that was not journalled."""
        try:
            yield
        except OSError:
            with self._changed:
                self._failures += 1
                self._forget_unsynced()
            raise

    def _publish(self, root: bytes) -> Path:
        part = self._hidden + PART_SUFFIX
        os.ftruncate(self._fd, self.announced.size)  # also frees room reserved behind the end
        set_attributes(
            self._fd,
            self._umask,
            self.announced.mtime_ns,
            executable=self.announced.executable,
        )
        with self._forgetting():
            os.fsync(self._fd)
        self._check_there()
        name = publish_durably(
            self._folder_fd,
            self._fd,
            part,
            self._path,
            overwrite=self._overwrite,
            number=self.place.number,
            sync_above=self._sync_folders,
        )
        with suppress(OSError):  # it is published, whatever becomes of the leftovers
            self._remove()
            self._on_published(name, os.fstat(self._fd), root)
        return (path_of(self._folder_fd, self._path.parent) or self._path.parent) / name

    def _check_there(self) -> None:
        if not is_still(self._fd, self._folder_fd, self._hidden + PART_SUFFIX):
            self._check_folder()
            raise CannotSave(path=self._path, reason="somebody has removed what was there of it")

    def _remove(self) -> None:
        remove_hidden(self._folder_fd, self._hidden)

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Use the descriptors, which stay open meanwhile; and say what failed."""
        with self._changed:
            if not self._open:  # they may be another file's by now
                raise ValueError("the partial file is closed already")
            self._working += 1
        try:
            yield
        except OSError as error:
            needed = self._table.count - self._table.there
            raise saving_error(error, self._fd, needed * BLOCK_SIZE, self._path) from error
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _close(self, last: Callable[[], None] = lambda: None) -> None:
        with self._changed:
            if not self._open:
                return
            self._open = False
            self._changed.wait_for(lambda: not self._working)
        with suppress(OSError):
            last()
        if self._journal is not None:
            self._journal.close()
        os.close(self._fd)
        os.close(self._folder_fd)

    def _corrupt(self, reason: str) -> BlockCorrupt:
        return BlockCorrupt(path=self._path, reason=reason)

    def _distrusted(self) -> CannotSave:
        return CannotSave(path=self._path, reason="the disk reports an error")
