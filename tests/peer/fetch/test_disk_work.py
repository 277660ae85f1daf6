"""Tests of `p2pshare.peer.fetch.disk_work`."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.peer.fetch.disk_work import BATCH, MOMENT, DiskWork
from p2pshare.testing.network import ThreadlessReactor


class Block:
    """A block that came."""

    digest = b""

    def __init__(self, index: int) -> None:
        self.index = index
        self.data = memoryview(bytes(10))
        self.is_released = False

    def release(self) -> None:
        self.is_released = True


class File:
    """Where blocks go; one of them cannot be written."""

    def __init__(self, bad: int | None = None) -> None:
        self.written: list[int] = []
        self._bad = bad

    def write_block(self, index: int, data: memoryview, digest: bytes) -> None:
        if index == self._bad:
            raise OSError("bad")
        self.written.append(index)


class DiskWorkTests(SynchronousTestCase):
    """Blocks on their way to the disk."""

    def setUp(self) -> None:
        self.reactor = ThreadlessReactor()
        self.disk = DiskWork(cast("Any", self.reactor), self.fail)
        self.outcomes: list[tuple[int, Failure | None]] = []
        self.blocks: list[Block] = []

    def write(self, file: File, count: int) -> None:
        for index in range(count):
            self.blocks.append(Block(index))
            self.disk.write_block(
                file,
                cast("ArrivedBlock", self.blocks[-1]),
                lambda size, failure: self.outcomes.append((size, failure)),
            )

    def test_in_order(self) -> None:
        """Blocks are written in the order in which they came: many at once, and the last ones after a moment."""
        file = File()
        self.write(file, BATCH + 1)
        self.assertEqual(file.written, list(range(BATCH)))
        self.reactor.advance(MOMENT)
        self.assertEqual(file.written, list(range(BATCH + 1)))
        self.assertEqual(self.outcomes, [(10, None)] * (BATCH + 1))
        self.assertTrue(all(block.is_released for block in self.blocks))

    def test_one_fails(self) -> None:
        """A block that cannot be written spoils no other, and is released, too."""
        file = File(bad=1)
        self.write(file, BATCH)
        self.assertEqual(len(file.written), BATCH - 1)
        failures = [failure for _, failure in self.outcomes if failure is not None]
        self.assertEqual([failure.type for failure in failures], [OSError])
        self.assertTrue(all(block.is_released for block in self.blocks))

    def test_one_is_not_told(self) -> None:
        """Where one that is told fails, that ends the job, and the others are told and released all the same."""
        broke: list[Failure] = []
        self.disk = DiskWork(cast("Any", self.reactor), broke.append)
        bad = Block(0)
        self.disk.write_block(File(), cast("ArrivedBlock", bad), lambda *_: 1 / 0)
        self.write(File(), BATCH - 1)
        self.assertEqual(self.outcomes, [(10, None)] * (BATCH - 1))
        self.assertTrue(all(block.is_released for block in (bad, *self.blocks)))
        self.assertEqual([failure.type for failure in broke], [ZeroDivisionError])

    def test_bounded(self) -> None:
        """One thread writes; blocks that arrive meanwhile wait, and `idle` returns when all are written."""
        let_go = self.reactor.hold_threads()
        file = File()
        self.write(file, 10 * BATCH)
        self.assertEqual(len(self.reactor._held or ()), 1)
        idle = Deferred.fromCoroutine(self.disk.idle())
        self.assertNoResult(idle)
        self.assertEqual(self.outcomes, [])
        let_go()
        self.reactor.advance(MOMENT)
        self.successResultOf(idle)
        self.assertEqual(sorted(file.written), list(range(10 * BATCH)))
