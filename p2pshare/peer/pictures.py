"""The pictures that are being shared: each decoded once, for all transfers that need it at the time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.pictures.decoding import fit_width, read_picture
from p2pshare.storage.share import FileIdentity, OpenedFile
from p2pshare.wire.classic import Pixels


@dataclass(slots=True)
class _Decoded:
    pixels: Deferred[Pixels]
    users: int = 0


class SharedPictures:
    """Decodes pictures off the reactor's thread, and keeps each for as long as a transfer uses it."""

    _log = Logger()

    def __init__(self, reactor: IPeerReactor) -> None:
        self._reactor = reactor
        self._decoded: dict[tuple[FileIdentity, int], _Decoded] = {}

    @asynccontextmanager
    async def pixels(self, opened: OpenedFile, width_max: int) -> AsyncIterator[Pixels]:
        """The pixels of an open file, no wider than `width_max`.

        Raises:
            PictureUnreadable: it is no picture that can be shared.
        """
        key = opened.identity, width_max
        if (decoded := self._decoded.get(key)) is None:
            decoding = run_in_thread(self._reactor, self._decode, opened, width_max)
            decoded = self._decoded[key] = _Decoded(decoding)
        decoded.users += 1
        try:
            yield await _result_of(decoded.pixels)
        finally:
            decoded.users -= 1
            if not decoded.users:
                del self._decoded[key]
                decoded.pixels.addErrback(lambda _: None)  # whoever waited has heard of it

    def _decode(self, opened: OpenedFile, width_max: int) -> Pixels:
        pixels = read_picture(opened.file, name=str(opened.path))
        narrow = fit_width(pixels, width_max)
        if narrow is not pixels:
            self._log.info(
                "{path} is {width} pixels wide: scaled down to {width_max} for this requester",
                path=str(opened.path),
                width=pixels.shape[1],
                width_max=width_max,
            )
        return narrow


def _result_of(shared: Deferred[Pixels]) -> Deferred[Pixels]:
    """A Deferred of one's own for the result of one that others wait for, too."""
    own: Deferred[Pixels] = Deferred()

    def pass_on(result: object) -> object:
        if not own.called:
            own.callback(result)  # type: ignore[arg-type]
        return result

    shared.addBoth(pass_on)
    return own
