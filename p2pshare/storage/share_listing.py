"""Pages of folders that are shared, in the order of the names' code points.

There is nothing to remember between two pages: the next one begins at the path that was the last of the one before,
whether that is still there or not. In a recursive listing, a folder comes before what is in it. A folder that is
reached by a link is listed, but not walked into: its content is in the share under its own name, and so no loop goes on
for ever. A folder that we may not read is listed without what is in it. What lies too deep to be asked for is left out.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Generator, Iterable
from dataclasses import replace

from p2pshare.storage.file_times import wire_time
from p2pshare.storage.folder_index import FolderIndex
from p2pshare.storage.share_arguments import SharedPath
from p2pshare.storage.share_paths import (
    is_private,
    open_at,
    public_status,
    skipping,
    status_beneath,
)
from p2pshare.wire.paths import RemotePath, format_path, is_within_bounds
from p2pshare.wire.transfer_messages import PAGE_BYTES_MAX, Entry, EntryKind


class FolderWalk:
    """What can be listed of one folder of a share."""

    def __init__(
        self,
        shared: SharedPath,
        beneath: RemotePath,
        index: FolderIndex,
        count: int,
        recursive: bool,
    ) -> None:
        """Prepare a walk.

        Args:
            shared: the share.
            beneath: the folder's path from the share's root on.
            index: reads large folders.
            count: entries that will be wanted.
            recursive: whether what is in folders follows them.
        """
        self._shared = shared
        self._beneath = beneath
        self._index = index
        self._count = count
        self._recursive = recursive

    def entries(
        self, folder: int, after: RemotePath, within: RemotePath = ()
    ) -> Generator[Entry, None, None]:
        """What comes after `after`, from the open folder on, looked up as it is asked for.

        Args:
            folder: the descriptor of the folder; it stays open.
            after: Unicode text in its components; nothing: from the first entry on.
            within: the folder's path from that on which is listed.

        Raises:
            OSError: the folder cannot be read.
        """
        beyond, more = "", True
        if after:
            beyond = after[0]
            yield from self._descend(folder, within, beyond, after[1:])
        while more:
            names, more = self._index.names(folder, beyond, self._count)
            for name in names:
                entry = self._entry(folder, within, name)
                if entry is not None:
                    yield entry
                    if entry.kind is EntryKind.FOLDER:
                        yield from self._descend(folder, within, name, ())
            beyond = names[-1] if names else beyond

    def _descend(
        self, folder: int, within: RemotePath, name: str, after: RemotePath
    ) -> Generator[Entry, None, None]:
        """What is in a folder of the folder, if that is one that is walked into and can be read."""
        if not self._recursive:
            return
        with skipping():
            status = public_status(folder, name)
            if not stat.S_ISDIR(status.st_mode):
                return
            opened = open_at(self._shared, folder, name, status)
            try:
                yield from self.entries(opened.fd, after, (*within, name))
            finally:
                os.close(opened.fd)

    def _entry(self, folder: int, within: RemotePath, name: str) -> Entry | None:
        path = (*within, name)
        with skipping():
            status = public_status(folder, name)
            if stat.S_ISLNK(status.st_mode):
                status = status_beneath(self._shared, (*self._beneath, *path))
            if not is_private(self._shared, status) and is_within_bounds(
                (self._shared.name, *self._beneath, *path)
            ):
                return entry_of(path, status)
        return None


def entry_of(path: RemotePath, status: os.stat_result) -> Entry:
    """The entry of a file or folder."""
    is_folder = stat.S_ISDIR(status.st_mode)
    return Entry(
        path,
        EntryKind.FOLDER if is_folder else EntryKind.FILE,
        0 if is_folder else status.st_size,
        wire_time(status.st_mtime_ns),
    )


def page_of(
    entries: Iterable[Entry], limit: int, bytes_max: int = PAGE_BYTES_MAX
) -> tuple[tuple[Entry, ...], bool]:
    """The first entries, and whether there are more.

    Args:
        entries: one at least is taken.
        limit: entries in the page.
        bytes_max: of their paths, as they are written in a message.
    """
    page: list[Entry] = []
    size = 0
    for entry in entries:
        size += _written_size(entry.path)
        if page and (len(page) >= limit or size > bytes_max):
            return tuple(page), True
        page.append(entry)
    return tuple(page), False


def prefixed(name: str, entries: Iterable[Entry]) -> Generator[Entry, None, None]:
    """The same, seen from one folder above."""
    for entry in entries:
        yield replace(entry, path=(name, *entry.path))


def _written_size(path: RemotePath) -> int:
    text = format_path(path)
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return len(text)
    return len(json.dumps(text, ensure_ascii=False).encode())  # control characters are written out
