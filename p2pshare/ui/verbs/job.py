"""A job while somebody looks on: a person at a terminal, or a program that reads events."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from colorama import Fore
from twisted.internet.task import LoopingCall

from p2pshare.errors import KeyChanged, KeyGone, OtherKeyThere, P2pshareError, Refused
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.context import Folder
from p2pshare.peer.fetch.job import FetchJob, JobProgress, SavedFile
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.storage.identity.data_folder import data_place
from p2pshare.storage.incoming import saved_files
from p2pshare.storage.incoming.claimed_names import Claims
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.numbers import duration_text, rate_text, size_text
from p2pshare.ui.terminal.job_view import JobView
from p2pshare.wire.paths import RemotePath, format_path

DRAW_EVERY = 0.1  # seconds
TELL_EVERY = 1.0  # seconds between two events that say how far it is
TIMED_FROM = 0.1  # seconds that a file takes from which on anybody wants to know
LINES_MAX = 20  # files of a command that get a line each

HARD_STOPS = (KeyChanged, KeyGone, OtherKeyThere)
"""Somebody may stand between: nothing that was asked for is done any further."""

RENAMED_SHOWN = 10  # changed names of a job that get a line each

MakeJob = Callable[..., FetchJob]
"""What makes a job, as `FetchJob` does."""


@asynccontextmanager
async def destinations(invocation: Invocation) -> AsyncIterator[Callable[[Path], Folder]]:
    """What opens the folders to which files of one command go: it knows what was saved before and by this command."""
    settings = invocation.settings
    saved = SavedFiles((settings.data or data_place()) / saved_files.FILE_NAME)
    claims = Claims()
    try:
        yield partial(
            IncomingFolder.open,
            saved=saved,
            claims=claims,
            portable_names=settings.portable_names,
        )
    finally:
        claims.close()
        await run_in_thread(invocation.reactor, saved.close)


class Outcome:
    """What has become of all that one command wanted, of one peer or of several."""

    def __init__(self, invocation: Invocation) -> None:
        self._output = invocation.output
        self._cwd = invocation.cwd
        self._seconds = invocation.reactor.seconds
        self._began = self._seconds()
        self._waiting: list[SavedFile] = []  # files that get a line if there are not many more
        self._has_many = False
        self._codes: set[int] = set()
        self._is_hard = False
        self.files = 0
        """Files that were fetched."""
        self.bytes = 0
        """Bytes of them that came now."""
        self.already_there = 0
        self.failures = 0

    @property
    def exit_code(self) -> int:
        """0 if all is there; that of a hard stop; if nothing is there, for one reason, the code of that; else 1."""
        if not self.failures or self._is_hard:
            return Refused.exit_code if self._is_hard else 0
        nothing = not self.files and not self.already_there
        return next(iter(self._codes)) if nothing and len(self._codes) == 1 else 1

    def saved(self, peer: str, file: SavedFile, total: int | None) -> None:
        """A file is there, of `total` ones of this peer, as far as that is known."""
        self.files += not file.already_there
        self.already_there += file.already_there
        self.bytes += file.fetched
        self._output.event(
            "saved",
            **{"from": f"{peer}:{format_path(file.remote)}"},
            path=file.path,
            size=file.size,
            fetched=file.fetched,
            seconds=round(file.seconds, 3),
            already_there=file.already_there,
            renamed=file.is_renamed,
            root=file.root.hex() or None,
        )
        self._has_many |= self.files + self.already_there > LINES_MAX or (total or 0) > LINES_MAX
        if not self._has_many:
            self._waiting.append(file)
            if total is not None:
                self._say_files()

    def failed(self, error: P2pshareError) -> None:
        """Something did not work, and somebody has said so."""
        self.failures += 1
        self._codes.add(error.exit_code)
        self._is_hard |= isinstance(error, HARD_STOPS)

    def say(self) -> None:
        """Sum it up, unless a line for the only file has said it all."""
        if not self._has_many:
            self._say_files()
        seconds = self._seconds() - self._began
        self._output.event(
            "summary",
            files=self.files,
            bytes=self.bytes,
            seconds=round(seconds, 3),
            already_there=self.already_there,
            failed=self.failures,
        )
        if self.files + self.already_there + self.failures <= 1:
            return
        parts = [_files(self.files, self.bytes, seconds)] if self.files else []
        if self.already_there:
            parts.append(f"{self.already_there} {_were(self.already_there)} here already")
        if self.failures:
            parts.append(f"{self.failures} failed")
        self._output.line("; ".join(parts) + ".", Fore.YELLOW if self.failures else Fore.GREEN)

    def _say_files(self) -> None:
        for file in self._waiting:
            path = shown_path(file.path, self._cwd)
            if file.already_there:
                self._output.line(f"{path} is here already.")
                continue
            facts = size_text(file.size)
            if file.fetched != file.size:
                facts += f", {size_text(file.fetched)} of it fetched now"
            if file.seconds >= TIMED_FROM:
                facts += (
                    f" in {duration_text(file.seconds)}, {rate_text(file.fetched / file.seconds)}"
                )
            self._output.line(f"Saved {path}: {facts}.", Fore.GREEN)
        self._waiting.clear()


class Errand:
    """One job with one peer: `run` it once. `link` is for the `RemotePeer` to say how it stands with the session."""

    def __init__(
        self,
        invocation: Invocation,
        peer: str,
        outcome: Outcome,
        *,
        make_job: MakeJob = FetchJob,
    ) -> None:
        """Get files from `peer`, and let `outcome` know what becomes of them."""
        self._invocation = invocation
        self._output = invocation.output
        self._clock = invocation.reactor
        self._peer = peer
        self._outcome = outcome
        self._make_job = make_job
        self._job: FetchJob | None = None
        self._view: JobView = self._output.job(peer, self._clock.seconds)
        self._is_broken = False
        self._names_changed = 0
        self._told = self._clock.seconds()

    def link(self, change: LinkChange) -> None:
        """Say once that the connection broke, and once that it is back; in between the line says how it stands."""
        self._view.link(change)
        if change.state is LinkState.BROKEN and not self._is_broken:
            self._is_broken = True
            self._remark(self._peer, f"{change}.")
        elif change.state is LinkState.UP and self._is_broken:
            self._is_broken = False
            self._remark(self._peer, f"{change}.")

    async def run(self, remote: RemotePeer, items: Sequence[JobItem]) -> JobProgress:
        """Fetch the items; one that cannot be had is said, and the others go on.

        Cancelled, it keeps what has come so far.

        Raises:
            P2pshareError: nothing more can be had of this peer, or be written.
        """
        job = self._job = self._make_job(
            self._clock,
            remote,
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
            if drawing.running:
                drawing.stop()
            self._view.finish()
            self._output.end_failures()
            more = self._names_changed - RENAMED_SHOWN
            if more > 0:
                self._remark(self._peer, f"{more} more names were changed.")
        await drawn  # fails if it could not be drawn, since nobody reads it any more
        return progress

    def _look(self) -> None:
        """Draw, and tell programs if it is time again."""
        assert self._job is not None
        progress, now = self._job.progress, self._clock.seconds()
        self._view.update(progress)
        if now - self._told >= TELL_EVERY:
            self._told = now
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
        self._outcome.saved(self._peer, file, total)

    def _failed(self, path: RemotePath, error: P2pshareError) -> None:
        self._output.failed(self._origin(path), error)
        self._outcome.failed(error)

    def _renamed(self, path: RemotePath, name: str) -> None:
        """Say the first changed names; each `saved` event tells of its own, too."""
        self._names_changed += 1
        if self._names_changed <= RENAMED_SHOWN:
            text = (
                f"{format_path(path)!r} gets the name {name!r} here, since it cannot have its own."
            )
            self._remark(self._origin(path), text)

    def _remark(self, origin: str, text: str) -> None:
        self._output.event("remark", **{"from": origin}, text=text)
        self._output.remark(text)

    def _origin(self, path: RemotePath) -> str:
        return f"{self._peer}:{format_path(path)}"


def _files(files: int, size: int, seconds: float) -> str:
    what = f"{files} file{'' if files == 1 else 's'}"
    rate = rate_text(size / max(seconds, 1e-3))
    return f"{what}, {size_text(size)}, in {duration_text(seconds)}, {rate}"


def shown_path(path: Path, cwd: Path) -> str:
    """A path as a person in the folder `cwd` would write it."""
    return min(str(path), os.path.relpath(path, cwd), key=len)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
