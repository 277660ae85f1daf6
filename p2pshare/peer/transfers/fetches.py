"""The tries of a download that the user wants: one `FetchJob` each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Protocol

from p2pshare.errors import NoSuchPeer, P2pshareError
from p2pshare.peer.fetch.job import FetchJob, JobItem
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.tally import JobProgress
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.peer.find.target import Target
from p2pshare.peer.offers.parts import OfferParts
from p2pshare.peer.transfers.reasons import SOME_FAILED, reason_of
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.storage.offers.downloads import DownloadState, Failure, KeptDownload
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath, format_path

FAILURES_MAX = 50  # files that failed of which path and reason are kept
TEXT_MAX = 512  # characters of the path or the sentence of such a file


class FetchOwner(Protocol):
    """Is told of a download."""

    def fetch_changed(self, download_id: str) -> None:
        """Note that progress, trouble or connection have changed."""

    def fetch_over(
        self, download_id: str, state: DownloadState, why: str | None, text: str | None
    ) -> None:
        """Note the end, with the code and the sentence of the reason."""


class Fetch:
    """A download of the user; a `Series`."""

    def __init__(
        self, kept: KeptDownload, parts: OfferParts, saved: SavedFiles, owner: FetchOwner
    ) -> None:
        """Continue a download as it was kept."""
        self.id = kept.id
        self.peer = kept.peer
        self.person: Hashable = kept.peer
        self.link: LinkChange | None = None
        """The state of the connection of the try that runs."""
        self.was_up = False
        """Whether there has been a session in this try."""
        self.key: PublicKey | None = None
        """The person's, once it is known."""
        self._kept = kept
        self._parts = parts
        self._saved = saved
        self._owner = owner
        self._items = [
            JobItem(each, kept.folder, overwrite=kept.is_forced, update=kept.is_update)
            for each in kept.paths
        ]
        self._found: FoundPeer | None = None
        self._has_met = False
        self._job: FetchJob | None = None
        self._remote: RemotePeer | None = None  # of the try that runs
        self._progress: JobProgress | None = None
        self._failures: list[Failure] = []
        self._failed_codes: set[str] = set()
        self._fetched_before = kept.fetched  # bytes, in earlier tries

    def progress(self) -> JobProgress | None:
        """Return the progress of the try that runs, or has just ended."""
        if self._job is not None:
            self._progress = self._job.progress
        return self._progress

    def changed(self) -> None:
        """Tell the owner."""
        self._owner.fetch_changed(self.id)

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of the try that runs."""
        if self._remote is not None:
            self._remote.limit(bytes_per_second)

    def snapshot(self, kept: KeptDownload) -> KeptDownload:
        """Return a download with its present numbers. While a try is listing, none is lower than it was before."""
        progress = self.progress()
        if progress is None:
            return kept
        files, size, done = progress.files_listed, progress.bytes_listed, progress.bytes_done
        files_done = progress.files_done + progress.files_already_there
        if progress.files_total is None:
            files, size = max(files, self._kept.files), max(size, self._kept.bytes)
            files_done, done = (
                max(files_done, self._kept.files_done),
                max(done, self._kept.bytes_done),
            )
        return replace(
            kept,
            files=files,
            files_done=files_done,
            files_failed=progress.files_failed,
            bytes=size,
            bytes_done=min(done, size),
            fetched=self._fetched_before + progress.bytes_fetched,
            failures=tuple(self._failures),
        )

    @property
    def is_listed(self) -> bool:
        """Whether it is known how much there is in all."""
        return self._progress is not None and self._progress.files_total is not None

    async def attempt(self) -> Callable[[], object]:
        """Fetch what is missing, and return how to report the end."""
        self._begin()
        remote = self._parts.remote_peer(self.peer, self._find, self._link_changed)
        self._remote = remote
        try:
            self._job = FetchJob(
                remote,
                self._items,
                on_failed=self._file_failed,
                open_folder=partial(
                    IncomingFolder.open,
                    saved=self._saved,
                    portable_names=self._parts.settings.portable_names,
                ),
            )
            await self._job.run()
        except P2pshareError as error:
            found = self._found
            raised = error if found is None else found.explained(error)
            is_lost = isinstance(raised, NoSuchPeer) and self._has_met
            if is_lost or not reason_of(raised).is_final:
                raise raised from None
            return self._over(DownloadState.FAILED, reason_of(raised).code, str(raised))
        finally:
            self._note_end()
            await remote.close()
        if self._progress is None or not self._progress.files_failed:
            return self._over(DownloadState.DONE)
        if len(self._failed_codes) == 1 and not self._progress.files_done:
            (code,) = self._failed_codes
            return self._over(DownloadState.FAILED, code, self._failures[0].text)
        failed = self._progress.files_failed
        text = f"{failed} of the files and folders could not be fetched."
        return self._over(DownloadState.FAILED, SOME_FAILED, text)

    def _begin(self) -> None:
        """Forget what the try before has noted."""
        if self._progress is not None:
            self._kept = self.snapshot(self._kept)
            self._fetched_before = self._kept.fetched
        self._progress = self._found = None
        self._failures, self._failed_codes = [], set()
        self.was_up = False

    def _note_end(self) -> None:
        """Note the progress of a try that has ended. What it has of incomplete files is still there."""
        last = self._progress
        now = self.progress()
        if now is not None and last is not None and now.bytes_done < last.bytes_done:
            self._progress = replace(now, bytes_done=last.bytes_done)
        self._job = self._remote = self.link = None

    def _over(
        self, state: DownloadState, why: str | None = None, text: str | None = None
    ) -> Callable[[], object]:
        return partial(self._owner.fetch_over, self.id, state, why, text)

    def _link_changed(self, change: LinkChange) -> None:
        self.link = change
        if change.state is LinkState.UP:
            self.was_up = self._has_met = True
        self.changed()

    async def _find(self) -> Target:
        self._found = found = await self._parts.finder.find(self.peer)
        self.key = found.key
        return found.target

    def _file_failed(self, path: RemotePath, error: P2pshareError) -> None:
        code = reason_of(error).code
        self._failed_codes.add(code)
        if len(self._failures) < FAILURES_MAX:
            self._failures.append(Failure(_cut(format_path(path)), code, _cut(str(error))))


def _cut(text: str) -> str:
    """Return the beginning and the end of a text that may be long; of a path, the end tells more."""
    return (
        text
        if len(text) <= TEXT_MAX
        else f"{text[: TEXT_MAX // 4]}…{text[1 - 3 * TEXT_MAX // 4 :]}"
    )
