"""Files and folders of another peer as one zip, written as fast as its reader takes it, while they arrive.

The folders are listed while the first files arrive, and a few files are opened ahead: small files would otherwise cost
a round trip each. They are written in the order of the listing. What is opened ahead holds a few blocks each.

A file of which nothing was written yet can be left out: it is gone, or cannot be read. The last entry of the zip,
`LEFT_OUT`, names those, and what the sharer left out of its folders. After its first byte, a file cannot be taken back.
So an error in its middle ends the zip without its end, and the browser shows a failed download.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from twisted.internet.defer import Deferred

from p2pshare.errors import ControlRefused, NotFound, P2pshareError, RemoteIsFile, TransferFailed
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.browse.listing import ENTRIES_MAX
from p2pshare.peer.browse.reading import FileReading, Readings
from p2pshare.peer.browse.sessions import RemoteSessions
from p2pshare.peer.browse.zip_stream import ZipStream, unused
from p2pshare.peer.fetch.remote_faults import omission_errors
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import NANOSECONDS, EntryKind, Listing

ARCHIVES_MAX = 3  # that are written at once: readings must be left for films and pictures
OPEN_AHEAD = 6  # files of one of them that are opened or being written
FILES_MAX = 100_000  # files and folders in one
NAMES_MAX = 16_000_000  # characters of their paths: its end names all, so they stay in memory
PATHS_MAX = 1000  # that a user selects for one
LEFT_OUT_MAX = 1000  # files that it names as left out; others are counted
LEFT_OUT = "LEFT OUT.txt"
STALL_MAX = 600.0  # seconds in which the reader may take nothing: it may be asked where to save
AT_ONCE = 64 * 1024  # bytes of a file that are summed up without a thread


OF_ONE_FILE = (TransferFailed, NotFound)
"""Errors of one file or folder, which the others survive."""
_A_FILE = Listing(0, (), False)
"""The listing of what is no folder."""


class Writer(Protocol):
    """Where a zip goes to: a `web.reply_bodies.Outlet`."""

    @property
    def is_over(self) -> bool:
        """Whether nobody reads any more."""

    def write(self, data: bytes) -> None:
        """Write bytes."""

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when the reader has taken all, or is gone."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file or a folder for the zip."""

    path: RemotePath
    """At the sharer."""
    within: RemotePath
    """In the zip."""
    is_folder: bool = False
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """What somebody wants as a zip, after a first look at it."""

    peer: str
    paths: tuple[RemotePath, ...]
    first: Listing
    """The first page of the first path; `_A_FILE` if that is a file."""

    @property
    def title(self) -> str:
        """The name of the zip without its end: that of the only entry, or of the folder with all entries."""
        if len(self.paths) == 1:
            return self.paths[0][-1] if self.paths[0] else self.peer
        levels = zip(*(path[:-1] for path in self.paths), strict=False)
        folders = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
        return folders[-1] if folders else self.peer


class Archives:
    """Writes zips."""

    def __init__(
        self,
        sessions: RemoteSessions,
        readings: Readings,
        *,
        files_max: int = FILES_MAX,
        names_max: int = NAMES_MAX,
    ) -> None:
        """List over `sessions`, and read with `readings`; at most `files_max` files and folders go into a zip, with
        `names_max` characters in their paths.
        """
        self.files_max = files_max
        self.names_max = names_max
        self._sessions = sessions
        self._readings = readings
        self._running: set[Deferred[None]] = set()
        self._selecting = 0  # selections that are looked at

    async def select(self, peer: str, paths: Sequence[RemotePath]) -> Selection:
        """Look at what is wanted, so that an error comes before the first byte.

        Args:
            peer: the name of the sharer.
            paths: files and folders, 1 to `PATHS_MAX`.

        Raises:
            ControlRefused: `ARCHIVES_MAX` are being written.
            P2pshareError: the peer cannot be found, reached or trusted, or the first path is not there.
        """
        assert 0 < len(paths) <= PATHS_MAX
        if len(self._running) + self._selecting >= ARCHIVES_MAX:
            raise ControlRefused(reason="it writes too many archives now")
        self._selecting += 1
        try:
            async with self._sessions.use(peer) as session:
                try:
                    first = await session.remote.list(paths[0], (), ENTRIES_MAX, recursive=True)
                except RemoteIsFile:
                    first = _A_FILE
        finally:
            self._selecting -= 1
        return Selection(peer, tuple(dict.fromkeys(paths)), first)

    def begin(self, selection: Selection, writer: Writer) -> Deferred[None]:
        """Write a zip, but not its reader's end; the Deferred fails with the reason why it is not complete."""
        writing = Deferred.fromCoroutine(_Archive(self, selection, writer).write())
        self._running.add(writing)
        return writing.addBoth(self._ended, writing)

    def stop(self) -> None:
        """Cancel all. May be called again."""
        for each in tuple(self._running):
            each.cancel()

    def _ended(self, result: None, writing: Deferred[None]) -> None:
        self._running.discard(writing)
        return result


