"""Run the whole lab, and print a table: `python -m tests.lab [--delay MS] [KIND...]`, as root on Linux.

Every kind of home fetches the same file of 20 MB from every kind. The table has the carriers in the order in which they
were used, and the seconds from the start of the command to the first byte. The exit code is 1 if a path is not the
expected one, or if a file is not exact.
"""

from __future__ import annotations

import argparse
import sys

from tests.lab.homes import HomeKind
from tests.lab.matrix import Cell, matrix, table
from tests.lab.namespaces import why_not


def main() -> int:
    """Run what the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="of homes; default: all")
    parser.add_argument(
        "--delay", type=float, default=0.0, help="ms between a home and the internet"
    )
    parser.add_argument("--times", type=int, default=1, help="of each fetch; the last one counts")
    given = parser.parse_args()
    kinds = [each for each in HomeKind if not given.kinds or each.name.lower() in given.kinds]
    if (reason := why_not("nft", "conntrack")) is not None:
        sys.stderr.write(f"{reason}\n")
        return 2
    cells: dict[tuple[HomeKind, HomeKind], Cell] = {}
    with matrix(kinds, kinds, given.delay / 1000) as made:
        for requester in kinds:
            for sharer in kinds:
                for _ in range(given.times):
                    cell = made.fetch(requester, sharer)
                cells[requester, sharer] = cell
                sys.stderr.write(f"{requester} from {sharer}: {cell}\n")
    sys.stdout.write(table(kinds, lambda one, other: str(cells[one, other])) + "\n")
    faults = [cell.fault for cell in cells.values() if cell.fault]
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
