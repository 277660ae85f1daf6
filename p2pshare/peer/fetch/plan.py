"""The plan of a job: folders with everything in them, globs, and the place of each file.

Whether an item is a file or a folder is what its parent folder lists, so a file itself is never listed. The first item
may be requested already (`FirstFile`), and then the answer tells. Folders are listed page by page. A local folder is
made with its first file. Empty folders are made when their item is listed completely: a sharer whose listing has no end
makes none.

**Hidden names.** A file such as `.bashrc`, or one in `.ssh`, is read by programs where it lies. So a hidden name that
would come to lie in the destination itself gets `_` in front, unless the user chose it. Further down it is kept.
"""

from __future__ import annotations

import fnmatch
import re
import zlib
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
from p2pshare.peer.fetch.first_file import FirstFile
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.remote_faults import omission_error, omission_errors
from p2pshare.storage.incoming.announcement import Place
from p2pshare.storage.incoming.destination import shown_name
from p2pshare.wire.control_messages import parse_message
from p2pshare.wire.paths import RemotePath, component_fault, format_path, is_within_bounds
from p2pshare.wire.transfer_messages import (
    PAGE_MAX,
    Entry,
    EntryKind,
    Fault,
    FileHeader,
    Listing,
)

FILES_MAX = 1_000_000  # files and folders listed for one item, unless the user allows more
FOLDERS_MAX = 100_000  # folders among them
PACKING_LEVEL = 1  # of zlib: the fastest
EMPTY_MAX = 100_000  # empty folders that are known and not made
LOOK_UP_PAGE = 16  # entries of the page in which a single one is looked for
_GLOB = re.compile(r"[*?[]")
_LAST = "\U0010ffff"  # sorts after every other character


class Budget(Protocol):
    """What may be listed of an item, and fetched."""

    def add(self, path: RemotePath, kind: EntryKind, size: int) -> None:
        """Count an entry, by its path in the item; raises an error that ends the job if it is too much."""
        ...

    def grow(self, size: int) -> None:
        """Count `size` more bytes of a file that was listed, likewise."""
        ...


