"""The speed and cost of fetching files over an encrypted session.

It runs the programs that users start, on loopback: a registry, a sharer, and `p2pshare get`. In the same run and in
turn, it measures magic-wormhole with the same file, and `dd conv=fdatasync` on the same disk.

Run it as `python -m benchmarks.bench_files [FOLDER]`; FOLDER is on the disk to be measured (default: the temporary
one). It takes about five minutes, and 3 GiB of that disk and of /dev/shm.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fetching import IDLE_SESSIONS, Requester, Sharer, fetching_world, idle_load
from benchmarks.reporting import print_table
from benchmarks.wormhole import Wormholes, wormholes

GIB = 1024**3
MIB = 1024**2
TRIES = 5
SMALL_FILES = 10_000
SMALL_SIZE = 4096  # bytes
LISTED = 1000  # entries
HUGE = 1_000_000  # entries
MEMORY = Path("/dev/shm")


def make_big(path: Path, size: int = GIB) -> None:
    """Write a file of random bytes without equal blocks."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])


def make_small(folder: Path) -> None:
    """Write many small files."""
    folder.mkdir()
    for number in range(SMALL_FILES):
        (folder / f"{number:05}.bin").write_bytes(os.urandom(SMALL_SIZE))


def median_of(tries: int, what: Callable[[], float]) -> float:
    """Return the median of several tries."""
    return statistics.median(what() for _ in range(tries))


