"""Fuzz what datagrams reach: `python -m tests.fuzz.datagrams TARGET [OPTION]...`.

With Atheris the target is run with the vectors of the document, and with inputs made from them that reach new code,
until it fails. The options are those of libFuzzer, such as `-max_total_time=60`. Without Atheris it is run with `RUNS`
changed copies of the vectors.
"""

from __future__ import annotations

import random
import sys
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

RUNS = 100_000  # inputs without Atheris


def instrumented() -> AbstractContextManager[Any]:
    """A context: modules of p2pshare that are imported in it tell Atheris which code they reach."""
    if atheris is None:
        return nullcontext()
    found: AbstractContextManager[Any] = atheris.instrument_imports(include=["p2pshare"])
    return found


with instrumented():
    from tests.fuzz.seeds import changed, seeds
    from tests.fuzz.targets import TARGETS, Target


def run_without_atheris(target: Target, runs: int, rng: random.Random) -> None:
    """Run a target with the vectors and with changed copies of them."""
    given = seeds()
    copies = (changed(rng.choice(given), rng) for _ in range(runs))
    for data in chain(given, copies):
        try:
            target(data)
        except Exception as error:
            raise AssertionError(f"{target.__name__} failed with {data.hex()}") from error


def main() -> None:
    """Run the target that the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"TARGET is one of {', '.join(TARGETS)}.")
    if atheris is None:
        run_without_atheris(TARGETS[name], RUNS, random.Random())
        return
    with TemporaryDirectory() as corpus:
        for number, data in enumerate(seeds()):
            Path(corpus, str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], *sys.argv[2:], corpus], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