@dataclass(frozen=True, slots=True)
class JobItem:
    """What a user asked for: a file, a folder with everything in it, or a glob of either."""

    path: RemotePath
    """Its components may contain `*`, `?` and `[…]`. A file or folder with exactly this name has precedence."""
    folder: Path
    """An existing local folder for it."""
    name: str | None = None
    """The local name of a file, or of a new folder around a folder; None for the remote name. Not for globs."""
    overwrite: bool = False
    """Replace a local file of that name instead of numbering the new one."""
    update: bool = False
    """Replace what was fetched before and is unchanged here, and number nothing."""
    contents: bool = False
    """Fetch what is in a folder, not the folder itself. The path is that of the folder, whatever its characters."""
    budget: Budget | None = None
    """Bounds what `contents` may have."""

    @property
    def is_glob(self) -> bool:
        """Whether the path has a character of a glob."""
        return not self.contents and any(map(_GLOB.search, self.path))


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that is to be fetched."""

    path: RemotePath
    root: Path
    """The local folder of its item; `place` is beneath."""
    place: Place
    """With its own names; once it is looked up, with its local names."""
    size: int | None
    """Bytes as listed; None if unknown before the header."""
    version: str
    """As listed; empty if unknown."""
    overwrite: bool
    tries: int = 0
    """Requests that failed."""
    candidates: tuple[str, ...] = ()
    """Local files that may have its content, to be compared before it is fetched."""
    content_root: bytes = b""
    """The root that its content has to have, if known."""
    is_claimed: bool = False
    """Whether the number of its place is reserved for it in this job."""
    is_renamed: bool = False
    """Whether a local name differs from its own."""
    first: FirstFile | None = None
    """The request that is under way already."""
    update: bool = False
    """As in `JobItem`."""
    replaces: bytes | None = None
    """The fingerprint of the file that it replaces, empty for any file; None if there is none."""

    @property
    def may_replace(self) -> bool:
        """Whether it is published in place of another file."""
        return self.overwrite or self.replaces is not None


@dataclass(frozen=True, slots=True)
class WantedFolder:
    """A folder that is to be made."""

    path: RemotePath
    root: Path
    folder: tuple[str, ...]


Wanted = WantedFile | WantedFolder


class PlannedPage:
    """A part of the plan. `pack` it to keep it in little memory."""

    def __init__(
        self,
        item: JobItem,
        above: RemotePath = (),
        local: tuple[str, ...] = (),
        entries: Sequence[Entry] = (),
        ready: Sequence[Wanted] = (),
    ) -> None:
        """Args:
        item: the item that it belongs to.
        above: the listed folder.
        local: the local place of that folder.
        entries: files of the folder.
        ready: other files and folders.
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
        self.renamed = _renamed(above, local, entries)
        """Local names of hidden files and folders that are not kept, by their remote paths."""
        for each in files:
            if each.is_renamed:
                self.renamed[each.path] = each.place.name

    def pack(self) -> int:
        """Compress the entries; return the bytes that they take."""
        if not isinstance(self._entries, bytes):
            listing = Listing(0, self._entries, False)
            self._entries = zlib.compress(listing.to_json(), PACKING_LEVEL)
        return len(self._entries)

    def wanted(self) -> list[Wanted]:
        """Return everything on the page."""
        entries = self._entries
        if isinstance(entries, bytes):
            listing = parse_message(zlib.decompress(entries))
            assert isinstance(listing, Listing)
            entries = listing.entries
        item, above, local = self.item, self._above, self._local
        wanted = list(self._ready)
        is_beneath_renamed = bool(local) and local[-1:] != above[-1:]
        for entry in entries:
            path, names = above + entry.path, _local_names(local, entry.path)
            wanted.append(
                WantedFile(
                    path,
                    item.folder,
                    Place(names[:-1], names[-1]),
                    entry.size,
                    entry.version,
                    item.overwrite,
                    update=item.update,
                    is_renamed=is_beneath_renamed or names[-len(entry.path)] != entry.path[0],
                )
            )
        return wanted


