"""Many files fetched from one peer as one job.

Theory of operation. A job is three loops that feed each other through bounded queues, all in the reactor's thread:

::

    JobPlan ──pages──► ListingBacklog ──pages──► look-up on the disk ──files──► queues ──► requests in flight
      │ lists as fast as the sharer answers       │ one page at a time,         SmallFetches: many at once,
      │ until the backlog is full                 │ while fewer than QUEUE_MAX  stored in batches
      ▼                                           ▼ files are queued            LargeFetch: a few at once
    the total is known early                    files that are here are reported and never requested

* Rounds. `_decide` is the only place that starts requests. Whatever may allow another one (a file stored, a slot free,
  a page looked up, a session up) calls `_soon`, so that all events of one turn of the reactor share one decision. It
  stores small files first, since that frees memory for others. It asks for small files before large ones: a large file
  fills the line for long, and small ones wait for round trips.
* Ends. `_over` fires once: with None when everything listed is looked up, requested and reported, or with the error
  that stops the job. A full disk and a destination that is gone stop it, because every other file would fail as well.
  An error of one file or item is reported, and the others go on. An unexpected exception stops the job; none is lost.
* Winding up happens in `run`, however the job ends, also when it is cancelled: nothing new starts, transfers are
  cancelled, parts are suspended by their fetches, and only when no thread is at work the folders are closed.
* A lost session costs the bytes of incomplete blocks, and small files that were on their way. Their fetches hear of the
  loss by `interrupted` and ask again. `RemotePeer` reconnects when the first of them needs a session. The sharer of a
  new session knows nothing of the job, so it is told again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import (
    DestinationGone,
    DiskFull,
    P2pshareError,
    RemoteWithdrawn,
    TooManyOpenFiles,
)
from p2pshare.peer.fetch.disk_work import DiskWork
from p2pshare.peer.fetch.first_file import FirstFile
from p2pshare.peer.fetch.job_parts import (
    SHORT_DELAY,
    SHORT_PATIENCE,
    JobContext,
    found_file,
    sought,
)
from p2pshare.peer.fetch.large_files import LargeFetch
from p2pshare.peer.fetch.listing_backlog import ListingBacklog
from p2pshare.peer.fetch.plan import JobItem, JobPlan, Wanted, WantedFile, WantedFolder
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.small_files import SmallFetches
from p2pshare.peer.fetch.tally import CURRENT_SHOWN, JobProgress, JobTally, SavedFile
from p2pshare.storage.file_times import utc_time
from p2pshare.storage.incoming.announcement import Origin, Place
from p2pshare.storage.incoming.destination import shown_name
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.hidden_file import is_absent
from p2pshare.storage.incoming.present_files import Absent, Present, Sought
from p2pshare.storage.open_file_limit import share_of_files
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.strict_json import INTEGER_MAX
from p2pshare.wire.transfer_messages import TITLE_MAX, Cancelled, Job

__all__ = ["FetchJob", "JobItem", "JobProgress", "SavedFile"]

QUEUE_MAX = 4000  # files that are looked up and not requested, at which looking up waits
RENAMED_MAX = 10_000  # changed names that are reported only once
RUNNING_MAX = 8  # large files that are arriving or being finished
FILES_PART = 12  # part of the open files that the limit leaves: one in 12 for each large file, of three files
TELL_AGAIN = 60.0  # seconds after which the sharer hears of the job again, so that it is not idle
TICK = 1.0  # seconds between two checkpoints, and between two messages on the job to the sharer

Found = Present | Absent | str | P2pshareError
"""What was found of a file, or the local name of a folder."""


class FetchJob:
    """One job; `run` it once. `progress` may be read at any time."""

    _log = Logger()

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        *,
        on_saved: Callable[[SavedFile], object] = lambda _: None,
        on_failed: Callable[[RemotePath, P2pshareError], object] = lambda *_: None,
        on_remark: Callable[[RemotePath, str], object] = lambda *_: None,
        on_renamed: Callable[[RemotePath, str], object] = lambda *_: None,
        files_max: int | None = None,
        open_folder: Callable[[Path], IncomingFolder] = IncomingFolder.open,
    ) -> None:
        """Args:
        remote: the sharer; it is not closed in the end.
        items: the wanted items.
        on_saved: called with each file that is here under its name.
        on_failed: called with each item, or file of one, that failed.
        on_remark: called with a sentence on a file that a user should read, such as a restart.
        on_renamed: called with the local name of a file or folder that cannot have its own.
        files_max: files and folders that may be listed for an item, as in `JobPlan`.
        open_folder: opens the folders of the items.
        """
        self._reactor = reactor = remote.reactor
        self._remote = remote
        self._on_saved = on_saved
        self._on_failed = on_failed
        self._on_remark = on_remark
        self._on_renamed = on_renamed
        self._renamed: set[RemotePath] = set()
        self._open_folder = open_folder
        self._title = _title(items)
        self._tops = {format_path(each.path[:1]) for each in items}
        self._budgets = [each.budget for each in items if each.budget is not None]
        self._tally = JobTally(on_grown=self._grown)
        self._disk = DiskWork(reactor, self._stop)
        self._first = self._first_file(items)
        self._plan = JobPlan(
            remote,
            items,
            self._item_failed,
            self._give_up,
            files_max,
            self._first,
            self._was_renamed,
        )
        self._backlog = ListingBacklog()
        self._folders: dict[Path, IncomingFolder] = {}
        self._context = JobContext(
            remote,
            self._disk,
            self._tally,
            on_saved,
            on_remark,
            self._was_renamed,
            self._file_failed,
            self._stop,
        )
        self._small = SmallFetches(self._context, self._folders, self._queue_up, self._soon)
        self._large: deque[WantedFile] = deque()
        self._running: dict[LargeFetch, Deferred[None]] = {}
        self._running_max = share_of_files(RUNNING_MAX, FILES_PART)
        self._loops: list[Deferred[None]] = []
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
        """All files of the job, as in `progress`, which costs more; None until all are listed."""
        return self._tally.files_total

    @property
    def progress(self) -> JobProgress:
        """A snapshot of the job."""
        small, running = self._small, self._running
        current = [each.wanted.path for each in running]
        if len(current) < CURRENT_SHOWN:
            current += [wanted.path for wanted in small.current[:CURRENT_SHOWN]]
        return self._tally.progress(
            small.bytes_arriving + sum(each.bytes_here for each in running),
            tuple(current[:CURRENT_SHOWN]),
            small.bytes_coming + sum(each.bytes_coming for each in running),
            small.held_elsewhere + sum(each.is_held_elsewhere for each in running),
        )

    async def run(self) -> JobProgress:
        """Fetch all items. Failures are reported to `on_failed`, and the other items go on.

        If it is cancelled, it keeps what has arrived for another try before it ends.

        Raises:
            DiskFull, DestinationGone: nothing more can be written; what has arrived is kept.
            P2pshareError: no session can be opened, or it was lost for good.
        """
        self._remote.on_room.add(self._soon)
        self._remote.on_up.add(self._session_opened)
        peer = self._remote.name
        self._log.debug("job begins: peer={peer} items={items!r}", peer=peer, items=self._title)
        try:
            await self._remote.ready()
            self._start(self._list())
            self._start(self._look_up_all())
            self._ticks.start(TICK, now=False).addErrback(self._broke)
            await self._over
        finally:
            await self._wind_up()
            progress = self.progress
            self._log.debug(
                "job ends: peer={peer} files={files} here_already={here} failed={failed} of={total} bytes={size}",
                peer=peer,
                files=progress.files_done,
                here=progress.files_already_there,
                failed=progress.files_failed,
                total=progress.files_total,
                size=progress.bytes_fetched,
            )
        return progress

    def _first_file(self, items: Sequence[JobItem]) -> FirstFile | None:
        """Return the request for the first item, if the next session may begin with it."""
        if not items or not items[0].path or items[0].is_glob or items[0].contents:
            return None
        item = items[0]

        def is_new(key: PublicKey) -> Awaitable[bool]:
            place = Place((), item.name or shown_name(item.path[-1]))
            return self._disk.run(is_absent, item.folder, place, Origin(key, item.path))

        first = FirstFile(item.path, is_new)
        return first if self._remote.begin_with(first) else None

    def _start(self, loop: Coroutine[Any, Any, None]) -> None:
        self._loops.append(Deferred.fromCoroutine(loop).addErrback(self._broke))

    async def _list(self) -> None:
        """Go through the plan, ahead of everything else."""
        async for page in self._plan.pages():
            self._tally.listed(page.files, page.size)
            await self._backlog.put(page)
        self._tally.all_listed = True
        self._backlog.end()

    def _give_up(self, item: JobItem) -> None:
        """Drop the waiting pages of an item whose listing has no end."""
        for page in self._backlog.drop(item):
            self._tally.listed(-page.files, -page.size)

    async def _look_up_all(self) -> None:
        """Look up the listed files on the disk, page by page."""
        while (page := await self._backlog.take()) is not None:
            wanted = page.wanted()
            for root in {each.root for each in wanted} - self._folders.keys():
                await self._disk.run(self._open, root)
            until = self._reactor.seconds() + SHORT_PATIENCE
            while wanted:
                looking_up = self._disk.run(look_up, self._remote.key, self._folders, wanted)
                outcomes, wanted = await looking_up, []
                for each, found in outcomes:
                    if isinstance(found, TooManyOpenFiles) and self._reactor.seconds() < until:
                        wanted.append(each)
                    else:
                        self._looked_up(each, found)
                self._log.debug(
                    "looked up on the disk: entries={entries} here_already={here} again={again}",
                    entries=len(outcomes),
                    here=sum(isinstance(found, Present) for _, found in outcomes),
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
        """Open a folder in a thread. It is kept even if the job is cancelled meanwhile, to be closed in the end."""
        self._folders[root] = self._open_folder(root)

    @property
    def _queued(self) -> int:
        return self._small.queued + len(self._large)

    def _looked_up(self, wanted: Wanted, found: Found) -> None:
        if isinstance(wanted, WantedFolder):
            if isinstance(found, P2pshareError):
                self._item_failed(wanted.path, found)
            elif isinstance(found, str) and found != wanted.folder[-1]:
                self._was_renamed(wanted.path, found)
        elif isinstance(found, P2pshareError):
            self._context.without_first(wanted)
            self._file_failed(wanted.path, wanted.size, found)
        elif isinstance(found, Present):
            self._context.without_first(wanted)
            self._tally.already_there(wanted.size or 0)
            self._on_saved(found_file(wanted, found))
        else:
            assert isinstance(found, Absent)
            if found.candidates:
                wanted = self._context.without_first(wanted)
            self._queue_up(self._context.placed(wanted, found))

    def _was_renamed(self, path: RemotePath, name: str) -> None:
        """Report each changed name once, as long as there are few."""
        if path not in self._renamed:
            if len(self._renamed) < RENAMED_MAX:
                self._renamed.add(path)
            self._on_renamed(path, name)

    def _queue_up(self, wanted: WantedFile) -> None:
        if wanted.size is None or wanted.size > BLOCK_SIZE:
            self._large.append(wanted)
        else:
            self._small.add(wanted)

    def _soon(self) -> None:
        """Decide what to do next, after all events of this turn of the reactor."""
        if self._deciding is None and not self._is_stopped:
            self._deciding = self._reactor.callLater(0, self._decide)

    def _decide(self) -> None:
        """Start what may start now, and notice the end."""
        deciding, self._deciding = self._deciding, None
        if deciding is not None and deciding.active():
            deciding.cancel()
        if self._is_stopped:
            return
        self._small.store()
        in_flight = self._remote.in_flight
        if self._remote.is_up:
            self._small.ask()
            while (
                self._large and len(self._running) < self._running_max and in_flight.admit_large()
            ):
                self._run_large(self._large.popleft())
        elif self._queued and self._reconnecting is None:
            self._reconnecting = Deferred.fromCoroutine(self._remote.ready())
            self._reconnecting.addErrback(self._broke).addCallback(self._reconnected)
        if self._room is not None and self._queued < QUEUE_MAX // 2:
            room, self._room = self._room, None
            room.callback(None)
        is_busy = self._queued or self._running or self._small.busy
        if self._all_looked_up and not is_busy and not self._over.called:
            self._over.callback(None)

    def _reconnected(self, _: None) -> None:
        self._reconnecting = None
        self._soon()

    def _run_large(self, wanted: WantedFile) -> None:
        fetch = LargeFetch(self._context, self._folders[wanted.root], wanted)

        def over(_: None) -> None:
            self._running.pop(fetch, None)
            self._soon()

        self._running[fetch] = running = Deferred.fromCoroutine(fetch.run())
        running.addErrback(self._broke).addCallback(over)

    def _tick(self) -> None:
        for fetch in tuple(self._running):
            fetch.tick()
        if not self._is_checking and self._folders:
            self._is_checking = True
            checking = self._disk.run(_check, tuple(self._folders.values()))
            checking.addErrback(self._stop).addCallback(self._checked)
        self._tell()

    def _checked(self, _: None) -> None:
        self._is_checking = False

    def _session_opened(self) -> None:
        """Tell the sharer of the job, which the new session knows nothing of."""
        self._told = None
        self._tell()

    def _tell(self) -> None:
        """Tell the sharer how much is still to come, if that has changed, and now and then that the job goes on."""
        progress, now = self.progress, self._reactor.seconds()
        size = max(0, progress.bytes_listed - progress.bytes_done)
        job = Job(self._title, self._tally.files_left, min(size, INTEGER_MAX))
        is_due = job != self._told or now - self._told_at >= TELL_AGAIN
        if is_due and job.files and self._remote.is_up:
            self._told, self._told_at = job, now
            self._remote.tell_job(job)

    def _item_failed(self, path: RemotePath, error: P2pshareError) -> None:
        if not self._stops(error):
            self._tally.item_failed()
            self._on_failed(path, error)

    def _file_failed(self, path: RemotePath, size: int | None, error: P2pshareError) -> None:
        if not self._stops(error):
            self._tally.failed(size)
            self._on_failed(path, error)

    def _grown(self, size: int) -> None:
        """Count bytes that were not listed against the budget of the job's only item, and end the job beyond it."""
        for budget in self._budgets:
            try:
                budget.grow(size)
            except P2pshareError as error:
                self._stop(error)

    def _stops(self, error: P2pshareError) -> bool:
        """End the job if every other file would fail, too; whether that is so."""
        is_fatal = isinstance(error, DiskFull | DestinationGone) or (
            isinstance(error, RemoteWithdrawn) and self._tops == {error.fields["path"]}
        )
        if is_fatal:
            self._stop(error)
        return is_fatal

    def _broke(self, failure: Failure) -> None:
        """End the job by an error that nobody else handles."""
        if failure.check(CancelledError) is None or not self._is_stopped:
            self._stop(failure)

    def _stop(self, why: BaseException | Failure) -> None:
        if not (self._is_stopped or self._over.called):
            self._over.errback(why)

    async def _wind_up(self) -> None:
        """End everything, and keep what has arrived."""
        self._is_stopped = True
        self._remote.on_room.discard(self._soon)
        self._remote.on_up.discard(self._session_opened)
        if self._deciding is not None:
            self._deciding.cancel()
        if self._ticks.running:
            self._ticks.stop()
        for loop in (*self._loops, self._reconnecting):
            if loop is not None:
                loop.cancel()
        if self._first is not None and (number := self._first.drop()) is not None:
            self._remote.cancel(number, Cancelled.BY_USER)
        self._small.stop()
        running = dict(self._running)
        for fetch in running:
            fetch.stop()
        if self._told is not None and self._remote.is_up:
            self._remote.tell_job(Job(self._title, 0, 0))
        await DeferredList(tuple(running.values()))
        await self._disk.idle()
        folders = tuple(self._folders.values())
        self._remark_times(folders)
        if folders:
            await self._disk.run(_close, folders)

    def _remark_times(self, folders: Sequence[IncomingFolder]) -> None:
        """Tell the user once that times could not be kept."""
        for wrong in [each.misdated for each in folders if each.misdated is not None][:1]:
            said, kept = utc_time(wrong.said_ns), utc_time(wrong.kept_ns)
            self._on_remark(
                wrong.path,
                f"{format_path(wrong.path)!r} is dated {said:%Y-%m-%d %H:%M:%S} UTC, which the destination cannot"
                f" store; it is dated {kept:%Y-%m-%d %H:%M:%S} UTC there. Other files may be affected, too.",
            )


