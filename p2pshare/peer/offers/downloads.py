"""Fetches accepted offers: a series of tries for each, in the queue of everything that the peer downloads.

Theory of operation
===================

*Tries.* Each is a `FetchJob` on the folder that the sender shows for the offer, with a `RemotePeer` of its own, into
the folder that was chosen. `peer.download_queue` decides when it is tried again, and how many tries run at once.

*Ends.* Only three things end the series: all files of the offer are here; they cannot be (`_fault_of`), after
`TRIES_MAX` tries if the sender may still repair that; or the owner of this object cancels it. In particular, a full
disk does not end it.

*What counts.* The number of files, folders and bytes that are here under their names must be those of the offer, no
more (`OfferBudget`) and no fewer. What the sender leaves out of a folder was left out when the offer was counted, too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.offers.budget import OfferBudget
from p2pshare.errors import (
    CannotSave,
    KeyChanged,
    OfferChanged,
    P2pshareError,
    RemoteBusy,
    RemoteTooMany,
)
from p2pshare.names import ON_NETWORK
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.job import FetchJob, JobItem, SavedFile
from p2pshare.peer.fetch.link_change import LinkChange
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.tally import JobProgress
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

TRIES_MAX = 3  # tries of an offer whose sender does not have all of it any more
LINGER = 2.0  # seconds for which the session of a complete offer stays open, since the sender is told over it


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


class Downloads:
    """The accepted offers."""

    _log = Logger()

    def __init__(
        self,
        parts: OfferParts,
        on_arrived: Callable[[str, Arrived], object],
        on_failed: Callable[[str, OfferFault], object],
        on_change: Callable[[str], object],
    ) -> None:
        """Args:
        parts: of the peer.
        on_arrived: called with the local ID of an offer that is complete.
        on_failed: called with the local ID of one that cannot be completed.
        on_change: called with the local ID when the progress or the trouble has changed.
        """
        self.parts = parts
        self.on_arrived = on_arrived
        self.on_failed = on_failed
        self.on_change = on_change
        self.saved = SavedFiles(parts.folder / saved_files.FILE_NAME)
        self._downloads: dict[str, _OfferSeries] = {}
        self._lingering: set[Deferred[None]] = set()  # until connections are closed
        self._closings: set[Deferred[None]] = set()
        self._has_stopped = False

    def start(self, offer: IncomingOffer) -> None:
        """Fetch an accepted offer, into its folder, which may be another one than before."""
        known = self._downloads.get(offer.id)
        if self._has_stopped or (known is not None and known.offer.folder == offer.folder):
            return
        self.cancel(offer.id)
        series = self._downloads[offer.id] = _OfferSeries(self, offer)
        self.parts.queue.add(series)

    def cancel(self, local_id: str) -> None:
        """Fetch an offer no more; what has arrived is kept."""
        if self._downloads.pop(local_id, None) is not None:
            self.parts.queue.remove(local_id)

    def discard(self, offer: IncomingOffer) -> None:
        """Fetch an offer no more, and remove what is there of its incomplete files."""
        self._downloads.pop(offer.id, None)
        ended = self.parts.queue.remove(offer.id)
        if offer.folder is not None:
            self._in_background(self._remove_parts(offer, offer.folder, ended))

    async def _remove_parts(
        self, offer: IncomingOffer, folder: Path, ended: Deferred[None]
    ) -> None:
        await ended
        names, mount = [each.name for each in offer.items], (mount_of(offer.offer_id),)
        await run_in_thread(self.parts.reactor, remove_parts, folder, names, [mount])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that `stop` waits for."""
        self._closings.add(over := Deferred.fromCoroutine(work))
        over.addErrback(lambda failure: self._log.failure("download not cleaned up", failure))
        over.addBoth(lambda _: self._closings.discard(over))

    async def stop(self) -> None:
        """End all, and keep what has arrived for the next start."""
        self._has_stopped = True
        ending = [self.parts.queue.remove(each) for each in self._downloads]
        self._downloads.clear()
        for closing in tuple(self._lingering):
            closing.cancel()
        await gatherResults([*ending, *self._closings])
        await run_in_thread(self.parts.reactor, self.saved.close)

    def is_running(self, local_id: str) -> bool:
        """Whether an offer is being fetched now."""
        return self.parts.queue.is_running(local_id)

    def progress(self, local_id: str) -> tuple[int, int]:
        """Return the bytes of an offer that are here, and the rate in bytes per second."""
        found = self._downloads.get(local_id)
        return 0 if found is None else found.bytes_done, self.parts.queue.progress(local_id)[1]

    def trouble(self, local_id: str) -> P2pshareError | None:
        """Return why an offer is not being fetched at the moment, although it was accepted."""
        return self.parts.queue.trouble(local_id)

    def link(self, local_id: str) -> LinkChange | None:
        """Return the state of the connection of the try that runs; None if there is none."""
        found = self._downloads.get(local_id)
        return None if found is None else found.link

    def files(self, local_id: str) -> int:
        """Return how many files of an offer are here, as far as the last try has found them."""
        found = self._downloads.get(local_id)
        return 0 if found is None else found.files_done

    def forget(self, local_id: str) -> None:
        """Drop a download that is over."""
        self._downloads.pop(local_id, None)

    def close_later(self, remote: RemotePeer) -> None:
        """Close a connection that is still used for a moment."""
        closing: Deferred[None] = deferLater(self.parts.reactor, LINGER)
        self._lingering.add(closing)

        async def close() -> None:
            with suppress(CancelledError):
                await closing
            await remote.close()
            self._lingering.discard(closing)

        self._in_background(close())