class _Archive:
    """One zip."""

    def __init__(self, archives: Archives, selection: Selection, writer: Writer) -> None:
        self._files_max = archives.files_max
        self._names_max = archives.names_max
        self._sessions = archives._sessions
        self._readings = archives._readings
        self._selection = selection
        self._writer = writer
        self._zip = ZipStream()
        self._ahead: deque[tuple[_Found, Deferred[FileReading]]] = deque()
        self._written = 0  # files and folders
        self._named = 0  # characters of their paths
        self._left_out: list[str] = []
        self._unnamed = 0  # left out, beyond `LEFT_OUT_MAX`
        self._is_cut = False  # whether there are more than `_files_max`

    async def write(self) -> None:
        """Write all of it."""
        try:
            async with (
                self._sessions.use(self._selection.peer),
                aclosing(self._found()) as everything,
            ):
                async for each in everything:
                    self._named += sum(map(len, each.within))
                    if self._written == self._files_max or self._named > self._names_max:
                        self._is_cut = True  # a stranger's list may have no end
                        break
                    self._written += 1
                    await self._take(each)
                while self._ahead:
                    await self._write_next()
            await self._tell_left_out()
            ended = await run_in_thread(self._sessions.reactor, self._zip.end)  # names every file
            await self._send(ended)
        finally:
            self._zip.abandon()
            while self._ahead:
                _, opening = self._ahead.popleft()
                opening.addCallbacks(lambda reading: reading.close(), lambda _: None)
                opening.cancel()

    async def _found(self) -> AsyncGenerator[_Found]:
        """Yield the files and folders that are wanted, a folder before its content."""
        selection, tops = self._selection, set[str]()
        for number, path in enumerate(selection.paths):
            top, _ = unused(path[-1] if path else selection.peer, tops.__contains__)
            tops.add(top)
            page = selection.first if number == 0 else await self._page(path, ())
            if page is _A_FILE:
                yield _Found(path, (top,))
                continue
            if path and page is not None:
                yield _Found(path, (top,), True)
            while page is not None:
                for left_out, error in omission_errors(selection.peer, path, page):
                    self._leave_out(left_out, error)
                for each in page.entries:
                    is_folder = each.kind is EntryKind.FOLDER
                    within = (top, *each.path) if path else each.path
                    yield _Found((*path, *each.path), within, is_folder, each.mtime_ns)
                page = await self._page(path, page.entries[-1].path) if page.more else None

    async def _page(self, path: RemotePath, after: RemotePath) -> Listing | None:
        """Return a page of a folder, or `_A_FILE`; None if the folder, or the rest of it, is left out."""
        async with self._sessions.use(self._selection.peer) as session:
            try:
                return await session.remote.list(path, after, ENTRIES_MAX, recursive=True)
            except RemoteIsFile:
                return _A_FILE
            except OF_ONE_FILE as error:
                self._leave_out(path, error)
                return None

    async def _take(self, found: _Found) -> None:
        """Add a folder, or open a file, when there is room for it."""
        if found.is_folder:
            while self._ahead:  # in order
                await self._write_next()
            await self._send(self._zip.add_folder(found.within, found.mtime_ns / NANOSECONDS))
            return
        while len(self._ahead) >= OPEN_AHEAD:
            await self._write_next()
        opening = Deferred.fromCoroutine(
            self._readings.open(self._selection.peer, found.path, (0, None))
        )
        self._ahead.append((found, opening))

    async def _write_next(self) -> None:
        found, opening = self._ahead.popleft()
        try:
            reading = await opening
        except OF_ONE_FILE as error:
            self._leave_out(found.path, error)
            return
        try:
            await self._write_file(found, reading)
        finally:
            reading.close()

    async def _write_file(self, found: _Found, reading: FileReading) -> None:
        header, at = reading.header, 0
        if header.size:
            try:
                data = await reading.read(0, min(BLOCK_SIZE, header.size))
            except OF_ONE_FILE as error:
                self._leave_out(found.path, error)
                return
        mtime = header.mtime_ns / NANOSECONDS
        await self._send(self._zip.begin_file(found.within, header.size, mtime, header.executable))
        while at < header.size:
            at += len(data)
            if len(data) <= AT_ONCE:
                await self._send(self._zip.add(data))
            else:
                await self._send(await run_in_thread(self._sessions.reactor, self._zip.add, data))
            if at < header.size:
                data = await reading.read(at, min(BLOCK_SIZE, header.size - at))
        await self._send(self._zip.end_file())

    def _leave_out(self, path: RemotePath, error: P2pshareError) -> None:
        if len(self._left_out) < LEFT_OUT_MAX:
            self._left_out.append(f"{format_path(path)}: {error}")
        else:
            self._unnamed += 1

    async def _tell_left_out(self) -> None:
        """Say at the end what is not in the zip."""
        lines = list(self._left_out)
        if self._unnamed:
            lines.append(f"{self._unnamed} more files and folders are left out.")
        if self._is_cut:
            lines.append(
                f"All others are left out: a zip has at most {self._files_max} files and folders,"
                f" with at most {self._names_max} characters in their paths."
            )
        if lines:
            data = "".join(f"{line}\n" for line in lines).encode(errors="replace")
            await self._send(self._zip.begin_file((LEFT_OUT,), len(data), 0.0))
            await self._send(self._zip.add(data) + self._zip.end_file())

    async def _send(self, data: bytes) -> None:
        """Write bytes, and wait until the reader has taken them."""
        if self._writer.is_over:
            raise ReaderGone
        self._writer.write(data)
        await self._writer.drained().addTimeout(STALL_MAX, self._sessions.reactor)


class ReaderGone(Exception):  # noqa: N818 - no error: it has closed its end
    """Nobody reads the zip any more."""
