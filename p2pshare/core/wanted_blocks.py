"""The blocks of a file that a request names; both ends of a transfer compute them, and must agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pshare.core.ranges import Range, RangeSet
from p2pshare.wire.blocks import BLOCK_SIZE, block_count
from p2pshare.wire.transfer_messages import FileHeader, Get, Run


def named_blocks(request: Get, header: FileHeader) -> tuple[RangeSet, RangeSet]:
    """Return the blocks that are to be sent, and those whose digests are to be sent ahead.

    Runs behind the end of the file mean nothing. If the file has another version than the request, all of it is sent.
    """
    count = block_count(header.size)
    if request.version not in ("", header.version):
        return RangeSet([(0, count)]), RangeSet()
    want = [(0, count)] if request.want is None else request.want
    return RangeSet(_within(want, count)), RangeSet(_within(request.digests, count))


def byte_ranges(blocks: Iterable[Run], size: int) -> Iterator[Range]:
    """Yield the bytes in each run of blocks of a file of `size` bytes."""
    return ((first * BLOCK_SIZE, min(end * BLOCK_SIZE, size)) for first, end in blocks)


def _within(runs: Iterable[Run], count: int) -> Iterator[Run]:
    return ((first, min(end, count)) for first, end in runs)
