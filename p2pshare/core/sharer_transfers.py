"""What `core.sharer` speaks of: transfers, the work that they need, and what becomes of them."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.transfer_messages import Cancelled, Fault, Get, Job, List, Offer

Run = tuple[int, int]
"""Blocks: the first, and the one behind the last."""


@dataclass(frozen=True, slots=True)
class SharerLimits:
    """What one session may cost."""

    transfers: int = 256
    """Files that are asked for and not sent yet."""
    unconfirmed: int = 4096
    """Files that were sent, but not yet said to be done."""
    lists: int = 16
    """Listings that are asked for and not sent yet."""
    lists_at_once: int = 2
    """Of them, those that are being made, or are made and not sent yet."""
    answers: int = 4096
    """Short answers that wait to be sent, beyond which nothing more may be asked for."""
    open_files: int = 8
    """Files of more than one block that are open."""
    batch: int = 64
    """Files that are opened in one go."""
    read_ahead: int = 4
    """Blocks of large files that are read, or being read, and not sent yet."""
    reads_at_once: int = 2
    """Files of which blocks are being read."""
    read_batch: int = 2
    """Blocks of a file that are read in one go."""
    small_bytes: int = 4 * BLOCK_SIZE
    """Bytes of files of one block or less that are read and not sent yet."""
    digest_batch: int = 16
    """Blocks that are not sent, but hashed, in one go."""


class Outcome(enum.Enum):
    """How a transfer ended."""

    CONFIRMED = enum.auto()
    """The receiver has the file under its name."""
    UNCONFIRMED = enum.auto()
    """All of it was sent, but the receiver never said that it has it."""
    INTERRUPTED = enum.auto()
    """The session ended first."""
    CANCELLED = enum.auto()
    """The receiver does not want it any more."""
    FAILED = enum.auto()
    """This side could not send it."""


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A block, read and hashed."""

    index: int
    data: bytes
    digest: bytes


@dataclass(eq=False, slots=True)
class Transfer:
    """One file on its way. What is below `why` is the core's own."""

    request: Get
    offer: Offer | None = None
    """What it is, once it was opened."""
    sent: int = 0
    """Bytes of it that went out."""
    to_send: int = 0
    """Bytes of it in all that are to go out."""
    outcome: Outcome | None = None
    """How it ended; None until then."""
    why: Fault | Cancelled | None = None
    """Why it failed, or was cancelled."""

    is_open: bool = False
    is_busy: bool = False  # somebody works with the file
    is_whole: bool = False  # it was read in one go
    is_offered: bool = False
    has_turn: bool = False
    unread: deque[Run] = field(default_factory=deque)
    unhashed: deque[Run] = field(default_factory=deque)  # of the blocks that are not sent
    reading: int = 0  # blocks
    ready: deque[ReadBlock] = field(default_factory=deque)
    view: memoryview | None = None  # the block that is going out
    index: int = 0  # its
    position: int = 0  # in it
    root: bytes | None = None

    @property
    def id(self) -> int:
        """The number by which the other side knows it."""
        return self.request.id


@dataclass(frozen=True, slots=True)
class ListWork:
    """Make a listing; `listed` or `list_failed` follows."""

    request: List


@dataclass(frozen=True, slots=True)
class OpenWork:
    """Open files, in turn: for each there follows one of `opened`, `opened_whole`, `too_large` and `failed`, or nothing
    for those that do not fit, and then `batch_done`.
    """

    transfers: tuple[Transfer, ...]
    small_bytes: int
    """Bytes of files of one block or less that may be read whole: at least a block."""
    large_files: int
    """Other files that may be opened."""


@dataclass(frozen=True, slots=True)
class ReadWork:
    """Read blocks of an open file, in turn; `blocks_read` or `failed` follows."""

    transfer: Transfer
    indexes: range


@dataclass(frozen=True, slots=True)
class DigestWork:
    """Hash blocks that are not sent; `digested` or `failed` follows."""

    transfer: Transfer
    indexes: range


@dataclass(frozen=True, slots=True)
class FinishWork:
    """Make the root; `finished` or `failed` follows."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class CloseWork:
    """Close the file; nothing follows."""

    transfer: Transfer


Work = ListWork | OpenWork | ReadWork | DigestWork | FinishWork | CloseWork


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file that go out."""

    transfer: Transfer
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A file is offered."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """A transfer is over, as its `outcome` says; it may never have started."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class JobTold:
    """The receiver says how much it is about to fetch; nobody has to believe it."""

    job: Job


ServingEvent = TransferStarted | TransferEnded | JobTold


def runs_missing(have: Sequence[Run], blocks: int) -> Iterator[Run]:
    """The runs among `blocks` blocks that are not in the ascending `have`."""
    at = 0
    for first, end in have:
        if at < min(first, blocks):
            yield at, min(first, blocks)
        at = max(at, end)
    if at < blocks:
        yield at, blocks


def runs_within(have: Sequence[Run], blocks: int) -> Iterator[Run]:
    """What of the runs lies among `blocks` blocks."""
    return ((first, min(end, blocks)) for first, end in have if first < blocks)


def bytes_of(size: int, run: Run) -> int:
    """Bytes in a run of blocks of a file of `size` bytes."""
    return min(size, run[1] * BLOCK_SIZE) - run[0] * BLOCK_SIZE


def take_first(runs: deque[Run], count: int) -> range:
    """The first blocks of the first run, at most `count`, which are taken from it."""
    first, end = runs.popleft()
    taken = range(first, min(end, first + count))
    if taken.stop < end:
        runs.appendleft((taken.stop, end))
    return taken
