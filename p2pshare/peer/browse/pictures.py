"""Previews of other peers' pictures, for a page that shows many of them: kept, shared, and checked.

The sharer makes a preview (`peer.share.previews`), and checks the permission. A preview that is kept here was shown to
this user. It is kept by the version of the picture, so a page that knows the version from a listing asks the sharer
once. That a file has no preview is kept, too: a folder may be full of files that only look like pictures.

The bytes come from a stranger. Only a JPEG whose header announces no more pixels than were asked for is passed on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, TimeoutError

from p2pshare.errors import RemoteBusy, RemoteNoPreview
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.peer.browse.sessions import RemoteSessions
from p2pshare.peer.fetch.unsaved.preview import fetch_preview
from p2pshare.pictures.jpeg_header import jpeg_size
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import PREVIEW_EDGES

KEPT_BYTES = 32 * 1024 * 1024  # of all previews that are kept
KEPT_MAX = 16_384  # previews that are kept, with the files that have none
FETCH_MAX = 60.0  # seconds in which a preview must come
OVERHEAD = 256  # bytes that each of them counts besides its own and those of its path

_Key = tuple[str, RemotePath, int]
"""The peer, the path of the picture, and the longest edge of the preview in pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A preview."""

    data: bytes
    """A JPEG; empty if there is none."""
    version: str
    """The version of the picture that it shows."""


@dataclass(slots=True)
class _Asked:
    """A question that is under way, and the number of those who wait for its answer."""

    answer: SharedAnswer[Picture]
    callers: int = 0


class RemotePictures:
    """The previews that a user looks at."""

    def __init__(
        self,
        sessions: RemoteSessions,
        *,
        kept_bytes: int = KEPT_BYTES,
        kept_max: int = KEPT_MAX,
    ) -> None:
        """Ask over `sessions`."""
        self._sessions = sessions
        self._kept_bytes = kept_bytes
        self._kept_max = kept_max
        self._kept: OrderedDict[_Key, Picture] = OrderedDict()  # the latest last
        self._bytes = 0
        self._asked: dict[tuple[_Key, str], _Asked] = {}
        self.on_bytes: Callable[[int], object] = lambda _: None
        """Called with the number of bytes of previews that have arrived."""

    async def preview(self, peer: str, path: RemotePath, edge: int, version: str = "") -> Picture:
        """Return a preview of a picture.

        Args:
            peer: the name of the sharer.
            path: of the picture.
            edge: the longest edge in pixels, one of `PREVIEW_EDGES`.
            version: of the picture, as far as it is known; a preview of it that is kept is returned then.

        Raises:
            RemoteNoPreview: the file is no picture, or what came is no preview.
            P2pshareError: the peer cannot be found, reached or trusted, or does not send it.
        """
        if edge not in PREVIEW_EDGES:
            raise RemoteNoPreview(name=peer, path=format_path(path))
        key = peer, path, edge
        found = self._kept.get(key)
        if found is not None and version and found.version == version:
            self._kept.move_to_end(key)
        else:
            found = await self._ask(key, version)
        if not found.data:
            raise RemoteNoPreview(name=peer, path=format_path(path))
        return found

    def stop(self) -> None:
        """Cancel all questions. May be called again."""
        for each in list(self._asked.values()):
            each.answer.cancel()

    async def _ask(self, key: _Key, version: str) -> Picture:
        """Ask the sharer, once for all who want to know the same.

        When the last of them gives up, the question is withdrawn: who scrolls on leaves a hundred pictures behind.
        """
        question = key, version
        asked = self._asked.get(question)
        if asked is None:
            answer = SharedAnswer(Deferred.fromCoroutine(self._fetch(key, version)))
            asked = self._asked[question] = _Asked(answer)
        asked.callers += 1
        try:
            return await asked.answer.wait()
        finally:
            asked.callers -= 1
            if not asked.callers:
                self._asked.pop(question, None)
                if asked.answer.is_open:
                    asked.answer.cancel()

    async def _fetch(self, key: _Key, version: str) -> Picture:
        peer, path, edge = key
        async with self._sessions.use(peer) as session:
            await session.previews.acquire()
            fetching = Deferred.fromCoroutine(fetch_preview(session.remote, path, edge))
            try:
                fetched = await fetching.addTimeout(FETCH_MAX, self._sessions.reactor)
            except RemoteNoPreview:
                return self._keep(key, Picture(b"", version))
            except TimeoutError:
                raise RemoteBusy(name=peer, path=format_path(path)) from None
            finally:
                session.previews.release()
            session.remote.done([fetched.number])
        self.on_bytes(len(fetched.data))
        size = jpeg_size(fetched.data)
        is_preview = size is not None and max(size) <= edge
        return self._keep(key, Picture(fetched.data if is_preview else b"", fetched.version))

    def _keep(self, key: _Key, picture: Picture) -> Picture:
        """Keep what is known of a version; forget what was used least recently if that is too much."""
        if picture.version:
            self._forget(key)
            self._kept[key] = picture
            self._bytes += _size(key, picture)
            while self._bytes > self._kept_bytes or len(self._kept) > self._kept_max:
                self._forget(next(iter(self._kept)))
        return picture

    def _forget(self, key: _Key) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._bytes -= _size(key, dropped)


def _size(key: _Key, picture: Picture) -> int:
    """Return the bytes that a preview counts."""
    return len(picture.data) + sum(map(len, key[1])) + OVERHEAD
