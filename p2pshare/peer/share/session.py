"""Serves shares over one session: reads files in threads, and sends what `core.sharer` decides."""

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
    PreviewWork,
    ReadBlock,
    ReadWork,
    SharerLimits,
    Transfer,
    TransferEnded,
    TransferStarted,
    Work,
)
from p2pshare.errors import P2pshareError
from p2pshare.net.threads import FairLimit, run_in_thread
from p2pshare.peer.share.previews import Previews
from p2pshare.peer.share.session_downloads import SessionDownloads
from p2pshare.peer.share.upload_log import Uploads
from p2pshare.storage.open_file_limit import share_of_files
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.storage.shares.outgoing_files import OutgoingFile, WholeOutgoing
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import Cancelled, Fault, FileHeader

OPEN_AT_ONCE = 16  # files that are opened before the remaining memory is looked at again
LIMITED_TIME = 0.05  # seconds of a limited rate that go in one piece
LIMITED_PIECE_MIN = 1024  # bytes
MEMORY = 64 * 1024 * 1024  # bytes of large files that all sessions hold, and as many of small ones
LARGE_OPEN = 1024  # large files that all sessions have open; under a low limit on open files fewer
FILES_PART = 4  # of the open files that the limit leaves: one part for these
SHORT_DELAY = 0.25  # seconds before files are opened again, after too many were open
SHORT_PATIENCE = 60.0  # seconds in which no file can be opened, until the opener is told `busy`
REFUSAL = 60.0  # seconds in which nothing is sent to an opener without a job, after the owner has ended a transfer
LISTS_AT_ONCE = 4  # folders that are read at once for all sessions: threads must be left for files
LISTS_OF_ONE = 2  # of them for one opener, in all of its sessions

Opened = tuple[Transfer, WholeOutgoing | OutgoingFile | Unavailable]


