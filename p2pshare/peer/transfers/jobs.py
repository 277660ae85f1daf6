"""The downloads that the user wants from the peer: kept in the ledger, and fetched one after the other.

Theory of operation
===================

*Durable first.* `_rows` is what the ledger has, beside the numbers of progress. Each change of a state goes through
`_change`: one at a time, it is committed, and only then acted on. So downloads go on after a kill at any step. Progress
is written every `CHECKPOINT` seconds, and is only shown: the next try finds on the disk what is there.

*Incomplete files.* A download that is cancelled has the reason `PARTS_LEFT` in the ledger until its incomplete files
are removed, so that a kill before that does not leave them for good.

*The end.* A download that is over is written together with its line in the history. If the ledger cannot be written,
the end counts in memory, and the download is tried again after the next start, which finds all files in place.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import Logger

from p2pshare.errors import JobNotSo, NoSuchJob, P2pshareError, WrongUsage
from p2pshare.names import NAME_MAX, read_name
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.threads import TurnLock, run_in_thread
from p2pshare.peer.control import ID_TEXT_MAX, Fields
from p2pshare.peer.fetch.link_change import LinkState
from p2pshare.peer.offers.history import FAILED
from p2pshare.peer.offers.history import TITLE_MAX as HISTORY_TITLE_MAX
from p2pshare.peer.offers.parts import OfferParts
from p2pshare.peer.transfers.fetches import Fetch
from p2pshare.peer.transfers.reasons import (
    ACCEPTANCE,
    CONNECTING,
    OFFLINE,
    QUEUE,
    RECONNECTING,
    reason_of,
)
from p2pshare.peer.transfers.rows import RowOwner, live_actions, row_fields, seconds_left
from p2pshare.storage.identity.data_folder import data_place, inbox_folder
from p2pshare.storage.incoming import saved_files
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.storage.offers.downloads import DownloadState, KeptDownload, KeptDownloads
from p2pshare.storage.offers.history import DONE, Direction, HistoryEntry
from p2pshare.storage.offers.inbox_folder import expect_folder, make_folder, remove_parts
from p2pshare.wire.paths import PATH_MAX, RemotePath, format_path, parse_path
from p2pshare.wire.strict_json import boolean, text, texts

PATHS_MAX = 1000  # files and folders of one download
PARTS_LEFT = "parts_left"
"""The reason of a cancelled download in the ledger, until its incomplete files are removed. Nobody is told."""
_OVER = {
    DownloadState.DONE: ["remove"],
    DownloadState.FAILED: ["retry", "remove"],
    DownloadState.CANCELLED: ["retry", "remove"],
}
"""The actions that are allowed for a download that is over."""
CHECKPOINT = 10.0  # seconds after which the progress of a running download is written


@dataclass(slots=True)
class _Row:
    """A download in memory."""

    kept: KeptDownload
    """As in the ledger, with the numbers of the last checkpoint."""
    fetch: Fetch | None = None
    """While it is not over, and not paused."""
    written: float = 0.0
    """When the numbers were written."""


class Jobs:
    """The downloads of the user."""

    _log = Logger()

    def __init__(self, parts: OfferParts, owner: RowOwner) -> None:
        """Go on with downloads after `load` and `start`; `owner` hears of changes."""
        self._parts = parts
        self._owner = owner
        self._store = KeptDownloads(parts.ledger)
        place = parts.settings.data or data_place()  # where the verb `get` has it, too
        self._saved = SavedFiles(place / saved_files.FILE_NAME)
        self._rows: dict[str, _Row] = {}
        self._lock = TurnLock(parts.reactor)  # of changes
        self._closings: set[Deferred[None]] = set()
        self._has_stopped = False

    @property
    def ids(self) -> Iterable[str]:
        """The IDs of all downloads."""
        return self._rows

    async def load(self) -> None:
        """Read the ledger."""
        kept = await run_in_thread(self._parts.reactor, self._store.all)
        self._rows = {each.id: _Row(each) for each in kept}

    def start(self) -> None:
        """Go on with what is not over."""
        for row in self._rows.values():
            self._apply(row)
            if row.kept.why == PARTS_LEFT:
                self._in_background(self._remove_parts(row.kept, succeed(None)))

    async def stop(self) -> None:
        """Fetch nothing more, and keep the progress."""
        if self._has_stopped:
            return
        self._has_stopped = True
        running = [each for each, row in self._rows.items() if row.fetch is not None]
        await gatherResults([self._parts.queue.remove(each) for each in running])
        await gatherResults(list(self._closings))
        async with self._lock:  # ends and changes that were on their way are kept by now
            live = [row for row in self._rows.values() if row.fetch is not None]
            moved = [now for row in live if (now := self._current(row)) != row.kept]
            if moved:
                with suppress(P2pshareError):
                    await run_in_thread(self._parts.reactor, self._store.put, moved)
        await run_in_thread(self._parts.reactor, self._saved.close)

    # Actions

    async def get(self, request: Fields) -> Fields:
        """Perform the action `get`: download files and folders of a person."""
        fields = {"folder": "", "update": False, "force": False, **request}
        name, chosen = text(fields, "name", NAME_MAX), text(fields, "folder", PATH_MAX)
        words = texts(fields, "paths", PATHS_MAX, PATH_MAX)
        is_update, is_forced = boolean(fields, "update"), boolean(fields, "force")
        name, paths = read_name(name), _paths(words)
        if name == self._parts.name:
            raise WrongUsage(reason="You cannot get files from yourself.")
        folder, now = await self._folder(chosen, name), self._parts.now()
        kept = KeptDownload(
            self._parts.draw_id(), name, paths, folder, now, is_update, is_forced, updated=now
        )
        if self._same(kept) is None:
            await self._put([kept])
        row = self._rows.get(kept.id) or self._same(kept)
        assert row is not None, "it is on its way, or the same is"
        return self._shown(row)

    def _same(self, kept: KeptDownload) -> _Row | None:
        """Return a download of the same that is not over: a user may have clicked twice."""
        wanted, paths = (kept.peer, kept.folder, len(kept.paths)), set(kept.paths)
        for row in self._rows.values():
            there = row.kept
            known = there.peer, there.folder, len(there.paths)
            # Each may have a thousand paths, and there may be a thousand rows.
            if there.state.is_live and known == wanted and paths.issuperset(there.paths):
                return row
        return None

    async def pause_all(self) -> int:
        """Pause all downloads of the user; return their number."""
        return await self._move_all(DownloadState.WAITING, DownloadState.PAUSED)

    async def go_on_all(self) -> int:
        """Go on with all downloads that are paused; return their number."""
        return await self._move_all(DownloadState.PAUSED, DownloadState.WAITING)

    async def _move_all(self, before: DownloadState, after: DownloadState) -> int:
        moved = [
            replace(self._current(row), state=after, updated=self._parts.now())
            for row in self._rows.values()
            if row.kept.state is before
        ]
        await self._put(moved, before)
        return len(moved)

    async def pause(self, job_id: str) -> Fields:
        """Pause a download: its incomplete files stay."""
        return await self._change(job_id, "paused", DownloadState.PAUSED, DownloadState.WAITING)

    async def go_on(self, job_id: str) -> Fields:
        """Go on with a download that is paused."""
        return await self._change(job_id, "resumed", DownloadState.WAITING, DownloadState.PAUSED)

    async def cancel(self, job_id: str) -> Fields:
        """End a download: its incomplete files are removed."""
        shown = await self._change(
            job_id,
            "cancelled",
            DownloadState.CANCELLED,
            DownloadState.WAITING,
            DownloadState.PAUSED,
        )
        kept = self._row(job_id).kept
        ended = self._parts.queue.remove(job_id)
        self._in_background(self._remove_parts(kept, ended))
        return shown

    async def retry(self, job_id: str) -> Fields:
        """Try again: at once if a download waits for its next try, from the beginning if it is over."""
        row = self._row(job_id)
        if row.kept.state is DownloadState.WAITING:
            self._parts.queue.try_now(job_id)
            return self._shown(row)
        over = (DownloadState.FAILED, DownloadState.CANCELLED)
        return await self._change(job_id, "retried", DownloadState.WAITING, *over)

    async def remove(self, job_id: str) -> Fields:
        """Remove a download that is over from the list."""
        row = self._row(job_id)
        if row.kept.state.is_live:
            raise self._not_so(row, "removed")
        shown = self._shown(row)
        await self._forget([job_id])
        return shown

    async def clear(self) -> int:
        """Remove all downloads that are over from the list; return their number."""
        over = [each for each, row in self._rows.items() if not row.kept.state.is_live]
        await self._forget(over)
        return len(over)

    def details(self, job_id: str) -> Fields:
        """Return the files of a download that failed."""
        kept = self._current(self._row(job_id))
        failures = [
            {"path": each.path, "why": each.why, "why_text": each.text} for each in kept.failures
        ]
        return {"failures": failures, "more_failures": kept.files_failed - len(failures)}

    def shown(self, job_id: str) -> Fields | None:
        """Return a download as programs see it; None if there is none of that ID."""
        row = self._rows.get(job_id)
        return None if row is None else self._shown(row)

    # As an owner of fetches

    def fetch_changed(self, download_id: str) -> None:
        """Tell of a change, and write the progress now and then."""
        row = self._rows.get(download_id)
        if row is None or self._has_stopped:
            return
        self._owner.row_changed(download_id)
        now = self._parts.reactor.seconds()
        if now - row.written >= CHECKPOINT:
            row.written = now
            self._in_background(self._checkpoint(download_id))

    def fetch_over(
        self, download_id: str, state: DownloadState, why: str | None, text: str | None
    ) -> None:
        """Keep the end of a download, and add it to the history."""
        row = self._rows.get(download_id)
        if row is None:
            return
        kept = replace(
            self._current(row), state=state, why=why, why_text=text, updated=self._parts.now()
        )
        self._log.info(
            "download {state}: id={id} peer={peer} files={files} failed={failed} bytes={bytes}",
            state=state.value,
            id=kept.id,
            peer=kept.peer,
            files=kept.files_done,
            failed=kept.files_failed,
            bytes=kept.bytes_done,
        )
        self._in_background(self._keep_end(row, kept))

    async def _keep_end(self, row: _Row, kept: KeptDownload) -> None:
        async with self._lock:
            if row.kept.state is not DownloadState.WAITING:  # the user was faster
                return
            try:
                entry = self._entry(kept, row)
                await run_in_thread(self._parts.reactor, self._write, [kept], entry)
            except P2pshareError as error:
                self._log.error(
                    "end of a download not kept: id={id} why={why}", id=kept.id, why=error
                )
            row.kept, row.fetch = kept, None
        self._owner.row_changed(kept.id)

    async def _checkpoint(self, download_id: str) -> None:
        async with self._lock:
            row = self._rows.get(download_id)
            if row is None or row.fetch is None or self._has_stopped:
                return
            kept = self._current(row)
            if kept == row.kept:
                return
            try:
                await run_in_thread(self._parts.reactor, self._store.put, [kept])
            except P2pshareError as error:
                self._log.warn("progress not kept: id={id} why={why}", id=download_id, why=error)
            else:
                row.kept = kept

    # Changes

    async def _change(
        self, job_id: str, action: str, wanted: DownloadState, *allowed: DownloadState
    ) -> Fields:
        """Bring a download into a state, durably, and do what follows from it.

        Raises:
            NoSuchJob: there is none of that ID.
            JobNotSo: its state does not allow it.
            LedgerUnusable: it cannot be written.
        """
        row = self._row(job_id)
        if row.kept.state not in allowed:
            raise self._not_so(row, action)
        why = PARTS_LEFT if wanted is DownloadState.CANCELLED else None
        changed = replace(
            self._current(row), state=wanted, why=why, why_text=None, updated=self._parts.now()
        )
        if not row.kept.state.is_live and wanted.is_live:
            changed = replace(changed, files_failed=0, failures=(), fetched=0)
        await self._put([changed], *allowed)
        row = self._row(job_id)
        if row.kept.state is not wanted:
            raise self._not_so(row, action)
        return self._shown(row)

    async def _put(self, changed: Iterable[KeptDownload], *before: DownloadState) -> None:
        """Write downloads, and do what follows, even if the caller is cancelled.

        Args:
            changed: the downloads.
            before: their states; those whose states are other ones by now are left as they are. None if they are new;
                one of which the same is on its way by now is left out.
        """
        writing = Deferred.fromCoroutine(self._written(list(changed), before))
        await SharedAnswer(writing).wait()

    async def _written(
        self, changed: list[KeptDownload], before: tuple[DownloadState, ...]
    ) -> None:
        async with self._lock:
            wanted = [
                each
                for each in changed
                if (self._is_in(each.id, before) if before else self._same(each) is None)
            ]
            if not wanted:
                return
            entry = None
            if len(wanted) == 1 and wanted[0].state is DownloadState.CANCELLED:
                entry = self._entry(wanted[0], self._rows[wanted[0].id])
            dropped = await run_in_thread(self._parts.reactor, self._write, wanted, entry)
            for each in wanted:
                row = self._rows.setdefault(each.id, _Row(each))
                row.kept = each
        for each in wanted:
            self._apply(self._rows[each.id])
            self._owner.row_changed(each.id)
        for download_id in dropped:
            self._rows.pop(download_id, None)
            self._owner.row_changed(download_id)

    def _is_in(self, download_id: str, states: tuple[DownloadState, ...]) -> bool:
        row = self._rows.get(download_id)
        return row is not None and row.kept.state in states

    def _write(
        self, downloads: Iterable[KeptDownload], entry: HistoryEntry | None
    ) -> tuple[str, ...]:
        """Write downloads, and a line in the history; blocks."""
        with self._parts.ledger.changing():
            dropped = self._store.put(downloads)
            if entry is not None:
                self._parts.history.add(entry)
        return dropped

    async def _forget(self, ids: Iterable[str]) -> None:
        """Drop downloads, except those that were begun again meanwhile."""
        async with self._lock:
            over = [
                each
                for each in ids
                if each in self._rows and not self._rows[each].kept.state.is_live
            ]
            await run_in_thread(self._parts.reactor, self._store.remove, over)
            for each in over:
                del self._rows[each]
        for each in over:
            self._owner.row_changed(each)

    def _apply(self, row: _Row) -> None:
        """Fetch a download or not, as its state wants it."""
        if self._has_stopped:
            return
        if row.kept.state is not DownloadState.WAITING:
            row.fetch = None
            self._parts.queue.remove(row.kept.id)
        elif row.fetch is None:
            row.fetch = Fetch(row.kept, self._parts, self._saved, self)
            row.written = self._parts.reactor.seconds()
            self._parts.queue.add(row.fetch)

    async def _remove_parts(self, kept: KeptDownload, ended: Deferred[None]) -> None:
        """Remove the incomplete files of a download, unless the same is wanted again by now."""
        await ended
        names = [each[-1] for each in kept.paths]
        async with self._lock:
            if self._same(kept) is None:
                await run_in_thread(
                    self._parts.reactor, remove_parts, kept.folder, names, list(kept.paths)
                )
            row = self._rows.get(kept.id)
            if row is None or row.kept.why != PARTS_LEFT:
                return
            try:
                cleared = replace(row.kept, why=None)
                await run_in_thread(self._parts.reactor, self._store.put, [cleared])
                row.kept = cleared
            except P2pshareError as error:
                self._log.warn("removal not noted: id={id} why={why}", id=kept.id, why=error)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that `stop` waits for."""
        self._closings.add(over := Deferred.fromCoroutine(work))
        over.addErrback(lambda failure: self._log.failure("download not cleaned up", failure))
        over.addBoth(lambda _: self._closings.discard(over))

    async def _folder(self, chosen: str, name: str) -> Path:
        """Return the folder of a download, which is made if it is missing.

        Raises:
            WrongUsage: it cannot be one.
            CannotSave: it cannot be made.
        """
        folder = Path(chosen) if chosen else inbox_folder(self._parts.settings) / name
        private = self._parts.private if chosen else ()
        await run_in_thread(self._parts.reactor, expect_folder, folder, "a download", private)
        await run_in_thread(self._parts.reactor, make_folder, folder)
        return folder

    def _row(self, job_id: str) -> _Row:
        row = self._rows.get(job_id)
        if row is None:
            raise NoSuchJob(id=job_id[:ID_TEXT_MAX])
        return row

    def _not_so(self, row: _Row, action: str) -> JobNotSo:
        return JobNotSo(id=row.kept.id, state=row.kept.state.value, action=action)

    def _entry(self, kept: KeptDownload, row: _Row) -> HistoryEntry | None:
        """Return the line of the history for a download that is over, if anything has arrived."""
        if not kept.fetched:
            return None
        outcome = DONE if kept.state is DownloadState.DONE else FAILED
        more = f" and {len(kept.paths) - 1} more" if len(kept.paths) > 1 else ""
        title = format_path(kept.paths[0])[: HISTORY_TITLE_MAX - len(more)] + more
        key = None if row.fetch is None else row.fetch.key
        return HistoryEntry(
            self._parts.now(),
            Direction.RECEIVED,
            kept.peer,
            key,
            title,
            kept.files_done,
            kept.fetched,
            outcome,
        )

    def _current(self, row: _Row) -> KeptDownload:
        """Return a download with its present numbers."""
        return row.kept if row.fetch is None else row.fetch.snapshot(row.kept)

    # Rows

    def _shown(self, row: _Row) -> Fields:
        kept, fetch = self._current(row), row.fetch
        standing = self._parts.queue.standing(kept.id)
        state, why, why_text = self._state(kept, fetch)
        rate = 0 if standing is None or state != "running" else standing.rate
        left = None
        if fetch is not None and fetch.is_listed:
            left = seconds_left(kept.bytes - kept.bytes_done, rate)
        retry_at = None
        if standing is not None and standing.retry_in is not None:
            retry_at = self._parts.now() + round(standing.retry_in)
        link = None if fetch is None else fetch.link
        return row_fields(
            id=kept.id,
            direction="down",
            kind="get",
            name=kept.peer,
            paths=[format_path(each) for each in kept.paths],
            folder=str(kept.folder),
            state=state,
            why=why,
            why_text=why_text,
            files=kept.files,
            files_done=kept.files_done,
            files_failed=kept.files_failed,
            bytes=kept.bytes,
            bytes_done=kept.bytes_done,
            rate=rate,
            left_s=left,
            created=kept.created,
            updated=kept.updated,
            path=None if link is None else self._owner.shown_path(link.path),
            turn=None if standing is None or why != QUEUE else standing.turn,
            retry_at=retry_at,
            can=live_actions(state, why) if kept.state.is_live else _OVER[kept.state],
        )

    def _state(self, kept: KeptDownload, fetch: Fetch | None) -> tuple[str, str | None, str | None]:
        """Return the state that users see, and the code and the sentence that say why."""
        if kept.state is not DownloadState.WAITING:
            return kept.state.value, None if kept.why == PARTS_LEFT else kept.why, kept.why_text
        standing = self._parts.queue.standing(kept.id)
        if standing is None or fetch is None:  # it has just ended
            return "running", None, None
        if standing.is_trying and fetch.was_up:
            link = fetch.link
            if link is None or link.state is LinkState.UP:
                return "running", None, None
            if self._parts.presence.is_online(kept.peer) is False:
                return "waiting", OFFLINE, f"{kept.peer} has gone offline."
            return "running", RECONNECTING, f"{link}."
        if standing.is_trying and fetch.link is not None and fetch.link.awaits_acceptance:
            return "waiting", ACCEPTANCE, f"{fetch.link}."
        if standing.trouble is not None:
            code = reason_of(standing.trouble).code
            if code == "unreachable" and self._parts.presence.is_online(kept.peer) is False:
                code = OFFLINE
            return "waiting", code, str(standing.trouble)
        if standing.is_trying:
            return "waiting", CONNECTING, f"The peer is connecting to {kept.peer}."
        return "waiting", QUEUE, "Other downloads run first."


def _paths(words: Iterable[str]) -> tuple[RemotePath, ...]:
    paths = tuple(dict.fromkeys(parse_path(each.strip("/")) for each in words))
    if not paths or () in paths:
        raise WrongUsage(reason="Name the files and folders to get: paths within the shares.")
    return paths