def look_up(
    key: PublicKey, folders: dict[Path, IncomingFolder], page: Sequence[Wanted]
) -> list[tuple[Wanted, Found]]:
    """Look up files and make folders, whose names are returned; in a thread."""
    found: list[Found | None] = [None] * len(page)
    known: dict[Path, dict[int, Sought]] = {}
    for number, wanted in enumerate(page):
        folder = folders[wanted.root]
        try:
            if isinstance(wanted, WantedFolder):
                found[number] = folder.make_folder(wanted.folder)[-1]
            elif wanted.size is None:
                found[number] = Absent(folder.local_place(wanted.place))
            else:
                each = sought(key, wanted, wanted.size, wanted.version)
                known.setdefault(wanted.root, {})[number] = each
        except P2pshareError as error:
            found[number] = error
    for root, rows in known.items():
        looked_up = folders[root].look_up_all(tuple(rows.values()))
        for number, each_found in zip(rows, looked_up, strict=True):
            found[number] = each_found
    return [(wanted, each) for wanted, each in zip(page, found, strict=True) if each is not None]


def _check(folders: Sequence[IncomingFolder]) -> None:
    """Notice a destination that was moved or removed; in a thread."""
    for folder in folders:
        folder.check()


def _close(folders: Sequence[IncomingFolder]) -> None:
    for folder in folders:
        with suppress(P2pshareError, OSError):
            folder.close()


def _title(items: Sequence[JobItem]) -> str:
    """Return the name of the job on the sharer's screen."""
    if not items:
        return ""
    first = format_path(items[0].path)
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return first[: TITLE_MAX - len(more)] + more