class JobPlan:
    """Lists the items of a job."""

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        on_failed: Callable[[RemotePath, P2pshareError], object],
        on_endless: Callable[[JobItem], object] = lambda _: None,
        files_max: int | None = None,
        first: FirstFile | None = None,
        on_renamed: Callable[[RemotePath, str], object] = lambda *_: None,
    ) -> None:
        """Args:
        remote: the sharer.
        items: the wanted items; duplicates are dropped.
        on_failed: called with an item that cannot be listed, or an entry that cannot be named; the others go on.
        on_endless: called before `on_failed` with an item of which more is listed than allowed.
        files_max: files and folders that may be listed for an item; None for `FILES_MAX`, with `FOLDERS_MAX` folders.
            So no sharer can fill the disk's table of files with entries that take no room.
        first: the request for the first item, if it is requested before it is looked up.
        on_renamed: called with the local name of a file or folder whose hidden name is not kept, perhaps repeatedly.
        """
        self._on_renamed = on_renamed
        self._first = first
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
        """Yield everything that is wanted, page by page.

        Raises:
            P2pshareError: no session can be opened any more.
        """
        for item in self._items:
            self._entries, self._folders, self._has_omitted = 0, 0, False
            try:
                async for page in self._item(item):
                    for path, name in page.renamed.items():
                        self._on_renamed(path, name)
                    yield page
            except P2pshareError as error:
                if not _is_of_item(error):
                    raise
                if isinstance(error, RemoteTooMany):
                    self._on_endless(item)
                self._on_failed(item.path, error)

    async def _listings(
        self,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = PAGE_MAX,
        *,
        recursive: bool = False,
    ) -> AsyncIterator[Listing]:
        """Yield the pages of a folder, of which only the first is bounded by `limit`. Empty pages count, too."""
        if not is_within_bounds(path):  # a match of a glob may be longer than the glob
            raise self._not_found(path)
        more = True
        while more:
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
            yield listing
            more, limit = listing.more, PAGE_MAX
            after = listing.entries[-1].path if more else ()

    def _checked(
        self,
        above: RemotePath,
        listing: Listing,
        matches: Callable[[str], object] = lambda _: True,
    ) -> list[Entry]:
        """Return the matching entries of a page of the folder `above`. What cannot be fetched of them is reported:
        entries that the sharer left out, also without a name, and those whose path no message can name.
        """
        name = self._remote.name
        for path, error in omission_errors(name, above, listing):
            if path == above or matches(path[len(above)]):
                self._has_omitted = True
                self._on_failed(path, error)
        entries: list[Entry] = []
        for entry in listing.entries:
            path = above + entry.path
            if not matches(entry.path[0]):
                continue
            if is_within_bounds(path):
                entries.append(entry)
            else:
                self._on_failed(path, RemotePathTooLong(name=name, path=format_path(path)))
        return entries

    async def _item(self, item: JobItem) -> AsyncIterator[PlannedPage]:
        if item.contents:
            async for page in self._folder(item, item.path, None):
                yield page
            return
        try:
            async for page in self._named(item, item.path, item.name):
                yield page
        except RemoteNotFound:
            if not item.is_glob:
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
        """Yield a file, or a folder with everything in it, of exactly this name."""
        first, self._first = self._first, None
        answer = None if first is None else await first.answer
        if isinstance(answer, FileHeader):
            yield _file_page(item, path, name, answer.size, answer.version, first)
            return
        is_folder = answer is Fault.IS_FOLDER
        entry = await self._look_up(path) if path and not is_folder else None
        if entry is not None and entry.kind is EntryKind.FILE:
            yield _file_page(item, path, name, entry.size, entry.version)
            return
        try:
            async for page in self._folder(item, path, name):
                yield page
        except RemoteIsFile:
            if not path:
                raise
            yield _file_page(item, path, name, None, "")

    async def _folder(
        self, item: JobItem, path: RemotePath, name: str | None
    ) -> AsyncIterator[PlannedPage]:
        """Yield a folder with everything in it. It keeps its own name within a new folder `name`, so that a second
        fetch, when `name` exists, goes to the same place.

        Raises:
            RemoteIsFile: it is a file.
        """
        own = () if item.contents else path[-1:]
        local = _local_names((), own) if name is None else (name, *own)
        empty = _EmptyFolders()
        async for listing in self._listings(path, recursive=True):
            entries = self._checked(path, listing)
            if item.budget is not None:
                for each in entries:
                    item.budget.add(each.path, each.kind, each.size)
            empty.take(entries)
            files = [each for each in entries if each.kind is EntryKind.FILE]
            if files:
                yield PlannedPage(item, path, local, files)
            if len(empty.paths) > EMPTY_MAX:
                yield _folders_page(item, path, local, empty.paths)
                empty.paths.clear()
        empty.end()
        paths = [each for each in empty.paths if each or local]  # the top exists
        for first in range(0, len(paths), PAGE_MAX):
            yield _folders_page(item, path, local, paths[first : first + PAGE_MAX])

    async def _look_up(self, path: RemotePath) -> Entry | None:
        """Return the entry of `path` in its parent folder; None if that is unknown, but `path` may exist.

        Raises:
            RemoteNotFound: it does not exist.
            P2pshareError: it was left out, or nothing more can be listed.
        """
        above, name = path[:-1], path[-1:]
        if not is_within_bounds(path):
            raise self._not_found(path)
        left_out: P2pshareError | None = None
        try:
            async for listing in self._listings(above, just_before(path[-1]), LOOK_UP_PAGE):
                for entry in listing.entries:
                    if entry.path == name:
                        return entry
                for omission in listing.omitted:
                    if omission.path == name:
                        left_out = omission_error(self._remote.name, above, omission)
                if listing.unnamed and left_out is None:
                    return None
                if left_out or (listing.entries and listing.entries[-1].path > name):
                    break
        except (RemoteNotFound, RemoteIsFile):
            pass
        except P2pshareError as error:
            if not _is_of_item(error) or isinstance(error, RemoteTooMany):
                raise
            return None
        raise left_out or self._not_found(path)

    def _not_found(self, path: RemotePath) -> RemoteNotFound:
        return RemoteNotFound(name=self._remote.name, path=format_path(path))

    async def _matching(
        self, item: JobItem, above: RemotePath, pattern: RemotePath
    ) -> AsyncIterator[PlannedPage]:
        """Yield what matches `pattern` in the folder `above`."""
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
            async for listing in self._listings(above):
                entries = self._checked(above, listing, matches)
                async for page in self._matched(item, above, pattern[1:], entries):
                    yield page
        except (RemoteNotFound, RemoteIsFile):
            return  # it does not match

    async def _matched(
        self, item: JobItem, above: RemotePath, rest: RemotePath, entries: Sequence[Entry]
    ) -> AsyncIterator[PlannedPage]:
        """Yield these entries of the folder `above`, or what matches `rest` in them."""
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
                    if not _is_of_item(error) or isinstance(error, RemoteTooMany):
                        raise
                    self._has_omitted = True
                    self._on_failed(path, error)


