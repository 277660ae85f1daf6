"""A session at the sharer: reads files in threads, and sends what `core.sharer` decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import Session
from p2pshare.core.sharer import LIMITS, SharerCore
from p2pshare.core.sharer_transfers import (
    CloseWork,
    DigestWork,
    FinishWork,
    JobTold,
    ListWork,
    OpenWork,
    ReadBlock,
    ReadWork,
    SharerLimits,
    Transfer,
    TransferEnded,
    TransferStarted,
    Work,
)
from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.net.fair_turns import FairTurns
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.share.upload_log import Uploads
from p2pshare.storage.open_files import share_of_files
from p2pshare.storage.shares.open_files import OutgoingFile, WholeOutgoing
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import Cancelled, Fault, Offer

OPEN_AT_ONCE = 16  # files that are opened before it is seen how many more fit
LIMITED_TIME = 0.05  # seconds of a limited rate that go in one piece
LIMITED_PIECE_MIN = 1024  # bytes
MEMORY = 64 * 1024 * 1024  # bytes of large files that all sessions hold, and as many of small ones
LARGE_OPEN = 1024  # large files that all sessions have open; under a low limit on open files fewer
FILES_PART = 4  # of the open files that the limit leaves: one part for these
SHORT_DELAY = 0.25  # seconds before files are opened again, after too many were open
SHORT_PATIENCE = (
    60.0  # seconds without a file that could be opened, after which the opener hears `busy`
)
LISTS_AT_ONCE = 4  # folders that are read at once, for all sessions: threads must be left for files
LISTS_OF_ONE = 2  # of them for one opener, however many sessions it has

Opened = tuple[Transfer, WholeOutgoing | OutgoingFile | Unavailable]


class Serving:
    """Answers one session; a `SessionUser`."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        session: Session,
        tree: ShareTree,
        limit: RateLimit,
        uploads: Uploads,
        limits: SharerLimits = LIMITS,
        listing: FairTurns | None = None,
    ) -> None:
        """Answer from `tree`.

        Args:
            reactor: what it runs on.
            session: who asks, and is answered.
            tree: what is shared.
            limit: for the bytes of all sessions together.
            uploads: is told of everything.
            limits: what this session may cost.
            listing: lets folders be read in turn, for all sessions that share it.
        """
        self._reactor = reactor
        self._session = session
        self._tree = tree
        self._core = SharerCore(limits)
        self._files: dict[Transfer, OutgoingFile] = {}
        self._uploads = uploads
        self._visit = uploads.begin(session.name)
        self._listing = listing or FairTurns(LISTS_AT_ONCE, LISTS_OF_ONE)
        self._pace = _Pace(reactor, limit, self._step)
        self._is_stepping = False
        self._has_news = False
        self._large_open = share_of_files(LARGE_OPEN, FILES_PART)
        self._short_since: float | None = None  # when too many files were open for the first time
        self._short: tuple[IDelayedCall, OpenWork] | None = None  # what waits since

    def message_received(self, message: Message) -> None:
        """Take what is asked for."""
        self._core.receive_message(message)
        self._step()

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Refuse what only a sharer may send."""
        raise RemoteProtocolError(reason="it sends bytes of a file, which nobody asked for")

    def room_again(self) -> None:
        """Go on sending."""
        self._step()

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Close everything; what is being read is closed as soon as that is over."""
        self._pace.stop()
        self._core.close()
        if self._short is not None:
            self._short[0].cancel()
            self._open_again(self._short[1])
        try:
            self._step()
        finally:
            self._visit.over(reason)

    def _step(self) -> None:
        """Have done what is to be done now, and send what can be sent."""
        self._has_news = True
        if self._is_stepping:  # the session may tell of room while we send
            return
        self._is_stepping = True
        try:
            while self._has_news:
                self._has_news = False
                self._begin_work()
                if self._send():
                    self._begin_work()  # for which there is room in memory again
                self._tell()
        finally:
            self._is_stepping = False

    def _tell(self) -> None:
        while (event := self._core.next_event()) is not None:
            match event:
                case TransferStarted():
                    self._visit.started(event.transfer)
                case TransferEnded():
                    self._visit.ended(event.transfer)
                    self._distrust(event.transfer)
                case JobTold():
                    self._visit.job_told(event.job)

    def _distrust(self, transfer: Transfer) -> None:
        """Hash a large file anew, if who got it says that it is not what its digests say."""
        if transfer.why is not Cancelled.CORRUPT or transfer.offer is None or transfer.is_whole:
            return
        tree, viewer, path = self._tree, self._session.name, transfer.request.path
        forgetting = run_in_thread(self._reactor, tree.distrust, viewer, path)
        forgetting.addErrback(lambda failure: failure.trap(Unavailable))
        forgetting.addErrback(
            lambda failure: self._log.failure("digests were not dropped", failure)
        )

    def _send(self) -> bool:
        """Send while there is room; whether anything went out."""
        core, session, pace = self._core, self._session, self._pace
        has_sent = False
        while session.has_room:
            if (message := core.next_message()) is not None:
                session.send(message)
                has_sent = True
                continue
            size = core.piece_size()
            if size and (size := pace.allowed(size)):
                piece = core.take_piece(size)
                session.send_data(piece.transfer.id, piece.offset, piece.data)
                self._visit.sent(size)
                has_sent = True
                continue
            break
        return has_sent

    def _begin_work(self) -> None:
        busy = max(1, self._uploads.busy)
        self._core.restrict_memory(MEMORY // busy)
        self._core.restrict_open_files(self._large_open // busy)
        while (work := self._core.next_work()) is not None:
            self._do(work)

    def _do(self, work: Work) -> None:
        """Do it in a thread; the result goes to the core."""
        core, tree, viewer = self._core, self._tree, self._session.name
        match work:
            case OpenWork():
                self._in_thread(
                    lambda: _open(tree, viewer, work),
                    lambda opened: self._opened(work, opened),
                    lambda why: self._batch_failed(work, why),
                )
            case ReadWork(transfer, indexes):
                file = self._files[transfer]
                self._in_thread(
                    lambda: [ReadBlock(each, *file.read_block(each)) for each in indexes],
                    lambda blocks: core.blocks_read(transfer, blocks),
                    lambda why: core.failed(transfer, why),
                )
            case DigestWork(transfer, indexes):
                file = self._files[transfer]
                self._in_thread(
                    lambda: [file.digest(each) for each in indexes],
                    lambda _: core.digested(transfer),
                    lambda why: core.failed(transfer, why),
                )
            case FinishWork(transfer):
                self._in_thread(
                    self._files[transfer].finish,
                    lambda root: core.finished(transfer, root),
                    lambda why: core.failed(transfer, why),
                )
            case CloseWork(transfer):
                self._close(self._files.pop(transfer))
            case ListWork(request):
                self._in_thread(
                    lambda: tree.list(
                        viewer, request.path, request.after, request.limit, request.recursive
                    ),
                    lambda page: core.listed(
                        request,
                        page.entries,
                        more=page.more,
                        omitted=page.omitted,
                        unnamed=page.unnamed,
                    ),
                    lambda why: core.list_failed(request, why),
                    self._listing,
                )

    def _in_thread(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Fault], None],
        turns: FairTurns | None = None,
    ) -> None:
        def went_wrong(failure: Failure) -> None:
            if isinstance(failure.value, Unavailable):
                failed(failure.value.why)
            else:
                self._log.failure("a shared file cannot be read", failure)
                failed(Fault.UNREADABLE)

        doing: Deferred[Any] = (
            turns.run(self._session.name, lambda: run_in_thread(self._reactor, work))
            if turns is not None
            else run_in_thread(self._reactor, work)
        )
        doing.addCallbacks(done, went_wrong)
        doing.addCallback(lambda _: self._session.keep_alive())
        doing.addCallback(lambda _: self._step())
        doing.addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        """A defect ends the session."""
        self._log.failure("a session failed", failure)
        self._session.abort()

    def _opened(self, work: OpenWork, opened: Sequence[Opened]) -> None:
        core, large_files = self._core, work.large_files
        is_short = False
        for transfer, each in opened:
            match each:
                case Unavailable(why=Fault.BUSY) if self._may_wait():
                    is_short = True  # it stays in the batch, which is taken up again
                case Unavailable():
                    core.failed(transfer, each.why)
                case WholeOutgoing():
                    block = None
                    if each.digest is not None:
                        block = ReadBlock(0, each.data, each.digest)
                    core.opened_whole(transfer, _offer(transfer, each), block, each.root)
                case _ if large_files > 0:
                    large_files -= 1
                    self._files[transfer] = each
                    core.opened(transfer, _offer(transfer, each))
                case _:
                    self._close(each)
                    core.too_large(transfer)
        if is_short:
            self._wait_for_files(work)
        else:
            self._short_since = None
            core.batch_done(work)

    def _batch_failed(self, work: OpenWork, why: Fault) -> None:
        if why is Fault.BUSY and self._may_wait():
            self._wait_for_files(work)
            return
        for transfer in work.transfers:
            self._core.failed(transfer, why)
        self._core.batch_done(work)

    def _may_wait(self) -> bool:
        """Whether files that could not be opened, since too many are open, are tried again."""
        now = self._reactor.seconds()
        if self._short_since is None:
            self._short_since = now
        return bool(now - self._short_since < SHORT_PATIENCE)

    def _wait_for_files(self, work: OpenWork) -> None:
        """Open no more files of this session for a moment: others may close theirs."""
        again = self._reactor.callLater(SHORT_DELAY, self._open_again, work)
        self._short = again, work

    def _open_again(self, work: OpenWork) -> None:
        self._short = None
        self._core.batch_done(work)
        self._session.keep_alive()
        self._step()

    def _close(self, file: OutgoingFile) -> None:
        closing = run_in_thread(self._reactor, file.close)
        closing.addErrback(lambda failure: self._log.failure("a file was not closed", failure))


