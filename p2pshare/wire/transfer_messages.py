"""Control messages that list folders and fetch files; and all kinds of messages, by what they are for.

In an open session each end may ask and answer, the opener and the acceptor. The end that asks for a listing or a file
is its *requester*, and the other end its *sharer*. The same messages go over any carrier. The bytes of files travel
beside them, in pieces (`frames`).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import DIGEST_SIZE, FILE_SIZE_MAX, block_count
from p2pshare.wire.frames import TRANSFER_MAX
from p2pshare.wire.json_fields import Codec, Fields, array, omittable, one_of, parsed, whole, words
from p2pshare.wire.paths import PATH_MAX, RemotePath, format_path, parse_path
from p2pshare.wire.session_messages import (
    Message,
)
from p2pshare.wire.strict_json import INTEGER_MAX, boolean, text

WORD_MAX = 32  # characters
VERSION_MAX = 64  # characters of the version of a file
PAGE_MAX = 1000  # entries of a listing
PAGE_BYTES_MAX = 160 * 1024  # bytes of paths in a listing, so that it fits into a frame
RUNS_MAX = 1024  # runs of blocks in a member of a `Get`
DIGESTS_MAX = 1000  # digests of blocks in one message
PREVIEW_EDGES = (64, 256, 512)  # pixels of the longest edge of a preview, ascending
PREVIEW_EDGE_MAX = 65_535  # pixels, in a message
DONE_MAX = 1000  # transfers in one `Done`
TITLE_MAX = 1024  # characters
TIME_MAX = INTEGER_MAX  # seconds before and after 1970
NANOSECONDS = 10**9  # in a second
OMITTED_MAX = 100  # files and folders that a listing names as left out; others are counted
OMITTED_BYTES_MAX = 16 * 1024  # bytes of their paths, so that a listing fits into a frame


class Fault(enum.Enum):
    """Reasons why a listing or a file does not come."""

    NOT_FOUND = "not_found"
    """It does not exist, or the opener may not see it."""
    IS_FOLDER = "is_folder"
    """A `Get` named a folder, which can only be listed."""
    IS_FILE = "is_file"
    """A `List` named a file."""
    CHANGED = "changed"
    """The file changed while it was read."""
    UNREADABLE = "unreadable"
    """The sharer cannot read it."""
    BUSY = "busy"
    """The opener asked for too much at once."""
    NO_PREVIEW = "no_preview"
    """The file is no picture, or there are no previews of this size."""
    WITHDRAWN = "withdrawn"
    """The owner has just ended the share or the offer, or takes it away from the opener."""


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
    """Reasons why an opener cancels a transfer."""

    BY_USER = "by_user"
    DISK = "disk"
    """The opener cannot write the file."""
    CORRUPT = "corrupt"
    """The content does not match the announced digest."""


class EntryKind(enum.Enum):
    """Kinds of entries of a listing."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder in a listing."""

    path: RemotePath
    """From the listed folder on: one component, or several in a recursive listing."""
    kind: EntryKind
    size: int
    """Bytes; 0 for a folder."""
    mtime_ns: int
    """Time of the last change, in nanoseconds since 1970."""
    version: str = ""
    """As `FileHeader.version`; empty for a folder."""


@dataclass(frozen=True, slots=True)
class Omission:
    """A file or folder that a listing leaves out."""

    path: RemotePath
    """From the listed folder on; empty for that folder itself."""
    why: Omitted


Run = tuple[int, int]
"""A run of blocks: the first one, and the one behind the last."""
Runs = Sequence[Run]
"""Runs of blocks, ascending; they do not overlap."""


def _read_version(fields: Fields, key: str) -> str:
    version = text(fields, key, VERSION_MAX)
    if not version:
        raise RemoteProtocolError(reason=f"the {key} is empty")
    return version


def _read_hex(fields: Fields, key: str, bytes_max: int) -> bytes:
    value = text(fields, key, 2 * bytes_max)
    try:
        found = bytes.fromhex(value)
    except ValueError:
        found = b""
    if found.hex() != value:  # `fromhex` allows blanks and capitals
        raise RemoteProtocolError(reason=f"the {key} is not written in digits of 0-9 and a-f")
    return found


def _read_digest(fields: Fields, key: str) -> bytes:
    digest = _read_hex(fields, key, DIGEST_SIZE)
    if len(digest) != DIGEST_SIZE:
        raise RemoteProtocolError(reason=f"the {key} is not {2 * DIGEST_SIZE} digits long")
    return digest


def _read_digests(fields: Fields, key: str) -> tuple[bytes, ...]:
    joined = _read_hex(fields, key, DIGESTS_MAX * DIGEST_SIZE)
    if not joined or len(joined) % DIGEST_SIZE:
        raise RemoteProtocolError(reason=f"the {key} are not 1 to {DIGESTS_MAX} whole digests")
    return tuple(joined[at : at + DIGEST_SIZE] for at in range(0, len(joined), DIGEST_SIZE))


