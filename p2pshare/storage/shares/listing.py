"""Pages of shared folders, in the order of the names' code points.

Nothing is remembered between two pages: the next one begins behind the path that ended the one before, whether that
still exists or not. In a recursive listing, a folder comes before its content.

Files and folders that are left out are named in the page that they belong to (`Omission`). Hidden names, private
folders and what patterns exclude are counted for the owner alone (`Survey`).

**Links.** A link is resolved within the share, and listed as the file or folder that it leads to. A recursive listing
also enters such a folder, under the name of the link. Two rules bound this. A folder that is already on the real way
from the share's root to here is not entered again: links to `.`, to a folder above or to each other end there. On the
way to an entry at most `LINKS_DEEP_MAX` links are followed: without that, n folders with links to each other would have
n! paths.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace

from p2pshare.storage.file_times import wire_time
from p2pshare.storage.identity.data_folder import holds_keys
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.folder_index import FolderIndex, LeftOut
from p2pshare.storage.shares.outgoing_files import version_of
from p2pshare.storage.shares.paths import (
    FileId,
    Here,
    Opened,
    Unavailable,
    Withheld,
    is_private,
    open_at,
    open_beneath,
    public_status,
    status_beneath,
    why_omitted,
)
from p2pshare.wire.paths import RemotePath, format_path, is_within_bounds
from p2pshare.wire.transfer_messages import (
    OMITTED_BYTES_MAX,
    OMITTED_MAX,
    PAGE_BYTES_MAX,
    Entry,
    EntryKind,
    Omission,
    Omitted,
)

LINKS_DEEP_MAX = 3  # links to folders on the way to an entry of a recursive listing
SURVEY_MAX = 100_000  # files and folders of a share that a survey looks at
EXAMPLES_MAX = 5  # paths that a survey names of each kind

Listed = Entry | Omission | LeftOut
"""Results of a walk. A `LeftOut` has names of a folder that only a survey may tell."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a folder."""

    entries: tuple[Entry, ...]
    more: bool
    """Whether there is another page."""
    omitted: tuple[Omission, ...] = ()
    unnamed: int = 0
    """Number of omissions beyond those."""


@dataclass(slots=True)
class Survey:
    """Files and folders of a share that are not listed, for its owner."""

    looked_at: int = 0
    """Number of files and folders."""
    complete: bool = True
    """Whether the whole share was examined."""
    hidden: int = 0
    """Number of hidden and private names."""
    hidden_examples: list[str] = field(default_factory=list)
    excluded: int = 0
    """Number of names that patterns leave out. The content of an excluded folder is not counted."""
    excluded_examples: list[str] = field(default_factory=list)
    omitted: Counter[Omitted] = field(default_factory=Counter)
    omitted_examples: list[str] = field(default_factory=list)

    def add(self, found: Listed) -> None:
        """Count a result of a walk."""
        match found:
            case Entry():
                self.looked_at += 1
            case LeftOut():
                self.hidden += found.hidden
                self.hidden_examples += found.hidden_names
                del self.hidden_examples[EXAMPLES_MAX:]
                self.excluded += found.excluded
                self.excluded_examples += found.excluded_names
                del self.excluded_examples[EXAMPLES_MAX:]
                if found.unnamed:
                    self.omitted[found.omitted[-1][1]] += found.unnamed
            case Omission():
                self.omitted[found.why] += 1
                if found.path and len(self.omitted_examples) < EXAMPLES_MAX:
                    self.omitted_examples.append(format_path(found.path))


@dataclass(frozen=True, slots=True)
class _Trail:
    """The way of a walk to a folder."""

    ids: tuple[FileId, ...]
    """The real folders from the share's root down to this one."""
    links: int = 0
    """Number of links to folders that were followed."""


