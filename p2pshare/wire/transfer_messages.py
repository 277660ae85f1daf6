"""The control messages by which folders are listed and files are fetched.

Who opened the session asks, the other side answers. The same messages go over any carrier; the bytes of files go beside
them, in pieces (`frames`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Self

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import FILE_SIZE_MAX, block_count
from p2pshare.wire.message_fields import Message, digest_field, enum_of, id_of, is_id, path_of
from p2pshare.wire.paths import RemotePath, format_path, parse_path
from p2pshare.wire.strict_json import INTEGER_MAX, boolean, integer, text

VERSION_MAX = 64  # characters by which a sharer knows what a file holds
PAGE_MAX = 1000  # entries of a listing
PAGE_BYTES_MAX = 160 * 1024  # bytes of paths in a listing, so that it fits into a frame
RANGES_MAX = 1024  # gaps that are told of; what lies behind them is sent again
DONE_MAX = 1000  # transfers in one `Done`
TITLE_MAX = 1024  # characters
TIME_MAX = INTEGER_MAX  # seconds before and after 1970
NANOSECONDS = 10**9  # in a second
OMITTED_MAX = 100  # files and folders that a listing names as left out; others are counted
OMITTED_BYTES_MAX = 16 * 1024  # bytes of their paths, so that a listing fits into a frame


class Fault(enum.Enum):
    """Why something that was asked for does not come."""

    NOT_FOUND = "not_found"
    """There is none, or none for who asks."""
    IS_FOLDER = "is_folder"
    """A folder cannot be got, only listed, and what is in it got."""
    IS_FILE = "is_file"
    """A file cannot be listed."""
    CHANGED = "changed"
    """The file was changed while it was read."""
    UNREADABLE = "unreadable"
    """The sharer cannot read it."""
    BUSY = "busy"
    """Too much was asked for at once."""


class Omitted(enum.Enum):
    """Reasons for which a sharer leaves something out of a listing."""

    UNREADABLE = "unreadable"
    """The sharer cannot read it."""
    GONE = "gone"
    """It disappeared while it was listed."""
    LINK = "link"
    """A link that is not followed: its target does not exist or is not shared, or too many links lead there."""
    LINK_LOOP = "link_loop"
    """A link to a folder that contains the link."""
    NAME = "name"
    """The name is not UTF-8, or too long. In `path`, a byte that is not UTF-8 is written out, as in `\\xff`."""
    TOO_DEEP = "too_deep"
    """In the folder `path`, something has a path that no message can hold."""
    SPECIAL = "special"
    """A device, a FIFO or a socket."""
    TOO_LARGE = "too_large"
    """The file is larger than the protocol allows."""


class Cancelled(enum.Enum):
    """Why a transfer is not wanted any more."""

    BY_USER = "by_user"
    DISK = "disk"
    """It cannot be written."""
    CORRUPT = "corrupt"
    """What came is not what was announced."""


class EntryKind(enum.Enum):
    """What an entry of a listing is."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class List(Message):
    """What is in a folder? Answered by one `Listing`, or `Failed`."""

    WORD = "list"

    id: int
    """Chosen by who asks, and not that of anything that is still going on."""
    path: RemotePath
    after: RemotePath = ()
    """The last entry of the page before, as `Entry.path`; nothing for the first page."""
    limit: int = PAGE_MAX
    recursive: bool = False

    def _fields(self) -> dict[str, object]:
        return {
            "id": self.id,
            "path": format_path(self.path),
            "after": format_path(self.after),
            "limit": self.limit,
            "recursive": self.recursive,
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(
            id_of(fields),
            path_of(fields, "path"),
            path_of(fields, "after"),
            integer(fields, "limit", 1, PAGE_MAX),
            boolean(fields, "recursive"),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder in a listing."""

    path: RemotePath
    """From the folder that was listed on: one component, or several if the listing is recursive."""
    kind: EntryKind
    size: int
    """Bytes; 0 for a folder."""
    mtime_ns: int
    """When it was last changed, in nanoseconds since 1970."""
    version: str = ""
    """Of a file, as `Offer.version`; of a folder none."""


@dataclass(frozen=True, slots=True)
class Omission:
    """A file or folder that a listing leaves out."""

    path: RemotePath
    """From the listed folder on; empty for that folder itself."""
    why: Omitted


@dataclass(frozen=True, slots=True)
class Listing(Message):
    """A page of a folder, in the order of the names' code points; a folder comes before what is in it."""

    WORD = "listing"

    id: int
    entries: tuple[Entry, ...]
    more: bool
    """Whether there is another page."""
    omitted: tuple[Omission, ...] = ()
    """Files and folders that belong to this page and are left out; at most `OMITTED_MAX`."""
    unnamed: int = 0
    """Number of further ones that `omitted` has no room for."""

    def _fields(self) -> dict[str, object]:
        entries = [_row(each) for each in self.entries]
        fields: dict[str, object] = {"id": self.id, "entries": entries, "more": self.more}
        if self.omitted or self.unnamed:
            fields["omitted"] = [[format_path(each.path), each.why.value] for each in self.omitted]
            fields["unnamed"] = self.unnamed
        return fields

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        entries = fields.get("entries")
        if not isinstance(entries, list) or len(entries) > PAGE_MAX:
            raise RemoteProtocolError(reason=f"the entries are no array of at most {PAGE_MAX}")
        omitted, unnamed = _omitted(fields) if "omitted" in fields else ((), 0)
        more = boolean(fields, "more")
        return cls(id_of(fields), tuple(map(_entry, entries)), more, omitted, unnamed)


@dataclass(frozen=True, slots=True)
class Get(Message):
    """Send a file. Answered by `Offer`, then `Block`s with their pieces, then `End`; or by `Failed`, at any moment."""

    WORD = "get"

    id: int
    path: RemotePath
    version: str = ""
    """What an earlier `Offer` called what the file held, of which some is there already."""
    have: tuple[tuple[int, int], ...] = ()
    """Blocks of that version that are there: the first of each run, and the one behind its last; ascending."""

    def _fields(self) -> dict[str, object]:
        fields: dict[str, object] = {"id": self.id, "path": format_path(self.path)}
        if self.version:
            fields |= {"version": self.version, "have": self.have}
        return fields

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        if "version" not in fields:
            return cls(id_of(fields), path_of(fields, "path"))
        return cls(
            id_of(fields), path_of(fields, "path"), _version(fields), _runs(fields.get("have"))
        )


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """A file is about to be sent."""

    WORD = "offer"

    id: int
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last changed, in nanoseconds since 1970."""
    executable: bool
    version: str
    """Another one as soon as the file holds something else."""

    def _fields(self) -> dict[str, object]:
        return {
            "id": self.id,
            "size": self.size,
            "mtime": divmod(self.mtime_ns, NANOSECONDS),
            "executable": self.executable,
            "version": self.version,
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(
            id_of(fields),
            integer(fields, "size", 0, FILE_SIZE_MAX),
            _time(fields.get("mtime")),
            boolean(fields, "executable"),
            _version(fields),
        )


@dataclass(frozen=True, slots=True)
class Block(Message):
    """The next pieces of this transfer are those of a block."""

    WORD = "block"

    id: int
    index: int
    digest: bytes
    """`DIGEST_SIZE` bytes."""

    def _fields(self) -> dict[str, object]:
        return {"id": self.id, "index": self.index, "digest": self.digest.hex()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        index = integer(fields, "index", 0, block_count(FILE_SIZE_MAX) - 1)
        return cls(id_of(fields), index, digest_field(fields, "digest"))


@dataclass(frozen=True, slots=True)
class End(Message):
    """All of a file was sent."""

    WORD = "end"

    id: int
    root: bytes
    """Of the whole file, with the blocks that were there already; `DIGEST_SIZE` bytes."""

    def _fields(self) -> dict[str, object]:
        return {"id": self.id, "root": self.root.hex()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(id_of(fields), digest_field(fields, "root"))


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """What was asked for does not come, or not all of it."""

    WORD = "failed"

    id: int
    why: Fault

    def _fields(self) -> dict[str, object]:
        return {"id": self.id, "why": self.why.value}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(id_of(fields), enum_of(Fault, fields, "why"))


@dataclass(frozen=True, slots=True)
class Done(Message):
    """Files are on the receiver's disk, whole, verified and under their names."""

    WORD = "done"

    ids: tuple[int, ...]

    def _fields(self) -> dict[str, object]:
        return {"ids": self.ids}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        ids = fields.get("ids")
        if not isinstance(ids, list) or not 0 < len(ids) <= DONE_MAX or not all(map(is_id, ids)):
            raise RemoteProtocolError(reason=f"the ids are not 1 to {DONE_MAX} numbers")
        return cls(tuple(ids))


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """A transfer is not wanted any more. Pieces of it may still come."""

    WORD = "cancel"

    id: int
    why: Cancelled

    def _fields(self) -> dict[str, object]:
        return {"id": self.id, "why": self.why.value}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(id_of(fields), enum_of(Cancelled, fields, "why"))


@dataclass(frozen=True, slots=True)
class Job(Message):
    """What is still to come from now on: for the sharer's screen, and nothing else.

    It is told again when it has changed, at most once a second, and at once in a session that goes on with the job of
    an earlier one. No files and no bytes are the end of a job.
    """

    WORD = "job"

    title: str
    files: int
    """Those listed so far that are wanted and not there yet."""
    bytes: int
    """Of those files, without what of them is there."""

    def _fields(self) -> dict[str, object]:
        return {"title": self.title, "files": self.files, "bytes": self.bytes}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(
            text(fields, "title", TITLE_MAX), integer(fields, "files"), integer(fields, "bytes")
        )


_REASONS = frozenset(each.value for each in Omitted)


def _version(fields: dict[str, Any]) -> str:
    version = text(fields, "version", VERSION_MAX)
    if not version:
        raise RemoteProtocolError(reason="the version is empty")
    return version


def _time(value: object) -> int:
    """Nanoseconds since 1970."""
    match value:
        case [int(seconds), int(rest)] if (
            type(seconds) is int
            and type(rest) is int
            and abs(seconds) <= TIME_MAX
            and 0 <= rest < NANOSECONDS
        ):
            return seconds * NANOSECONDS + rest
    raise RemoteProtocolError(reason="a time is not two integers, seconds and nanoseconds")


def _row(entry: Entry) -> list[object]:
    time = divmod(entry.mtime_ns, NANOSECONDS)
    row: list[object] = [format_path(entry.path), entry.kind.value, entry.size, time]
    return [*row, entry.version] if entry.kind is EntryKind.FILE else row


def _entry(value: object) -> Entry:
    match value:
        case [str(path), "file", int(size), mtime, str(version)] if (
            type(size) is int
            and 0 <= size <= FILE_SIZE_MAX
            and 0 < len(version) <= VERSION_MAX
            and (parsed := parse_path(path))
        ):
            return Entry(parsed, EntryKind.FILE, size, _time(mtime), version)
        case [str(path), "folder", 0 as size, mtime] if type(size) is int and (
            parsed := parse_path(path)
        ):
            return Entry(parsed, EntryKind.FOLDER, 0, _time(mtime))
    raise RemoteProtocolError(
        reason="an entry is not a path, a kind, a size, a time and, of a file, a version"
    )


def _omitted(fields: dict[str, Any]) -> tuple[tuple[Omission, ...], int]:
    omitted = fields["omitted"]
    if not isinstance(omitted, list) or len(omitted) > OMITTED_MAX:
        raise RemoteProtocolError(reason=f"omitted is not an array of at most {OMITTED_MAX}")
    return tuple(map(_omission, omitted)), integer(fields, "unnamed")


def _omission(value: object) -> Omission:
    match value:
        case [str(path), str(why)] if why in _REASONS:
            return Omission(parse_path(path), Omitted(why))
    raise RemoteProtocolError(reason="an omission is not a path and a known reason")


def _runs(value: object) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or len(value) > RANGES_MAX:
        raise RemoteProtocolError(reason=f"have is no array of at most {RANGES_MAX} runs")
    runs: list[tuple[int, int]] = []
    behind = 0
    for each in value:
        match each:
            case [int(first), int(end)] if (
                type(first) is int and type(end) is int and behind <= first < end <= INTEGER_MAX
            ):
                runs.append((first, end))
                behind = end
            case _:
                raise RemoteProtocolError(reason="have is no ascending row of runs of blocks")
    return tuple(runs)
