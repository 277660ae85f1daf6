"""Previews of shared pictures: made at the first request, kept in memory, and sent like a file of one block.

The permission comes first: the file is opened for the viewer, as for any `get`, before the cache is looked at. So a
viewer who may not see a file learns nothing, not even whether somebody else has asked for its preview.

Pictures are decoded in a few threads. Of a JPEG a small part is decoded, so several fit into memory at once; a large
picture of another format takes hundreds of MB for a moment, and is decoded alone (`PixelRoom`). One decoding makes the
previews of all smaller edges, too. A result is kept for the version of its file; that there is no picture is a result,
too. The memory has a bound in bytes and in entries, and drops the one that was used least recently. Pictures are also
kept in a database (`storage.shares.thumbnail_cache`), for the next viewer of a large folder, and for the next start.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from p2pshare.errors import PictureUnreadable
from p2pshare.net.threads import FairLimit
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.storage.shares.outgoing_files import OutgoingFile, WholeOutgoing
from p2pshare.storage.shares.thumbnail_cache import ThumbnailCache
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import PREVIEW_EDGES, Fault

KEPT_BYTES = 64 * 1024 * 1024  # of all previews in memory
KEPT_MAX = 16_384  # previews in memory, including files that have none
AT_ONCE_MAX = 4  # previews that are made at once, on a machine with as many cores: threads must be left for files

_Picture = tuple[RemotePath, str]
"""The path and version of a file."""
_Key = tuple[RemotePath, str, int]
"""The same, and the longest edge of the preview in pixels."""


class Previews:
    """The previews of the pictures in some shares. All calls block, and may come from several threads."""

    def __init__(
        self,
        tree: ShareTree,
        cache: ThumbnailCache | None = None,
        *,
        kept_bytes: int = KEPT_BYTES,
        kept_max: int = KEPT_MAX,
    ) -> None:
        """Make previews of what is in `tree`, and keep them in `cache` as well."""
        self._tree = tree
        self._cache = cache or ThumbnailCache(None)
        self._kept_bytes = kept_bytes
        self._kept_max = kept_max
        self._kept: OrderedDict[_Key, bytes] = (
            OrderedDict()
        )  # the latest last; empty for no picture
        self._bytes = 0
        self._lock = threading.Lock()  # of the cache
        self._decoding: set[_Picture] = set()
        self._decoded = threading.Condition()
        self._room: Any = None  # a `PixelRoom`, once a picture was wanted
        at_once = min(AT_ONCE_MAX, os.cpu_count() or 1)
        self.limit = FairLimit(at_once, at_once)
        """Bounds the threads that make previews."""

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
            with self._alone(key[:2]):
                data = self._find(key)  # another thread may have made it meanwhile
                if data is None:
                    data = self._cache.find(file.version, edge)
                    if data is not None:
                        self._keep(key, data)
                        return data
                    made = self._made(file, edge)
                    data = made[edge]
                    for each, made_of_it in sorted(made.items()):
                        self._keep((file.path, file.version, each), made_of_it)
                    self._cache.store(file.version, made)
        return data

    def _made(self, file: OutgoingFile, edge: int) -> dict[int, bytes]:
        """Return new previews with this edge and all smaller ones; they are empty if the file is no picture."""
        from p2pshare.pictures.reduced import PixelRoom  # Pillow takes its time
        from p2pshare.pictures.thumbnails import make_thumbnails

        with self._lock:
            self._room = self._room or PixelRoom()
        edges = [each for each in PREVIEW_EDGES if each <= edge]
        try:
            with file.stream() as stream:
                return make_thumbnails(stream, edges, room=self._room.hold)
        except PictureUnreadable:
            return dict.fromkeys(edges, b"")

    @contextmanager
    def _alone(self, picture: _Picture) -> Iterator[None]:
        """Wait until no other thread decodes this picture."""
        with self._decoded:
            self._decoded.wait_for(lambda: picture not in self._decoding)
            self._decoding.add(picture)
        try:
            yield
        finally:
            with self._decoded:
                self._decoding.remove(picture)
                self._decoded.notify_all()

    def _find(self, key: _Key) -> bytes | None:
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    def _keep(self, key: _Key, data: bytes) -> None:
        with self._lock:
            self._bytes += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._bytes > self._kept_bytes or len(self._kept) > self._kept_max:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped)
