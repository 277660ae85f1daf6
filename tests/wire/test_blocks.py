"""Tests for `p2pshare.wire.blocks`."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.wire.blocks import (
    BLOCK_SIZE,
    DIGEST_SIZE,
    block_count,
    block_length,
    digest_of,
    root_of,
)


class BlockTests(SynchronousTestCase):
    @given(st.integers(0, 2**50))
    def test_lengths(self, size: int) -> None:
        """The lengths of the blocks add up to the size; only the last may be short, and none is empty."""
        count = block_count(size)
        if count:
            self.assertEqual(
                (count - 1) * BLOCK_SIZE + block_length(size, count - 1), size, "the last one"
            )
            self.assertTrue(0 < block_length(size, count - 1) <= BLOCK_SIZE)
            self.assertEqual(block_length(size, 0), min(size, BLOCK_SIZE))
        else:
            self.assertEqual(size, 0)

    def test_root(self) -> None:
        """The root is the hash of the size and the digests, and an empty file has one, too."""
        digests = [digest_of(b"one"), digest_of(memoryview(b"two"))]
        self.assertEqual({len(each) for each in digests}, {DIGEST_SIZE})
        whole = (2**20 + 3).to_bytes(8, "big") + digests[0] + digests[1]
        self.assertEqual(root_of(2**20 + 3, digests), blake3(whole).digest())
        self.assertEqual(root_of(0, ()), blake3(bytes(8)).digest())

    @given(
        st.integers(0, 2**50), st.integers(0, 2**50), st.lists(st.binary(min_size=32, max_size=32))
    )
    def test_distinct(self, size: int, other: int, digests: list[bytes]) -> None:
        """A root stands for its size, too, so that no file is the beginning of another."""
        same = root_of(size, digests) == root_of(other, digests)
        self.assertEqual(same, size == other)