def _time(value: object) -> int:
    """Return the nanoseconds since 1970 of a pair of seconds and nanoseconds."""
    match value:
        case [int(seconds), int(rest)] if (
            type(seconds) is int
            and type(rest) is int
            and abs(seconds) <= TIME_MAX
            and 0 <= rest < NANOSECONDS
        ):
            return seconds * NANOSECONDS + rest
    raise RemoteProtocolError(reason="a time is not two integers, seconds and nanoseconds")


def _time_pair(nanoseconds: int) -> tuple[int, int]:
    return divmod(nanoseconds, NANOSECONDS)


def _entry(value: object) -> Entry:
    match value:
        case [str(path), "file", int(size), mtime, str(version)] if (
            type(size) is int
            and 0 <= size <= FILE_SIZE_MAX
            and 0 < len(version) <= VERSION_MAX
            and (parsed_path := parse_path(path))
        ):
            return Entry(parsed_path, EntryKind.FILE, size, _time(mtime), version)
        case [str(path), "folder", 0 as size, mtime] if type(size) is int and (
            parsed_path := parse_path(path)
        ):
            return Entry(parsed_path, EntryKind.FOLDER, 0, _time(mtime))
    raise RemoteProtocolError(
        reason="an entry is not a path, a kind, a size, a time and, of a file, a version"
    )


def _row(entry: Entry) -> list[object]:
    time = _time_pair(entry.mtime_ns)
    row: list[object] = [format_path(entry.path), entry.kind.value, entry.size, time]
    return [*row, entry.version] if entry.kind is EntryKind.FILE else row


_REASONS = frozenset(each.value for each in Omitted)


def _omission(value: object) -> Omission:
    match value:
        case [str(path), str(why)] if why in _REASONS:
            return Omission(parse_path(path), Omitted(why))
    raise RemoteProtocolError(reason="an omission is not a path and a known reason")


def _read_runs(fields: Fields, key: str) -> tuple[Run, ...]:
    value = fields.get(key)
    if not isinstance(value, list) or len(value) > RUNS_MAX:
        raise RemoteProtocolError(reason=f"the {key} is no array of at most {RUNS_MAX} runs")
    runs: list[Run] = []
    behind = 0
    for each in value:
        match each:
            case [int(first), int(end)] if (
                type(first) is int and type(end) is int and behind <= first < end <= INTEGER_MAX
            ):
                runs.append((first, end))
                behind = end
            case _:
                raise RemoteProtocolError(reason=f"the {key} is no ascending row of runs of blocks")
    return tuple(runs)


def _read_ids(fields: Fields, key: str) -> tuple[int, ...]:
    ids = fields.get(key)
    if (
        not isinstance(ids, list)
        or not 0 < len(ids) <= DONE_MAX
        or not all(type(each) is int and 0 <= each <= TRANSFER_MAX for each in ids)
    ):
        raise RemoteProtocolError(reason=f"the {key} are not 1 to {DONE_MAX} numbers")
    return tuple(ids)


_Id = Annotated[int, whole(0, TRANSFER_MAX)]
"""Number of a listing or transfer, which the opener chooses; it differs from those of all open ones."""
_Path = Annotated[RemotePath, parsed(parse_path, format_path, PATH_MAX)]
_Flag = Annotated[bool, Codec(boolean)]
_Digest = Annotated[bytes, Codec(_read_digest, bytes.hex)]
_Digests = Annotated[tuple[bytes, ...], Codec(_read_digests, lambda value: b"".join(value).hex())]
_Version = Annotated[str, Codec(_read_version)]
_RUNS = Codec(_read_runs)
_Sent = Annotated[int, whole()]
"""Bytes of files that this transfer has counted against the credit, each once."""
_TIME = Codec(lambda fields, key: _time(fields.get(key)), _time_pair, key="mtime")
_Entries = Annotated[tuple[Entry, ...], array(0, PAGE_MAX, _entry, _row)]
_OMISSIONS = array(0, OMITTED_MAX, _omission, lambda each: [format_path(each.path), each.why.value])


@dataclass(frozen=True, slots=True)
class List(Message):
    """A request for a page of a folder; the answer is one `Listing`, or `Failed`."""

    WORD = "list"

    id: _Id
    path: _Path
    after: _Path = ()
    """The last entry of the page before, as `Entry.path`; empty for the first page."""
    limit: Annotated[int, whole(1, PAGE_MAX)] = PAGE_MAX
    recursive: _Flag = False