class _EmptyFolders:
    """Finds, in a recursive listing, the folders in which nothing is listed."""

    def __init__(self) -> None:
        self.paths: list[RemotePath] = []
        """Empty folders, relative to the listed one; that itself is ()."""
        self._last: RemotePath | None = ()  # a folder after which nothing was listed yet

    def take(self, entries: Sequence[Entry]) -> None:
        """Go through the next entries. The contents of a folder follow it."""
        last = self._last
        for entry in entries:
            if last is not None and entry.path[: len(last)] != last:
                self.paths.append(last)
            last = entry.path if entry.kind is EntryKind.FOLDER else None
        self._last = last

    def end(self) -> None:
        """Take the end of the listing."""
        if self._last is not None:
            self.paths.append(self._last)
            self._last = None


def _is_of_item(error: P2pshareError) -> bool:
    """Whether an error of a listing concerns this item alone, so that others may still be listed."""
    return "path" in error.fields


def just_before(name: str) -> RemotePath:
    """Return a path that sorts before `name` in listings, with little or nothing between the two."""
    stem = name[:-1]
    for code in range(ord(name[-1]) - 1, 0, -1):
        for before in (stem + chr(code) + _LAST, stem + chr(code)):  # the first may be too long
            if component_fault(before) is None:
                return (before,)
    return (stem,) if component_fault(stem) is None else ()


def _file_page(
    item: JobItem,
    path: RemotePath,
    name: str | None,
    size: int | None,
    version: str,
    first: FirstFile | None = None,
) -> PlannedPage:
    """Return the page of a single file with the local name `name`, which may be requested already."""
    place = Place((), name or shown_name(path[-1]))
    is_renamed = name is None and place.name != path[-1]
    file = WantedFile(
        path,
        item.folder,
        place,
        size,
        version,
        item.overwrite,
        update=item.update,
        first=first,
        is_renamed=is_renamed,
    )
    return PlannedPage(item, ready=[file])


def _local_names(local: tuple[str, ...], path: RemotePath) -> tuple[str, ...]:
    """Return the local names of an entry of a folder whose local place is `local`."""
    if local or not path:
        return local + path
    return shown_name(path[0]), *path[1:]


def _renamed(
    above: RemotePath, local: tuple[str, ...], entries: Sequence[Entry]
) -> dict[RemotePath, str]:
    """Return the local names, by their remote paths, of hidden files and folders that are not kept.

    Args:
        above: the listed folder.
        local: the local place of that folder.
        entries: of the folder.
    """
    if local:
        return {above: local[-1]} if local[-1:] != above[-1:] else {}
    tops = dict.fromkeys(each.path[0] for each in entries)
    return {(*above, top): shown_name(top) for top in tops if shown_name(top) != top}


def _folders_page(
    item: JobItem, above: RemotePath, local: tuple[str, ...], paths: Sequence[RemotePath]
) -> PlannedPage:
    folders = [WantedFolder(above + path, item.folder, _local_names(local, path)) for path in paths]
    return PlannedPage(item, above, local, ready=folders)
