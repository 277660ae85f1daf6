"""Fetches accepted offers: a few at once, again and again until each is here or cannot be.

Theory of operation
===================

*Tries.* A download is a series of tries. Each is a `FetchJob` on the folder that the sender shows for the offer, with
a `RemotePeer` of its own, into the folder that was chosen. What has been verified stays, so a try after a restart, a
lost session or a full disk goes on where the last one ended. A try that failed is repeated after a back-off, and at
once when the sender comes online.

*Ends.* Only three things end the series: all files of the offer are here; they cannot be (`_fault_of`), after
`TRIES_MAX` tries if the sender may still repair that; or the owner of this object cancels it. In particular, a full
disk does not end it.

*What counts.* The number of files, folders and bytes that are here under their names must be those of the offer, no
more (`OfferBudget`) and no fewer. What the sender leaves out of a folder was left out when the offer was counted, too.

*Slots.* At most `RUNNING_MAX` tries run at once, and one that has got nothing for `STALL` gives its slot to the next.
One sender has no more than `RUNNING_OF_SENDER_MAX` of them, however slow.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.back_off import BackOff
from p2pshare.core.offers.budget import OfferBudget
from p2pshare.errors import (
    CannotSave,
    KeyChanged,
    OfferChanged,
    P2pshareError,
    Refused,
    RemoteBusy,
    RemoteTooMany,
    SessionLost,
)
from p2pshare.names import ON_NETWORK
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.job import FetchJob, JobItem, SavedFile
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer
from p2pshare.peer.find.target import Target
from p2pshare.peer.offers.parts import OfferParts
from p2pshare.storage.incoming import saved_files
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.storage.offers.inbox_folder import make_folder, remove_parts
from p2pshare.storage.offers.incoming import IncomingOffer
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import ITEMS_MAX, OfferFault, mount_of
from p2pshare.wire.offers.receipts import OfferFiles

RUNNING_MAX = 4  # offers that are fetched at once
RUNNING_OF_SENDER_MAX = 2  # of them of one sender, who may be slow
TRIES_MAX = 3  # tries of an offer whose sender does not have all of it any more
RETRY_FIRST, RETRY_MAX = 5.0, 600.0  # seconds until the next try
PATIENCE = 30.0  # seconds in which a try has to get a session again
STALL = 600.0  # seconds without a byte after which a try gives its slot to another offer
LINGER = 2.0  # seconds for which the session of a complete offer stays open, since the sender is told over it
TICK = 0.5  # seconds between two looks at the progress
RATE_TICKS = 8  # looks over which a rate is measured


@dataclass(frozen=True, slots=True)
class Arrived:
    """All files of an offer."""

    root: bytes
    key: PublicKey
    """The sender's, of the session over which they came."""
    saved: tuple[str, ...]
    """Local paths of what is at the top; the first `ITEMS_MAX`."""


@dataclass(slots=True)
class _Files:
    """The files of an offer that are under their names, of one try."""

    files: OfferFiles = field(default_factory=OfferFiles)
    tops: dict[str, str] = field(default_factory=dict)
    error: P2pshareError | None = None
    """The first error of a file; one of this disk takes precedence."""

    def add(self, file: SavedFile, folder: Path) -> None:
        path = file.remote[1:]  # without the folder of the offer
        self.files.add(path, file.size, file.root)
        if path[0] not in self.tops and len(self.tops) < ITEMS_MAX:
            self.tops[path[0]] = str(_top_of(file.path, folder))

    def failed(self, error: P2pshareError) -> None:
        if self.error is None or isinstance(error, CannotSave):
            self.error = error


@dataclass(slots=True)
class _Download:
    """An offer that is being fetched, or waits for that."""

    offer: IncomingOffer
    back_off: BackOff
    tries: int = 0
    """Those that ended with files missing."""
    job: FetchJob | None = None
    running: Deferred[None] | None = None
    waiting: IDelayedCall | None = None
    unwatch: Callable[[], object] = lambda: None
    trouble: P2pshareError | None = None
    """Why the last try failed."""
    seen: deque[int] = field(default_factory=lambda: deque(maxlen=RATE_TICKS))
    """Bytes at the latest looks."""
    bytes_done: int = 0
    moved: float = 0.0
    """When bytes arrived last."""


