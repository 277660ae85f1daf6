"""A job of `get` with its progress and results, for a person at a terminal or a program that reads events."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from colorama import Fore
from twisted.internet.task import LoopingCall

from p2pshare.errors import (
    ChangedHere,
    KeyChanged,
    KeyGone,
    OtherKeyThere,
    P2pshareError,
    Refused,
    RemoteWithdrawn,
)
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.job import FetchJob, JobProgress, SavedFile
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.unsaved.stream import DESTINATION
from p2pshare.storage.identity.data_folder import data_place
from p2pshare.storage.incoming import saved_files
from p2pshare.storage.incoming.claimed_names import Claims
from p2pshare.storage.incoming.destination import shown_name
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.terminal.job_view import JobView
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.quantities import duration_text, rate_text, size_text

DRAW_EVERY = 0.1  # seconds
PROGRESS_EVERY = 1.0  # seconds between two `progress` events
TIMED_FROM = 0.1  # seconds; the duration of a faster file is not shown
LINES_MAX = 20  # files of a command that get a line each
RENAMED_SHOWN = 10  # changed names of a job that get a line each

HARD_STOPS = (KeyChanged, KeyGone, OtherKeyThere)
"""Errors after which nothing else of the command is done, as they may be an attack."""


class Job(Protocol):
    """A `FetchJob`, or something else that fetches items of one peer."""

    @property
    def progress(self) -> JobProgress:
        """The progress of the job."""

    @property
    def files_total(self) -> int | None:
        """All files of the job; None until all are listed."""

    async def run(self) -> JobProgress:
        """Fetch the items."""


MakeJob = Callable[..., Job]
"""Makes a job; called with the arguments of `FetchJob`."""
Draw = Callable[[Any, JobView], object]
"""Draws a job in its view, besides the line."""


class Destinations:
    """Opens destination folders, and knows what was saved before and by the jobs of this command."""

    def __init__(self, saved: SavedFiles, *, portable_names: bool) -> None:
        self._saved = saved
        self._portable_names = portable_names
        self._claims = self._current = Claims()
        self._of_peers: dict[str, Claims] = {}

    def __call__(self, path: Path, claims: Claims | None = None) -> IncomingFolder:
        """Open a folder for the job that was begun last, or with other claims."""
        return IncomingFolder.open(
            path,
            saved=self._saved,
            claims=claims or self._current,
            portable_names=self._portable_names,
        )

    def begin_job(self, peer: str) -> None:
        """Begin the job of a peer. If it is repeated, the names that it took before are free for it again."""
        if peer in self._of_peers:
            self._of_peers[peer].give_all_back()
        self._current = self._of_peers.setdefault(peer, self._claims.beside())

    def close(self) -> None:
        """Forget the names that were taken."""
        self._claims.close()


@asynccontextmanager
async def destinations(invocation: Invocation) -> AsyncIterator[Destinations]:
    """Return what opens the destination folders of one command."""
    settings = invocation.settings
    saved = SavedFiles((settings.data or data_place()) / saved_files.FILE_NAME)
    opening = Destinations(saved, portable_names=settings.portable_names)
    try:
        yield opening
    finally:
        opening.close()
        await run_in_thread(invocation.reactor, saved.close)


class Results:
    """The files and errors of one command, which may fetch from several peers."""

    def __init__(
        self, invocation: Invocation, *, tries_again: bool = False, names_present: bool = True
    ) -> None:
        """Begin without results.

        Args:
            invocation: has the output.
            tries_again: whether a job may be repeated, after `begin_again`.
            names_present: whether people read the names of files that were here already.
        """
        self._names_present = names_present
        self._output = invocation.output
        self._cwd = invocation.cwd
        self._seconds = invocation.reactor.seconds
        self._began = self._seconds()
        self._unshown: list[SavedFile] = []  # files that get a line unless there are too many
        self._has_many = False
        self._codes: Counter[tuple[str, int]] = Counter()  # exit codes of errors, by peer
        self._is_hard = False
        self._is_withdrawn = False
        self._reported: set[int] | None = set() if tries_again else None
        self.files = 0
        """Files that were fetched."""
        self.bytes = 0
        """Bytes of them that arrived now."""
        self.already_there = 0
        self.replaced = 0
        """Files among them that have taken the place of others."""
        self.kept = 0
        """Files that an update has left as they are."""

    @property
    def failures(self) -> int:
        """Errors of peers, items and files."""
        return self._codes.total()

    @property
    def exit_code(self) -> int:
        """0 without errors; after a hard stop its code; if nothing exists for one reason, or if the share has ended
        meanwhile, the code of that; else 1.
        """
        if not self.failures or self._is_hard:
            return Refused.exit_code if self._is_hard else 0
        is_whole_reason = self._is_withdrawn or not (self.files or self.already_there)
        codes = {code for _, code in self._codes}
        return codes.pop() if is_whole_reason and len(codes) == 1 else 1

    def saved(self, peer: str, file: SavedFile, total: int | None) -> None:
        """Report a file; `total` is how many files this peer sends, None if that is not known yet.

        If its job is repeated, a file that was reported is not reported again as one that is here.
        """
        if self._reported is not None:
            known_by = hash((peer, file.remote))  # a number for each of up to a million files
            if file.already_there and known_by in self._reported:
                return
            self._reported.add(known_by)
        self.files += not file.already_there
        self.already_there += file.already_there
        self.bytes += file.fetched
        self.replaced += file.is_replaced
        self._output.event(
            "saved",
            **{"from": f"{peer}:{format_path(file.remote)}"},
            path=file.path,
            size=file.size,
            fetched=file.fetched,
            seconds=round(file.seconds, 3),
            already_there=file.already_there,
            renamed=file.is_renamed,
            replaced=file.is_replaced,
            root=file.root.hex() or None,
        )
        self._has_many |= self.files + self.already_there > LINES_MAX or (total or 0) > LINES_MAX
        if not self._has_many:
            self._unshown.append(file)
            if total is not None:
                self._show_files()

    def begin_again(self, peer: str) -> None:
        """Forget the errors of a peer whose job will be repeated."""
        for each in [each for each in self._codes if each[0] == peer]:
            del self._codes[each]

    def failed(self, error: P2pshareError, peer: str = "") -> None:
        """Count an error of a peer that was shown already."""
        self._codes[peer, error.exit_code] += 1
        self.kept += isinstance(error, ChangedHere)
        self._is_hard |= isinstance(error, HARD_STOPS)
        self._is_withdrawn |= isinstance(error, RemoteWithdrawn)

    def summarize(self) -> None:
        """Report the sum; people see it only if there was more than one file."""
        if not self._has_many:
            self._show_files()
        seconds = self._seconds() - self._began
        self._output.event(
            "summary",
            files=self.files,
            bytes=self.bytes,
            seconds=round(seconds, 3),
            already_there=self.already_there,
            replaced=self.replaced,
            kept=self.kept,
            failed=self.failures,
        )
        if self.files + self.already_there + self.failures <= 1:
            return
        parts = []
        if self.files:
            rate = rate_text(self.bytes / max(seconds, 1e-3))
            what = f"{self.files} file{'' if self.files == 1 else 's'}"
            parts.append(f"{what}, {size_text(self.bytes)}, in {duration_text(seconds)}, {rate}")
        if self.replaced:
            parts.append(f"{self.replaced} of them replaced")
        if self.already_there:
            parts.append(f"{self.already_there} {_were(self.already_there)} here already")
        if self.failures:
            parts.append(f"{self.failures} failed")
        self._output.line("; ".join(parts) + ".", Fore.YELLOW if self.failures else Fore.GREEN)

    def _show_files(self) -> None:
        for file in self._unshown:
            path = shown_path(file.path, self._cwd)
            if file.already_there:
                if self._names_present:
                    self._output.line(f"{path} is here already.")
                continue
            facts = size_text(file.size)
            if file.fetched != file.size:
                facts += f", {size_text(file.fetched)} of it fetched now"
            if file.seconds >= TIMED_FROM:
                facts += (
                    f" in {duration_text(file.seconds)}, {rate_text(file.fetched / file.seconds)}"
                )
            is_written = file.path == DESTINATION
            what = "Written to standard output" if is_written else f"Saved {path}"
            self._output.line(f"{what}: {facts}.", Fore.GREEN)
        self._unshown.clear()


class WatchedJob:
    """One job with one peer, and its view: `run` it once."""

    def __init__(
        self,
        invocation: Invocation,
        peer: str,
        results: Results,
        *,
        make_job: MakeJob = FetchJob,
        draw: Draw = lambda *_: None,
    ) -> None:
        """Fetch files from `peer` and report them to `results`; `draw` is called with the job and the view."""
        self._output = invocation.output
        self._clock = invocation.reactor
        self._peer = peer
        self._results = results
        self._make_job = make_job
        self._draw = draw
        self._job: Job | None = None
        self._view: JobView = self._output.job(peer, self._clock.seconds)
        self._is_broken = False
        self._names_changed = 0
        self._reported = self._clock.seconds()

    @property
    def progress(self) -> JobProgress | None:
        """The progress of the job; None before it has begun."""
        return None if self._job is None else self._job.progress

    def link(self, change: LinkChange) -> None:
        """Process a change of the connection: people see once that it broke, and once that it is back."""
        self._view.link(change)
        if change.state is LinkState.BROKEN and not self._is_broken:
            self._is_broken = True
            self._remark(self._peer, f"{change}.")
        elif change.state is LinkState.UP and self._is_broken:
            self._is_broken = False
            self._remark(self._peer, f"{change}.")

    async def run(self, source: Any, items: Sequence[JobItem]) -> JobProgress:
        """Fetch the items; an item that fails is reported, and the others are fetched.

        A cancelled job keeps what has been verified.

        Args:
            source: what `make_job` fetches from; a `RemotePeer` for a `FetchJob`.
            items: what to fetch.

        Raises:
            P2pshareError: nothing more can be fetched from this peer, or be written.
        """
        job = self._job = self._make_job(
            source,
            items,
            on_saved=self._saved,
            on_failed=self._failed,
            on_remark=lambda path, text: self._remark(self._origin(path), text),
            on_renamed=self._renamed,
        )
        drawing = LoopingCall(self._look)
        drawing.clock = self._clock
        self._view.start()
        drawn = drawing.start(DRAW_EVERY)
        try:
            progress = await job.run()
        finally:
            self._draw(job, self._view)
            if drawing.running:
                drawing.stop()
            self._view.finish()
            self._output.end_failures()
            more = self._names_changed - RENAMED_SHOWN
            if more > 0:
                self._remark(self._peer, f"{more} more names were changed.")
        await drawn  # fails if the terminal is gone
        return progress

    def _look(self) -> None:
        """Draw the view, and send a `progress` event when it is due."""
        assert self._job is not None
        progress, now = self._job.progress, self._clock.seconds()
        self._draw(self._job, self._view)
        self._view.update(progress)
        if now - self._reported >= PROGRESS_EVERY:
            self._reported = now
            self._output.event(
                "progress",
                done=progress.bytes_done,
                total=progress.bytes_total,
                unit="bytes",
                rate=round(self._view.pace.rate, 1),
                files=progress.files_done + progress.files_already_there,
                files_total=progress.files_total,
                files_listed=progress.files_listed,
                files_rate=round(self._view.pace.files_rate, 1),
            )

    def _saved(self, file: SavedFile) -> None:
        total = self._job.files_total if self._job is not None else None
        self._results.saved(self._peer, file, total)

    def _failed(self, path: RemotePath, error: P2pshareError) -> None:
        self._output.failed(self._origin(path), error)
        self._results.failed(error, self._peer)

    def _renamed(self, path: RemotePath, name: str) -> None:
        """Report the first changed names; each `saved` event says whether its name was changed."""
        self._names_changed += 1
        if self._names_changed <= RENAMED_SHOWN:
            is_shown = name == shown_name(path[-1]) != path[-1]
            why = "so that it is not hidden" if is_shown else "as its own name is not allowed here"
            self._remark(self._origin(path), f"{format_path(path)!r} is saved as {name!r}, {why}.")

    def _remark(self, origin: str, text: str) -> None:
        self._output.event("remark", **{"from": origin}, text=text)
        self._output.remark(text)

    def _origin(self, path: RemotePath) -> str:
        return f"{self._peer}:{format_path(path)}"


def shown_path(path: Path, cwd: Path) -> str:
    """Return the shorter of the absolute path and the path relative to `cwd`."""
    return min(str(path), os.path.relpath(path, cwd), key=len)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
