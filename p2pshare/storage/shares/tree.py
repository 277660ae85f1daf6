"""All shares of a peer, as viewers see them.

A share is not found by viewers that it is not for: that is decided before anything is looked up, so neither the answer
nor its time reveals what exists.

An offer is mounted at the top-level name `@ID`, which no listing has: its recipients are told. Its files and folders
lie anywhere on this machine; below `@ID` each has its own name.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from p2pshare.storage.shares.arguments import SharedPath, Viewer
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
from p2pshare.storage.shares.offer_roots import OfferCount, OfferSurvey
from p2pshare.storage.shares.outgoing_files import OutgoingFile, WholeOutgoing, read_whole
from p2pshare.storage.shares.paths import (
    Here,
    Opened,
    Unavailable,
    faults,
    open_at,
    open_beneath,
    public_status,
    status_beneath,
)
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.offers.messages import MOUNT, mount_of
from p2pshare.wire.paths import RemotePath, component_fault
from p2pshare.wire.transfer_messages import PAGE_MAX, EntryKind, Fault, Omission, Omitted

__all__ = ["BATCH_BYTES_MAX", "ShareTree", "Unavailable"]

BATCH_BYTES_MAX = 4 * 1024 * 1024  # of small files that a batch reads
FOLDERS_MAX = 8  # that a batch keeps open

Roots = Mapping[str, SharedPath]
"""Files and folders by the name under which they are listed, in the order of the names."""


@dataclass(frozen=True, slots=True)
class _Mount:
    """An offer."""

    roots: Roots
    is_for: Callable[[Viewer], bool]


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
        self._shares = _by_name(shares)
        self._mounts: dict[str, _Mount] = {}
        self._cache = cache
        self._index = index
        self._wall_ns = wall_ns

    def show(self, shares: Iterable[SharedPath]) -> None:
        """Offer other shares from now on. Files that are open stay open."""
        self._shares = _by_name(shares)

    def mount(
        self, offer_id: str, roots: Iterable[SharedPath], is_for: Callable[[Viewer], bool]
    ) -> None:
        """Show an offer at `@ID`, or show it with other files.

        Args:
            offer_id: its ID.
            roots: with different names; who may see them is not their own business.
            is_for: whether a viewer is a recipient; called in any thread.
        """
        self._mounts[mount_of(offer_id)] = _Mount(_by_name(roots), is_for)

    def unmount(self, offer_id: str) -> None:
        """Stop showing an offer, if it is shown. Files that are open stay open."""
        self._mounts.pop(mount_of(offer_id), None)

    def list(
        self,
        viewer: Viewer,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        recursive: bool = False,
    ) -> Page:
        """Return a page of a folder; the top lists the shares that `viewer` may see.

        Args:
            viewer: the opener.
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
        if (roots := self._roots(viewer, path)) is not None:
            with closing(self._of_roots(roots, after, limit, recursive)) as found:
                return page_of(found, limit)
        shared, beneath = self._shared(viewer, path)
        opened = open_beneath(shared, beneath)
        try:
            if not opened.is_folder:
                raise Unavailable(Fault.IS_FILE)
            now_ns = self._wall_ns()
            walk = FolderWalk(shared, beneath, self._index, limit + 1, recursive, now_ns)
            with faults(), closing(walk.entries(opened, after)) as found:
                return page_of(found, limit)
        finally:
            os.close(opened.fd)

    def open_many(
        self, viewer: Viewer, paths: Sequence[RemotePath], bytes_max: int = BATCH_BYTES_MAX
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

    def is_shared(self, viewer: Viewer, path: RemotePath) -> bool:
        """Whether `viewer` may see the share or the offer that a path lies in; nothing is opened."""
        try:
            self._shared(viewer, path)
        except Unavailable as error:
            return error.why is Fault.IS_FOLDER
        return True

    def distrust(self, viewer: Viewer, path: RemotePath) -> None:
        """Drop the digests of a file that did not match them at `viewer`, so that it is hashed the next time.

        Raises:
            Unavailable: NOT_FOUND if it does not exist or is not for `viewer`.
        """
        self._cache.drop(_local(*self._shared(viewer, path)))

    def survey(self, name: str, stop: Callable[[], bool] = lambda: False) -> Survey:
        """Look for files and folders of a share that are not listed; `stop` is asked now and then whether to end early.

        Raises:
            Unavailable: BUSY: too many files are open.
        """
        survey = Survey()
        shared, now_ns = self._shares.get(name), self._wall_ns()
        if shared is None:  # it was removed meanwhile
            return survey
        with closing(_all_of(shared, self._index, (), PAGE_MAX, now_ns)) as found:
            for each in found:
                survey.add(each)
                if survey.looked_at >= SURVEY_MAX or stop():
                    survey.complete = False
                    break
        return survey

    def survey_offer(
        self, roots: Iterable[SharedPath], stop: Callable[[], bool] = lambda: False
    ) -> OfferSurvey:
        """Count what an offer of `roots` would contain, and what it leaves out; `stop` ends the count early.

        Raises:
            Unavailable: BUSY: too many files are open.
            WrongUsage: it has more files and folders than a receiver takes.
        """
        count = OfferCount()
        with closing(self._of_roots(_by_name(roots), (), PAGE_MAX, recursive=True)) as found:
            for each in found:
                count.add(each)
                if stop():
                    count.left_out.complete = False
                    break
        return count.result()

    def _open_one(
        self, viewer: Viewer, path: RemotePath, folders: _OpenFolders, bytes_max: int
    ) -> WholeOutgoing | OutgoingFile:
        (shared, beneath), now_ns = self._shared(viewer, path), self._wall_ns()
        whole = (shared.name, *beneath)  # as listings have it, so that both have one version
        opened = _file(folders.open(shared, beneath))
        if opened.status.st_size > min(BLOCK_SIZE, bytes_max):
            return OutgoingFile(whole, opened, self._cache, _local(shared, beneath), now_ns)
        try:
            with faults():
                return read_whole(whole, opened, now_ns)
        finally:
            os.close(opened.fd)

    def _roots(self, viewer: Viewer, path: RemotePath) -> Roots | None:
        """Return what the top or an offer shows to `viewer`; None if `path` is neither."""
        if not path:
            shares = self._shares
            return {name: each for name, each in shares.items() if each.is_for(viewer)}
        if not path[0].startswith(MOUNT):
            return None
        mount = self._mounts.get(path[0])
        if mount is None or not mount.is_for(viewer):
            raise Unavailable(Fault.NOT_FOUND)
        return mount.roots if len(path) == 1 else None

    def _shared(self, viewer: Viewer, path: RemotePath) -> tuple[SharedPath, RemotePath]:
        """Return the share, or the file or folder of an offer, of a path that `viewer` may see, and the path in it."""
        if self._roots(viewer, path) is not None:
            raise Unavailable(Fault.IS_FOLDER)
        if path[0].startswith(MOUNT):
            mount = self._mounts.get(path[0])
            shared = None if mount is None else mount.roots.get(path[1])
            path = path[1:]
        else:
            shared = self._shares.get(path[0])
            shared = shared if shared is not None and shared.is_for(viewer) else None
        if shared is None:
            raise Unavailable(Fault.NOT_FOUND)
        return shared, path[1:]

    def _of_roots(
        self, roots: Roots, after: RemotePath, limit: int, recursive: bool
    ) -> Generator[Listed, None, None]:
        first, rest = (after[0], after[1:]) if after else ("", ())
        now_ns = self._wall_ns()
        for name, shared in roots.items():
            if name < first:
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


def _by_name(shares: Iterable[SharedPath]) -> Roots:
    return {shared.name: shared for shared in sorted(shares, key=lambda each: each.name)}


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
        self._open: dict[tuple[object, ...], tuple[Here, SharedPath]] = {}  # the latest last

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
        for at, _ in self._open.values():
            os.close(at.fd)
        self._open.clear()

    def _folder(self, shared: SharedPath, components: RemotePath) -> Here:
        key = (id(shared), *components)  # shares may be replaced meanwhile
        found, _ = self._open.pop(key, (None, shared))
        if found is None:
            if len(self._open) >= self._folders_max:
                os.close(self._open.pop(next(iter(self._open)))[0].fd)
            opened = open_beneath(shared, components)
            if not opened.is_folder:
                os.close(opened.fd)
                raise Unavailable(Fault.NOT_FOUND)
            found = Here(opened.fd, opened.scope)
        self._open[key] = found, shared
        return found


def _local(shared: SharedPath, beneath: RemotePath) -> bytes:
    return os.fsencode(shared.path.joinpath(*beneath))


def _file(opened: Opened) -> Opened:
    """Return an open file; close a folder."""
    if opened.is_folder:
        os.close(opened.fd)
        raise Unavailable(Fault.IS_FOLDER)
    return opened