class Downloads:
    """The accepted offers."""

    _log = Logger()

    def __init__(
        self,
        parts: OfferParts,
        on_arrived: Callable[[str, Arrived], object],
        on_failed: Callable[[str, OfferFault], object],
        on_change: Callable[[str], object],
        *,
        running_max: int = RUNNING_MAX,
        running_of_sender_max: int = RUNNING_OF_SENDER_MAX,
    ) -> None:
        """Args:
        parts: of the peer.
        on_arrived: called with the local ID of an offer that is complete.
        on_failed: called with the local ID of one that cannot be completed.
        on_change: called with the local ID when the progress or the trouble has changed.
        running_max: offers that are fetched at once.
        running_of_sender_max: those of them of one sender.
        """
        self._parts = parts
        self._on_arrived = on_arrived
        self._on_failed = on_failed
        self._on_change = on_change
        self._running_max = running_max
        self._running_of_sender_max = running_of_sender_max
        self._downloads: dict[str, _Download] = {}
        self._queue: deque[str] = deque()
        self._ending: set[Deferred[None]] = set()
        self._lingering: set[Deferred[None]] = set()  # until connections are closed
        self._closings: set[Deferred[None]] = set()
        self._saved = SavedFiles(parts.folder / saved_files.FILE_NAME)
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = parts.reactor
        self._has_stopped = False

    def start(self, offer: IncomingOffer) -> None:
        """Fetch an accepted offer, into its folder, which may be another one than before."""
        known = self._downloads.get(offer.id)
        if self._has_stopped or (known is not None and known.offer.folder == offer.folder):
            return
        self.cancel(offer.id)
        back_off = BackOff(RETRY_FIRST, RETRY_MAX, self._parts.rng)
        download = self._downloads[offer.id] = _Download(offer, back_off)
        try:
            download.unwatch = self._parts.presence.watch(
                offer.sender.removesuffix(ON_NETWORK), partial(self._presence, offer.id)
            )
        except Refused as error:
            self._log.warn(
                "presence not watched: peer={peer} why={why}", peer=offer.sender, why=error
            )
        self._enqueue(offer.id)

    def cancel(self, local_id: str) -> None:
        """Fetch an offer no more; what has arrived is kept."""
        download = self._downloads.pop(local_id, None)
        if local_id in self._queue:
            self._queue.remove(local_id)
        if download is not None:
            self._dismiss(download)

    def discard(self, offer: IncomingOffer) -> None:
        """Fetch an offer no more, and remove what is there of its incomplete files."""
        download = self._downloads.get(offer.id)
        ended: Deferred[None] = Deferred()
        if download is None or download.running is None:
            ended.callback(None)
        else:
            download.running.addBoth(lambda _: ended.callback(None))
        self.cancel(offer.id)
        self._in_background(self._remove_parts(offer, ended))

    async def _remove_parts(self, offer: IncomingOffer, ended: Deferred[None]) -> None:
        await ended
        if offer.folder is not None:
            names = [each.name for each in offer.items]
            mount = mount_of(offer.offer_id)
            await run_in_thread(self._parts.reactor, remove_parts, offer.folder, names, mount)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that `stop` waits for."""
        self._closings.add(over := Deferred.fromCoroutine(work))
        over.addErrback(lambda failure: self._log.failure("download not cleaned up", failure))
        over.addBoth(lambda _: self._closings.discard(over))

    async def stop(self) -> None:
        """End all, and keep what has arrived for the next start."""
        self._has_stopped = True
        for download in self._downloads.values():
            self._dismiss(download)
        self._downloads.clear()
        for closing in tuple(self._lingering):
            closing.cancel()
        await gatherResults([*self._ending, *self._closings])
        await run_in_thread(self._parts.reactor, self._saved.close)

    def is_running(self, local_id: str) -> bool:
        """Whether an offer is being fetched now."""
        download = self._downloads.get(local_id)
        return download is not None and download.running is not None

    def progress(self, local_id: str) -> tuple[int, int]:
        """Return the bytes of an offer that are here, and the rate in bytes per second."""
        download = self._downloads.get(local_id)
        if download is None:
            return 0, 0
        seen = download.seen
        rate = (seen[-1] - seen[0]) / (TICK * (len(seen) - 1)) if len(seen) > 1 else 0.0
        return download.bytes_done, max(0, int(rate))

    def trouble(self, local_id: str) -> P2pshareError | None:
        """Return why an offer is not being fetched at the moment, although it was accepted."""
        download = self._downloads.get(local_id)
        return None if download is None else download.trouble

    def _dismiss(self, download: _Download) -> None:
        download.unwatch()
        if download.waiting is not None and download.waiting.active():
            download.waiting.cancel()
        if download.running is not None:
            download.running.cancel()

    def _presence(self, local_id: str, is_online: bool) -> None:
        download = self._downloads.get(local_id)
        if download is not None and is_online and download.waiting is not None:
            download.back_off.reset()
            self._enqueue(local_id)

    def _enqueue(self, local_id: str) -> None:
        download = self._downloads.get(local_id)
        if download is None:
            return
        if download.waiting is not None and download.waiting.active():
            download.waiting.cancel()
        download.waiting = None
        if download.running is None and local_id not in self._queue:
            self._queue.append(local_id)
        self._go_on()

    def _go_on(self) -> None:
        """Begin tries, as many as there are slots."""
        while len(self._ending) < self._running_max and not self._has_stopped:
            download = self._take_next()
            if download is None:
                break
            running = Deferred.fromCoroutine(self._try(download))
            download.running = running
            self._ending.add(running)
            running.addBoth(self._tried, download, running)
        if self._ending and not self._ticks.running and not self._has_stopped:
            self._ticks.start(TICK, now=False).addErrback(self._tick_failed)

    def _take_next(self) -> _Download | None:
        """Take the first offer in the queue whose sender has a slot left; None if there is none."""
        waiting = [self._downloads[each] for each in self._queue if each in self._downloads]
        running = Counter(
            each.offer.key for each in self._downloads.values() if each.running is not None
        )
        for download in waiting:
            if running[download.offer.key] < self._running_of_sender_max:
                self._queue.remove(download.offer.id)
                return download
        return None

    def _tick_failed(self, failure: Failure) -> None:
        self._log.failure("progress not looked at", failure)

    def _tried(self, result: object, download: _Download, running: Deferred[None]) -> None:
        self._ending.discard(running)
        download.running, download.job = None, None
        download.seen.clear()
        if isinstance(result, Failure):
            if not result.check(CancelledError):
                self._log.failure("download failed: id={id}", result, id=download.offer.id)
            self._again(download, None)
        if not self._ending and self._ticks.running:
            self._ticks.stop()
        self._go_on()

    def _again(self, download: _Download, error: P2pshareError | None) -> None:
        """Try again later, unless the download was cancelled."""
        local_id = download.offer.id
        if self._downloads.get(local_id) is not download or self._has_stopped:
            return
        if error is not None:
            if str(error) != str(download.trouble):
                self._log.info(
                    "download waits: id={id} peer={peer} why={why}",
                    id=local_id,
                    peer=download.offer.sender,
                    why=error,
                )
            download.trouble = error
        wait = None if error is None else error.fields.get("retry_after")
        delay = download.back_off.next_delay(min(wait, RETRY_MAX) if isinstance(wait, int) else 0.0)
        download.waiting = self._parts.reactor.callLater(delay, self._enqueue, local_id)
        self._on_change(local_id)

    async def _try(self, download: _Download) -> None:
        """Fetch what is missing, and report the end, or try again later."""
        offer, parts = download.offer, self._parts
        folder = offer.folder
        assert folder is not None, "it was accepted"
        files, budget = _Files(), budget_of(offer)
        remote = RemotePeer(
            parts.reactor,
            parts.rng,
            offer.sender,
            partial(self._find, offer),
            parts.dialler,
            LinkLimits(
                silence=parts.settings.timeout, patience=PATIENCE, rate=parts.settings.limit
            ),
            offers=parts.correspondence.attach,
        )
        try:
            await run_in_thread(parts.reactor, make_folder, folder)
            download.moved = parts.reactor.seconds()
            job = download.job = FetchJob(
                remote,
                [JobItem((mount_of(offer.offer_id),), folder, contents=True, budget=budget)],
                on_saved=lambda file: files.add(file, folder),
                on_failed=lambda _, error: files.failed(error),
                open_folder=partial(
                    IncomingFolder.open,
                    saved=self._saved,
                    portable_names=parts.settings.portable_names,
                ),
            )
            await job.run()
            await self._ended(download, files, remote.key, budget.folders_left)
            self._close_later(remote)
        except BaseException as error:
            await remote.close()
            if not isinstance(error, P2pshareError):
                raise
            self._failed(download, error)

    def _close_later(self, remote: RemotePeer) -> None:
        """Close a connection that is still used for a moment."""
        closing: Deferred[None] = deferLater(self._parts.reactor, LINGER)
        self._lingering.add(closing)

        async def close() -> None:
            with suppress(CancelledError):
                await closing
            await remote.close()
            self._lingering.discard(closing)

        self._in_background(close())

    async def _find(self, offer: IncomingOffer) -> Target:
        """Return how to reach the sender; without a proven name, only the key that has made the offer."""
        target = (await self._parts.finder.find(offer.sender.removesuffix(ON_NETWORK))).target
        if offer.sender.endswith(ON_NETWORK) and target.key != offer.key:
            now = target.key.grouped
            raise KeyChanged(name=offer.sender, known=offer.key.grouped, now=now)
        return target

    async def _ended(
        self, download: _Download, files: _Files, key: PublicKey, folders_left: int
    ) -> None:
        """Report a job that has ended by itself."""
        offer = download.offer
        is_local = isinstance(files.error, CannotSave)
        here = len(files.files), files.files.size, offer.folders - folders_left
        if here != (offer.files, offer.bytes, offer.folders) or is_local:
            missing = OfferChanged(name=offer.sender, reason="some of it is missing")
            self._failed(download, files.error or missing, is_final=False)
            return
        root = await run_in_thread(self._parts.reactor, files.files.root)
        if self._downloads.get(offer.id) is download:
            self._forget(download)
            self._on_arrived(offer.id, Arrived(root, key, tuple(files.tops.values())))

    def _failed(
        self, download: _Download, error: P2pshareError, *, is_final: bool | None = None
    ) -> None:
        """Give an offer up, or try again later.

        Args:
            download: of the offer.
            error: why the try failed.
            is_final: whether no other try can succeed; None if the error tells that.
        """
        if self._downloads.get(download.offer.id) is not download:
            return
        fault = _fault_of(error)
        if is_final is None:  # the sender has broken its word
            is_final = isinstance(error, OfferChanged | RemoteTooMany)
        download.tries += fault is not None
        if fault is None or not (is_final or download.tries >= TRIES_MAX):
            self._again(download, error)
            return
        self._log.info(
            "download failed: id={id} peer={peer} why={why}",
            id=download.offer.id,
            peer=download.offer.sender,
            why=error,
        )
        self._forget(download)
        self._on_failed(download.offer.id, fault)

    def _forget(self, download: _Download) -> None:
        """Drop a download that is over."""
        self._downloads.pop(download.offer.id, None)
        download.unwatch()

    def _tick(self) -> None:
        """Look at the progress of all tries."""
        now = self._parts.reactor.seconds()
        for local_id, download in list(self._downloads.items()):
            if download.job is None:
                continue
            done = min(download.job.progress.bytes_done, download.offer.bytes)
            if done != download.bytes_done:
                download.moved, download.trouble = now, None
                download.back_off.reset()
            has_changed = done != download.bytes_done or len(set(download.seen)) > 1
            download.bytes_done = done
            download.seen.append(done)
            if has_changed:
                self._on_change(local_id)
            if now - download.moved > STALL and self._queue and download.running is not None:
                stalled = f"nothing has arrived for {STALL:g} s"
                download.trouble = SessionLost(name=download.offer.sender, reason=stalled)
                download.running.cancel()


def budget_of(offer: IncomingOffer) -> OfferBudget:
    """Return what may be listed and fetched of an offer."""
    return OfferBudget(
        offer.sender,
        offer.items,
        offer.more_items,
        files=offer.files,
        folders=offer.folders,
        size=offer.bytes,
    )


def _fault_of(error: P2pshareError) -> OfferFault | None:
    """Return what an error says of the offer; None if it says nothing, and another try may succeed."""
    match error:
        case OfferChanged():
            return OfferFault.CHANGED
        case RemoteTooMany():
            return OfferFault.TOO_LARGE
        case RemoteBusy():
            return None
    # Errors of this machine, such as those of a disk, have a path, and no name of a peer.
    return OfferFault.GONE if {"name", "path"} <= error.fields.keys() else None


def _top_of(path: Path, folder: Path) -> Path:
    """Return the file or folder in `folder` that leads to a path; the path itself if it is elsewhere."""
    for each in (path, *path.parents):
        if each.parent == folder:
            return each
    return path
