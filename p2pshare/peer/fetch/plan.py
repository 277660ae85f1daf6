"""What a job has to fetch: folders with all that is in them, globs, and where each file goes.

The folder that an item is in says whether the item is a file or a folder; so a file is never listed. Folders are listed
page by page. A folder on this machine is made with its first file, and an empty one only when its item was listed to
the end: of a sharer whose listing has no end, no folder is made.
"""

from __future__ import annotations

import fnmatch
import re
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import (
    P2pshareError,
    RemoteIsFile,
    RemoteNotFound,
    RemotePathTooLong,
    RemoteTooMany,
)
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.remote_faults import omission_error, omission_errors
from p2pshare.storage.incoming.announcement import Place
from p2pshare.wire.messages import parse_message
from p2pshare.wire.paths import COMPONENT_MAX, RemotePath, format_path, is_within_bounds
from p2pshare.wire.transfer_messages import PAGE_MAX, Entry, EntryKind, Listing

FILES_MAX = 1_000_000  # files and folders that are listed for one item, unless the user allows more
FOLDERS_MAX = 100_000  # folders among them
PACKING_LEVEL = 1  # of zlib: fast
EMPTY_MAX = 100_000  # empty folders that are known and not made yet
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
    """By its own name; once it was looked up, by the names that it has here."""
    size: int | None
    """Bytes, as it was listed; None if that is not known before it is offered."""
    version: str
    """As it was listed; empty if that is not known."""
    overwrite: bool
    tries: int = 0
    """Requests for it that came to nothing."""
    candidates: tuple[str, ...] = ()
    """Local files that may be it, to be compared before it is fetched."""
    content_root: bytes = b""
    """Of the content that it has to have, if that is known."""
    is_claimed: bool = False
    """Whether no other file of this job can have the number of its place."""
    is_renamed: bool = False
    """Whether the names that it has here are not all its own."""


@dataclass(frozen=True, slots=True)
class WantedFolder:
    """A folder that is to be made."""

    path: RemotePath
    root: Path
    folder: tuple[str, ...]


Wanted = WantedFile | WantedFolder


class PlannedPage:
    """Some of what is wanted. `pack` it to keep it in little memory."""

    def __init__(
        self,
        item: JobItem,
        above: RemotePath = (),
        local: tuple[str, ...] = (),
        entries: Sequence[Entry] = (),
        ready: Sequence[Wanted] = (),
    ) -> None:
        """Args:
        item: to which it belongs.
        above: the folder that was listed.
        local: where that folder goes.
        entries: files of the folder.
        ready: what else is wanted.
        """
        self.item = item
        self._above = above
        self._local = local
        self._entries: tuple[Entry, ...] | bytes = tuple(entries)
        self._ready = ready
        files = [each for each in ready if isinstance(each, WantedFile)]
        self.files = len(entries) + len(files)
        self.size = sum(each.size for each in entries) + sum(each.size or 0 for each in files)
        """Bytes."""

    def pack(self) -> int:
        """Keep the entries compressed from now on; returns how many bytes they take."""
        if not isinstance(self._entries, bytes):
            listing = Listing(0, self._entries, False)
            self._entries = zlib.compress(listing.to_json(), PACKING_LEVEL)
        return len(self._entries)

    def wanted(self) -> list[Wanted]:
        """All of it."""
        entries = self._entries
        if isinstance(entries, bytes):
            listing = parse_message(zlib.decompress(entries))
            assert isinstance(listing, Listing)
            entries = listing.entries
        wanted = [_wanted(self.item, self._above, self._local, entry) for entry in entries]
        return [*self._ready, *wanted]


