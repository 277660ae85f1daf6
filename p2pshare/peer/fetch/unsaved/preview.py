"""A preview of a picture: fetched like a small file, verified, and kept in memory."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.errors import SharerLied
from p2pshare.peer.fetch.job_parts import BUSY_DELAY, TRIES_MAX
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import Cancelled, Fault, FileHeader

PREVIEW_MAX = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview that has arrived."""

    data: bytes
    """A small picture file."""
    root: bytes
    """The root of these bytes."""
    version: str
    """The version of the picture."""
    number: int
    """The number of its transfer, to be reported as done."""


class _Corrupt(Exception):  # noqa: N818 - the caller knows the names for an error
    """The sharer contradicts itself."""


class _Request:
    """One request; a `Receiver`."""

    def __init__(self) -> None:
        self.answer: Deferred[tuple[bytes, bytes] | Fault | None] = Deferred()
        """The bytes and their root; or why they do not come, None if the session was lost. Fails with `_Corrupt`."""
        self.version = ""
        """The version of the picture, once it is announced."""
        self._size = 0
        self._data = b""
        self._digests: tuple[bytes, ...] = ()

    def announced(self, header: FileHeader) -> None:
        """See `Receiver`."""
        self._size, self.version = header.size, header.version

    def outgrown(self, header: FileHeader) -> None:
        """See `Receiver`; nothing larger is a preview."""
        self._fail()

    def block_arrived(self, block: ArrivedBlock) -> None:
        """See `Receiver`."""
        self._data = bytes(block.data)
        self._digests = (block.digest,)
        block.release()

    def ended(self, root: bytes) -> None:
        """Verify the bytes: they are few, so this takes no thread."""
        if self._digests == (digest_of(self._data),) and root == root_of(self._size, self._digests):
            self._answer((self._data, root))
        else:
            self._fail()

    def failed(self, why: Fault) -> None:
        """See `Receiver`."""
        self._answer(why)

    def interrupted(self) -> None:
        """See `Receiver`."""
        self._answer(None)

    def _answer(self, answer: tuple[bytes, bytes] | Fault | None) -> None:
        if not self.answer.called:
            self.answer.callback(answer)

    def _fail(self) -> None:
        if not self.answer.called:
            self.answer.errback(_Corrupt())


async def fetch_preview(remote: RemotePeer, path: RemotePath, edge: int) -> Preview:
    """Return the preview of a picture; the caller reports it as done.

    Args:
        remote: the sharer.
        path: of the picture.
        edge: the longest edge in pixels, one of `PREVIEW_EDGES`.

    Raises:
        RemoteNoPreview: the file is no picture.
        SharerLied: what came is not what the sharer announced, or too large.
        P2pshareError: there is no session, as in `RemotePeer.ready`, or the file cannot be had, as for any file.
    """
    tries = 0
    while True:
        await remote.ready()
        request = _Request()
        number = remote.get(request, path, most=PREVIEW_MAX, preview=edge)
        try:
            answer = await request.answer
        except CancelledError:
            remote.cancel(number, Cancelled.BY_USER)
            raise
        except _Corrupt:
            remote.cancel(number, Cancelled.CORRUPT)
            raise SharerLied(name=remote.name, path=format_path(path)) from None
        if isinstance(answer, tuple):
            return Preview(*answer, request.version, number)
        if answer is None:
            continue
        if answer is Fault.IS_FOLDER:
            answer = Fault.NO_PREVIEW
        tries += 1
        if answer is not Fault.BUSY or tries == TRIES_MAX:
            raise error_of(answer, remote.name, path)
        await deferLater(remote.reactor, BUSY_DELAY * tries)
