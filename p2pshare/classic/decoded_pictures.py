"""Decoded pictures: each is decoded once for all transfers that need it, and freed after the last of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from p2pshare.classic.datagrams import ROWS_MAX
from p2pshare.classic.shared_files import FileIdentity, OpenedFile
from p2pshare.errors import PictureUnreadable
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.pictures.decoding import fit_width, read_picture
from p2pshare.pictures.pixels import Pixels

_Key = tuple[FileIdentity, int | None]
"""A file, and the width to which its picture is scaled down; None for the original width."""


@dataclass(slots=True)
class _Work:
    pixels: SharedAnswer[Pixels]
    users: int = 0


class DecodedPictures:
    """Pictures in memory, decoded in threads and kept for as long as a transfer uses them."""

    _log = Logger()

    def __init__(self, reactor: IPeerReactor) -> None:
        self._reactor = reactor
        self._work: dict[_Key, _Work] = {}

    @asynccontextmanager
    async def pixels(self, opened: OpenedFile, width_max: int) -> AsyncIterator[Pixels]:
        """Return the pixels of a file, no wider than `width_max`; this closes the file.

        Raises:
            PictureUnreadable: it is not a picture that can be shared.
        """
        identity, path = opened.identity, str(opened.path)
        if (identity, None) in self._work:
            opened.file.close()
        async with self._shared(
            (identity, None), lambda: run_in_thread(self._reactor, _read_and_close, opened)
        ) as whole:
            if whole.shape[1] <= width_max:
                yield whole
                return
            async with self._shared(
                (identity, width_max), lambda: self._scale_down(whole, width_max, path)
            ) as narrow:
                yield narrow

    @asynccontextmanager
    async def _shared(
        self, key: _Key, begin: Callable[[], Deferred[Pixels]]
    ) -> AsyncIterator[Pixels]:
        """Return the result of work that is done once for all callers that need it at the same time."""
        if (work := self._work.get(key)) is None:
            work = self._work[key] = _Work(SharedAnswer(begin()))
        work.users += 1
        try:
            yield await work.pixels.wait()
        finally:
            work.users -= 1
            if not work.users:
                del self._work[key]

    def _scale_down(self, whole: Pixels, width_max: int, path: str) -> Deferred[Pixels]:
        self._log.info(
            "picture scaled down: path={path} from_width={width} to_width={width_max}",
            path=path,
            width=whole.shape[1],
            width_max=width_max,
        )
        return run_in_thread(self._reactor, fit_width, whole, width_max)


def _read_and_close(opened: OpenedFile) -> Pixels:
    with opened.file:
        pixels = read_picture(opened.file, name=str(opened.path))
    if pixels.shape[0] > ROWS_MAX:
        raise PictureUnreadable(path=opened.path, reason=f"it has more than {ROWS_MAX} rows.")
    return pixels
