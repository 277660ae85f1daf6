"""Whole transfers in virtual time, over a matrix of rates, round trips and losses.

`P2PSHARE_MATRIX_BYTES` makes all files that large, for a longer run; `benchmarks/bench_paths.py` prints such a run.
"""

from __future__ import annotations

import os
import random

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.testing.links import Bursts, Conditions
from tests.core.datagram.pair import HERE, THERE, Pair

MBIT = 125_000.0  # bytes per second
MERGING = 0.001  # seconds: as a network card does, and the runs are cheaper
QUEUE_MIN = 64_000  # bytes
SIZES = {0.0: 300_000, 0.01: 200_000}  # bytes of a file, by loss
SIZE_MIN = 100_000  # bytes
FILE = random.Random(5).randbytes(1_000_000)
LOSSES = 0.0, 0.01, 0.05, 0.1, 0.2
DEADLINE = 600.0  # seconds of virtual time


def path(rate: float, round_trip: float, loss: float = 0.0) -> Conditions:
    """Return a path with a queue of one product of bandwidth and delay."""
    queue = max(rate * MBIT * round_trip, QUEUE_MIN)
    return Conditions(rate=rate * MBIT, queue=queue, delay=round_trip / 2, loss=loss)


class Transfer:
    """One file, from the acceptor to the opener."""

    def __init__(self, conditions: Conditions, file: bytes, seed: int = 1) -> None:
        self._pair = Pair(conditions, seed=seed, merging=MERGING).open()
        self._file = file
        began = self._pair.network.now
        self._pair.acceptor.send_file(1, file)
        self.is_complete = self._pair.run(DEADLINE, lambda: 1 in self._pair.opener.done)
        self.seconds = self._pair.network.now - began

    @property
    def is_exact(self) -> bool:
        """Whether the file is there, without an error at an end."""
        pair = self._pair
        errors = pair.opener.errors + pair.acceptor.errors
        return self.is_complete and not errors and pair.opener.files[1].data == self._file

    @property
    def goodput(self) -> float:
        """Bytes of the file per second."""
        return len(self._file) / self.seconds

    @property
    def overhead(self) -> float:
        """Bytes on the link for each byte of the file."""
        return self._pair.network.link(THERE[0], HERE[0]).counts.bytes_sent / len(self._file)


class MatrixTests(SynchronousTestCase):
    """Each transfer of the matrix is complete and exact."""

    def check_row(self, rate: float, round_trip: float) -> None:
        for loss in LOSSES:
            size = int(os.environ.get("P2PSHARE_MATRIX_BYTES", SIZES.get(loss, SIZE_MIN)))
            file = FILE[:size] if size <= len(FILE) else random.Random(5).randbytes(size)
            transfer = Transfer(path(rate, round_trip, loss), file)
            where = f"{rate} Mbit/s, {round_trip * 1e3:.0f} ms, {loss:.0%} loss"
            self.assertTrue(transfer.is_exact, where)
            self.assertLess(transfer.goodput, rate * MBIT * (1 - loss), where)

    def test_2_mbit_1_ms(self) -> None:
        self.check_row(2, 0.001)

    def test_2_mbit_50_ms(self) -> None:
        self.check_row(2, 0.05)

    def test_2_mbit_200_ms(self) -> None:
        self.check_row(2, 0.2)

    def test_2_mbit_600_ms(self) -> None:
        self.check_row(2, 0.6)

    def test_100_mbit_1_ms(self) -> None:
        self.check_row(100, 0.001)

    def test_100_mbit_50_ms(self) -> None:
        self.check_row(100, 0.05)

    def test_100_mbit_200_ms(self) -> None:
        self.check_row(100, 0.2)

    def test_100_mbit_600_ms(self) -> None:
        self.check_row(100, 0.6)


class UseTests(SynchronousTestCase):
    """What a transfer makes of its path."""

    def test_clean_slow_path(self) -> None:
        """Without loss a transfer uses at least 85 % of a slow link."""
        transfer = Transfer(path(2, 0.05), FILE)
        self.assertGreater(transfer.goodput / (2 * MBIT), 0.85)

    def test_clean_fast_path(self) -> None:
        """Without loss a longer transfer uses at least 75 % of a fast link, with its start."""
        transfer = Transfer(path(100, 0.02), FILE * 5)
        self.assertGreater(transfer.goodput / (100 * MBIT), 0.75)

    def test_nothing_is_sent_twice(self) -> None:
        """Without loss the link carries little more than the file: headers, and what slow start loses in the queue."""
        self.assertLess(Transfer(path(100, 0.05), FILE).overhead, 1.1)

    def test_loss_is_repaired_once(self) -> None:
        """Under loss the link carries what is lost once more, and little else."""
        for loss in (0.01, 0.05, 0.1):
            transfer = Transfer(path(10, 0.05, loss), FILE)
            self.assertLess(transfer.overhead * (1 - loss), 1.12, f"{loss:.0%}")

    def test_bursts(self) -> None:
        """Losses in bursts of ten packets are repaired, too."""
        for seed in range(1, 6):
            bursts = Bursts(begin=0.005, end=0.1)
            conditions = Conditions(rate=10 * MBIT, queue=100_000, delay=0.025, bursts=bursts)
            self.assertTrue(Transfer(conditions, FILE[:400_000], seed).is_exact)
