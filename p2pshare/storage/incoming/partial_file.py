"""A file that arrives in blocks, and can be resumed later.

It is two hidden files in its final folder: the part with the bytes, and a `journal` of the blocks that are durable. The
order of writing, syncing, journalling and publishing, and the cost of a kill at each step, are in `publishing`.

* The journal never claims more than the disk has, and its claims are hashed again before they count.
* `reserve` takes the room for the whole file before the first block, so a full disk is noticed then. The part keeps
  that room only while it is open. A suspended part holds its verified blocks and nothing else; a part without any is
  removed. After a kill, `reverify` gives back the room that the process could not.
* After a failed sync, everything that was not journalled before is forgotten and has to arrive again: the kernel may
  have dropped it. `_failures` counts these syncs, so that a block being written meanwhile is forgotten, too.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from p2pshare.errors import BlockCorrupt, CannotSave
from p2pshare.storage.disk_space import check_room, saving_error
from p2pshare.storage.durability import sync_folder
from p2pshare.storage.incoming.announcement import (
    Announced,
    Origin,
    Place,
    WholeFile,
    identity_of,
)
from p2pshare.storage.incoming.block_table import BlockState, BlockTable
from p2pshare.storage.incoming.folder_handles import path_of
from p2pshare.storage.incoming.hidden_file import (
    JOURNAL_SUFFIX,
    PART_SUFFIX,
    hidden_name,
    remove_hidden,
    reopen_hidden,
)
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

_NO_JOURNAL = {errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES}


class Destination(Protocol):
    """The folder of the job: an `IncomingFolder`."""

    umask: int

    def check(self) -> None:
        """Raise `DestinationGone` if the folder does not exist any more."""

    def sync_made(self) -> None:
        """Make new folders durable; raises `OSError`."""

    def published(self, saved: Sequence[tuple[WholeFile, str, os.stat_result]]) -> None:
        """Record saved files, each with its final name and status."""


@dataclass(frozen=True, slots=True)
class Target:
    """The file that a part becomes."""

    place: Place
    origin: Origin
    path: Path
    """As the user calls it, without a number."""
    overwrite: bool
    """Replace a regular file of that name."""
    replaces: bytes = b""
    """The fingerprint of the only file that may be replaced; empty for any."""

    @property
    def hidden(self) -> str:
        """The common start of the names of the part and its journal."""
        return hidden_name(self.place, self.origin)


class Incoming:
    """A partial file, locked while this object is open.

    Every call may block, and may come from any thread. After `finish`, `suspend` or `discard`, other calls raise
    `ValueError`; these three wait for calls that are under way.
    """

    def __init__(
        self,
        destination: Destination,
        folder_fd: int,
        fd: int,
        target: Target,
        announced: Announced,
        journal: PartJournal | None = None,
    ) -> None:
        """Take over the locked part `fd` and its journal, which are closed if this fails.

        Args:
            destination: the folder of the job.
            folder_fd: the open folder of the file; it is duplicated.
            fd: the part.
            target: the file that it becomes.
            announced: what the sharer says of it.
            journal: the journal, if there is one; otherwise it is made when it is needed.

        Raises:
            OSError: too many files are open.
        """
        try:
            self._folder_fd = os.dup(folder_fd)
        except OSError:
            os.close(fd)
            if journal is not None:
                journal.close()
            raise
        self._fd = fd
        self._destination = destination
        self._target = target
        self._hidden = target.hidden
        self.announced = announced
        """What the sharer says of it. `executable` may change until it is finished."""
        self._journal = journal
        self._table = BlockTable(block_count(announced.size))
        self._changed = threading.Condition()
        self._sync_lock = threading.Lock()  # taken before that of `_changed`, never within
        self._working = 0  # calls that use the descriptors
        self._open = True
        self._writing: set[int] = set()
        self._fresh: list[int] = []  # blocks that are written, and not being synced
        self._unsynced = 0
        self._is_reserved = False
        self._is_journal_in_folder = True  # durably
        self._failures = 0  # of syncs

    @classmethod
    def reopen(cls, destination: Destination, folder_fd: int, target: Target) -> Self | None:
        """Open the part of a target, and its journal; a part without a valid journal is removed.

        Raises:
            InUse: another process has it.
            OSError: it cannot be read.
        """
        fd = reopen_hidden(folder_fd, target.hidden + PART_SUFFIX, target.path)
        if fd is None:
            remove_name(folder_fd, target.hidden + JOURNAL_SUFFIX)
            return None
        read = None
        try:
            try:
                identity = identity_of(target.place, target.origin)
                read = PartJournal.reopen(folder_fd, target.hidden + JOURNAL_SUFFIX, identity)
            except OSError as error:
                if error.errno not in _NO_JOURNAL:
                    raise
            if read is None:
                remove_hidden(folder_fd, target.hidden)
        finally:
            if read is None:
                os.close(fd)
        if read is None:
            return None
        journal, announced = read
        return cls(destination, folder_fd, fd, target, announced, journal)

    @property
    def have(self) -> tuple[tuple[int, int], ...]:
        """Runs of verified blocks, ascending: the first block, and the one after the last."""
        with self._changed:
            return self._table.runs()

    @property
    def bytes_there(self) -> int:
        """Bytes of verified blocks."""
        return sum(
            (end - first - 1) * BLOCK_SIZE + self._length(end - 1) for first, end in self.have
        )

    @property
    def unsynced(self) -> int:
        """Bytes that are written and not journalled: the cost of a kill."""
        with self._changed:
            return self._unsynced

    def reserve(self) -> None:
        """Reserve room on the disk for the missing blocks, once.

        Raises:
            DiskFull: the disk has no such room; nothing is lost.
            CannotSave: the disk fails.
        """
        with self._using():
            if not self._is_reserved:
                check_room(self._fd, self.announced.size - self.bytes_there, self._target.path)
                preallocate(self._fd, self.announced.size)
                self._is_reserved = True

    def write_block(self, index: int, data: bytes | bytearray | memoryview, digest: bytes) -> None:
        """Verify a block and write it, unless it is here.

        Raises:
            BlockCorrupt: it is not the announced one, or there is no such block; nothing is written.
            DiskFull, CannotSave: it is not written; nothing else is lost, and the call may be repeated.
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
                            reason = "the disk reports an error"
                            raise CannotSave(path=self._target.path, reason=reason)
                        self._table.put(index, BlockState.WRITTEN, digest)
                        self._fresh.append(index)
                        self._unsynced += len(view)
                finally:
                    with self._changed:
                        self._writing.discard(index)

    def sync(self) -> None:
        """Make durable what was written before this call, and journal it. Other threads may write meanwhile.

        Raises:
            DestinationGone: the folder of the job does not exist any more.
            DiskFull, CannotSave: it is not journalled, or the part was removed. After a failed sync, everything that
                was not journalled before is forgotten; look at `have` again.
        """
        with self._sync_lock, self._using():
            self._check_there()
            self._sync()

    def finish(self, root: bytes) -> Path:
        """Verify the root, and publish the file under its name or the first free numbered one; return its path.

        Raises:
            BlockCorrupt: a block is missing, and nothing is lost; or the root differs, and all is discarded.
            DiskFull, CannotSave: it is not published, and nothing is lost.
        """
        with self._sync_lock:
            with self._using():
                if self._table.there != self._table.count:
                    raise self._corrupt("blocks are missing")
                is_sound = root_of(self.announced.size, self._table.digests()) == root
                if is_sound:
                    path = self._publish(root)
            if is_sound:
                self._close()
                return path
        self.discard()
        raise self._corrupt("the digest of the whole file does not match its blocks")

    def suspend(self) -> None:
        """Keep the verified blocks that can be made durable, and close. May be called again."""
        with self._sync_lock:
            self._close(self._keep_verified)

    def discard(self) -> None:
        """Remove everything, and close. May be called again."""
        self._close(self._remove)

    def close(self) -> None:
        """Close, and leave everything as it is. May be called again."""
        self._close()

    def reverify(self, on_progress: Callable[[int, int], object], stop: Callable[[], bool]) -> None:
        """Hash the journalled blocks again, and keep those that match.

        Args:
            on_progress: called with the blocks that were hashed, and all of them.
            stop: called before each block.

        Raises:
            Stopped: `stop` returned True.
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
        except OSError:  # the data is durable all the same: it is journalled the next time
            with self._changed:
                self._fresh[:0] = blocks
            raise
        with self._forgetting():
            self._sync_journal()
        with self._changed:
            for index in blocks:
                self._table.move(index, BlockState.SYNCED)
                self._unsynced -= self._length(index)

    def _note(self, blocks: list[int]) -> None:
        if self._journal is None:
            name, origin = self._hidden + JOURNAL_SUFFIX, self._target.origin
            identity = identity_of(self._target.place, origin)
            remove_name(self._folder_fd, name)
            self._journal = PartJournal.create(
                self._folder_fd, name, identity, self.announced, origin.peer
            )
            self._is_journal_in_folder = False
        self._journal.write([(index, self._table.digest(index)) for index in blocks])

    def _sync_journal(self) -> None:
        assert self._journal is not None
        self._journal.sync()
        if not self._is_journal_in_folder:
            sync_folder(self._folder_fd)
            self._destination.sync_made()
            self._is_journal_in_folder = True

    def _keep_verified(self) -> None:
        """Make durable what is here, and remove the rest; no other thread uses the part any more."""
        with suppress(OSError):
            self._free_room()  # on a full disk, the journal may need some of it
            self._sync()
        with self._changed:
            self._forget_unsynced()
        if self._table.there:
            self._free_room()
        else:
            self._remove()

    def _free_room(self) -> None:
        """Give back all room of the part that no verified block needs."""
        self._is_reserved = False
        behind = 0
        for first, end in self.have:
            if first > behind:
                punch_hole(self._fd, behind * BLOCK_SIZE, (first - behind) * BLOCK_SIZE)
            behind = end
        os.ftruncate(self._fd, min(behind * BLOCK_SIZE, self.announced.size))

    def _forget_unsynced(self) -> None:
        """Count blocks that are not journalled as missing; call it with `_changed`."""
        for index in list(self._table.indexes(BlockState.WRITTEN)):
            self._table.move(index, BlockState.MISSING)
        self._fresh.clear()
        self._unsynced = 0

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """Forget everything that is not journalled if a sync in this block fails."""
        try:
            yield
        except OSError:
            with self._changed:
                self._failures += 1
                self._forget_unsynced()
            raise

    def _publish(self, root: bytes) -> Path:
        said, target = self.announced, self._target
        os.ftruncate(self._fd, said.size)  # also frees room reserved past the end
        set_attributes(self._fd, self._destination.umask, said.mtime_ns, executable=said.executable)
        with self._forgetting():
            os.fsync(self._fd)
        self._check_there()
        name = publish_durably(
            self._folder_fd,
            self._fd,
            self._hidden + PART_SUFFIX,
            target.path,
            overwrite=target.overwrite,
            number=target.place.number,
            replaces=target.replaces,
            sync_above=self._destination.sync_made,
        )
        with suppress(OSError):  # it is published, whatever becomes of the leftovers
            self._remove()
            file = WholeFile(target.place, target.origin, said, b"", (), root)
            self._destination.published([(file, name, os.fstat(self._fd))])
        return (path_of(self._folder_fd, target.path.parent) or target.path.parent) / name

    def _check_there(self) -> None:
        if not is_still(self._fd, self._folder_fd, self._hidden + PART_SUFFIX):
            self._destination.check()
            raise CannotSave(path=self._target.path, reason="somebody has removed its part")

    def _remove(self) -> None:
        remove_hidden(self._folder_fd, self._hidden)

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Keep the descriptors open during the block, and turn an `OSError` into a `CannotSave`."""
        with self._changed:
            if not self._open:  # they may belong to another file by now
                raise ValueError("the partial file is closed already")
            self._working += 1
        try:
            yield
        except OSError as error:
            needed = (self._table.count - self._table.there) * BLOCK_SIZE
            raise saving_error(error, self._fd, needed, self._target.path) from error
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
        return BlockCorrupt(path=self._target.path, reason=reason)
