"""All shares of a peer, as viewers see them.

A share is not found by viewers that it is not for: that is decided before anything is looked up, so neither the answer
nor its time reveals what exists.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.listing import (
    SURVEY_MAX,
    FolderWalk,
    Listed,
    Page,
    Survey,
    entry_of,
    page_of,
    prefixed,
)
from p2pshare.storage.shares.outgoing_files import OutgoingFile, WholeOutgoing, read_whole
from p2pshare.storage.shares.paths import (
    Opened,
    Unavailable,
    faults,
    open_at,
    open_beneath,
    public_status,
    status_beneath,
)
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.paths import RemotePath, component_fault
from p2pshare.wire.transfer_messages import PAGE_MAX, EntryKind, Fault, Omission, Omitted

__all__ = ["BATCH_BYTES_MAX", "ShareTree", "Unavailable"]

BATCH_BYTES_MAX = 4 * 1024 * 1024  # of small files that a batch reads
FOLDERS_MAX = 8  # that a batch keeps open


class ShareTree:
    """The shares of a peer. All calls block, and may come from several threads."""

    def __init__(
        self,
        shares: Sequence[SharedPath],
        cache: BlockCache,
        index: FolderIndex,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare some shares for their listings and files.

        Args:
            shares: with different names.
            cache: the digests of files that were sent before.
            index: reads large folders.
            wall_ns: nanoseconds since 1970, as the times of files have them.
        """
        self._shares = {
            shared.name: shared for shared in sorted(shares, key=lambda each: each.name)
        }
        self._cache = cache
        self._index = index
        self._wall_ns = wall_ns

    def list(
        self,
        viewer: str,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        recursive: bool = False,
    ) -> Page:
        """Return a page of a folder; the top lists the shares that `viewer` may see.

        Args:
            viewer: the name of the opener.
            path: the folder.
            after: the last entry of the page before, as `Entry.path`.
            limit: maximum number of entries; there are fewer if their paths are long.
            recursive: whether the content of folders follows them.

        Raises:
            Unavailable: NOT_FOUND if it does not exist or is not for `viewer`; IS_FILE; UNREADABLE; BUSY.
        """
        if any(map(component_fault, after)):
            raise Unavailable(Fault.NOT_FOUND)
        limit = max(1, limit)
        if not path:
            with closing(self._top(viewer, after, limit, recursive)) as found:
                return page_of(found, limit)
        shared = self._shared(viewer, path)
        opened = open_beneath(shared, path[1:])
        try:
            if not opened.is_folder:
                raise Unavailable(Fault.IS_FILE)
            now_ns = self._wall_ns()
            walk = FolderWalk(shared, path[1:], self._index, limit + 1, recursive, now_ns)
            with faults(), closing(walk.entries(opened, after)) as found:
                return page_of(found, limit)
        finally:
            os.close(opened.fd)

    def open_many(
        self, viewer: str, paths: Sequence[RemotePath], bytes_max: int = BATCH_BYTES_MAX
    ) -> tuple[WholeOutgoing | OutgoingFile | Unavailable, ...]:
        """Open files; read and close those of at most one block, until `bytes_max` bytes were read.

        A folder is opened once for all files of it in a row, so one call is faster than several.

        Returns:
            A result for each path. `Unavailable` has the reasons of `list`, and IS_FOLDER. The caller closes each
                `OutgoingFile`.
        """
        found: list[WholeOutgoing | OutgoingFile | Unavailable] = []
        folders = _OpenFolders(FOLDERS_MAX)
        try:
            for path in paths:
                try:
                    opened = self._open_one(viewer, path, folders, bytes_max)
                except Unavailable as error:
                    found.append(
                        Unavailable(error.why)
                    )  # without the traceback, which would keep frames alive
                    continue
                if isinstance(opened, WholeOutgoing):
                    bytes_max -= opened.size
                found.append(opened)
        except BaseException:
            for each in found:
                if isinstance(each, OutgoingFile):
                    each.close()
            raise
        finally:
            folders.close()
        return tuple(found)

    def distrust(self, viewer: str, path: RemotePath) -> None:
        """Drop the digests of a file that did not match them at `viewer`, so that it is hashed the next time.

        Raises:
            Unavailable: NOT_FOUND if it does not exist or is not for `viewer`.
        """
        self._cache.drop(_local(self._shared(viewer, path), path))

    def survey(self, name: str, stop: Callable[[], bool] = lambda: False) -> Survey:
        """Look for files and folders of a share that are not listed; `stop` is asked now and then whether to end early.

        Raises:
            Unavailable: BUSY: too many files are open.
        """
        survey = Survey()
        shared, now_ns = self._shares[name], self._wall_ns()
        with closing(_all_of(shared, self._index, (), PAGE_MAX, now_ns)) as found:
            for each in found:
                survey.add(each)
                if survey.looked_at >= SURVEY_MAX or stop():
                    survey.complete = False
                    break
        return survey

    def _open_one(
        self, viewer: str, path: RemotePath, folders: _OpenFolders, bytes_max: int
    ) -> WholeOutgoing | OutgoingFile:
        shared, now_ns = self._shared(viewer, path), self._wall_ns()
        opened = _file(folders.open(shared, path[1:]))
        if opened.status.st_size > min(BLOCK_SIZE, bytes_max):
            return OutgoingFile(path, opened, self._cache, _local(shared, path), now_ns)
        try:
            with faults():
                return read_whole(path, opened, now_ns)
        finally:
            os.close(opened.fd)

    def _shared(self, viewer: str, path: RemotePath) -> SharedPath:
        """Return the share of a path, if `viewer` may see it."""
        if not path:
            raise Unavailable(Fault.IS_FOLDER)
        shared = self._shares.get(path[0])
        if shared is None or not _may_see(viewer, shared):
            raise Unavailable(Fault.NOT_FOUND)
        return shared

    def _top(
        self, viewer: str, after: RemotePath, limit: int, recursive: bool
    ) -> Generator[Listed, None, None]:
        first, rest = (after[0], after[1:]) if after else ("", ())
        now_ns = self._wall_ns()
        for name, shared in self._shares.items():
            if name < first or not _may_see(viewer, shared):
                continue
            try:
                entry = entry_of((name,), (name,), status_beneath(shared, ()), now_ns)
            except Unavailable as error:
                yield Omission((name,), _why_away(error))  # it may reappear
                continue
            if name != first:
                yield entry
            if recursive and entry.kind is EntryKind.FOLDER:
                below = rest if name == first else ()
                yield from prefixed(name, _all_of(shared, self._index, below, limit, now_ns))