class ServedSession:
    """Serves one session, as its `ServingPart`."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        session: Session,
        tree: ShareTree,
        limit: RateLimit,
        uploads: Uploads,
        listing: FairLimit,
        limits: SharerLimits = LIMITS,
        previews: Previews | None = None,
    ) -> None:
        """Serve `tree`; all sessions share `limit` (bytes per second), `uploads`, `listing` (folders being read) and
        `previews`.
        """
        self._reactor = reactor
        self._session = session
        self._tree = tree
        self._viewer = Viewer(session.name, session.key)
        self._previews = previews or Previews(tree)
        self._core = SharerCore(limits)
        self._files: dict[Transfer, OutgoingFile] = {}
        self._uploads = uploads
        self._upload_log = uploads.begin(session.name, session.path)
        self._upload_log.refuse = self.refuse
        self._refused_at: float | None = None  # when the owner has ended what the opener fetches
        self._listing = listing
        self._pace = _Pace(reactor, limit, self._step)
        self._downloads = SessionDownloads(uploads.counter, self._viewer)
        self.on_end: Callable[[], object] = lambda: None
        """Is called when the session has ended."""
        self._withdrawn: set[str] = set()  # shares and offers whose transfers were stopped
        self._is_stepping = self._has_news = False
        self._large_open = share_of_files(LARGE_OPEN, FILES_PART)
        self._short_since: float | None = None  # when first too many files were open
        self._short: tuple[IDelayedCall, OpenWork] | None = None  # opens the rest of a batch later

    def message_received(self, message: Message) -> None:
        """Take a request."""
        self._core.receive_message(message)
        if self._refused_at is not None and self._refuses(self._refused_at):
            self._core.withdraw(lambda _: False)
        self._step()

    def room_again(self) -> None:
        """Continue to send."""
        self._step()

    def refuse(self) -> None:
        """Stop all transfers, and those that the opener still wants for its job, or for `REFUSAL` without one."""
        self._refused_at = self._reactor.seconds()
        self._core.withdraw(lambda _: False)
        self._step()

    def _refuses(self, since: float) -> bool:
        return self._upload_log.wants_more or bool(self._reactor.seconds() < since + REFUSAL)

    def shares_changed(self) -> None:
        """Stop the transfers of files that are not shared with the opener any more."""
        tree, viewer = self._tree, self._viewer

        def is_shared(path: RemotePath) -> bool:
            is_shared = tree.is_shared(viewer, path)
            if not is_shared:
                self._withdrawn.add(path[0])
            return is_shared

        self._core.withdraw(is_shared)
        self._step()

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Close all files; a file that a thread is reading is closed after that."""
        self._pace.stop()
        self._core.close()
        if self._short is not None:
            self._short[0].cancel()
            self._open_again(self._short[1])
        try:
            self._step()
        finally:
            self._upload_log.over(reason)
            self._downloads.over()
            self.on_end()

    def _step(self) -> None:
        """Begin the work that is due, and send what can be sent."""
        self._has_news = True
        if self._is_stepping:  # the session may call `room_again` during `send`
            return
        self._is_stepping = True
        try:
            while self._has_news:
                self._has_news = False
                self._begin_work()
                if self._send():
                    self._begin_work()  # for which there is memory again
                self._log_events()
        finally:
            self._is_stepping = False

    def _log_events(self) -> None:
        while (event := self._core.next_event()) is not None:
            match event:
                case TransferStarted() | TransferEnded() if event.transfer.request.preview:
                    pass  # nobody has fetched a file
                case TransferStarted():
                    self._upload_log.started(event.transfer)
                    self._downloads.started(event.transfer)
                case TransferEnded():
                    self._upload_log.ended(event.transfer)
                    self._downloads.ended(event.transfer)
                    for each in self._uploads.watchers:
                        each.transfer_ended(self._viewer, event.transfer)
                    self._distrust(event.transfer)
                case JobTold():
                    if not (event.job.files or event.job.bytes):
                        self._refused_at = None
                    self._upload_log.job_told(event.job)
                    self._downloads.job_told(event.job)

    def _distrust(self, transfer: Transfer) -> None:
        """Forget the cached digests of a large file that its receiver calls corrupt."""
        if transfer.why is not Cancelled.CORRUPT or transfer.header is None or transfer.is_whole:
            return
        tree, viewer, path = self._tree, self._viewer, transfer.request.path
        forgetting = run_in_thread(self._reactor, tree.distrust, viewer, path)
        forgetting.addErrback(lambda failure: failure.trap(Unavailable))
        forgetting.addErrback(lambda failure: self._log.failure("digests not dropped", failure))

    def _send(self) -> bool:
        """Send while there is room; whether anything was sent."""
        core, session, pace = self._core, self._session, self._pace
        has_sent = False
        while session.has_room:
            if (message := core.next_message()) is not None:
                session.send(message)
            elif (size := core.piece_size(session.piece_max)) and (size := pace.allowed(size)):
                piece = core.take_piece(size)
                session.send_data(piece.transfer.id, piece.offset, piece.data)
                self._upload_log.sent(size)
                for each in self._uploads.watchers:
                    each.transfer_sent(self._viewer, piece.transfer, size)
            else:
                break
            has_sent = True
        return has_sent

    def _begin_work(self) -> None:
        busy = max(1, self._uploads.busy)
        self._core.restrict_memory(MEMORY // busy)
        self._core.restrict_open_files(self._large_open // busy)
        while (work := self._core.next_work()) is not None:
            self._do(work)

    def _do(self, work: Work) -> None:
        """Do work in a thread, and give the result to the core."""
        core, tree, viewer = self._core, self._tree, self._viewer
        downloads = self._downloads
        match work:
            case OpenWork():
                self._in_thread(
                    lambda: _open(tree, viewer, work, downloads),
                    lambda opened: self._opened(work, opened),
                    lambda why: self._opened(
                        work, [(each, Unavailable(why)) for each in work.transfers]
                    ),
                )
            case PreviewWork(transfer):
                self._in_thread(
                    lambda: _preview(self._previews, viewer, transfer),
                    lambda made: self._opened_whole(transfer, made),
                    lambda why: core.failed(transfer, why),
                    self._previews.limit,
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
                    lambda digests: core.digested(work, digests),
                    lambda why: core.failed(transfer, why),
                )
            case FinishWork(transfer):
                file = self._files[transfer]
                self._in_thread(
                    file.finish if transfer.request.root else file.confirm,
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
        limit: FairLimit | None = None,
    ) -> None:
        def run() -> Deferred[Any]:
            return run_in_thread(self._reactor, work)

        def unavailable(failure: Failure) -> None:
            if isinstance(failure.value, Unavailable):
                failed(failure.value.why)
            else:
                self._log.failure("shared file not read", failure)
                failed(Fault.UNREADABLE)

        def step(_: object) -> None:
            self._session.keep_alive()
            self._step()

        def broken(failure: Failure) -> None:  # a defect, which ends this session alone
            self._log.failure("session failed: peer={peer}", failure, peer=self._session.name)
            self._session.abort()

        doing = run() if limit is None else limit.run(self._session.name, run)
        doing.addCallbacks(done, unavailable).addCallback(step).addErrback(broken)

    def _opened(self, work: OpenWork, opened: Sequence[Opened]) -> None:
        core, large_files = self._core, work.large_files
        is_short = has_failed = False
        for transfer, each in opened:
            match each:
                case Unavailable(why=Fault.BUSY) if self._may_wait():
                    is_short = True  # it stays in the batch, which is taken up again
                case Unavailable():
                    core.failed(transfer, self._why(transfer, each.why))
                    has_failed |= each.why is Fault.BUSY
                case WholeOutgoing():
                    self._opened_whole(transfer, each)
                case _ if large_files > 0:
                    large_files -= 1
                    self._files[transfer] = each
                    core.opened(transfer, _header(transfer, each))
                case _:
                    self._close(each)
                    core.too_large(transfer)
        if is_short:  # open no more files for a moment, until other sessions have closed some
            again = self._reactor.callLater(SHORT_DELAY, self._open_again, work)
            self._short = again, work
        else:
            if not has_failed:
                self._short_since = None
            core.batch_done(work)

    def _why(self, transfer: Transfer, why: Fault) -> Fault:
        """Return the reason for which a file cannot be opened: also that it was shared just now."""
        path = transfer.request.path
        if why is not Fault.NOT_FOUND or path[0] not in self._withdrawn:
            return why
        return why if self._tree.is_shared(self._viewer, path) else Fault.WITHDRAWN

    def _opened_whole(self, transfer: Transfer, file: WholeOutgoing) -> None:
        block = None if file.digest is None else ReadBlock(0, file.data, file.digest)
        self._core.opened_whole(transfer, _header(transfer, file), block, file.root)

    def _may_wait(self) -> bool:
        """Whether files are tried again that could not be opened because too many are open."""
        now = self._reactor.seconds()
        if self._short_since is None:
            self._short_since = now
        return bool(now - self._short_since < SHORT_PATIENCE)

    def _open_again(self, work: OpenWork) -> None:
        self._short = None
        self._core.batch_done(work)
        self._session.keep_alive()
        self._step()

    def _close(self, file: OutgoingFile) -> None:
        closing = run_in_thread(self._reactor, file.close)
        closing.addErrback(lambda failure: self._log.failure("shared file not closed", failure))


class _Pace:
    """One session's part of the rate of all sessions: reserves a piece, and waits until it may go."""

    def __init__(self, reactor: Any, limit: RateLimit, on_allowed: Callable[[], object]) -> None:
        self._reactor = reactor
        self._limit = limit
        self._on_allowed = on_allowed
        self._reserved = 0  # bytes
        self._timer: IDelayedCall | None = None  # runs until they may go

    def allowed(self, size: int) -> int:
        """Return how many bytes of a piece may go now; if none, `on_allowed` is called later."""
        rate = self._limit.bytes_per_second
        if rate is None:
            return size
        if self._timer is not None:
            return 0
        now = self._reactor.seconds()
        if not self._reserved:
            most = max(LIMITED_PIECE_MIN, min(PIECE_MAX, int(rate * LIMITED_TIME)))
            self._reserved = min(size, most)
            at = self._limit.when(self._reserved, now)
            self._limit.spend(self._reserved, now)
            if at > now:
                self._timer = self._reactor.callLater(at - now, self._wait_is_over)
                return 0
        allowed = min(size, self._reserved)
        self._limit.spend(allowed - self._reserved, now)  # gives the rest back to all sessions
        self._reserved = 0
        return allowed

    def stop(self) -> None:
        """Stop waiting, and give the reserved bytes back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._limit.spend(-self._reserved, self._reactor.seconds())
        self._reserved = 0

    def _wait_is_over(self) -> None:
        self._timer = None
        self._on_allowed()


def _header(transfer: Transfer, file: OutgoingFile | WholeOutgoing) -> FileHeader:
    return FileHeader(transfer.id, file.size, file.mtime_ns, file.executable, file.version)


def _preview(previews: Previews, viewer: Viewer, transfer: Transfer) -> WholeOutgoing:
    """Return a preview, in a thread; none is made of a picture that the opener has scrolled past meanwhile."""
    if transfer.outcome is not None:
        raise Unavailable(Fault.NO_PREVIEW)
    return previews.open(viewer, transfer.request.path, transfer.request.preview)


def _open(
    tree: ShareTree, viewer: Viewer, work: OpenWork, downloads: SessionDownloads
) -> list[Opened]:
    """Open files until no more fit, in a thread. A file of one block or less that does not fit is left out."""
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
                opened.append((transfer, _counted(downloads, transfer, each)))
    except BaseException:
        for _, each in opened:
            if isinstance(each, OutgoingFile):
                each.close()
        raise
    return opened


def _counted(
    downloads: SessionDownloads,
    transfer: Transfer,
    file: WholeOutgoing | OutgoingFile | Unavailable,
) -> WholeOutgoing | OutgoingFile | Unavailable:
    """Return a file that was opened, if it may be sent; it is closed otherwise."""
    if not isinstance(file, Unavailable):
        try:
            downloads.expect_allowed(transfer.request)
        except Unavailable as error:
            if isinstance(file, OutgoingFile):
                file.close()
            return Unavailable(error.why)
    return file
