"""What a job has to fetch: folders with all that is in them, globs, and where each file goes.

A folder is listed page by page, and a page is not asked for before the one in front of it was taken: what is listed and
not yet fetched stays bounded, however many files there are.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from p2pshare.errors import (
    P2pshareError,
    RemoteIsFile,
    RemoteNotFound,
    RemotePathTooLong,
    RemoteTooMany,
)
from p2pshare.peer.remote_faults import omission_errors
from p2pshare.storage.announcement import Place
from p2pshare.storage.destination import safe_name
from p2pshare.wire.paths import COMPONENT_MAX, RemotePath, format_path, is_within_bounds
from p2pshare.wire.transfer_messages import PAGE_MAX, Entry, EntryKind, Listing

ENTRIES_MAX = 10_000_000  # files and folders that are listed for one item
LOOK_UP_PAGE = 16  # entries among which a single one is looked for
_GLOB = re.compile(r"[*?[]")
_LAST = "\U0010ffff"  # behind every other character


@dataclass(frozen=True, slots=True)
class JobItem:
    """What a user asked for: a file, a folder with all that is in it, or a glob of either."""

    path: RemotePath
    """Its components may hold `*`, `?` and `[…]`; if there is something of that very name, that is meant."""
    folder: Path
    """Where it goes: an existing folder on this machine."""
    name: str | None = None
    """What a file is called there, or a folder around a folder; None for its own name alone. Not for globs."""
    overwrite: bool = False
    """Replace a file of that name, rather than number the new one."""


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that is to be fetched."""

    path: RemotePath
    root: Path
    """The folder of its item, beneath which its place is."""
    place: Place
    size: int | None
    """Bytes, as it was listed; None if that is not known before it is offered."""
    mtime_ns: int
    """Nanoseconds since 1970."""
    overwrite: bool
    tries: int = 0
    """Requests for it that came to nothing."""


@dataclass(frozen=True, slots=True)
class WantedFolder:
    """A folder that is to be made."""

    path: RemotePath
    root: Path
    folder: tuple[str, ...]


Wanted = WantedFile | WantedFolder


class Lists(Protocol):
    """What is needed of a `RemotePeer`."""

    name: str

    async def list(
        self,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        *,
        recursive: bool = False,
    ) -> Listing:
        """A page of a folder."""


