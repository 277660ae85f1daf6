"""Previews of shared pictures: made at the first request, kept in memory, and sent like a file of one block.

The permission comes first: the file is opened for the viewer, as for any `get`, before the cache is looked at. So a
viewer who may not see a file learns nothing, not even whether somebody else has asked for its preview.

Pictures are decoded one at a time, since a large one takes hundreds of MB for a moment. A result is kept for the
version of its file; that there is no picture is a result, too. The cache has a bound in bytes and in entries, and drops
the one that was used least recently.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from p2pshare.errors import PictureUnreadable
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.storage.shares.outgoing_files import OutgoingFile, WholeOutgoing
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import PREVIEW_EDGES, Fault

KEPT_BYTES = 16 * 1024 * 1024  # of all previews in memory
KEPT_MAX = 4096  # previews in memory, including files that have none

_Key = tuple[RemotePath, str, int]
"""The path and version of a file, and the longest edge of the preview in pixels."""


class Previews:
    """The previews of the pictures in some shares. All calls block, and may come from several threads."""

    def __init__(
        self, tree: ShareTree, *, kept_bytes: int = KEPT_BYTES, kept_max: int = KEPT_MAX
    ) -> None:
        self._tree = tree
        self._kept_bytes = kept_bytes
        self._kept_max = kept_max
        self._kept: OrderedDict[_Key, bytes] = (
            OrderedDict()
        )  # the latest last; empty for no picture
        self._bytes = 0
        self._lock = threading.Lock()  # of the cache
        self._decoding = threading.Lock()

    def open(self, viewer: Viewer, path: RemotePath, edge: int) -> WholeOutgoing:
        """Return a preview as a file, with the time and the version of the picture.

        Args:
            viewer: the opener.
            path: of the picture.
            edge: the longest edge in pixels.

        Raises:
            Unavailable: as for a `get` of the picture; NO_PREVIEW if it is no picture that can be decoded, or `edge` is
                not one of `PREVIEW_EDGES`.
        """
        (file,) = self._tree.open_many(viewer, [path], bytes_max=-1)
        if isinstance(file, Unavailable):
            raise file
        assert isinstance(file, OutgoingFile), "no file is read at once"
        try:
            data = self._preview(file, edge) if edge in PREVIEW_EDGES else b""
            if not data:
                raise Unavailable(Fault.NO_PREVIEW)
            digest = digest_of(data)
            root = root_of(len(data), (digest,))
            return WholeOutgoing(
                path, len(data), file.mtime_ns, False, file.version, data, digest, root
            )
        finally:
            file.close()

    def _preview(self, file: OutgoingFile, edge: int) -> bytes:
        key = file.path, file.version, edge
        data = self._find(key)
        if data is None:
            with self._decoding:
                data = self._find(key)  # another thread may have made it meanwhile
                if data is None:
                    data = _made(file, edge)
                    self._keep(key, data)
        return data

    def _find(self, key: _Key) -> bytes | None:
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    def _keep(self, key: _Key, data: bytes) -> None:
        with self._lock:
            self._kept[key] = data
            self._bytes += len(data)
            while self._bytes > self._kept_bytes or len(self._kept) > self._kept_max:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped)


def _made(file: OutgoingFile, edge: int) -> bytes:
    """Return a new preview; empty if the file is no picture."""
    from p2pshare.pictures.thumbnails import make_thumbnail  # Pillow and numpy take their time

    try:
        with file.stream() as stream:
            return make_thumbnail(stream, edge)
    except PictureUnreadable:
        return b""
