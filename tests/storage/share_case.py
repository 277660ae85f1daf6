"""A folder with shared and private files, for the tests of shares."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.file_times import TICK
from p2pshare.storage.shares.arguments import SharedPath, Viewer
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.outgoing_files import OutgoingFile
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import PAGE_MAX, Entry, Fault, Omitted

OLD = 1_600_000_000_123_456_789  # nanoseconds since 1970: nothing was changed just now


def a_bit_later() -> int:
    """Return a time in nanoseconds at which files that have just changed are settled."""
    return time.time_ns() + 2 * TICK


def viewer_of(name: str) -> Viewer:
    """Return the viewer of a name, with a key of its own."""
    return Viewer(name, PublicKey(name.encode().ljust(KEY_SIZE, b"-")))


def opened(tree: ShareTree, name: str, path: RemotePath) -> OutgoingFile:
    """Open one file, however small, to be read block by block."""
    (found,) = tree.open_many(viewer_of(name), [path], bytes_max=-1)
    if isinstance(found, Unavailable):
        raise found
    assert isinstance(found, OutgoingFile)
    return found


class ShareTestCase(SynchronousTestCase):
    """A folder `shared` that everybody sees as `s`, and private files beside it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.root = self.folder / "shared"
        self.root.mkdir(parents=True)
        self.cache = BlockCache(self.folder / "hashes.sqlite", wall_ns=a_bit_later)
        self.addCleanup(self.cache.close)
        self.index = FolderIndex(self.folder / "folders")
        self.tree = self.share(SharedPath("s", self.root))

    def share(self, *shares: SharedPath) -> ShareTree:
        return ShareTree(shares, self.cache, self.index, a_bit_later)

    def open(self, name: str, path: RemotePath) -> OutgoingFile:
        """Open one file, however small, to be read block by block."""
        return opened(self.tree, name, path)

    def write(self, path: str, data: bytes = b"public", mtime_ns: int = OLD) -> Path:
        """A file beneath the share's root, or beside it by `../`."""
        written = self.root / path
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_bytes(data)
        os.utime(written, ns=(mtime_ns, mtime_ns))
        return written

    def listed(
        self,
        name: str,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        recursive: bool = False,
    ) -> tuple[tuple[Entry, ...], bool]:
        """Return the entries of a page, and whether there is another one."""
        page = self.tree.list(viewer_of(name), path, after, limit, recursive)
        return page.entries, page.more

    def omitted(
        self, *path: str, viewer: str = "bob", recursive: bool = True
    ) -> dict[str, Omitted]:
        """Return what a listing of one page leaves out, and why."""
        page = self.tree.list(viewer_of(viewer), path, recursive=recursive)
        self.assertEqual((page.more, page.unnamed), (False, 0))
        return {"/".join(each.path): each.why for each in page.omitted}

    def names(self, *path: str, viewer: str = "bob", recursive: bool = False) -> list[str]:
        """Return the paths that are listed beneath a path."""
        entries, more = self.listed(viewer, path, recursive=recursive)
        self.assertFalse(more)
        return ["/".join(entry.path) for entry in entries]

    def all_entries(self, path: RemotePath, limit: int, *, recursive: bool) -> list[Entry]:
        """All pages."""
        found: list[Entry] = []
        more = True
        while more:
            after = found[-1].path if found else ()
            page, more = self.listed("bob", path, after, limit, recursive)
            self.assertLessEqual(len(page), limit)
            found += page
        return found

    def content(self, *path: str, viewer: str = "bob") -> bytes:
        """Return the content of a path, which is the same for reading it at once or block by block."""
        opened = self.open(viewer, path)
        self.addCleanup(opened.close)
        data = b"".join(opened.read_block(index)[0] for index in range(-(-opened.size // 2**20)))
        (whole,) = self.tree.open_many(viewer_of(viewer), [path])
        assert not isinstance(whole, Unavailable)
        if isinstance(whole, OutgoingFile):
            whole.close()
        else:
            self.assertEqual((whole.data, whole.root), (data, opened.finish()))
        self.assertEqual((whole.size, whole.version), (opened.size, opened.version))
        return data

    def fault(self, work: Callable[..., object], *arguments: object) -> Fault:
        """Return why something is unavailable."""
        try:
            work(*arguments)
        except Unavailable as error:
            return error.why
        raise self.failureException(f"{arguments} is to be had")

    def open_fault(self, *path: str, viewer: str = "bob") -> Fault:
        """Return why a path cannot be opened, which is the same for reading it at once or block by block."""
        (found,) = self.tree.open_many(viewer_of(viewer), [path])
        assert isinstance(found, Unavailable)
        self.assertEqual(self.fault(self.open, viewer, path), found.why)
        return found.why
