"""Many files fetched from one peer, as one job.

What is wanted is listed page by page (`job_plan`), as far ahead as memory allows (`listing_backlog`). The pages are
looked up on the disk; what is not there waits in one of two bounded queues. Small files (`small_fetch`) and large ones
(`large_fetch`) are then asked for, as many at once as the session takes (`core.in_flight`). All decisions are made in
the reactor's thread; what touches the disk is in others.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import DestinationGone, DiskFull, P2pshareError, TooManyOpenFiles
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.block_writer import BlockWriter
from p2pshare.peer.fetch.context import (
    SHORT_DELAY,
    SHORT_PATIENCE,
    Folder,
    JobContext,
    Remote,
    found_file,
    sought,
)
from p2pshare.peer.fetch.large_files import LargeFetch
from p2pshare.peer.fetch.listing_backlog import ListingBacklog
from p2pshare.peer.fetch.plan import JobItem, JobPlan, Wanted, WantedFile, WantedFolder
from p2pshare.peer.fetch.small_files import SmallFetches
from p2pshare.peer.fetch.tally import CURRENT_SHOWN, JobProgress, JobTally, SavedFile
from p2pshare.peer.fetch.thread_work import ThreadWork
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.present_files import Absent, Present, Sought
from p2pshare.storage.open_files import share_of_files
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.strict_json import INTEGER_MAX
from p2pshare.wire.transfer_messages import NANOSECONDS, TITLE_MAX, Job

__all__ = ["FetchJob", "JobItem", "JobProgress", "SavedFile"]

QUEUE_MAX = 4000  # files that were looked up and not yet asked for, upon which looking up waits
RENAMED_MAX = 10_000  # changed names that are told once
RUNNING_MAX = 8  # large files that are on their way or being finished
FILES_PART = 12  # of the open files that the limit leaves: three parts for these
TELL_AGAIN = (
    60.0  # seconds after which the sharer is told the same of the job, lest it takes us for idle
)
TICK = 1.0  # seconds between two syncs of what came, and between two words on the job to the sharer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = -(2**35), 2**37  # seconds: the years 881 and 6325


class FetchJob:
    """One job; `run` it once. `progress` may be looked at meanwhile, at any time."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        remote: Remote,
        items: Sequence[JobItem],
        *,
        on_saved: Callable[[SavedFile], object] = lambda _: None,
        on_failed: Callable[[RemotePath, P2pshareError], object] = lambda *_: None,
        on_remark: Callable[[RemotePath, str], object] = lambda *_: None,
        on_renamed: Callable[[RemotePath, str], object] = lambda *_: None,
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
        on_renamed: told the local name of a file or folder that cannot have its own here.
        files_max: files and folders that may be listed for an item, as in `JobPlan`.
        open_folder: opens the folders of the items.
        """
        self._reactor = reactor
        self._remote = remote
        self._on_saved = on_saved
        self._on_failed = on_failed
        self._on_remark = on_remark
        self._on_renamed = on_renamed
        self._told_renamed: set[RemotePath] = set()
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
            self._renamed,
            self._file_failed,
            self._stop,
        )
        self._context = context
        self._small = SmallFetches(context, self._folders, self._queue_up, self._soon)
        self._large: deque[WantedFile] = deque()
        self._running: dict[LargeFetch, Deferred[None]] = {}
        self._running_max = share_of_files(RUNNING_MAX, FILES_PART)
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
        self._is_checking = False  # the folders

    @property
    def files_total(self) -> int | None:
        """All files of the job, as in `progress`, which takes much longer; None until all was listed."""
        return self._tally.files_total

    @property
    def progress(self) -> JobProgress:
        """How far it has come."""
        small = self._small
        arriving = small.bytes_arriving + sum(each.bytes_here for each in self._running)
        current = [each.wanted.path for each in self._running]
        if len(current) < CURRENT_SHOWN:
            current += [wanted.path for wanted in small.current[:CURRENT_SHOWN]]
        coming = small.bytes_coming + sum(each.bytes_coming for each in self._running)
        held = small.held_elsewhere + sum(each.is_held_elsewhere for each in self._running)
        return self._tally.progress(arriving, tuple(current[:CURRENT_SHOWN]), coming, held)

    async def run(self) -> JobProgress:
        """Fetch all items; what fails is told to `on_failed`, and the others go on.

        When it is cancelled, what has come so far is kept for another try, before it ends.

        Raises:
            DiskFull, DestinationGone: nothing more can be written; what has come is kept.
            P2pshareError: there is no session to be had, or the one that was there was lost for good.
        """
        self._remote.on_room.add(self._soon)
        self._remote.on_up.add(self._linked)
        self._log.debug(
            "job begins: peer={peer} what={what!r}", peer=self._remote.name, what=self._title
        )
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
            progress = self.progress
            self._log.debug(
                "job ends: peer={peer} files={files} here_already={here} failed={failed} of={total} bytes={size}",
                peer=self._remote.name,
                files=progress.files_done,
                here=progress.files_already_there,
                failed=progress.files_failed,
                total=progress.files_total,
                size=progress.bytes_fetched,
            )
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
            until = self._reactor.seconds() + SHORT_PATIENCE
            while wanted:
                look_up = self._threads.run(_look_up, self._remote.key, self._folders, wanted)
                outcomes, wanted = await look_up, []
                for each, outcome in outcomes:
                    if isinstance(outcome, TooManyOpenFiles) and self._reactor.seconds() < until:
                        wanted.append(each)
                    else:
                        self._looked_up(each, outcome)
                self._log.debug(
                    "looked up on the disk: entries={entries} here_already={here} again={again}",
                    entries=len(outcomes),
                    here=sum(isinstance(outcome, Present) for _, outcome in outcomes),
                    again=len(wanted),
                )
                self._decide()
                if wanted:
                    await deferLater(self._reactor, SHORT_DELAY)
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

    def _looked_up(self, wanted: Wanted, outcome: Present | Absent | str | P2pshareError) -> None:
        if isinstance(wanted, WantedFolder):
            if isinstance(outcome, P2pshareError):
                self._item_failed(wanted.path, outcome)
            elif isinstance(outcome, str) and outcome != wanted.folder[-1]:
                self._renamed(wanted.path, outcome)
            return
        size = wanted.size
        if isinstance(outcome, P2pshareError):
            self._file_failed(wanted.path, size, outcome)
        elif isinstance(outcome, Present):
            self._tally.already_there(size or 0)
            self._on_saved(found_file(wanted, outcome))
        else:
            assert isinstance(outcome, Absent)
            self._queue_up(self._context.placed(wanted, outcome))

    def _renamed(self, path: RemotePath, name: str) -> None:
        """Tell of each changed name once, while they are few enough to know."""
        if path not in self._told_renamed:
            if len(self._told_renamed) < RENAMED_MAX:
                self._told_renamed.add(path)
            self._on_renamed(path, name)

    def _queue_up(self, wanted: WantedFile) -> None:
        if wanted.size is None or wanted.size > BLOCK_SIZE:
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
            while self._large and len(self._running) < self._running_max and self._admit_large():
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
        self._check_folders()
        self._tell()

    def _check_folders(self) -> None:
        """Notice soon that a destination was moved or removed."""
        if not self._is_checking and self._folders:
            self._is_checking = True
            checking = self._threads.run(_check, tuple(self._folders.values()))
            checking.addErrback(self._stop).addCallback(self._checked)

    def _checked(self, _: object) -> None:
        self._is_checking = False

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
        if isinstance(error, DiskFull | DestinationGone):
            self._stop(error)
        else:
            self._tally.item_failed()
            self._on_failed(path, error)

    def _file_failed(self, path: RemotePath, size: int | None, error: P2pshareError) -> None:
        if isinstance(error, DiskFull | DestinationGone):
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

    def _remark_times(self, folders: Sequence[Folder]) -> None:
        """Say once that times could not be kept."""
        for wrong in [each.misdated for each in folders if each.misdated is not None][:1]:
            self._on_remark(
                wrong.path,
                f"{format_path(wrong.path)!r} is dated {_date_text(wrong.said_ns)}, which the destination cannot hold;"
                f" it is dated {_date_text(wrong.kept_ns)} there. Other files may be affected, too.",
            )

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
        self._remark_times(folders)
        if folders:
            await self._threads.run(_close, folders)


def _look_up(
    key: PublicKey, folders: dict[Path, Folder], page: Sequence[Wanted]
) -> list[tuple[Wanted, Present | Absent | str | P2pshareError]]:
    """Which of these files are there already; folders are made, for which their names are told. Runs in a thread."""
    outcomes: list[Present | Absent | str | P2pshareError | None] = [None] * len(page)
    known: dict[Path, dict[int, Sought]] = {}
    for number, wanted in enumerate(page):
        folder = folders[wanted.root]
        try:
            if isinstance(wanted, WantedFolder):
                outcomes[number] = folder.make_folder(wanted.folder)[-1]
            elif wanted.size is None:
                outcomes[number] = Absent(folder.local_place(wanted.place))
            else:
                each = sought(key, wanted, wanted.size, wanted.version)
                known.setdefault(wanted.root, {})[number] = each
        except P2pshareError as error:
            outcomes[number] = error
    for root, rows in known.items():
        found = folders[root].look_up_all(tuple(rows.values()))
        for number, outcome in zip(rows, found, strict=True):
            outcomes[number] = outcome
    return [
        (wanted, outcome)
        for wanted, outcome in zip(page, outcomes, strict=True)
        if outcome is not None
    ]


def _date_text(time_ns: int) -> str:
    """Return a date for people; one that no calendar has is shown as the first or last."""
    seconds = max(_EARLIEST, min(_LATEST, time_ns // NANOSECONDS))
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"


def _check(folders: Sequence[Folder]) -> None:
    for folder in folders:
        folder.check()


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
