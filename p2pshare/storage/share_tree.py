"""All that a peer shares, as those who fetch see it."""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.storage.block_cache import BlockCache
from p2pshare.storage.folder_index import FolderIndex
from p2pshare.storage.outgoing_file import OutgoingFile, WholeOutgoing
from p2pshare.storage.share_arguments import SharedPath
from p2pshare.storage.share_paths import Unavailable
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import PAGE_MAX, Entry

__all__ = ["BATCH_BYTES_MAX", "ShareTree", "Unavailable"]

BATCH_BYTES_MAX = 4 * 1024 * 1024  # of small files that `open_many` reads


class ShareTree:
    """The shares of a peer. All calls block, and may come from several threads."""

    def __init__(self, shares: Sequence[SharedPath], cache: BlockCache, index: FolderIndex) -> None:
        raise NotImplementedError

    def list(
        self,
        viewer: str,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        recursive: bool = False,
    ) -> tuple[tuple[Entry, ...], bool]:
        """A page of a folder, and whether there is more; the top lists the shares that `viewer` may see.

        Raises:
            Unavailable: NOT_FOUND, whether there is none or it is not for `viewer`; IS_FILE; UNREADABLE.
        """
        raise NotImplementedError

    def open(self, viewer: str, path: RemotePath) -> OutgoingFile:
        """Open a file, to be closed by the caller.

        Raises:
            Unavailable: NOT_FOUND, whether there is none or it is not for `viewer`; IS_FOLDER; UNREADABLE; BUSY: too
                many files are open.
        """
        raise NotImplementedError

    def open_many(
        self, viewer: str, paths: Sequence[RemotePath], bytes_max: int = BATCH_BYTES_MAX
    ) -> tuple[WholeOutgoing | OutgoingFile | Unavailable, ...]:
        """Open files, in one go; those of one block or less are read and closed, until `bytes_max` bytes were read.

        Returns:
            For each path what came of it; each `OutgoingFile` is to be closed by the caller.
        """
        raise NotImplementedError