def _all_of(
    shared: SharedPath, index: FolderIndex, after: RemotePath, limit: int, now_ns: int
) -> Generator[Listed, None, None]:
    """Yield the content of a share, or the reason why it cannot be listed as an omission of the share."""
    try:
        with faults():
            opened = open_beneath(shared, ())
            try:
                if opened.is_folder:
                    walk = FolderWalk(shared, (), index, limit + 1, True, now_ns)
                    yield from walk.entries(opened, after)
            finally:
                os.close(opened.fd)
    except Unavailable as error:
        yield Omission((), _why_away(error))


def _why_away(error: Unavailable) -> Omitted:
    if error.why is Fault.BUSY:
        raise error
    return Omitted.UNREADABLE if error.why is Fault.UNREADABLE else Omitted.GONE


class _OpenFolders:
    """The folders of the files that were opened last in a batch."""

    def __init__(self, folders_max: int) -> None:
        self._folders_max = folders_max
        self._open: dict[tuple[str, ...], int] = {}  # the latest last

    def open(self, shared: SharedPath, components: RemotePath) -> Opened:
        """Open a file or folder, as `open_beneath` does."""
        if not components:
            return open_beneath(shared, ())
        *above, name = components
        with faults():
            folder = self._folder(shared, tuple(above))
            status = public_status(folder, name)
            if not stat.S_ISLNK(status.st_mode):
                return open_at(shared, folder, name, status)
        return open_beneath(shared, components)

    def close(self) -> None:
        """Close all of them."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _folder(self, shared: SharedPath, components: RemotePath) -> int:
        key = (shared.name, *components)
        fd = self._open.pop(key, None)
        if fd is None:
            if len(self._open) >= self._folders_max:
                os.close(self._open.pop(next(iter(self._open))))
            opened = open_beneath(shared, components)
            if not opened.is_folder:
                os.close(opened.fd)
                raise Unavailable(Fault.NOT_FOUND)
            fd = opened.fd
        self._open[key] = fd
        return fd


def _may_see(viewer: str, shared: SharedPath) -> bool:
    return shared.is_for(viewer)


def _local(shared: SharedPath, path: RemotePath) -> bytes:
    return os.fsencode(shared.path.joinpath(*path[1:]))


def _file(opened: Opened) -> Opened:
    """Return an open file; close a folder."""
    if opened.is_folder:
        os.close(opened.fd)
        raise Unavailable(Fault.IS_FOLDER)
    return opened