class _OfferSeries:
    """The tries of one offer; a `Series`."""

    _log = Logger()

    def __init__(self, downloads: Downloads, offer: IncomingOffer) -> None:
        self.offer = offer
        self.id = offer.id
        self.peer = offer.sender
        self.person: Hashable = offer.key
        self.link: LinkChange | None = None
        self.files_done, self.bytes_done = offer.files_here, offer.bytes_here
        self._downloads = downloads
        self._parts = downloads.parts
        self._tries = 0  # those that ended with files missing
        self._job: FetchJob | None = None
        self._remote: RemotePeer | None = None  # of the try that runs

    def progress(self) -> JobProgress | None:
        """Return the progress of the try; a sender that sends too much makes it no more than complete."""
        if self._job is None:
            return None
        progress = self._job.progress
        files = progress.files_done + progress.files_already_there
        size = min(progress.bytes_done, self.offer.bytes)
        if not progress.bytes_fetched:  # a new try has yet to find what is here
            files, size = max(files, self.files_done), max(size, self.bytes_done)
        self.files_done, self.bytes_done = files, size
        return replace(progress, bytes_done=size)

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of the try that runs."""
        if self._remote is not None:
            self._remote.limit(bytes_per_second)

    def changed(self) -> None:
        """Tell the owner of the downloads."""
        self._downloads.on_change(self.id)

    async def attempt(self) -> Callable[[], object]:
        """Fetch what is missing, and return how to report the end."""
        offer, parts, downloads = self.offer, self._parts, self._downloads
        folder = offer.folder
        assert folder is not None, "it was accepted"
        files, budget = _Files(), budget_of(offer)
        self._remote = remote = parts.remote_peer(offer.sender, self._find, self._link_changed)
        try:
            await run_in_thread(parts.reactor, make_folder, folder)
            self._job = FetchJob(
                remote,
                [JobItem((mount_of(offer.offer_id),), folder, contents=True, budget=budget)],
                on_saved=lambda file: files.add(file, folder),
                on_failed=lambda _, error: files.failed(error),
                open_folder=partial(
                    IncomingFolder.open,
                    saved=downloads.saved,
                    portable_names=parts.settings.portable_names,
                ),
            )
            await self._job.run()
            over = await self._ended(files, remote.key, budget.folders_left)
            downloads.close_later(remote)
            return over
        except BaseException as error:
            await remote.close()
            if not isinstance(error, P2pshareError):
                raise
            return self._failed(error)
        finally:
            self._job = self._remote = self.link = None

    def _link_changed(self, change: LinkChange) -> None:
        self.link = change
        self.changed()

    async def _find(self) -> Target:
        """Return how to reach the sender; without a proven name, only the key that has made the offer."""
        offer = self.offer
        target = (await self._parts.finder.find(offer.sender.removesuffix(ON_NETWORK))).target
        if offer.sender.endswith(ON_NETWORK) and target.key != offer.key:
            now = target.key.grouped
            raise KeyChanged(name=offer.sender, known=offer.key.grouped, now=now)
        return target

    async def _ended(
        self, files: _Files, key: PublicKey, folders_left: int
    ) -> Callable[[], object]:
        """Return how to report a job that has ended by itself."""
        offer = self.offer
        is_local = isinstance(files.error, CannotSave)
        here = len(files.files), files.files.size, offer.folders - folders_left
        if here != (offer.files, offer.bytes, offer.folders) or is_local:
            missing = OfferChanged(name=offer.sender, reason="some of it is missing")
            return self._failed(files.error or missing, is_final=False)
        root = await run_in_thread(self._parts.reactor, files.files.root)
        arrived = Arrived(root, key, tuple(files.tops.values()))

        def over() -> None:
            self._downloads.forget(offer.id)
            self._downloads.on_arrived(offer.id, arrived)

        return over

    def _failed(
        self, error: P2pshareError, *, is_final: bool | None = None
    ) -> Callable[[], object]:
        """Return how to report that an offer is given up, or raise the error, so that it is tried again.

        Args:
            error: why the try failed.
            is_final: whether no other try can succeed; None if the error tells that.
        """
        fault = _fault_of(error)
        if is_final is None:  # the sender has broken its word
            is_final = isinstance(error, OfferChanged | RemoteTooMany)
        self._tries += fault is not None
        if fault is None or not (is_final or self._tries >= TRIES_MAX):
            raise error
        given_up = fault

        def over() -> None:
            self._log.info(
                "download failed: id={id} peer={peer} why={why}",
                id=self.id,
                peer=self.peer,
                why=error,
            )
            self._downloads.forget(self.id)
            self._downloads.on_failed(self.id, given_up)

        return over


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