class JobPlan:
    """Goes through the items of a job."""

    def __init__(
        self,
        remote: Lists,
        items: Sequence[JobItem],
        on_failed: Callable[[RemotePath, P2pshareError], object],
        entries_max: int = ENTRIES_MAX,
    ) -> None:
        """Args:
        remote: who is asked.
        items: what is wanted; what stands there twice is taken once.
        on_failed: told of an item that cannot be listed, or an entry that cannot be named; the others go on.
        entries_max: files and folders that may be listed for an item, so that no sharer can list for ever what takes
            no room but fills the disk's table of files.
        """
        self._entries_max = entries_max
        self._entries = 0  # listed for the item
        self._has_omitted = False  # whether the sharer left something out of the item
        self._remote = remote
        self._items = tuple(dict.fromkeys(items))
        self._on_failed = on_failed

    async def pages(self) -> AsyncIterator[list[Wanted]]:
        """All that is wanted, page by page.

        Raises:
            P2pshareError: there is no session to be had any more.
        """
        for item in self._items:
            self._entries, self._has_omitted = 0, False
            try:
                async for page in self._item(item):
                    yield page
            except P2pshareError as error:
                if not is_of_item(error):
                    raise
                self._on_failed(item.path, error)

    async def _page(
        self,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        *,
        recursive: bool = False,
    ) -> Listing:
        """A page of a folder, which counts; an empty one, too, for there may be many."""
        if not is_within_bounds(path):  # what a glob stands for may be longer than the glob
            raise RemoteNotFound(name=self._remote.name, path=format_path(path))
        listing = await self._remote.list(path, after, limit, recursive=recursive)
        self._entries += max(1, len(listing.entries) + len(listing.omitted))
        if self._entries > self._entries_max:
            raise RemoteTooMany(
                name=self._remote.name, path=format_path(path), most=self._entries_max
            )
        return listing

    def _nameable(self, above: RemotePath, entries: Sequence[Entry]) -> list[Entry]:
        """The entries of the folder `above` but for those whose path no message can name: these fail, each alone."""
        nameable: list[Entry] = []
        for entry in entries:
            path = above + entry.path
            if is_within_bounds(path):
                nameable.append(entry)
            else:
                error = RemotePathTooLong(name=self._remote.name, path=format_path(path))
                self._on_failed(path, error)
        return nameable

    def _report_omitted(
        self,
        above: RemotePath,
        listing: Listing,
        matches: Callable[[str], object] = lambda _: True,
    ) -> None:
        """Let what the sharer left out of a page of the folder `above` fail, if its name matches, or is not known."""
        for path, error in omission_errors(self._remote.name, above, listing):
            if path == above or matches(path[len(above)]):
                self._has_omitted = True
                self._on_failed(path, error)

    async def _item(self, item: JobItem) -> AsyncIterator[list[Wanted]]:
        try:
            async for page in self._literal(item, item.path, item.name):
                yield page
        except RemoteNotFound:
            if not any(map(_GLOB.search, item.path)):
                raise
            found = False
            async for page in self._matching(item, (), item.path):
                found = True
                yield page
            if not found and not self._has_omitted:
                raise RemoteNotFound(name=self._remote.name, path=format_path(item.path)) from None

    async def _literal(
        self, item: JobItem, path: RemotePath, name: str | None
    ) -> AsyncIterator[list[Wanted]]:
        """What is there by this very name: a file, or a folder with all that is in it.

        A file is called `name`. A folder keeps its own within a folder `name`: when the same is wanted again, that one
        is there, and means the same.
        """
        own = tuple(map(safe_name, path[-1:]))
        local = own if name is None else (name, *own)
        after: RemotePath = ()
        try:
            listing = await self._page(path, recursive=True)
        except RemoteIsFile:
            yield [await self._file(item, path, name or own[0])]
            return
        if local:
            yield [WantedFolder(path, item.folder, local)]
        while True:
            self._report_omitted(path, listing)
            if listing.entries:
                nameable = self._nameable(path, listing.entries)
                yield [_wanted(item, path, local, entry) for entry in nameable]
                after = listing.entries[-1].path
            if not listing.more:
                return
            listing = await self._page(path, after, recursive=True)

    async def _file(self, item: JobItem, path: RemotePath, name: str) -> WantedFile:
        """A file of which only the path is known."""
        entry = await self._look_up(path)
        size, mtime_ns = (None, 0) if entry is None else (entry.size, entry.mtime_ns)
        return WantedFile(path, item.folder, Place((), name), size, mtime_ns, item.overwrite)

    async def _look_up(self, path: RemotePath) -> Entry | None:
        try:
            listing = await self._page(path[:-1], just_before(path[-1]), LOOK_UP_PAGE)
        except P2pshareError as error:
            if not is_of_item(error):
                raise
            return None
        for entry in listing.entries:
            if entry.path == path[-1:] and entry.kind is EntryKind.FILE:
                return entry
        return None

    async def _matching(
        self, item: JobItem, above: RemotePath, pattern: RemotePath
    ) -> AsyncIterator[list[Wanted]]:
        """What is in the folder `above` by names that match `pattern`."""
        literal = 0
        while literal < len(pattern) and not _GLOB.search(pattern[literal]):
            literal += 1
        above, pattern = above + pattern[:literal], pattern[literal:]
        try:
            if not pattern:
                async for page in self._literal(item, above, None):
                    yield page
                return
            matches = re.compile(fnmatch.translate(pattern[0])).match
            after: RemotePath = ()
            more = True
            while more:
                listing = await self._page(above, after)
                self._report_omitted(above, listing, matches)
                matching = [entry for entry in listing.entries if matches(entry.path[0])]
                nameable = self._nameable(above, matching)
                async for page in self._matched(item, above, pattern[1:], nameable):
                    yield page
                more = listing.more
                after = listing.entries[-1].path if more else ()
        except (RemoteNotFound, RemoteIsFile):
            return  # so it does not match

    async def _matched(
        self, item: JobItem, above: RemotePath, rest: RemotePath, entries: Sequence[Entry]
    ) -> AsyncIterator[list[Wanted]]:
        """Entries of the folder `above`, of which `rest` is what is wanted, or they themselves."""
        files = [entry for entry in entries if entry.kind is EntryKind.FILE]
        if files and not rest:
            yield [_wanted(item, above, (), entry) for entry in files]
        for entry in entries:
            if entry.kind is EntryKind.FOLDER:
                async for page in self._matching(item, above + entry.path, rest):
                    yield page


def is_of_item(error: P2pshareError) -> bool:
    """Whether an error that a listing raised is this item's own, and others may still be listed."""
    return "path" in error.fields


def just_before(name: str) -> RemotePath:
    """A path that is before `name` in the order of listings, with little or nothing between the two."""
    code = ord(name[-1]) - 1
    while code >= 0 and (
        0xD800 <= code <= 0xDFFF or chr(code) in "/\0" or (len(name) == 1 and chr(code) == ".")
    ):
        code -= 1
    if code < 0:
        return (name[:-1],) if len(name) > 1 else ()
    before = name[:-1] + chr(code)
    return (before + _LAST if len((before + _LAST).encode()) <= COMPONENT_MAX else before,)


def _wanted(item: JobItem, above: RemotePath, local: tuple[str, ...], entry: Entry) -> Wanted:
    """An entry of the folder `above`, which goes to `local`."""
    path = above + entry.path
    names = local + tuple(map(safe_name, entry.path))
    if entry.kind is EntryKind.FOLDER:
        return WantedFolder(path, item.folder, names)
    place = Place(names[:-1], names[-1])
    return WantedFile(path, item.folder, place, entry.size, entry.mtime_ns, item.overwrite)
