"""Files of a block or less: many are on their way at once, and what has arrived is stored in one go."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pshare.core.receiver import ArrivedBlock
from p2pshare.errors import (
    BlockCorrupt,
    InUse,
    LocalProtocolError,
    P2pshareError,
    SharerLied,
    TooManyOpenFiles,
)
from p2pshare.peer.fetch.context import (
    IN_USE_PATIENCE,
    IN_USE_REMARK,
    SHORT_PATIENCE,
    TRIES_MAX,
    Folder,
    JobContext,
    announced_by,
    found_file,
    sought,
)
from p2pshare.peer.fetch.plan import WantedFile
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.peer.fetch.tally import SavedFile
from p2pshare.storage.incoming.announcement import Origin, Place, WholeFile
from p2pshare.storage.incoming.present_files import Absent, Present
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import format_path
from p2pshare.wire.transfer_messages import Cancelled, Fault, Offer

STORE_MAX = 128  # files that are stored in one go
HELD_DELAY = 0.1  # seconds before a file that cannot be stored yet is tried again
BUSY_DELAY = 1.0  # seconds before a sharer that has no time is asked again

_log = Logger()

_Stored = tuple["SmallFetch", Absent | None, Present | Path | P2pshareError | None]
"""What became of a file: where it goes, if that was decided; where it is, why it is nowhere, or None if it has to be
asked for again.
"""


class SmallFetch:
    """One such file; a `Receiver`."""

    __slots__ = (
        "_all", "block", "held_at", "number", "offer", "root", "size", "started", "tries", "wanted",
    )  # fmt: skip

    def __init__(self, fetches: SmallFetches, wanted: WantedFile) -> None:
        self._all = fetches
        self.wanted = wanted
        self.size = wanted.size or 0
        self.tries = wanted.tries
        self.number = 0
        self.started = 0.0
        self.held_at: float | None = None  # when it could not be stored yet for the first time
        self.offer: Offer | None = None
        self.block: ArrivedBlock | None = None
        self.root = b""

    def offered(self, offer: Offer) -> None:
        """It is about to come."""
        self.offer = offer

    @property
    def is_compared(self) -> bool:
        """Whether there are local files that may be it."""
        return bool(self.wanted.candidates)

    def block_arrived(self, block: ArrivedBlock) -> None:
        """All of it has come."""
        self.block = block

    def ended(self, root: bytes) -> None:
        """It is whole."""
        self.root = root
        self._all.arrived(self)

    def outgrown(self, offer: Offer) -> None:
        """It has grown since it was listed."""
        self._all.outgrown(self, offer)

    def failed(self, why: Fault) -> None:
        """It does not come."""
        self._all.failed(self, why)

    def interrupted(self) -> None:
        """The session is lost."""
        self._all.interrupted(self)

    def release(self) -> None:
        """Leave the memory."""
        block, self.block = self.block, None
        if block is not None:
            block.release()

    @property
    def is_here(self) -> bool:
        """Whether all of its content has come."""
        assert self.offer is not None
        return self.block is not None or not self.offer.size

    def whole(self, origin: Origin, place: Place) -> WholeFile:
        """What is to be stored."""
        assert self.offer is not None
        block = self.block
        return WholeFile(
            place,
            origin,
            announced_by(self.offer),
            b"" if block is None else block.data,
            () if block is None else (block.digest,),
            self.root,
            self.wanted.overwrite,
        )


class SmallFetches:
    """All of a job."""

    def __init__(
        self,
        context: JobContext,
        folders: dict[Path, Folder],
        on_large: Callable[[WantedFile], object],
        soon: Callable[[], object],
    ) -> None:
        """Args:
        context: of the job.
        folders: that are open.
        on_large: told of a file that turns out to be large.
        soon: called when there is something new to decide.
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
        """Files that were not asked for yet."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._queue or self._coming or self._arrived or self._storing or self._delayed)

    @property
    def bytes_arriving(self) -> int:
        """Bytes of files that are not under their names yet."""
        here = [*self._arrived, *self._storing, *self._held]
        return self.bytes_coming + sum(each.size for each in here)

    @property
    def held_elsewhere(self) -> int:
        """Files that are here, while another process stores the same."""
        return len(self._held)

    @property
    def _held(self) -> list[SmallFetch]:
        return [each for each in self._delayed if each.offer is not None]

    @property
    def bytes_coming(self) -> int:
        """Bytes of files that have not come whole."""
        arriving = self._context.remote.arriving
        return sum(arriving(each.number) for each in self._coming)

    @property
    def current(self) -> list[WantedFile]:
        """What is on its way."""
        return [each.wanted for each in self._coming]

    def add(self, wanted: WantedFile) -> None:
        """Fetch this one, too."""
        self._queue.append(SmallFetch(self, wanted))

    def ask(self) -> None:
        """Ask for as many as may be on their way."""
        remote, queue = self._context.remote, self._queue
        now = self._context.reactor.seconds()
        while queue and remote.is_up and remote.in_flight.admit_small(queue[0].size):
            fetch = queue.popleft()
            fetch.started = fetch.started or now
            self._coming.add(fetch)
            wanted = fetch.wanted
            if fetch.is_compared:  # its content is not sent if its version is still this one
                version, have = wanted.version, ((0, 1),)
                fetch.number = remote.get(fetch, wanted.path, version, have, most=fetch.size)
            else:
                fetch.number = remote.get(fetch, wanted.path, most=fetch.size)

    def store(self) -> None:
        """Store what has arrived, unless the files before are still being stored."""
        if self._storing or not self._arrived or self._is_stopped:
            return
        self._storing = self._arrived[:STORE_MAX]
        del self._arrived[:STORE_MAX]
        by_root: dict[Path, list[SmallFetch]] = {}
        for fetch in self._storing:
            by_root.setdefault(fetch.wanted.root, []).append(fetch)
        rows = [(self._folders[root], row) for root, row in by_root.items()]
        storing = self._context.threads.run(_store, self._context.remote.key, rows)
        storing.addCallback(self._stored).addErrback(self._context.stop)

    def stop(self) -> None:
        """Want none of them any more, but for those that are being stored just now."""
        self._is_stopped = True
        self._queue.clear()
        for call in self._delayed.values():
            call.cancel()
        held = self._held
        self._delayed.clear()
        coming, self._coming = self._coming, set()
        for _ in coming:
            self._context.remote.in_flight.small_arrived()
        arrived, self._arrived = self._arrived, []
        for fetch in (*coming, *arrived, *held):
            self._context.remote.cancel(fetch.number, Cancelled.BY_USER)
            self._leave(fetch)

    def arrived(self, fetch: SmallFetch) -> None:
        """One is whole."""
        self._coming.discard(fetch)
        self._context.remote.in_flight.small_arrived()
        assert fetch.offer is not None
        self._context.tally.bytes_fetched += 0 if fetch.block is None else len(fetch.block.data)
        self._arrived.append(fetch)
        self._soon()

    def outgrown(self, fetch: SmallFetch, offer: Offer) -> None:
        """One has grown since it was listed: it is asked for as what it is now."""
        self._gone(fetch)
        wanted, tally = fetch.wanted, self._context.tally
        fetch.tries += 1
        if wanted.is_claimed:
            tally.known_better(wanted.size, offer.size)
            wanted = replace(wanted, size=offer.size, version=offer.version, candidates=())
        else:  # it has to be looked up again, with the size with which it is offered then
            tally.known_better(wanted.size, 0)
            wanted = replace(wanted, size=None, version="", candidates=())
        fetch.wanted = replace(wanted, tries=fetch.tries)
        if fetch.tries >= TRIES_MAX:
            self._fail(fetch, Fault.CHANGED)
        else:
            self._on_large(fetch.wanted)
        self._soon()

    def failed(self, fetch: SmallFetch, why: Fault) -> None:
        """One does not come."""
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
            delay = BUSY_DELAY * fetch.tries
            self._delayed[fetch] = self._context.reactor.callLater(delay, self._again, fetch)
        self._soon()

    def interrupted(self, fetch: SmallFetch) -> None:
        """The session is lost: it is asked for again in the next."""
        self._gone(fetch)
        self._queue.appendleft(fetch)
        self._soon()

    def _again(self, fetch: SmallFetch) -> None:
        del self._delayed[fetch]
        self._queue.append(fetch)
        self._soon()

    def _gone(self, fetch: SmallFetch) -> None:
        """Nothing more comes of it now."""
        self._coming.discard(fetch)
        self._context.remote.in_flight.small_arrived()
        self._leave(fetch)

    def _leave(self, fetch: SmallFetch) -> None:
        fetch.release()
        fetch.offer = None
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
            offer = fetch.offer
            assert offer is not None
            size, root = offer.size, fetch.root
            if absent is not None:
                fetch.wanted = context.placed(fetch.wanted, absent)
            if isinstance(outcome, InUse | TooManyOpenFiles) and self._may_wait(fetch, outcome):
                continue
            self._leave(fetch)
            wanted = fetch.wanted
            if outcome is None:  # no local file is it, and its content was not sent
                context.remote.cancel(fetch.number, Cancelled.BY_USER)
                self._queue.appendleft(fetch)
            elif isinstance(outcome, Present):
                done.append(fetch.number)
                context.tally.known_better(wanted.size, size)
                context.tally.already_there(size)
                context.on_saved(found_file(replace(wanted, size=size), outcome))
            elif isinstance(outcome, Path):
                done.append(fetch.number)
                if size != wanted.size:
                    context.tally.known_better(wanted.size, size)
                context.tally.saved(size)
                seconds = now - fetch.started
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
                    )
                )
            else:
                self._not_saved(fetch, outcome)
        context.remote.done(done)
        self._soon()
        context.remote.room_freed()

    def _may_wait(self, fetch: SmallFetch, error: InUse | TooManyOpenFiles) -> bool:
        """Whether a file that another process is storing, or that could not be opened, is tried again; it stays in
        memory.
        """
        now = self._context.reactor.seconds()
        if fetch.held_at is None:
            fetch.held_at = now
        waited = now - fetch.held_at
        patience = IN_USE_PATIENCE if isinstance(error, InUse) else SHORT_PATIENCE
        if self._is_stopped or waited >= patience:
            return False
        is_remarkable = isinstance(error, InUse) and waited >= IN_USE_REMARK
        if is_remarkable and not self._has_remarked:
            self._has_remarked = True
            path = fetch.wanted.path
            said = "is being fetched by another process: waiting for that one."
            self._context.on_remark(path, f"{format_path(path)!r} {said}")
        self._delayed[fetch] = self._context.reactor.callLater(HELD_DELAY, self._try_storing, fetch)
        return True

    def _try_storing(self, fetch: SmallFetch) -> None:
        del self._delayed[fetch]
        self._arrived.append(fetch)
        self._soon()

    def _not_saved(self, fetch: SmallFetch, error: P2pshareError) -> None:
        remote, wanted = self._context.remote, fetch.wanted
        corrupt = isinstance(error, BlockCorrupt)
        remote.cancel(fetch.number, Cancelled.CORRUPT if corrupt else Cancelled.DISK)
        if corrupt:
            error = SharerLied(name=remote.name, path=format_path(wanted.path))
        self._context.fail(wanted.path, wanted.size, error)


def _store(key: PublicKey, rows: list[tuple[Folder, list[SmallFetch]]]) -> list[_Stored]:
    """Store files; runs in a thread. What fails for one folder is no matter of the others."""
    outcomes: list[_Stored] = []
    for folder, row in rows:
        absents: dict[SmallFetch, Absent] = {}
        whole: dict[SmallFetch, WholeFile] = {}
        for fetch in row:
            try:
                found = _compared(key, folder, fetch)
            except P2pshareError as error:
                outcomes.append((fetch, None, error))
                continue
            if isinstance(found, Present):
                outcomes.append((fetch, None, found))
                continue
            if found is not None:
                absents[fetch] = found
            place = fetch.wanted.place if found is None else found.place
            if fetch.is_here:
                whole[fetch] = fetch.whole(Origin(key, fetch.wanted.path), place)
            else:
                outcomes.append((fetch, found, None))
        stored: Sequence[Path | P2pshareError]
        try:
            stored = folder.store_whole(tuple(whole.values()))
        except P2pshareError as error:
            stored = [error] * len(whole)
        except Exception as error:
            _log.failure("small files were not stored")
            stored = [LocalProtocolError(reason=f"{type(error).__name__}: {error}")] * len(whole)
        for fetch, outcome in zip(whole, stored, strict=True):
            outcomes.append((fetch, absents.get(fetch), outcome))
    return outcomes


def _compared(key: PublicKey, folder: Folder, fetch: SmallFetch) -> Present | Absent | None:
    """What came of the comparison with files that are there; None if there was none."""
    wanted, offer = fetch.wanted, fetch.offer
    assert offer is not None
    if not fetch.is_compared:
        return None
    return folder.settle(
        sought(key, wanted, offer.size, offer.version), wanted.candidates, fetch.root
    )