@dataclass(frozen=True, slots=True)
class Listing(Message):
    """A page of a folder, in the order of the names' code points; a folder comes before its content."""

    WORD = "listing"

    id: _Id
    entries: _Entries
    more: _Flag
    """Whether there is another page."""
    omitted: Annotated[tuple[Omission, ...], omittable(_OMISSIONS, ())] = ()
    """Files and folders that belong to this page and are left out; at most `OMITTED_MAX`."""
    unnamed: Annotated[int, omittable(whole(), 0)] = 0
    """Number of further ones that `omitted` has no room for."""

    @property
    def children(self) -> dict[str, bool]:
        """The names of the entries in the folder itself, and whether each is a folder."""
        return {
            each.path[0]: each.kind is EntryKind.FOLDER
            for each in self.entries
            if len(each.path) == 1
        }


@dataclass(frozen=True, slots=True)
class Get(Message):
    """A request for blocks of a file.

    The answer is `FileHeader`, then `Digests` and the pieces of the wanted blocks, and `End`. `Failed` may come instead
    at any moment.
    """

    WORD = "get"

    id: _Id
    path: _Path
    version: Annotated[str, omittable(Codec(_read_version), "")] = ""
    """The version, from an earlier `FileHeader` or `Entry`, that `want` and `digests` are about. If the file has
    another one, all blocks are wanted. Without it, they are about any version.
    """
    want: Annotated[tuple[Run, ...] | None, omittable(_RUNS, None)] = None
    """The blocks that are to be sent; None for all."""
    digests: Annotated[tuple[Run, ...], omittable(_RUNS, ())] = ()
    """The blocks whose digests are to be sent ahead of the pieces, wanted or not."""
    preview: Annotated[int, omittable(whole(1, PREVIEW_EDGE_MAX), 0)] = 0
    """The longest edge, in pixels, of a preview that is to be sent in place of the file; 0 for the file."""
    root: Annotated[bool, omittable(Codec(boolean), True)] = True
    """Whether the root is wanted. Without it, the sharer reads no block that is neither wanted nor in `digests`."""


@dataclass(frozen=True, slots=True)
class FileHeader(Message):
    """The announcement of a file that is about to be sent."""

    WORD = "file"

    id: _Id
    size: Annotated[int, whole(0, FILE_SIZE_MAX)]
    """Bytes."""
    mtime_ns: Annotated[int, _TIME]
    """Time of the last change, in nanoseconds since 1970."""
    executable: _Flag
    version: _Version
    """A text that differs as soon as the content of the file differs."""


@dataclass(frozen=True, slots=True)
class Digests(Message):
    """The digests of consecutive blocks. Those of a transfer come in any order, each block's once."""

    WORD = "digests"

    id: _Id
    first: Annotated[int, whole(0, block_count(FILE_SIZE_MAX) - 1)]
    """The number of the first block."""
    digests: _Digests
    """At most `DIGESTS_MAX` digests of `DIGEST_SIZE` bytes."""


@dataclass(frozen=True, slots=True)
class End(Message):
    """The end of a file whose wanted blocks were all sent. Pieces of them may still be on their way."""

    WORD = "end"

    id: _Id
    root: Annotated[bytes, omittable(Codec(_read_digest, bytes.hex), b"")]
    """Root of the whole file, including blocks that were not wanted: `DIGEST_SIZE` bytes; none if it was not wanted."""
    sent: _Sent = 0


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """The end of a listing or transfer that failed."""

    WORD = "failed"

    id: _Id
    why: Annotated[Fault, one_of(Fault)]
    sent: _Sent = 0


@dataclass(frozen=True, slots=True)
class Stopped(Message):
    """The end of a transfer that was cancelled before its `End` or `Failed` was sent."""

    WORD = "stopped"

    id: _Id
    sent: _Sent


@dataclass(frozen=True, slots=True)
class Done(Message):
    """The confirmation that files are verified, durable and under their names on the opener's disk."""

    WORD = "done"

    ids: Annotated[tuple[int, ...], Codec(_read_ids)]


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """The end of a transfer that the opener no longer wants. If it is still open, the answer is `Stopped`."""

    WORD = "cancel"

    id: _Id
    why: Annotated[Cancelled, one_of(Cancelled)]


@dataclass(frozen=True, slots=True)
class Job(Message):
    """The size of the opener's remaining job, which the sharer shows and uses for nothing else.

    The opener sends it when it has changed, at most once a second, and at once in a session that continues a job. No
    files and no bytes mark the end of a job.
    """

    WORD = "job"

    title: Annotated[str, words(TITLE_MAX)]
    files: Annotated[int, whole()]
    """Number of files that are listed, wanted and not yet complete."""
    bytes: Annotated[int, whole()]
    """Bytes of those files that are still missing."""