class _Pace:
    """How much of the limit that all sessions share is this one's: it reserves a piece, and waits for its turn."""

    def __init__(self, reactor: Any, limit: RateLimit, on_turn: Callable[[], object]) -> None:
        self._reactor = reactor
        self._limit = limit
        self._on_turn = on_turn
        self._reserved = 0  # bytes
        self._timer: IDelayedCall | None = None  # until then
        self._piece_max = PIECE_MAX
        if limit.bytes_per_second is not None:
            wanted = int(limit.bytes_per_second * LIMITED_TIME)
            self._piece_max = max(LIMITED_PIECE_MIN, min(PIECE_MAX, wanted))

    def allowed(self, size: int) -> int:
        """How much of a piece may go now; if it is nothing, `on_turn` is called when that is otherwise."""
        if self._limit.bytes_per_second is None:
            return size
        if self._timer is not None:
            return 0
        now = self._reactor.seconds()
        if not self._reserved:
            self._reserved = min(size, self._piece_max)
            at = self._limit.when(self._reserved, now)
            self._limit.spend(self._reserved, now)
            if at > now:
                self._timer = self._reactor.callLater(at - now, self._turn_came)
                return 0
        allowed = min(size, self._reserved)
        self._limit.spend(allowed - self._reserved, now)  # what is not used is the others'
        self._reserved = 0
        return allowed

    def stop(self) -> None:
        """Wait no more, and leave what was reserved to others."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._limit.spend(-self._reserved, self._reactor.seconds())
        self._reserved = 0

    def _turn_came(self) -> None:
        self._timer = None
        self._on_turn()


def _offer(transfer: Transfer, file: OutgoingFile | WholeOutgoing) -> Offer:
    return Offer(transfer.id, file.size, file.mtime_ns, file.executable, file.version)


def _open(tree: ShareTree, viewer: str, work: OpenWork) -> list[Opened]:
    """Open files until no more fit; in a thread. Those of one block or less that do not fit are left out."""
    opened: list[Opened] = []
    small_bytes, left = work.small_bytes, work.transfers
    try:
        while left and small_bytes >= BLOCK_SIZE:
            now, left = left[:OPEN_AT_ONCE], left[OPEN_AT_ONCE:]
            paths = [each.request.path for each in now]
            for transfer, each in zip(now, tree.open_many(viewer, paths, small_bytes), strict=True):
                if isinstance(each, WholeOutgoing):
                    small_bytes -= each.size
                elif (
                    isinstance(each, OutgoingFile)
                    and each.size <= BLOCK_SIZE
                    and small_bytes < work.small_bytes
                ):
                    each.close()
                    continue
                opened.append((transfer, each))
    except BaseException:
        for _, each in opened:
            if isinstance(each, OutgoingFile):
                each.close()
        raise
    return opened