class JobPlan:
    """Goes through the items of a job."""

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        on_failed: Callable[[RemotePath, P2pshareError], object],
        on_endless: Callable[[JobItem], object] = lambda _: None,
        files_max: int | None = None,
    ) -> None:
        """Args:
        remote: who is asked.
        items: what is wanted; what stands there twice is taken once.
        on_failed: told of an item that cannot be listed, or an entry that cannot be named; the others go on.
        on_endless: told of an item of which more is listed than is allowed, before `on_failed`.
        files_max: files and folders that may be listed for an item, and folders among them; None: `FILES_MAX` and
            `FOLDERS_MAX`. So no sharer can list for ever what takes no room but fills the disk's table of files.
        """
        self._files_max = FILES_MAX if files_max is None else files_max
        self._folders_max = FOLDERS_MAX if files_max is None else files_max
        self._on_endless = on_endless
        self._entries = 0  # listed for the item
        self._folders = 0  # among them
        self._has_omitted = False  # whether the sharer left something out of the item
        self._remote = remote
        self._items = tuple(dict.fromkeys(items))
        self._on_failed = on_failed

    async def pages(self) -> AsyncIterator[PlannedPage]:
        """All that is wanted, page by page.

        Raises:
            P2pshareError: there is no session to be had any more.
        """
        for item in self._items:
            self._entries, self._folders, self._has_omitted = 0, 0, False
            try:
                async for page in self._item(item):
                    yield page
            except P2pshareError as error:
                if not is_of_item(error):
                    raise
                if isinstance(error, RemoteTooMany):
                    self._on_endless(item)
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
            raise self._not_found(path)
        listing = await self._remote.list(path, after, limit, recursive=recursive)
        self._entries += max(1, len(listing.entries) + len(listing.omitted))
        self._folders += sum(each.kind is EntryKind.FOLDER for each in listing.entries)
        for count, most, what in (
            (self._entries, self._files_max, "files and folders"),
            (self._folders, self._folders_max, "folders"),
        ):
            if count > most:
                shown = format_path(path)
                raise RemoteTooMany(name=self._remote.name, path=shown, most=most, what=what)
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

    async def _item(self, item: JobItem) -> AsyncIterator[PlannedPage]:
        try:
            async for page in self._named(item, item.path, item.name):
                yield page
        except RemoteNotFound:
            if not any(map(_GLOB.search, item.path)):
                raise
            found = False
            async for page in self._matching(item, (), item.path):
                found = True
                yield page
            if not found and not self._has_omitted:
                raise self._not_found(item.path) from None

    async def _named(
        self, item: JobItem, path: RemotePath, name: str | None
    ) -> AsyncIterator[PlannedPage]:
        """What is there by this very name: a file, or a folder with all that is in it."""
        entry = await self._look_up(path) if path else None
        if entry is not None and entry.kind is EntryKind.FILE:
            yield self._file(item, path, name, entry)
            return
        try:
            async for page in self._folder(item, path, name):
                yield page
        except RemoteIsFile:
            if not path:
                raise
            yield self._file(item, path, name, None)

    async def _folder(
        self, item: JobItem, path: RemotePath, name: str | None
    ) -> AsyncIterator[PlannedPage]:
        """A folder with all that is in it. It keeps its own name within a folder `name`: when the same is wanted again,
        that one is there, and means the same.

        Raises:
            RemoteIsFile: it is a file.
        """
        own = path[-1:]
        local = own if name is None else (name, *own)
        empty = _EmptyFolders()
        after: RemotePath = ()
        more = True
        while more:
            listing = await self._page(path, after, recursive=True)
            self._report_omitted(path, listing)
            nameable = self._nameable(path, listing.entries)
            empty.take(nameable)
            files = [each for each in nameable if each.kind is EntryKind.FILE]
            if files:
                yield PlannedPage(item, path, local, files)
            if len(empty.paths) > EMPTY_MAX:
                yield _folders_page(item, path, local, empty.paths)
                empty.paths.clear()
            more = listing.more
            after = listing.entries[-1].path if more else ()
        empty.end()
        paths = [each for each in empty.paths if each or local]  # the top is there
        for first in range(0, len(paths), PAGE_MAX):
            yield _folders_page(item, path, local, paths[first : first + PAGE_MAX])

    def _file(
        self, item: JobItem, path: RemotePath, name: str | None, entry: Entry | None
    ) -> PlannedPage:
        """A file, which is called `name`; without an `entry`, only its path is known."""
        size, version = (None, "") if entry is None else (entry.size, entry.version)
        place = Place((), name or path[-1])
        file = WantedFile(path, item.folder, place, size, version, item.overwrite)
        return PlannedPage(item, ready=[file])

    async def _look_up(self, path: RemotePath) -> Entry | None:
        """The entry of `path` in the folder around it; None if that folder does not tell, but `path` may be had.

        Raises:
            RemoteNotFound: there is none.
            P2pshareError: it was left out; or nothing more can be listed.
        """
        above, name = path[:-1], path[-1:]
        if not is_within_bounds(path):  # what a glob stands for may be longer than the glob
            raise self._not_found(path)
        after, limit = just_before(path[-1]), LOOK_UP_PAGE
        while True:
            try:
                listing = await self._page(above, after, limit)
            except (RemoteNotFound, RemoteIsFile):
                raise self._not_found(path) from None
            except P2pshareError as error:
                if not is_of_item(error) or isinstance(error, RemoteTooMany):
                    raise
                return None
            for entry in listing.entries:
                if entry.path == name:
                    return entry
            for omission in listing.omitted:
                if omission.path == name:
                    raise omission_error(self._remote.name, above, omission)
            if listing.unnamed:
                return None
            if not listing.more or listing.entries[-1].path > name:
                raise self._not_found(path)
            after, limit = listing.entries[-1].path, PAGE_MAX

    def _not_found(self, path: RemotePath) -> RemoteNotFound:
        return RemoteNotFound(name=self._remote.name, path=format_path(path))

    async def _matching(
        self, item: JobItem, above: RemotePath, pattern: RemotePath
    ) -> AsyncIterator[PlannedPage]:
        """What is in the folder `above` by names that match `pattern`."""
        literal = 0
        while literal < len(pattern) and not _GLOB.search(pattern[literal]):
            literal += 1
        above, pattern = above + pattern[:literal], pattern[literal:]
        try:
            if not pattern:
                async for page in self._named(item, above, None):
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
    ) -> AsyncIterator[PlannedPage]:
        """Entries of the folder `above`, of which `rest` is what is wanted, or they themselves."""
        files = [entry for entry in entries if entry.kind is EntryKind.FILE]
        if files and not rest:
            yield PlannedPage(item, above, (), files)
        for entry in entries:
            if entry.kind is EntryKind.FOLDER:
                path = above + entry.path
                pages = self._matching(item, path, rest) if rest else self._folder(item, path, None)
                try:
                    async for page in pages:
                        yield page
                except (RemoteNotFound, RemoteIsFile):
                    continue
                except P2pshareError as error:
                    if not is_of_item(error) or isinstance(error, RemoteTooMany):
                        raise
                    self._has_omitted = True
                    self._on_failed(path, error)


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


