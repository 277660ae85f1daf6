"""Files of a block or less: many are requested at once, and stored in batches.

A file goes through these steps. `SmallFetches` keeps it in the collection that the step names; `_leave` ends its stay
in memory.

::

    _queue ──ask──► _coming ──ended──► _arrived ──store──► _storing ──► saved, or failed
      ▲                │ fault, loss                           │ held by another process, too many open files
      └───_delayed ◄───┴───────────────────────────────────────┘

While a thread stores one batch, the files that arrive become the next one. There is no timer, so a single file waits
for nothing. A file that may be here already is requested without its content; the thread compares roots, and the file
is requested again if no local file has the root.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.errors import (
    BlockCorrupt,
    InUse,
    LocalProtocolError,
    P2pshareError,
    SharerLied,
    TooManyOpenFiles,
)
from p2pshare.peer.fetch.block_transfer import cancel_reason
from p2pshare.peer.fetch.job_parts import (
    BUSY_DELAY,
    IN_USE_PATIENCE,
    IN_USE_REMARK,
    SHORT_PATIENCE,
    TRIES_MAX,
    JobContext,
    announced_by,
    found_file,
    sought,
)
from p2pshare.peer.fetch.plan import WantedFile
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.peer.fetch.tally import SavedFile
from p2pshare.storage.incoming.announcement import Origin, Place, WholeFile
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.present_files import Absent, Present
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import format_path
from p2pshare.wire.transfer_messages import Cancelled, Fault, FileHeader

STORE_MAX = 128  # files that are stored in one batch
HELD_DELAY = 0.1  # seconds before a file that cannot be stored yet is tried again

_log = Logger()

_Stored = tuple["SmallFetch", Absent | None, Present | Path | P2pshareError | None]
"""The outcome of a file: its place, if it was decided now; where it is, why it is not, or None to request it again."""


class SmallFetch:
    """One such file; a `Receiver`."""

    __slots__ = (
        "_all", "block", "header", "held_at", "number", "root", "size", "started", "tries", "wanted",
    )  # fmt: skip

    def __init__(self, fetches: SmallFetches, wanted: WantedFile) -> None:
        self._all = fetches
        self.wanted = wanted
        self.size = wanted.size or 0
        self.tries = wanted.tries
        self.number = 0
        self.started = 0.0
        self.held_at: float | None = None  # when storing was put off for the first time
        self.header: FileHeader | None = None
        self.block: ArrivedBlock | None = None
        self.root = b""

    def announced(self, header: FileHeader) -> None:
        """Take the header."""
        self.header = header

    def block_arrived(self, block: ArrivedBlock) -> None:
        """Take the content."""
        self.block = block

    def ended(self, root: bytes) -> None:
        """Take the root; the file is complete."""
        self.root = root
        self._all.arrived(self)

    def outgrown(self, header: FileHeader) -> None:
        """Request the file as a large one."""
        self._all.outgrown(self, header)

    def failed(self, why: Fault) -> None:
        """Take the reason why the sharer does not send it."""
        self._all.failed(self, why)

    def interrupted(self) -> None:
        """Take the loss of the session."""
        self._all.interrupted(self)

    def release(self) -> None:
        """Free the memory of the content."""
        block, self.block = self.block, None
        if block is not None:
            block.release()

    def whole(self, origin: Origin, place: Place, replaces: bytes | None) -> WholeFile | None:
        """Return what is to be stored; None if the content was not requested. `replaces` is as in `WantedFile`."""
        assert self.header is not None
        block = self.block
        if block is None and self.header.size:
            return None
        return WholeFile(
            place,
            origin,
            announced_by(self.header),
            b"" if block is None else block.data,
            () if block is None else (block.digest,),
            self.root,
            self.wanted.overwrite or replaces is not None,
            replaces or b"",
        )


class SmallFetches:
    """All small files of a job."""

    def __init__(
        self,
        context: JobContext,
        folders: dict[Path, IncomingFolder],
        on_large: Callable[[WantedFile], object],
        soon: Callable[[], object],
    ) -> None:
        """Args:
        context: of the job.
        folders: the open folders.
        on_large: called with a file that turns out to be large.
        soon: called when there is something to decide.
        """
        self._context = context
        self._folders = folders
        self._on_large = on_large
        self._soon = soon
        self._queue: deque[SmallFetch] = deque()
        self._coming: set[SmallFetch] = set()
        self._arrived: list[SmallFetch] = []
        self._storing: list[SmallFetch] = []
        self._delayed: dict[SmallFetch, IDelayedCall] = {}
        self._is_stopped = False
        self._has_remarked = False

    @property
    def queued(self) -> int:
        """Files that are not requested yet."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._queue or self._coming or self._arrived or self._storing or self._delayed)

    @property
    def bytes_arriving(self) -> int:
        """Bytes of files that are not under their names yet."""
        here = [*self._arrived, *self._storing, *self._held]
        return self.bytes_coming + sum(each.size for each in here)

    @property
    def held_elsewhere(self) -> int:
        """Files that are here, but that another process is storing."""
        return len(self._held)

    @property
    def _held(self) -> list[SmallFetch]:
        return [each for each in self._delayed if each.header is not None]

    @property
    def bytes_coming(self) -> int:
        """Bytes that have arrived of incomplete files."""
        arriving = self._context.remote.arriving
        return sum(arriving(each.number) for each in self._coming)

    @property
    def current(self) -> list[WantedFile]:
        """The files that are arriving."""
        return [each.wanted for each in self._coming]

    def add(self, wanted: WantedFile) -> None:
        """Fetch this file, too."""
        self._queue.append(SmallFetch(self, wanted))

    def ask(self) -> None:
        """Request as many files as may be in flight."""
        remote, queue = self._context.remote, self._queue
        now = self._context.reactor.seconds()
        while queue and remote.is_up and remote.in_flight.admit_small(queue[0].size):
            fetch = queue.popleft()
            fetch.started = fetch.started or now
            self._coming.add(fetch)
            wanted = fetch.wanted
            first, fetch.wanted = wanted.first, replace(wanted, first=None)
            if first is not None:
                fetch.number = first.number or 0
                first.take_over(fetch)
            elif wanted.candidates:  # the content is not sent if the version is still this one
                fetch.number = remote.get(fetch, wanted.path, wanted.version, (), most=fetch.size)
            else:
                fetch.number = remote.get(fetch, wanted.path, most=fetch.size)

    def store(self) -> None:
        """Store what has arrived, unless the batch before is still being stored."""
        if self._storing or not self._arrived or self._is_stopped:
            return
        self._storing = self._arrived[:STORE_MAX]
        del self._arrived[:STORE_MAX]
        by_root: dict[Path, list[SmallFetch]] = {}
        for fetch in self._storing:
            by_root.setdefault(fetch.wanted.root, []).append(fetch)
        rows = [(self._folders[root], row) for root, row in by_root.items()]
        storing = self._context.disk.run(_store, self._context.remote.key, rows)
        storing.addCallback(self._stored).addErrback(self._context.stop)

    def stop(self) -> None:
        """Give up all files but those that are being stored now."""
        self._is_stopped = True
        self._queue.clear()
        for call in self._delayed.values():
            call.cancel()
        coming, arrived, held = self._coming, self._arrived, self._held
        self._coming, self._arrived, self._delayed = set(), [], {}
        for _ in coming:
            self._context.remote.in_flight.small_arrived()
        for fetch in (*coming, *arrived, *held):
            self._context.remote.cancel(fetch.number, Cancelled.BY_USER)
            self._leave(fetch)

    def arrived(self, fetch: SmallFetch) -> None:
        """Take a file that is complete."""
        self._coming.discard(fetch)
        self._context.remote.in_flight.small_arrived()
        self._context.tally.bytes_fetched += 0 if fetch.block is None else len(fetch.block.data)
        self._arrived.append(fetch)
        self._soon()

    def outgrown(self, fetch: SmallFetch, header: FileHeader) -> None:
        """Request a file that has grown since it was listed as what it is now."""
        self._gone(fetch)
        wanted = fetch.wanted
        fetch.tries += 1
        # Without a claimed name, it has to be looked up again with the size that it has when it is announced.
        size, version = (header.size, header.version) if wanted.is_claimed else (None, "")
        self._context.tally.known_better(wanted.size, size or 0)
        fetch.wanted = replace(wanted, size=size, version=version, candidates=(), tries=fetch.tries)
        if fetch.tries >= TRIES_MAX:
            self._fail(fetch, Fault.CHANGED)
        else:
            self._on_large(fetch.wanted)
        self._soon()

    def failed(self, fetch: SmallFetch, why: Fault) -> None:
        """Request a file again that changed or whose sharer is busy; any other fault is reported."""
        self._gone(fetch)
        fetch.tries += 1
        _log.debug(
            "file not sent: path={path!r} why={why} tries={tries}",
            path=format_path(fetch.wanted.path),
            why=why.value,
            tries=fetch.tries,
        )
        if why not in (Fault.CHANGED, Fault.BUSY) or fetch.tries >= TRIES_MAX:
            self._fail(fetch, why)
        elif why is Fault.CHANGED:
            self._queue.append(fetch)
        else:
            self._delay(BUSY_DELAY * fetch.tries, fetch, self._queue)
        self._soon()

    def interrupted(self, fetch: SmallFetch) -> None:
        """Request a file again in the next session."""
        self._gone(fetch)
        self._queue.appendleft(fetch)
        self._soon()

    def _delay(
        self, seconds: float, fetch: SmallFetch, to: deque[SmallFetch] | list[SmallFetch]
    ) -> None:
        """Put a file into another collection after a while."""

        def now() -> None:
            del self._delayed[fetch]
            to.append(fetch)
            self._soon()

        self._delayed[fetch] = self._context.reactor.callLater(seconds, now)

    def _gone(self, fetch: SmallFetch) -> None:
        """Forget a request of which nothing more arrives."""
        self._coming.discard(fetch)
        self._context.remote.in_flight.small_arrived()
        self._leave(fetch)

    def _leave(self, fetch: SmallFetch) -> None:
        fetch.release()
        fetch.header = None
        self._context.remote.in_flight.small_left(fetch.size)

    def _fail(self, fetch: SmallFetch, why: Fault) -> None:
        wanted = fetch.wanted
        error = error_of(why, self._context.remote.name, wanted.path)
        self._context.fail(wanted.path, wanted.size, error)

    def _stored(self, outcomes: list[_Stored]) -> None:
        context, now = self._context, self._context.reactor.seconds()
        self._storing = []
        first = format_path(outcomes[0][0].wanted.path) if outcomes else ""
        _log.debug(
            "small files stored: files={files} first={first!r}", files=len(outcomes), first=first
        )
        done: list[int] = []
        for fetch, absent, outcome in outcomes:
            header = fetch.header
            assert header is not None
            if absent is not None:
                fetch.wanted = context.placed(fetch.wanted, absent)
            if isinstance(outcome, InUse | TooManyOpenFiles) and self._may_wait(fetch, outcome):
                continue
            self._leave(fetch)
            wanted, size = fetch.wanted, header.size
            if outcome is None:  # no local file has its content, which was not requested
                context.remote.cancel(fetch.number, Cancelled.BY_USER)
                self._queue.appendleft(fetch)
                continue
            if isinstance(outcome, P2pshareError):
                self._not_saved(fetch, outcome)
                continue
            done.append(fetch.number)
            context.tally.known_better(wanted.size, size)
            if isinstance(outcome, Present):
                context.tally.already_there(size)
                context.on_saved(found_file(replace(wanted, size=size), outcome))
                continue
            context.tally.saved(size)
            seconds, root = now - fetch.started, fetch.root
            is_renamed = wanted.is_renamed or outcome.name != wanted.place.name
            context.on_saved(
                SavedFile(
                    wanted.path,
                    outcome,
                    size,
                    size,
                    seconds,
                    root=root,
                    is_renamed=is_renamed,
                    is_replaced=fetch.wanted.replaces is not None,
                )
            )
        context.remote.done(done)
        self._soon()
        context.remote.room_freed()

    def _may_wait(self, fetch: SmallFetch, error: InUse | TooManyOpenFiles) -> bool:
        """Keep a file in memory that cannot be stored now, and try again soon; False if it has waited too long."""
        now = self._context.reactor.seconds()
        if fetch.held_at is None:
            fetch.held_at = now
        waited, is_held = now - fetch.held_at, isinstance(error, InUse)
        if self._is_stopped or waited >= (IN_USE_PATIENCE if is_held else SHORT_PATIENCE):
            return False
        if is_held and waited >= IN_USE_REMARK and not self._has_remarked:
            self._has_remarked = True
            sentence = "is being fetched by another process: waiting for that one."
            self._context.remark(fetch.wanted, sentence)
        self._delay(HELD_DELAY, fetch, self._arrived)
        return True

    def _not_saved(self, fetch: SmallFetch, error: P2pshareError) -> None:
        remote, wanted = self._context.remote, fetch.wanted
        remote.cancel(fetch.number, cancel_reason(error))
        if isinstance(error, BlockCorrupt):
            error = SharerLied(name=remote.name, path=format_path(wanted.path))
        self._context.fail(wanted.path, wanted.size, error)


