"""The bytes of a file of another peer, for somebody who looks at it: from any position on, in order, each verified.

Theory of operation. A reader of a `FileReading` pulls, and may stop for an hour: a browser does so when its user pauses
a film. So blocks are requested in small windows, and a window only when the reader has taken what came before. A block
that has arrived is verified in a thread and copied out of the session's memory. So a reader that rests holds at most
`ahead` blocks here, and no credit of the session: the next picture of the same person comes at once. It also means that
a jump costs the window that was under way, and not the rest of the file.

Each window is a `get` without a root (see `Get.root`). Every block is compared with the digest that the sharer sent for
it, and all windows must be of the version of the first one. If another version is announced, the file has changed in
the middle, and the reading ends with an error: the reader has bytes of the old one already. (The version of a file
that changed less than a tick of the clock ago is another one each time, so this meets files that were just written.)

Blocks of a window whose session was lost, or moved to another path, are `_lost`, and are requested again. Between the
block that the reader needs (`_at`) and the one that will be requested next (`_next`) each block is requested, being
verified, kept or lost. So their number is the number of blocks between, without the lost ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.errors import (
    BlockCorrupt,
    ControlRefused,
    LocalProtocolError,
    P2pshareError,
    RemoteBusy,
    SharerLied,
    SourceChanged,
    Unreachable,
)
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.browse.sessions import RemoteSession, RemoteSessions
from p2pshare.peer.fetch.job_parts import BUSY_DELAY, TRIES_MAX
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, digest_of
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import Cancelled, Fault, FileHeader

READINGS_MAX = 32  # files that are read at once
AHEAD_ALL = 64  # blocks that all of them share; those that began alone keep their own, so together never above 150
AHEAD_MAX = 8  # blocks of one of them
AHEAD_MIN = 2  # blocks of one of them: what a reader wants at once may lie in two
AWAY_MAX = 25.0  # seconds in which a sharer that is away is tried again, once a file was opened
AWAY_DELAY = 1.0  # seconds between two such tries
OPEN_MAX = 60.0  # seconds in which a file must be announced
AHEAD_FIRST = 2  # blocks that are requested with the header, before it is known what is wanted

Wanted = tuple[int, int | None]
"""The bytes that will be read as far as that is known before the size: the first, and the one behind the last."""


class Readings:
    """Opens files of other peers, and shares out the memory for them."""

    def __init__(self, sessions: RemoteSessions) -> None:
        """Read over `sessions`."""
        self._sessions = sessions
        self._open: set[FileReading] = set()
        self.on_bytes: Callable[[int], object] = lambda _: None
        """Called with the number of bytes of files that have arrived."""

    async def open(self, peer: str, path: RemotePath, wanted: Wanted | None = None) -> FileReading:
        """Return a file whose size and version are known; `close` it in the end.

        Args:
            peer: the name of the sharer.
            path: of the file.
            wanted: what will be read, so that the first blocks come with the header; None for nothing.

        Raises:
            ControlRefused: `READINGS_MAX` files are being read, or too many peers are looked at.
            RemoteIsFolder, RemoteNotFound: there is no such file, or not for this user.
            P2pshareError: the peer cannot be found, reached or trusted, or does not send the file.
        """
        if len(self._open) >= READINGS_MAX:
            raise ControlRefused(reason="it reads too many files now")
        session = await self._sessions.acquire(peer)
        reading = FileReading(self._sessions.reactor, session, path, self)
        self._open.add(reading)
        try:
            await reading.begin(wanted)
        except BaseException:
            reading.close()
            raise
        return reading

    @property
    def count(self) -> int:
        """The files that are being read."""
        return len(self._open)

    @property
    def ahead(self) -> int:
        """The blocks of one file that may be requested or kept."""
        return max(AHEAD_MIN, min(AHEAD_MAX, AHEAD_ALL // max(1, len(self._open))))

    def closed(self, reading: FileReading, session: RemoteSession) -> None:
        """Note that a file is not read any more."""
        self._open.discard(reading)
        self._sessions.release(session)

    def stop(self) -> None:
        """Close all files. May be called again."""
        for each in tuple(self._open):
            each.close()


class _Budget(Protocol):
    """What a reading needs of the one that has opened it: `Readings`."""

    on_bytes: Callable[[int], object]

    @property
    def ahead(self) -> int:
        """The blocks that may be requested or kept."""

    def closed(self, reading: FileReading, session: RemoteSession) -> None:
        """Note that the file is not read any more."""


class FileReading:
    """A file of another peer, from which bytes are read; a `web.reply_bodies.Source`."""

    can_seek = True

    def __init__(
        self, reactor: IPeerReactor, session: RemoteSession, path: RemotePath, budget: _Budget
    ) -> None:
        self._reactor = reactor
        self._session = session
        self._remote = session.remote
        self._path = path
        self._budget = budget
        self._header: FileHeader | None = None
        self.length = 0
        """Bytes of the file, once it is announced."""
        self._announced: Deferred[None] = Deferred()
        self._at = self._next = 0  # blocks
        self._end: int | None = 0  # block behind the last one that is wanted; None: not known yet
        self._lost: list[int] = []  # blocks to be requested again, ascending
        self._kept: dict[int, bytes] = {}  # verified blocks
        self._requests: set[_Request] = set()
        self._needed = range(0)  # bytes that the reader waits for
        self._waiting: Deferred[bytes] | None = None
        self._connecting: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self._tries = 0  # in which the sharer was busy
        self._away_since: float | None = None  # when first the sharer could not be reached
        self._error: P2pshareError | None = None
        self._is_closed = False

    @property
    def header(self) -> FileHeader:
        """What the sharer said of the file."""
        assert self._header is not None, "it has been opened"
        return self._header

    async def begin(self, wanted: Wanted | None) -> None:
        """Ask for the file, and return when it is announced.

        Raises:
            P2pshareError: it does not come.
        """
        if wanted is not None:
            first, stop = wanted
            self._at = self._next = first // BLOCK_SIZE
            self._end = None if stop is None else _behind(stop)
        self._step()
        try:
            await self._announced.addTimeout(OPEN_MAX, self._reactor)
        except TimeoutError:
            raise RemoteBusy(name=self._remote.name, path=format_path(self._path)) from None

    def select(self, part: range) -> None:
        """Fetch no more than these bytes, which `read` is called for in order."""
        first = part.start // BLOCK_SIZE
        self._end = _behind(part.stop) if part else first
        if not self._at <= first < self._next:  # what came with the header is something else
            self._abandon()
            self._at = self._next = first
        self._drop_before(first)
        self._step()

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """Return `size` bytes from `start`, at most a block, when they are here; what lies before is dropped.

        It fails with a `P2pshareError` if the sharer does not send them, or the file has changed.
        """
        waiting: Deferred[bytes] = Deferred(lambda _: self._forget_reader())
        self._needed, self._waiting = range(start, start + size), waiting
        self._drop_before(start // BLOCK_SIZE)
        self._step()
        self._serve()
        return waiting

    def close(self) -> None:
        """Cancel what is under way, and let the session go. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._abandon()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._budget.closed(self, self._session)
        if not self._announced.called:
            self._announced.errback(CancelledError())

    # What the requests report

    def announced(self, request: _Request, header: FileHeader) -> None:
        """Take the header of a request."""
        self._tries, self._away_since, known = 0, None, self._header
        if known is None:
            self._header, self.length = header, header.size
            count = block_count(header.size)
            self._at, self._next = min(self._at, count), min(self._next, count)
            self._end = count if self._end is None else min(self._end, count)
            request.left = {each for each in request.left if each < count}
            self._announced.callback(None)
        elif (known.size, known.version) != (header.size, header.version):
            request.cancel(Cancelled.BY_USER)
            self._fail(SourceChanged(name=self._remote.name, path=format_path(self._path)))

    def arrived(self, block: ArrivedBlock) -> None:
        """Verify a block, and keep it."""
        if self._is_closed or self._error is not None or not self._is_wanted(block.index):
            block.release()
            return
        index, size = block.index, len(block.data)
        self._budget.on_bytes(size)
        verifying = run_in_thread(self._reactor, _verified, block)
        verifying.addBoth(_released, block)
        verifying.addCallbacks(lambda data: self._keep(index, data), self._thread_failed)

    def ended(self, request: _Request, why: Fault | None = None) -> None:
        """Take the end of a request: blocks that have not come are lost."""
        self._requests.discard(request)
        if self._is_closed or self._error is not None:
            return
        self._lost = sorted({*self._lost, *filter(self._is_wanted, request.left)})
        if why is None:
            self._step()
        elif why is not Fault.BUSY or self._tries >= TRIES_MAX:
            self._fail(error_of(why, self._remote.name, self._path))
        else:
            self._retry_later()

    # Requests

    def _step(self) -> None:
        """Request what there is room for."""
        if self._is_closed or self._error is not None or self._retry is not None:
            return
        while (run := self._run()) is not None:
            if not self._remote.is_up:
                self._connect()
                return
            first, end = run
            self._lost = [each for each in self._lost if not first <= each < end]
            self._next = max(self._next, end)
            request = _Request(self, range(first, end))
            self._requests.add(request)
            version = "" if self._header is None else self._header.version
            want = (run,) if first < end else ()
            request.number = self._remote.get(request, self._path, version, want, root=False)

    def _run(self) -> tuple[int, int] | None:
        """Return the blocks to request next: the first, and the one behind the last; None for nothing."""
        if self._header is None:
            if self._requests:
                return None
            end = self._at + AHEAD_FIRST
            return self._at, end if self._end is None else min(end, self._end)
        assert self._end is not None
        ahead = self._budget.ahead
        under_way = self._next - self._at - len(self._lost)
        room = ahead - under_way
        if self._lost:
            first = self._lost[0]
            end = first + 1
            while end in self._lost and end - first < max(1, room):
                end += 1
            return first, end
        left = self._end - self._next
        if left <= 0 or room <= 0 or (under_way and room < min(ahead // 2, left)):
            return None  # rather a few blocks at once than a request for each
        return self._next, self._next + min(room, left)

    def _connect(self) -> None:
        if self._connecting is None:
            connecting = self._connecting = Deferred.fromCoroutine(self._remote.ready())
            connecting.addCallbacks(self._connected, self._connecting_failed)

    def _connected(self, _: None) -> None:
        self._connecting = None
        self._step()

    def _connecting_failed(self, failure: Failure) -> None:
        self._connecting = None
        now = self._reactor.seconds()
        self._away_since = now if self._away_since is None else self._away_since
        is_patient = self._header is not None and now - self._away_since < AWAY_MAX
        if is_patient and failure.check(Unreachable) and not self._is_closed:
            self._retry = self._reactor.callLater(AWAY_DELAY, self._retry_now)
        elif isinstance(failure.value, P2pshareError):
            self._fail(failure.value)
        elif not self._is_closed:
            self._fail(_defect(failure))

    def _retry_later(self) -> None:
        """Wait, since the sharer is busy; several requests that it refuses at once are one try."""
        if self._retry is None:
            self._tries += 1
            self._retry = self._reactor.callLater(BUSY_DELAY * self._tries, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._step()

    def _abandon(self) -> None:
        """Cancel all requests, and forget what has come."""
        for request in tuple(self._requests):
            request.cancel(Cancelled.BY_USER)
        self._requests.clear()
        self._kept.clear()
        self._lost.clear()

    # The reader

    def _is_wanted(self, index: int) -> bool:
        return self._at <= index < self._next and (self._end is None or index < self._end)

    def _keep(self, index: int, data: bytes) -> None:
        if not self._is_closed and self._is_wanted(index):
            self._kept[index] = data
            self._serve()

    def _drop_before(self, index: int) -> None:
        for each in [each for each in self._kept if each < index]:
            del self._kept[each]
        self._lost = [each for each in self._lost if each >= index]
        self._at = max(self._at, index)
        self._next = max(self._next, index)

    def _serve(self) -> None:
        """Give the reader what it waits for, or the reason why it does not come."""
        waiting, needed = self._waiting, self._needed
        if waiting is None:
            return
        indexes = range(needed.start // BLOCK_SIZE, _behind(needed.stop))
        if all(each in self._kept for each in indexes):
            self._waiting = None
            waiting.callback(b"".join(_slice(self._kept[each], each, needed) for each in indexes))
        elif self._error is not None:
            self._waiting = None
            waiting.errback(self._error)

    def _forget_reader(self) -> None:
        self._waiting = None

    def _thread_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, BlockCorrupt):
            for request in tuple(self._requests):
                request.cancel(Cancelled.CORRUPT)
            self._requests.clear()
            self._fail(SharerLied(name=self._remote.name, path=format_path(self._path)))
        else:
            self._fail(_defect(failure))

    def _fail(self, error: P2pshareError) -> None:
        if self._error is not None:
            return
        self._error = self._session.explained(error)
        for request in tuple(self._requests):
            request.cancel(Cancelled.BY_USER)
        self._requests.clear()
        if not self._announced.called:
            self._announced.errback(self._error)
        self._serve()


class _Request:
    """One request for some blocks; a `Receiver`."""

    def __init__(self, reading: FileReading, blocks: range) -> None:
        self._reading = reading
        self.left = set(blocks)
        """Those that have not arrived."""
        self.number: int | None = None
        """Until the transfer is over."""

    def cancel(self, why: Cancelled) -> None:
        """Give it up."""
        number, self.number = self.number, None
        if number is not None:
            self._reading._remote.cancel(number, why)

    def announced(self, header: FileHeader) -> None:
        """See `Receiver`."""
        self._reading.announced(self, header)

    def outgrown(self, header: FileHeader) -> None:
        """Nothing: any size was asked for."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """See `Receiver`."""
        self.left.discard(block.index)
        self._reading.arrived(block)

    def ended(self, root: bytes) -> None:
        """See `Receiver`."""
        self.number = None
        self._reading.ended(self)

    def failed(self, why: Fault) -> None:
        """See `Receiver`."""
        self.number = None
        self._reading.ended(self, why)

    def interrupted(self) -> None:
        """See `Receiver`."""
        self.number = None
        self._reading.ended(self)


def _behind(stop: int) -> int:
    """Return the block behind the last one that has bytes before `stop`."""
    return block_count(stop)


def _slice(data: bytes, index: int, wanted: range) -> bytes:
    """Return those bytes of a block that are wanted."""
    begin = index * BLOCK_SIZE
    return data[max(0, wanted.start - begin) : wanted.stop - begin]


def _verified(block: ArrivedBlock) -> bytes:
    """Return the bytes of a block; in a thread.

    Raises:
        BlockCorrupt: they do not match their digest.
    """
    data = bytes(block.data)
    if digest_of(data) != block.digest:
        raise BlockCorrupt(path="-", reason=f"block {block.index}")
    return data


def _released(result: bytes | Failure, block: ArrivedBlock) -> bytes | Failure:
    block.release()
    return result


def _defect(failure: Failure) -> P2pshareError:
    return LocalProtocolError(reason=failure.getErrorMessage())