def beside_wormhole(shares: Path, requester: Requester, wormhole: Wormholes) -> list[list[str]]:
    """Fetch 1 GiB into a folder in memory, in turn with magic-wormhole."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        target = Path(name)
        for _ in range(TRIES):
            ours.append(requester.get("alice:share/big", target))
            (target / "big").unlink()
            theirs.append(wormhole.send(shares / "big", target))
        start_ours = median_of(3, lambda: requester.get_and_remove("alice:share/tiny", target))
        start_theirs = median_of(3, lambda: wormhole.send(shares / "tiny", target))
    mine, its = statistics.median(ours), statistics.median(theirs)
    rate, its_rate = GIB / (mine - start_ours), GIB / (its - start_theirs)
    return [
        ["1 GiB, p2pshare, whole command", f"{mine:.2f} s, {GIB / mine / 1e6:.0f} MB/s"],
        ["1 GiB, magic-wormhole, whole command", f"{its:.2f} s, {GIB / its / 1e6:.0f} MB/s"],
        ["ratio", f"{its / mine:.2f}"],
        ["a file of one byte, p2pshare, whole command", f"{start_ours:.2f} s"],
        ["a file of one byte, magic-wormhole, whole command", f"{start_theirs:.2f} s"],
        ["1 GiB, p2pshare, without the start", f"{rate / 1e6:.0f} MB/s"],
        ["1 GiB, magic-wormhole, without the start", f"{its_rate / 1e6:.0f} MB/s"],
        ["ratio", f"{rate / its_rate:.2f}"],
    ]


def onto_disk(disk: Path, requester: Requester, start: float) -> list[list[str]]:
    """Fetch 1 GiB onto a disk with all syncs, in turn with dd and with `get` to a pipe."""
    ours: list[float] = []
    piped: list[float] = []
    dd: list[float] = []
    for _ in range(TRIES):
        os.sync()
        started = time.perf_counter()
        command = ["dd", "if=/dev/zero", f"of={disk / 'dd'}", "bs=1M", "count=1024"]
        subprocess.run([*command, "conv=fdatasync"], check=True, stderr=subprocess.DEVNULL)
        dd.append(time.perf_counter() - started)
        (disk / "dd").unlink()
        os.sync()
        ours.append(requester.get_and_remove("alice:share/big", disk))
        piped.append(requester.stream("alice:share/big"))
    mine, its = statistics.median(ours) - start, statistics.median(dd)
    return [
        ["1 GiB onto the disk, without the start", f"{GIB / mine / 1e6:.0f} MB/s"],
        ["dd conv=fdatasync", f"{GIB / its / 1e6:.0f} MB/s"],
        ["ratio", f"{its / mine:.2f}"],
        ["slowest and fastest of ours", f"{max(ours):.2f} s, {min(ours):.2f} s"],
        ["slowest and fastest of dd", f"{max(dd):.2f} s, {min(dd):.2f} s"],
        ["1 GiB to a pipe", f"{GIB / (statistics.median(piped) - start) / 1e6:.0f} MB/s"],
    ]


def small_files(disk: Path, requester: Requester, start: float) -> list[list[str]]:
    """Fetch many small files onto a disk."""

    def once() -> float:
        target = disk / "small"
        target.mkdir()
        os.sync()
        seconds = requester.get("alice:share/small", target)
        assert len(os.listdir(target / "small")) == SMALL_FILES
        shutil.rmtree(target)
        return seconds

    seconds = median_of(3, once)
    return [
        [f"{SMALL_FILES} files of {SMALL_SIZE} bytes onto the disk", f"{seconds:.2f} s"],
        ["files per second, without the start", f"{SMALL_FILES / (seconds - start):.0f}"],
    ]


def present_files(disk: Path, requester: Requester, start: float) -> list[list[str]]:
    """Fetch small files that are all present: identified by records, and without records by content."""
    target = disk / "present"
    target.mkdir()
    first = requester.get("alice:share/small", target)
    again = median_of(TRIES, lambda: requester.get("alice:share/small", target))
    listed = median_of(TRIES, lambda: requester.list("alice:share/small"))

    def compared() -> float:
        requester.forget_saved()
        return requester.get("alice:share/small", target)

    without = median_of(3, compared)
    assert len(os.listdir(target / "small")) == SMALL_FILES
    shutil.rmtree(target)
    return [
        [f"{SMALL_FILES} files for the first time", f"{first:.2f} s"],
        ["all of them again", f"{again:.2f} s"],
        [
            "the same, without the start, for each file",
            f"{(again - start) / SMALL_FILES * 1e6:.0f} µs",
        ],
        ["beside `ls -R` of the same folder", f"{again / listed:.2f} times"],
        ["again, with nothing recorded: only roots cross", f"{without:.2f} s"],
    ]


def costs(disk: Path, sharer: Sharer, requester: Requester, idle: int) -> list[list[str]]:
    """Measure memory, listings, resuming and idle sessions."""
    grown = requester.memory("alice:share/big", disk)
    grown_small = requester.memory("alice:share/small", disk)
    listed = requester.probe("list", "share/listed")
    huge = requester.probe("list", "share/huge")
    there, came = requester.resume("alice:share/big", disk, GIB)
    return [
        [
            "sharer above idle, after all of this",
            f"{(sharer.memory_at_most() - idle) / MIB:.1f} MiB",
        ],
        ["requester of 1 GiB above one of a byte", f"{grown / MIB:.1f} MiB"],
        [f"requester of {SMALL_FILES} files above one of a byte", f"{grown_small / MIB:.1f} MiB"],
        [f"list of {listed['entries']:.0f} entries", f"{listed['others'] * 1000:.1f} ms"],
        [f"first page of {HUGE} files, the first time", f"{huge['first']:.1f} s"],
        ["the same, once it is indexed", f"{huge['others'] * 1000:.1f} ms"],
        ["killed half-way: bytes that were verified", f"{there / MIB:.0f} MiB"],
        ["then sent", f"{came / MIB:.0f} MiB, {(there + came - GIB) / MIB:.0f} MiB of them again"],
        [
            f"CPU of a sharer with {IDLE_SESSIONS} idle sessions",
            f"{idle_load(sharer, requester):.2%}",
        ],
    ]


@contextlib.contextmanager
def prepared(disk: Path) -> Iterator[tuple[Path, Sharer, Requester]]:
    """Create the shared files in memory, and run all measurements."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        shares = Path(name) / "share"
        shares.mkdir()
        make_big(shares / "big")
        make_small(shares / "small")
        (shares / "tiny").write_bytes(b"x")
        (shares / "listed").mkdir()
        for number in range(LISTED):
            (shares / "listed" / f"a file with number {number:04}.txt").touch()
        (shares / "huge").mkdir()
        for number in range(HUGE):
            os.close(os.open(shares / "huge" / f"{number:07}", os.O_CREAT | os.O_WRONLY))
        with fetching_world(Path(name), shares) as (sharer, requester):
            yield shares, sharer, requester


def main(folder: str | None = None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        disk = Path(name)
        with prepared(disk) as (shares, sharer, requester):
            idle = sharer.memory_now()
            with wormholes(disk) as wormhole:
                rows = beside_wormhole(shares, requester, wormhole)
            print_table("1 GiB into memory, process to process", ["what", "figure"], rows)
            start = median_of(3, lambda: requester.get_and_remove("alice:share/tiny", disk))
            rows = onto_disk(disk, requester, start)
            print_table("1 GiB onto a disk", ["what", "figure"], rows)
            rows = small_files(disk, requester, start)
            print_table("Small files onto a disk", ["what", "figure"], rows)
            rows = present_files(disk, requester, start)
            print_table("Small files that are there already", ["what", "figure"], rows)
            rows = costs(disk, sharer, requester, idle)
            print_table("Memory, lists, resuming, idling", ["what", "figure"], rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
