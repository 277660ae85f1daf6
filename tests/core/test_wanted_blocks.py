"""Tests of `p2pshare.core.wanted_blocks`."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.wanted_blocks import byte_ranges, named_blocks
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.transfer_messages import FileHeader, Get, Run

RUNS = st.lists(st.integers(0, 30), unique=True, max_size=12).map(
    lambda ends: tuple(zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False))
)


def members(runs: Iterable[Run]) -> set[int]:
    return {index for run in runs for index in range(*run)}


class NamedBlocksTests(SynchronousTestCase):
    @given(st.none() | RUNS, RUNS, st.integers(0, 25), st.sampled_from(["", "v1", "v2"]))
    def test_named(
        self, want: tuple[Run, ...] | None, digests: tuple[Run, ...], count: int, version: str
    ) -> None:
        """Blocks are named within the file, and for its version; of another version, all blocks are wanted."""
        size = max(0, count * BLOCK_SIZE - 7)
        header = FileHeader(1, size, 0, False, "v1")
        wanted, ahead = named_blocks(Get(1, ("a",), version, want, digests), header)
        whole = set(range(count))
        if want is None or version == "v2":
            want = ((0, count),)
        if version == "v2":
            digests = ()
        for found, expected in ((wanted, want), (ahead, digests)):
            self.assertEqual(members(found), whole & members(expected))
        ranges = [*byte_ranges(wanted, size)]
        covered = sum(min(BLOCK_SIZE, size - i * BLOCK_SIZE) for i in members(wanted))
        self.assertEqual(sum(end - first for first, end in ranges), covered)
        self.assertEqual(ranges, sorted(ranges))