class FolderWalk:
    """A walk over the entries of one folder of a share."""

    def __init__(
        self,
        shared: SharedPath,
        beneath: RemotePath,
        index: FolderIndex,
        count: int,
        recursive: bool,
        now_ns: int,
    ) -> None:
        """Prepare a walk.

        Args:
            shared: the share.
            beneath: the folder's path from the share's root on.
            index: reads large folders.
            count: number of entries that will be needed.
            recursive: whether the content of folders follows them.
            now_ns: nanoseconds since 1970.
        """
        self._shared = shared
        self._beneath = beneath
        self._index = index
        self._count = count
        self._recursive = recursive
        self._now_ns = now_ns

    def entries(self, opened: Opened, after: RemotePath) -> Generator[Listed, None, None]:
        """Yield what comes behind `after`, which is looked up as it is consumed.

        Args:
            opened: the folder; it stays open.
            after: components in Unicode text; empty for the first entry.

        Raises:
            OSError: the folder cannot be read.
            Unavailable: BUSY: too many files are open.
        """
        trail = _Trail((*opened.above, opened.id))
        return self._entries(Here(opened.fd, opened.scope), after, (), trail)

    def _entries(
        self, at: Here, after: RemotePath, within: RemotePath, trail: _Trail
    ) -> Generator[Listed, None, None]:
        """Walk a folder on the way; `within` is its path from the listed folder on."""
        beyond, more = "", True
        if after:
            beyond = after[0]
            if self._recursive:
                yield from self._of_name(at, (*within, beyond), trail, after[1:])
        while more:
            names, more, left_out = self._index.names(at.fd, beyond, self._count, at.scope)
            if not beyond:
                yield from self._left_out(left_out, within)
            for name in names:
                yield from self._of_name(at, (*within, name), trail)
            beyond = names[-1] if names else beyond

    def _left_out(self, left_out: LeftOut, within: RemotePath) -> Generator[Listed, None, None]:
        for name, why in left_out.omitted:
            yield self._omission((*within, name), why)
        if left_out.hidden or left_out.excluded or left_out.unnamed:
            hidden, excluded = (
                ["/".join((*within, name)) for name in names]
                for names in (left_out.hidden_names, left_out.excluded_names)
            )
            yield replace(left_out, hidden_names=hidden, excluded_names=excluded)

    def _of_name(
        self,
        at: Here,
        path: RemotePath,
        trail: _Trail,
        after: RemotePath | None = None,
    ) -> Generator[Listed, None, None]:
        """Yield the entry of a name, and in a recursive listing the content of the folder of that name.

        With `after`, an earlier page had the entry: only the content behind `after` is yielded.
        """
        is_link = False
        try:
            status = public_status(at, path[-1])
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link:
                status = status_beneath(self._shared, (*self._beneath, *path))
            is_hidden = is_private(self._shared, status) or (
                stat.S_ISDIR(status.st_mode) and holds_keys(path[-1], at.fd)
            )
        except (OSError, Unavailable) as error:
            is_withheld = isinstance(error, Withheld) and not is_link
            why = None if is_withheld else why_omitted(at.fd, path[-1], error, is_link)
            if after:
                yield self._omission(path, why or Omitted.GONE)
            elif after is None and why is not None:
                yield self._omission(path, why)
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if after is not None:
            if is_folder and not is_hidden:
                yield from self._descend(at, path, after, trail, status, is_link)
        elif is_hidden:
            yield LeftOut(1, [format_path(path)])
        elif not self._is_within_bounds(path):
            yield self._omission(path, Omitted.TOO_DEEP)
        elif self._recursive and is_folder:
            entry = self._entry(path, status)
            yield from self._descend(at, path, (), trail, status, is_link, entry)
        else:
            yield self._entry(path, status)

    def _descend(
        self,
        at: Here,
        path: RemotePath,
        after: RemotePath,
        trail: _Trail,
        status: os.stat_result,
        is_link: bool,
        entry: Entry | None = None,
    ) -> Generator[Listed, None, None]:
        """Yield a folder, as `entry`, and its content; or why neither is listed."""
        try:
            if is_link:
                opened = open_beneath(self._shared, (*self._beneath, *path))
            else:
                opened = open_at(self._shared, at, path[-1], status)
        except (OSError, Unavailable) as error:
            yield from self._failed(at.fd, path, error, is_link)
            return
        try:
            links = trail.links + is_link
            if opened.id in trail.ids:
                yield self._omission(path, Omitted.LINK_LOOP)
            elif links > LINKS_DEEP_MAX or not opened.is_folder:
                yield self._omission(path, Omitted.LINK)
            else:
                if entry is not None:
                    yield entry
                above = opened.above if is_link else ()  # a link to one of these is a loop
                below = _Trail((*trail.ids, *above, opened.id), links)
                yield from self._entries(Here(opened.fd, opened.scope), after, path, below)
        except OSError as error:
            yield from self._failed(at.fd, path, error, is_link)
        finally:
            os.close(opened.fd)

    def _failed(
        self, folder: int, path: RemotePath, error: OSError | Unavailable, is_link: bool
    ) -> Generator[Listed, None, None]:
        why = why_omitted(folder, path[-1], error, is_link)
        if why is not None:
            yield self._omission(path, why)

    def _omission(self, path: RemotePath, why: Omitted) -> Omission:
        """Return an omission; a path that no message can hold becomes an omission in a folder above."""
        while path and not self._is_within_bounds(path):
            path, why = path[:-1], Omitted.TOO_DEEP
        return Omission(path, why)

    def _entry(self, path: RemotePath, status: os.stat_result) -> Entry:
        return entry_of(path, self._whole(path), status, self._now_ns)

    def _is_within_bounds(self, path: RemotePath) -> bool:
        return is_within_bounds(self._whole(path))

    def _whole(self, path: RemotePath) -> RemotePath:
        return (self._shared.name, *self._beneath, *path)