def _store(key: PublicKey, rows: list[tuple[IncomingFolder, list[SmallFetch]]]) -> list[_Stored]:
    """Store files, in a thread. A failure of one folder does not affect the others."""
    outcomes: list[_Stored] = []
    for folder, row in rows:
        absents: dict[SmallFetch, Absent] = {}
        whole: dict[SmallFetch, WholeFile] = {}
        for fetch in row:
            wanted, header = fetch.wanted, fetch.header
            assert header is not None
            place, absent, replaces = wanted.place, None, wanted.replaces
            if wanted.candidates:
                wants = sought(key, wanted, header.size, header.version)
                try:
                    found = folder.settle(wants, wanted.candidates, fetch.root)
                except P2pshareError as error:
                    outcomes.append((fetch, None, error))
                    continue
                if isinstance(found, Present):
                    outcomes.append((fetch, None, found))
                    continue
                place, absent, replaces = found.place, found, found.replaces
                absents[fetch] = found
            file = fetch.whole(Origin(key, wanted.path), place, replaces)
            if file is None:
                outcomes.append((fetch, absent, None))
            else:
                whole[fetch] = file
        stored: Sequence[Path | P2pshareError]
        try:
            stored = folder.store_whole(tuple(whole.values()))
        except P2pshareError as error:
            stored = [error] * len(whole)
        except Exception as error:
            _log.failure("small files not stored: files={files}", files=len(whole))
            stored = [LocalProtocolError(reason=f"{type(error).__name__}: {error}")] * len(whole)
        for fetch, outcome in zip(whole, stored, strict=True):
            outcomes.append((fetch, absents.get(fetch), outcome))
    return outcomes