class _EmptyFolders:
    """Finds, in a recursive listing, the folders in which nothing is listed."""

    def __init__(self) -> None:
        self.paths: list[RemotePath] = []
        """Those that were found, from the listed folder on; that itself is ()."""
        self._last: RemotePath | None = ()  # a folder behind which nothing has come yet

    def take(self, entries: Sequence[Entry]) -> None:
        """Go through the next entries: what is in a folder comes next to it."""
        last = self._last
        for entry in entries:
            if last is not None and entry.path[: len(last)] != last:
                self.paths.append(last)
            last = entry.path if entry.kind is EntryKind.FOLDER else None
        self._last = last

    def end(self) -> None:
        """There is nothing more."""
        if self._last is not None:
            self.paths.append(self._last)
            self._last = None


def _folders_page(
    item: JobItem, above: RemotePath, local: tuple[str, ...], paths: Sequence[RemotePath]
) -> PlannedPage:
    folders = [WantedFolder(above + path, item.folder, local + path) for path in paths]
    return PlannedPage(item, ready=folders)


def _wanted(item: JobItem, above: RemotePath, local: tuple[str, ...], entry: Entry) -> WantedFile:
    """A file of the folder `above`, which goes to `local`."""
    path = above + entry.path
    names = local + entry.path
    place = Place(names[:-1], names[-1])
    return WantedFile(path, item.folder, place, entry.size, entry.version, item.overwrite)