def entry_of(path: RemotePath, whole: RemotePath, status: os.stat_result, now_ns: int) -> Entry:
    """Return the entry of a file or folder.

    Args:
        path: from the listed folder on.
        whole: from the top on.
        status: of the file or folder.
        now_ns: as for `version_of`.
    """
    mtime_ns = wire_time(status.st_mtime_ns)
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, EntryKind.FOLDER, 0, mtime_ns)
    version = version_of(whole, status, now_ns)
    return Entry(path, EntryKind.FILE, status.st_size, mtime_ns, version)


def page_of(found: Iterable[Listed], limit: int, bytes_max: int = PAGE_BYTES_MAX) -> Page:
    """Return the first entries, with the omissions among them.

    The next page begins behind the last entry of this one, and has the omissions behind that entry.

    Args:
        found: results of a walk; at least one entry is taken.
        limit: entries in the page.
        bytes_max: of paths and versions, as they are written in a message.
    """
    page: list[Entry] = []
    omitted = _Omissions()
    behind = _Omissions()  # found behind the last entry
    size = 0
    for each in found:
        if not isinstance(each, Entry):
            behind.add(each)
            continue
        size += _written_size(each.path) + len(each.version)
        if page and (len(page) >= limit or size > bytes_max):
            return Page(tuple(page), True, tuple(omitted.named), omitted.unnamed)
        page.append(each)
        omitted.extend(behind)
        behind = _Omissions()
    omitted.extend(behind)
    return Page(tuple(page), False, tuple(omitted.named), omitted.unnamed)


class _Omissions:
    """Omissions, as many by name as a message holds."""

    def __init__(self) -> None:
        self.named: list[Omission] = []
        self.unnamed = 0
        self._size = 0  # bytes

    def add(self, found: Omission | LeftOut) -> None:
        """Add a result of a walk."""
        if isinstance(found, LeftOut):
            self.unnamed += found.unnamed
            return
        if self.named and self.named[-1] == found:
            return  # another too deep path in the same folder
        size = self._size + _written_size(found.path)
        if len(self.named) < OMITTED_MAX and size <= OMITTED_BYTES_MAX:
            self.named.append(found)
            self._size = size
        else:
            self.unnamed += 1

    def extend(self, others: _Omissions) -> None:
        """Add all of `others`."""
        for each in others.named:
            self.add(each)
        self.unnamed += others.unnamed


def prefixed(name: str, found: Iterable[Listed]) -> Generator[Listed, None, None]:
    """Yield the same results, seen from one folder above."""
    for each in found:
        if isinstance(each, LeftOut):
            yield replace(each, hidden_names=[f"{name}/{hidden}" for hidden in each.hidden_names])
        else:
            yield replace(each, path=(name, *each.path))


def _written_size(path: RemotePath) -> int:
    text = format_path(path)
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return len(text)
    return len(json.dumps(text, ensure_ascii=False).encode())  # control characters are written out
