"""Many files fetched from one peer, as one job.

What is wanted is listed page by page (`job_plan`), as far ahead as memory allows (`listing_backlog`). The pages are
looked up on the disk; what is not there waits in one of two bounded queues. Small files (`small_fetch`) and large ones
(`large_fetch`) are then asked for, as many at once as the session takes (`core.in_flight`). All decisions are made in
the reactor's thread; what touches the disk is in others.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from p2pshare.errors import DiskFull, P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.block_writer import BlockWriter
from p2pshare.peer.job_context import Folder, JobContext, Remote
from p2pshare.peer.job_plan import JobItem, JobPlan, Wanted, WantedFile, WantedFolder
from p2pshare.peer.job_tally import CURRENT_SHOWN, JobProgress, JobTally, SavedFile
from p2pshare.peer.large_fetch import LargeFetch
from p2pshare.peer.listing_backlog import ListingBacklog
from p2pshare.peer.small_fetch import SmallFetches
from p2pshare.peer.thread_work import ThreadWork
from p2pshare.storage.announcement import Origin, Place
from p2pshare.storage.incoming_folder import IncomingFolder
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.strict_json import INTEGER_MAX
from p2pshare.wire.transfer_messages import TITLE_MAX, Job

__all__ = ["FetchJob", "JobItem", "JobProgress", "SavedFile"]

QUEUE_MAX = 4000  # files that were looked up and not yet asked for, upon which looking up waits
RUNNING_MAX = 8  # large files that are on their way or being finished
TELL_AGAIN = (
    60.0  # seconds after which the sharer is told the same of the job, lest it takes us for idle
)
TICK = 1.0  # seconds between two syncs of what came, and between two words on the job to the sharer


class FetchJob:
    """One job; `run` it once. `progress` may be looked at meanwhile, at any time."""

    def __init__(
        self,
        reactor: IPeerReactor,
        remote: Remote,
        items: Sequence[JobItem],
        *,
        on_saved: Callable[[SavedFile], object] = lambda _: None,
        on_failed: Callable[[RemotePath, P2pshareError], object] = lambda *_: None,
        on_remark: Callable[[RemotePath, str], object] = lambda *_: None,
        files_max: int | None = None,
        open_folder: Callable[[Path], Folder] = IncomingFolder.open,
    ) -> None:
        """Args:
        reactor: for threads and timers.
        remote: the `RemotePeer`, which is not closed in the end.
        items: what is wanted.
        on_saved: told of each file that is there under its name.
        on_failed: told of each item, or file of one, that is not.
        on_remark: told in a sentence what a user may want to know of a file, such as that it begins anew.
        files_max: files and folders that may be listed for an item, as in `JobPlan`.
        open_folder: opens the folders of the items.
        """
        self._reactor = reactor
        self._remote = remote
        self._on_saved = on_saved
        self._on_failed = on_failed
        self._open_folder = open_folder
        self._title = _title(items)
        self._tally = JobTally()
        self._threads = ThreadWork(reactor)
        self._plan = JobPlan(remote, items, self._item_failed, self._give_up, files_max)
        self._backlog = ListingBacklog()
        self._folders: dict[Path, Folder] = {}
        context = JobContext(
            reactor,
            remote,
            self._threads,
            BlockWriter(reactor, self._threads, self._stop),
            self._tally,
            on_saved,
            on_remark,
            self._file_failed,
            self._stop,
        )
        self._context = context
        self._small = SmallFetches(context, self._folders, self._add_large, self._soon)
        self._large: deque[WantedFile] = deque()
        self._running: dict[LargeFetch, Deferred[None]] = {}
        self._planning: Deferred[None] | None = None
        self._looking_up: Deferred[None] | None = None
        self._all_looked_up = False
        self._room: Deferred[None] | None = None  # looking up waits for it
        self._reconnecting: Deferred[None] | None = None
        self._deciding: IDelayedCall | None = None
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor
        self._told: Job | None = None
        self._told_at = 0.0
        self._over: Deferred[None] = Deferred()
        self._is_stopped = False

    @property
    def progress(self) -> JobProgress:
        """How far it has come."""
        small = self._small
        arriving = small.bytes_arriving + sum(each.bytes_here for each in self._running)
        current = [each.wanted.path for each in self._running]
        if len(current) < CURRENT_SHOWN:
            current += [wanted.path for wanted in small.current[:CURRENT_SHOWN]]
        coming = small.bytes_coming + sum(each.bytes_coming for each in self._running)
        return self._tally.progress(arriving, tuple(current[:CURRENT_SHOWN]), coming)

    async def run(self) -> JobProgress:
        """Fetch all items; what fails is told to `on_failed`, and the others go on.

        When it is cancelled, what has come so far is kept for another try, before it ends.

        Raises:
            DiskFull: nothing more can be written; what has come is kept.
            P2pshareError: there is no session to be had, or the one that was there was lost for good.
        """
        self._remote.on_room.add(self._soon)
        self._remote.on_up.add(self._linked)
        try:
            await self._remote.ready()
            self._planning = Deferred.fromCoroutine(self._list())
            self._planning.addErrback(self._broke)
            self._looking_up = Deferred.fromCoroutine(self._look_up_all())
            self._looking_up.addErrback(self._broke)
            self._ticks.start(TICK, now=False).addErrback(self._broke)
            await self._over
        finally:
            await self._wind_up()
        return self.progress

    async def _list(self) -> None:
        """Go through the plan, ahead of all else."""
        async for page in self._plan.pages():
            self._tally.listed(page.files, page.size)
            await self._backlog.put(page)
        self._tally.all_listed = True
        self._backlog.end()

    def _give_up(self, item: JobItem) -> None:
        """Fetch no more of an item whose listing has no end."""
        for page in self._backlog.drop(item):
            self._tally.not_wanted(page.files, page.size)

    async def _look_up_all(self) -> None:
        """Look up on the disk what is listed, page by page."""
        while (page := await self._backlog.take()) is not None:
            wanted = page.wanted()
            for root in {each.root for each in wanted} - self._folders.keys():
                await self._threads.run(self._open, root)
            outcomes = await self._threads.run(_look_up, self._remote.key, self._folders, wanted)
            for each, outcome in outcomes:
                self._looked_up(each, outcome)
            self._decide()
            if self._queued >= QUEUE_MAX:
                self._room = Deferred()
                await self._room
        self._all_looked_up = True
        self._tell()
        self._soon()

    def _open(self, root: Path) -> None:
        """Open a folder, to be closed in the end; runs in a thread."""
        self._folders[root] = self._open_folder(root)

    @property
    def _queued(self) -> int:
        return self._small.queued + len(self._large)

    def _looked_up(self, wanted: Wanted, outcome: Path | P2pshareError | None) -> None:
        if isinstance(wanted, WantedFolder):
            if isinstance(outcome, P2pshareError):
                self._item_failed(wanted.path, outcome)
            return
        size = wanted.size
        if isinstance(outcome, P2pshareError):
            self._file_failed(wanted.path, size, outcome)
        elif outcome is not None:
            self._tally.already_there(size or 0)
            self._on_saved(SavedFile(wanted.path, outcome, size or 0, 0, 0.0, True))
        elif size is None or size > BLOCK_SIZE:
            self._large.append(wanted)
        else:
            self._small.add(wanted)

    def _add_large(self, wanted: WantedFile) -> None:
        if (wanted.size or 0) > BLOCK_SIZE:
            self._large.append(wanted)
        else:
            self._small.add(wanted)

    def _soon(self) -> None:
        """Decide what to do next, once all that is here by now was taken."""
        if self._deciding is None and not self._is_stopped:
            self._deciding = self._reactor.callLater(0, self._decide_now)

    def _decide_now(self) -> None:
        self._deciding = None
        self._decide()

    def _decide(self) -> None:
        if self._is_stopped:
            return
        self._small.store()
        if self._remote.is_up:
            self._small.ask()
            while self._large and len(self._running) < RUNNING_MAX and self._admit_large():
                self._run_large(self._large.popleft())
        elif self._queued:
            self._reconnect()
        if self._room is not None and self._queued < QUEUE_MAX // 2:
            room, self._room = self._room, None
            room.callback(None)
        if (
            self._all_looked_up
            and not (self._queued or self._running or self._small.busy)
            and not self._over.called
        ):
            self._over.callback(None)

    def _admit_large(self) -> bool:
        return self._remote.in_flight.admit_large()

    def _run_large(self, wanted: WantedFile) -> None:
        fetch = LargeFetch(self._context, self._folders[wanted.root], wanted)

        def over(_: object) -> None:
            self._running.pop(fetch, None)
            self._soon()

        running = Deferred.fromCoroutine(fetch.run())
        self._running[fetch] = running
        running.addErrback(self._broke).addCallback(over)

    def _reconnect(self) -> None:
        if self._reconnecting is not None:
            return

        def back(_: object) -> None:
            self._reconnecting = None
            self._soon()

        self._reconnecting = Deferred.fromCoroutine(self._remote.ready())
        self._reconnecting.addErrback(self._broke).addCallback(back)

    def _tick(self) -> None:
        for fetch in tuple(self._running):
            fetch.tick()
        self._tell()

    def _linked(self) -> None:
        """There is a session again, in which the sharer knows nothing of the job yet."""
        self._told = None
        self._tell()

    def _tell(self) -> None:
        """Tell the sharer how much is still to come, if that is news; and now and then that we are still here."""
        progress, now = self.progress, self._reactor.seconds()
        size = max(0, progress.bytes_listed - progress.bytes_done)
        job = Job(self._title, self._tally.files_left, min(size, INTEGER_MAX))
        is_due = job != self._told or now - self._told_at >= TELL_AGAIN
        if is_due and job.files and self._remote.is_up:
            self._told, self._told_at = job, now
            self._remote.tell_job(job)

    def _tell_end(self) -> None:
        """Tell the sharer that the job is over, if it has heard of it."""
        if self._told is not None and self._remote.is_up:
            self._remote.tell_job(Job(self._title, 0, 0))

    def _item_failed(self, path: RemotePath, error: P2pshareError) -> None:
        if isinstance(error, DiskFull):
            self._stop(error)
        else:
            self._tally.item_failed()
            self._on_failed(path, error)

    def _file_failed(self, path: RemotePath, size: int | None, error: P2pshareError) -> None:
        if isinstance(error, DiskFull):
            self._stop(error)
        else:
            self._tally.failed(size)
            self._on_failed(path, error)

    def _broke(self, failure: Failure) -> None:
        """What nobody else takes ends the job."""
        if failure.check(CancelledError) is None or not self._is_stopped:
            self._stop(failure)

    def _stop(self, why: BaseException | Failure) -> None:
        if not (self._is_stopped or self._over.called):
            self._over.errback(why)

    async def _wind_up(self) -> None:
        """End everything, keep what has come."""
        self._is_stopped = True
        self._remote.on_room.discard(self._soon)
        self._remote.on_up.discard(self._linked)
        if self._deciding is not None:
            self._deciding.cancel()
        if self._ticks.running:
            self._ticks.stop()
        for waiting in (self._planning, self._looking_up, self._reconnecting):
            if waiting is not None:
                waiting.cancel()
        self._small.stop()
        running = dict(self._running)
        for fetch in running:
            fetch.stop()
        self._tell_end()
        if running:
            await DeferredList(tuple(running.values()))
        await self._threads.idle()
        folders = tuple(self._folders.values())
        if folders:
            await self._threads.run(_close, folders)


def _look_up(
    key: PublicKey, folders: dict[Path, Folder], page: Sequence[Wanted]
) -> list[tuple[Wanted, Path | P2pshareError | None]]:
    """Which of these files are there already; folders are made. Runs in a thread."""
    outcomes: list[tuple[Wanted, Path | P2pshareError | None]] = []
    found: Counter[tuple[Path, Place, int, int]] = (
        Counter()
    )  # two names may become one on this disk
    for wanted in page:
        folder = folders[wanted.root]
        outcome: Path | P2pshareError | None = None
        try:
            if isinstance(wanted, WantedFolder):
                folder.make_folder(wanted.folder)
            elif wanted.size is not None:
                twins = wanted.root, wanted.place, wanted.size, wanted.mtime_ns
                outcome = folder.find(
                    wanted.place,
                    wanted.size,
                    wanted.mtime_ns,
                    Origin(key, wanted.path),
                    overwrite=wanted.overwrite,
                    skip=found[twins],
                )
                found[twins] += outcome is not None
        except P2pshareError as error:
            outcome = error
        outcomes.append((wanted, outcome))
    return outcomes


def _close(folders: Sequence[Folder]) -> None:
    for folder in folders:
        with contextlib.suppress(P2pshareError, OSError):
            folder.close()


def _title(items: Sequence[JobItem]) -> str:
    """What the sharer's screen calls the job."""
    if not items:
        return ""
    first = format_path(items[0].path)
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return first[: TITLE_MAX - len(more)] + more
