"""Transfers in virtual time over paths that are slow, long and lossy: their goodput, and what they send too much.

Run it as `python -m benchmarks.bench_paths [MEGABYTES]` (default: 4). The figures depend on nothing but the code: no
socket and no clock takes part. The tests run the same matrix with small files (`tests/core/datagram/test_transfers`).
"""

from __future__ import annotations

import random
import sys

from benchmarks.reporting import print_table
from tests.core.datagram.test_transfers import LOSSES, MBIT, Transfer, path

RATES = 2, 100  # Mbit/s
ROUND_TRIPS = 0.001, 0.05, 0.2, 0.6  # seconds


def cell(rate: float, round_trip: float, loss: float, file: bytes) -> str:
    """Return the figures of one path."""
    transfer = Transfer(path(rate, round_trip, loss), file)
    if not transfer.is_complete:
        return "not complete"
    share = transfer.goodput / (rate * MBIT)
    return f"{share:.0%}, {transfer.seconds:.1f} s, {transfer.overhead:.2f}"


def main(megabytes: str = "4") -> None:
    """Run the matrix and print it."""
    file = random.Random(5).randbytes(int(float(megabytes) * 1e6))
    rows = [
        [
            f"{rate} Mbit/s, {round_trip * 1e3:.0f} ms",
            *(cell(rate, round_trip, loss, file) for loss in LOSSES),
        ]
        for rate in RATES
        for round_trip in ROUND_TRIPS
    ]
    print_table(
        f"{megabytes} MB: share of the link, time, bytes on the link for each byte of the file",
        ["path", *(f"{loss:.0%} loss" for loss in LOSSES)],
        rows,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
