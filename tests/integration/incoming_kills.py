"""Run children that receive files, kill them, and print the findings after each kill, one line each.

It is a program of its own because it must fork without threads: `python -m tests.integration.incoming_kills FOLDER`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from p2pshare.storage.incoming import partial_file as incoming
from p2pshare.storage.incoming import present_files as presence
from p2pshare.storage.incoming import small_files as whole_files
from p2pshare.storage.incoming.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.incoming.present_files import Absent, Sought
from p2pshare.wire import blocks
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.keys import PublicKey

BLOCK = 4096  # bytes
COUNT = 12  # blocks
SYNC_EVERY = 3  # blocks
RANDOM_KILLS = 30
CALLS = ("open", "pwrite", "fdatasync", "fsync", "link", "unlink", "utime", "fchmod", "ftruncate")
CALLS_MAX = 3  # of each: the process is killed before and after each of them
LONGEST = 0.012  # seconds after which a process is killed

SYNCS = {"fsync": os.fsync, "fdatasync": os.fdatasync}

KEY = PublicKey(b"k" * 32)
ORIGIN = Origin(KEY, ("a", "cat.jpg"))
PLACE = Place(("a",), "cat.jpg")
CONTENT = b"".join(bytes([number]) * BLOCK for number in range(COUNT))
PIECES = [CONTENT[at : at + BLOCK] for at in range(0, len(CONTENT), BLOCK)]
ROOT = b""
SAID = Announced(len(CONTENT), 1_700_000_000_000_001, False, "v1")


def fetch(path: Path, tell: Callable[[int], object] = lambda index: None) -> None:
    """Receive the large file by blocks, resuming a partial file. Report each block that is journalled."""
    with IncomingFolder.open(path) as folder:
        part = folder.resume(PLACE, ORIGIN) or folder.begin(PLACE, ORIGIN, SAID)
        fresh: list[int] = []
        for index in missing(part):
            part.write_block(index, PIECES[index], digest_of(PIECES[index]))
            fresh.append(index)
            if len(fresh) == SYNC_EVERY:
                part.sync()
                for each in fresh:
                    tell(each)
                fresh.clear()
        part.finish(ROOT)


def store(path: Path, tell: Callable[[int], object] = lambda index: None) -> None:
    """Receive several small files in one batch."""
    with IncomingFolder.open(path) as folder:
        folder.store_whole(
            [
                WholeFile(
                    Place(("a",), f"small {number}"),
                    Origin(KEY, ("a", str(number))),
                    Announced(BLOCK, 1, False, "v1"),
                    piece,
                    (digest_of(piece),),
                    root_of(BLOCK, [digest_of(piece)]),
                )
                for number, piece in enumerate(PIECES)
            ]
        )


def missing(part: Incoming) -> list[int]:
    there = {index for first, end in part.have for index in range(first, end)}
    return [index for index in range(COUNT) if index not in there]


def killed(job: Callable[..., None], path: Path, kill: Callable[[int], None]) -> set[int]:
    """Run a job in a child that is killed. Return the blocks that it reported as journalled."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            for name, call in SYNCS.items():
                setattr(os, name, call)
            kill(0)
            job(path, lambda index: os.write(writing, bytes([index])))
        finally:
            os._exit(0)
    os.close(writing)
    kill(child)
    told = b""
    while more := os.read(reading, 4096):
        told += more
    os.close(reading)
    os.waitpid(child, 0)
    return set(told)


def at_call(name: str, nth: int, after: bool) -> Callable[[int], None]:
    """Kill the child at its nth call of a system function."""

    def prepare(child: int) -> None:
        if child:
            return
        call, left = getattr(os, name), nth

        def deadly(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, name, deadly)

    return prepare


def after_while(seconds: float) -> Callable[[int], None]:
    """Kill the child at a random moment."""

    def wait_and_kill(child: int) -> None:
        if child:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)

    return wait_and_kill


def faults(path: Path, journalled: set[int]) -> Iterator[str]:
    """Return the faults of the files that a kill has left; a correct run returns none."""
    named = path / "a" / "cat.jpg"
    for number, piece in enumerate(PIECES):
        small = path / "a" / f"small {number}"
        if small.exists() and small.read_bytes() != piece:
            yield f"{small.name} is not whole"
    with IncomingFolder.open(path) as folder:
        if named.exists():
            if named.read_bytes() != CONTENT:
                yield "the file is not whole"
            sought = Sought(PLACE, ORIGIN, SAID.size, SAID.version)
            found = folder.look_up(sought)
            if isinstance(found, Absent):
                found = folder.settle(sought, found.candidates, ROOT)
            if isinstance(found, Absent):
                yield "the file is not found"
            return
        part = folder.resume(PLACE, ORIGIN)
        if part is None:
            if journalled:
                yield f"{len(journalled)} journalled blocks are lost"
            return
        if lost := journalled.intersection(missing(part)):
            yield f"{len(lost)} journalled blocks are lost"
        (file,) = (path / "a").glob(".p2pshare-*.part")
        held = file.read_bytes()
        for index in set(range(COUNT)).difference(missing(part)):
            if held[index * BLOCK : (index + 1) * BLOCK] != PIECES[index]:
                yield f"block {index} is not what it is said to be"
        part.close()


def completed(job: Callable[..., None], path: Path) -> Iterator[str]:
    """Return the faults after another run that is not killed. Then remove all files."""
    if job is store or not (path / "a" / "cat.jpg").exists():
        job(path)
    wanted = {"cat.jpg"} if job is fetch else {f"small {number}" for number in range(COUNT)}
    names = set(os.listdir(path / "a"))
    extra = {name for name in names - wanted if not name.endswith(" (1)")}
    if not wanted <= names or extra:
        yield f"there are {sorted(names)}"
    for number, piece in enumerate(PIECES):
        for copy in ("", " (1)"):
            small = path / "a" / f"small {number}{copy}"
            if small.exists() and small.read_bytes() != piece:
                yield f"{small.name} is not whole"
    if job is fetch and (path / "a" / "cat.jpg").read_bytes() != CONTENT:
        yield "the file is not whole"
    for name in names:
        (path / "a" / name).unlink()


def main(path: Path) -> None:
    """Kill the children, inspect the files, and print the findings."""
    global ROOT
    for module in (blocks, incoming, presence, whole_files):
        module.BLOCK_SIZE = BLOCK  # type: ignore[attr-defined]
    ROOT = root_of(len(CONTENT), map(digest_of, PIECES))
    for name in SYNCS:
        setattr(os, name, lambda fd: None)  # only what is killed needs a disk
    rng = random.Random()
    for job in (fetch, store):
        kills = [
            (f"{when} {name} {nth}", at_call(name, nth, when == "after"))
            for name in CALLS
            for nth in range(1, CALLS_MAX + 1)
            for when in ("before", "after")
        ]
        kills += [
            ("some moment", after_while(rng.uniform(0, LONGEST))) for _ in range(RANDOM_KILLS)
        ]
        for name, kill in kills:
            journalled = killed(job, path, kill)
            wrong = [*faults(path, journalled if job is fetch else set()), *completed(job, path)]
            sys.stdout.write(f"{job.__name__}, {name}: {'; '.join(wrong) or 'good'}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
