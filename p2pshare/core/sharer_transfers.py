"""The values of `core.sharer`: limits, transfers, work and events."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from p2pshare.core.ranges import RangeSet
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.transfer_messages import (
    Cancelled,
    Digests,
    Fault,
    FileHeader,
    Get,
    Job,
    List,
    Run,
)


@dataclass(frozen=True, slots=True)
class SharerLimits:
    """Bounds on the cost of one session."""

    transfers: int = 256
    """Files that are requested and not sent yet."""
    unconfirmed: int = 4096
    """Files that were sent and not confirmed by `Done`."""
    lists: int = 16
    """Listings that are requested and not sent yet."""
    lists_at_once: int = 2
    """Listings that are being made, or wait to be sent."""
    answers: int = 4096
    """Short answers that wait to be sent; with more, another request ends the session."""
    previews_at_once: int = 4
    """Previews that are being made."""
    open_files: int = 8
    """Files of more than one block that are open."""
    batch: int = 64
    """Files that are opened in one go."""
    read_ahead: int = 4
    """Blocks of large files that are read, or being read, and not sent yet."""
    reads_at_once: int = 2
    """Files whose blocks are being read."""
    read_batch: int = 2
    """Blocks of a file that are read in one go."""
    small_bytes: int = 4 * BLOCK_SIZE
    """Bytes of files of at most one block that are read and not sent yet."""
    digest_batch: int = 16
    """Blocks that are hashed, but not read to be sent, in one go."""


class Outcome(enum.Enum):
    """Ends of a transfer."""

    CONFIRMED = enum.auto()
    """The receiver has the file under its name."""
    UNCONFIRMED = enum.auto()
    """All of it was sent, but the receiver did not confirm it."""
    INTERRUPTED = enum.auto()
    """The session ended first."""
    CANCELLED = enum.auto()
    """The receiver cancelled it."""
    FAILED = enum.auto()
    """This side could not send it."""


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A block that was read and hashed."""

    index: int
    data: bytes
    digest: bytes


@dataclass(eq=False, slots=True)
class Transfer:
    """A file on its way. The fields below `why` belong to the core alone."""

    request: Get
    header: FileHeader | None = None
    """The header, after the file was opened."""
    sent: int = 0
    """Bytes that went out."""
    to_send: int = 0
    """Bytes that are to go out in all."""
    outcome: Outcome | None = None
    """How it ended; None until then."""
    why: Fault | Cancelled | None = None
    """Why it failed or was cancelled."""

    is_open: bool = False
    is_busy: bool = False  # work with the file is under way
    is_whole: bool = False  # was read in one go
    is_header_sent: bool = False
    has_turn: bool = False
    unread: deque[Run] = field(default_factory=deque)
    ahead: deque[Run] = field(default_factory=deque)  # blocks to be hashed, and announced
    unhashed: deque[Run] = field(default_factory=deque)  # blocks to be hashed for the root alone
    reading: int = 0  # blocks
    announced: RangeSet = field(default_factory=RangeSet)  # blocks whose digests go ahead
    digests: Digests | None = None  # go out next
    ready: deque[ReadBlock] = field(default_factory=deque)
    view: memoryview | None = None  # rest of the block that goes out
    index: int = 0  # of that block
    position: int = 0  # of the next byte in that block
    root: bytes | None = None

    @property
    def id(self) -> int:
        """Return the number that the other side chose."""
        return self.request.id


@dataclass(frozen=True, slots=True)
class ListWork:
    """Make a listing; report with `listed` or `list_failed`."""

    request: List


@dataclass(frozen=True, slots=True)
class OpenWork:
    """Open files in order. Report each with `opened`, `opened_whole`, `too_large` or `failed`, or not at all if it does
    not fit, and then report `batch_done`.
    """

    transfers: tuple[Transfer, ...]
    small_bytes: int
    """Bytes of files of at most one block that may be read: at least a block."""
    large_files: int
    """Number of larger files that may be opened."""


@dataclass(frozen=True, slots=True)
class PreviewWork:
    """Make the preview of a picture; report with `opened_whole` or `failed`."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class ReadWork:
    """Read blocks of an open file in order; report with `blocks_read` or `failed`."""

    transfer: Transfer
    indexes: range


@dataclass(frozen=True, slots=True)
class DigestWork:
    """Hash blocks; report with `digested` or `failed`."""

    transfer: Transfer
    indexes: range


@dataclass(frozen=True, slots=True)
class FinishWork:
    """Make the root, or if it is not wanted, see that the file has not changed; report with `finished` or `failed`."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class CloseWork:
    """Close the file; nothing is reported."""

    transfer: Transfer


Work = ListWork | OpenWork | PreviewWork | ReadWork | DigestWork | FinishWork | CloseWork


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file that go out."""

    transfer: Transfer
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A file was announced."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """A transfer is over, as its `outcome` says; it may never have started."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class JobTold:
    """The receiver has announced the size of its remaining job, which need not be true."""

    job: Job


ServingEvent = TransferStarted | TransferEnded | JobTold


def take_first(runs: deque[Run], count: int) -> range:
    """Take at most `count` blocks from the beginning of the first run."""
    first, end = runs.popleft()
    taken = range(first, min(end, first + count))
    if taken.stop < end:
        runs.appendleft((taken.stop, end))
    return taken
