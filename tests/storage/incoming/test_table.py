"""Tests for `p2pshare.storage.incoming.block_table` and `p2pshare.storage.incoming.hidden_file`."""

from __future__ import annotations

import os
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import InUse
from p2pshare.storage.incoming import hidden_file
from p2pshare.storage.incoming.announcement import Origin, Place
from p2pshare.storage.incoming.block_table import CHUNK, BlockState, BlockTable
from p2pshare.storage.incoming.hidden_file import OPENINGS_MAX, open_hidden, reopen_hidden
from p2pshare.wire.blocks import FILE_SIZE_MAX, block_count
from p2pshare.wire.keys import PublicKey
from tests.storage.incoming_case import IncomingTestCase


class TableTests(SynchronousTestCase):
    """Which blocks are there."""

    @given(
        st.lists(st.tuples(st.integers(0, 3 * CHUNK - 1), st.sampled_from(BlockState)), max_size=60)
    )
    def test_like_a_dictionary(self, moves: list[tuple[int, BlockState]]) -> None:
        """The table holds what was put into it."""
        table = BlockTable(3 * CHUNK)
        model: dict[int, BlockState] = {}
        for index, state in moves:
            table.put(index, state, index.to_bytes(32, "big"))
            model[index] = state
        there = sorted(index for index, state in model.items() if state)
        self.assertEqual([n for run in table.runs() for n in range(*run)], there)
        self.assertEqual(table.there, len(there))
        for state in (BlockState.WRITTEN, BlockState.SYNCED):
            wanted = sorted(index for index in model if model[index] is state)
            self.assertEqual(list(table.indexes(state)), wanted)
        for index in there:
            self.assertEqual(table.state(index), model[index])
            self.assertEqual(table.digest(index), index.to_bytes(32, "big"))

    def test_runs(self) -> None:
        """Runs are as long as they can be, over the borders of the pieces of memory too."""
        table = BlockTable(2 * CHUNK + 5)
        for index in range(table.count):
            table.put(index, BlockState.WRITTEN, bytes(32))
        self.assertEqual(table.runs(), ((0, table.count),))
        self.assertEqual(len(b"".join(table.digests())), 32 * table.count)

    def test_lies_cost_nothing(self) -> None:
        """Threat 7: the last block of the largest file that can be announced takes little memory."""
        table = BlockTable(block_count(FILE_SIZE_MAX))
        table.put(table.count - 1, BlockState.WRITTEN, bytes(32))
        self.assertEqual(table.runs(), ((table.count - 1, table.count),))
        held = [*table._states.values(), *table._digests.values()]
        self.assertLess(sum(map(sys.getsizeof, held)), 256 * 1024)


class HiddenFileTests(IncomingTestCase):
    """The names of hidden files, and who has them."""

    def test_names_differ(self) -> None:
        """Files that differ in key, path or place have different hidden names."""
        keys = [PublicKey(bytes([n]) * 32) for n in (1, 2)]
        paths: list[tuple[str, ...]] = [("a",), ("a", "b"), ("ab",), ("a/b",), ("", "ab")]
        places = [Place((), "a"), Place(("a",), "a"), Place((), "aa"), Place(("a", "a"), "a")]
        all_of_them = [
            hidden_file.hidden_name(place, Origin(key, path))
            for key in keys
            for path in paths
            for place in places
        ]
        self.assertEqual(len(set(all_of_them)), 40)

    def test_tries_are_bounded(self) -> None:
        """A hidden file that somebody removes whenever it is opened is given up after some tries."""
        fd = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        tries: list[int] = []
        before = len(os.listdir("/dev/fd"))

        def is_still(*args: object) -> bool:
            tries.append(1)
            return False

        self.patch(hidden_file, "is_still", is_still)
        (self.path / "x.part").write_bytes(b"")
        for call, name in ((open_hidden, "x"), (reopen_hidden, "x.part")):
            self.assertRaises(InUse, call, fd, name, self.path)
            self.assertEqual(len(tries) % OPENINGS_MAX, 0)
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_open_to_others(self) -> None:
        """Threat 39: a leftover that others could read is closed to them before anything is written."""
        fd = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        (self.path / "x").write_bytes(b"")
        (self.path / "x").chmod(0o644)
        opened = open_hidden(fd, "x", self.path)
        self.addCleanup(os.close, opened)
        self.assertEqual(os.fstat(opened).st_mode & 0o777, 0o600)
