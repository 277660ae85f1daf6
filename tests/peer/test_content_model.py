"""Files arrive as they were shared, despite faults: a model with real shares, real file systems and virtual time.

Invariant: after a fetch without a failure, each file that the viewer may see is here, alone under its name, with its
exact bytes. Otherwise, each missing file was named. `P2PSHARE_EXAMPLES` sets how many worlds are tried for each file
system.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.fetch.job import FetchJob, JobItem, JobProgress, SavedFile
from p2pshare.storage.file_times import COARSE_TICK
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import EntryKind
from tests.peer.tree_sharer import TreeSharer
from tests.storage.share_case import viewer_of
from tests.storage.small_disk import made_disk, small_disk

EXAMPLES = int(os.environ.get("P2PSHARE_EXAMPLES", "12"))
BLOCK = 64  # bytes
MIB = 2**20

NAMES = st.sampled_from(
    ["a", "A", "a:1", "a_1", "a?1", "a (1)", "b.", "b", "b ", "-rf", "con.txt", "n\nl", "n_l",
     "é", "e\u0301", "x" * 255]
)  # fmt: skip
CONTENTS = st.sampled_from([b"", b"1", b"2", b"3" * BLOCK, b"4" * BLOCK * 3, b"5" * BLOCK * 3])
TIMES = st.sampled_from(
    [0, 1_600_000_000_123_456_789, 1_600_000_000_000_000_000, 10_413_792_000_000_000_001, -(10**18)]
)
PATHS = st.lists(NAMES, min_size=1, max_size=2).map(tuple)
FILES = st.dictionaries(PATHS, st.tuples(CONTENTS, TIMES, st.booleans()), max_size=7)
LINKS = st.dictionaries(PATHS, st.sampled_from(["a", "..", "b", "nowhere", "a/a"]), max_size=2)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["get", "cancel", "lose", "edit", "touch", "tamper", "delete", "forget"]),
        st.integers(0, 60),
    ),
    max_size=5,
)


def rewrite(path: Path, content: bytes) -> None:
    """Change a file of the same size, and leave its time as it is."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Within a tick of an older kernel nobody could tell; where times are coarse, records do not rely on them.
    fine = before.st_ctime_ns % 10**9
    while fine and path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class World:
    """The shared files, and the files that arrived."""

    def __init__(self, share: Path, inbox: Path, page_max: int, overwrite: bool) -> None:
        self.share, self.inbox, self._overwrite = share, inbox, overwrite
        self.alice = TreeSharer(share, page_max)
        self.remote = self.alice.remote()
        self.records = SavedFiles(share.with_suffix(".sqlite"))
        self.saved: list[SavedFile] = []
        self.failed: list[RemotePath] = []

    def get(self, interrupt: Callable[[Deferred[JobProgress]], object] = lambda _: None) -> bool:
        """Fetch all; whether it came to its end."""
        self.saved, self.failed = [], []
        job = FetchJob(
            self.remote,
            [JobItem(("s",), self.inbox, overwrite=self._overwrite)],
            on_saved=self.saved.append,
            on_failed=lambda path, _: self.failed.append(path),
            open_folder=partial(IncomingFolder.open, saved=self.records),
        )
        running = Deferred.fromCoroutine(job.run())
        ended: list[Any] = []
        running.addBoth(ended.append)
        interrupt(running)
        for _ in range(400):
            if ended:
                return isinstance(ended[0], JobProgress)
            self.alice.pass_time(0.2, 0.02)
        raise AssertionError("a job does not end")

    def visible(self) -> dict[RemotePath, bytes]:
        """Return the files of alice that bob may see."""
        found: dict[RemotePath, bytes] = {}
        self.is_whole = True
        after: RemotePath = ()
        more = True
        while more:
            page = self.alice.tree.list(viewer_of("bob"), ("s",), after, 1000, recursive=True)
            self.is_whole &= not (page.omitted or page.unnamed)
            for entry in page.entries:
                if entry.kind is EntryKind.FILE:
                    found["s", *entry.path] = self.share.joinpath(*entry.path).read_bytes()
            more, after = page.more, page.entries[-1].path if page.more else ()
        return found

    def here(self) -> list[Path]:
        """All files that are here."""
        return sorted(
            path
            for path in self.inbox.rglob("*")
            if path.is_file() and not path.name.startswith(".p2pshare-")
        )


class ContentModelTests(SynchronousTestCase):
    """Names, sizes, times, links, pages, interruptions, changes at both ends, and file systems."""

    def setUp(self) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith(("p2pshare.", "tests.")) and hasattr(module, "BLOCK_SIZE"):
                self.patch(module, "BLOCK_SIZE", BLOCK)
        for call in ("fsync", "fdatasync", "sync"):
            self.patch(os, call, lambda *_: None)

    def check(self, disk: Path, examples: int = EXAMPLES) -> None:
        """Try many worlds whose files go to a disk."""

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(FILES, LINKS, STEPS, st.integers(1, 4), st.booleans())
        def tried(files: Any, links: Any, steps: Any, page_max: int, overwrite: bool) -> None:
            with (
                tempfile.TemporaryDirectory(dir=os.getcwd()) as name,
                tempfile.TemporaryDirectory(dir=disk) as inbox,
            ):
                share = Path(name, "share")
                share.mkdir()
                make(share, files, links)
                world = World(share, Path(inbox), page_max, overwrite)
                try:
                    self.live(world, steps)
                finally:
                    world.records.close()

        tried()

    def live(self, world: World, steps: list[tuple[str, int]]) -> None:
        for step, number in [*steps, ("get", 0), ("get", 0)]:
            local = world.here()
            remote = [path for path in sorted(world.share.rglob("*")) if path.is_file()]
            match step:
                case "get":
                    self.whole(world)
                case "cancel" | "lose":
                    world.get(partial(interrupted, world, step, number))
                case "edit" if remote:
                    path = remote[number % len(remote)]
                    rewrite(path, path.read_bytes()[::-1].replace(b"1", b"7").replace(b"4", b"8"))
                case "touch" if remote:
                    os.utime(remote[number % len(remote)])
                case "tamper" if local:
                    path = local[number % len(local)]
                    rewrite(path, b"!" * path.stat().st_size)
                case "delete" if local:
                    local[number % len(local)].unlink()
                case "forget":
                    world.records.close()
                    world.records = SavedFiles(None)

    def whole(self, world: World) -> None:
        """The invariant, and that the next fetch changes nothing and fetches nothing."""
        before = {path: path.read_bytes() for path in world.here()}
        self.assertTrue(world.get())
        wanted = world.visible()
        missing = wanted.keys() - {each.remote for each in world.saved}
        self.assertTrue(missing <= set(world.failed), (missing, world.failed))
        self.assertTrue(world.is_whole or world.failed)
        inodes = set()
        for each in world.saved:
            self.assertEqual(each.path.read_bytes(), wanted[each.remote], each)
            status = each.path.stat()
            inodes.add(status.st_ino)
            said = world.share.joinpath(*each.remote[1:]).stat().st_mtime_ns
            if not each.already_there and abs(said) < 2**31 * 10**9:
                self.assertLessEqual(abs(status.st_mtime_ns - said), COARSE_TICK)
        self.assertEqual(len(inodes), len(world.saved))
        if not world._overwrite:
            for path, content in before.items():
                self.assertEqual(path.read_bytes(), content)
        if world.failed:  # such as the content of a folder that has the name of a file here
            return
        names = {each.remote: each.path for each in world.saved}
        files, sent = world.here(), world.alice.sent
        self.assertTrue(world.get())
        self.assertEqual({each.remote: each.path for each in world.saved}, names)
        self.assertEqual((world.here(), world.alice.sent), (files, sent))
        self.assertTrue(all(each.already_there for each in world.saved))

    def test_here(self) -> None:
        """On the file system of the tests."""
        self.check(Path(os.getcwd()), 2 * EXAMPLES)

    def test_memory(self) -> None:
        """In memory."""
        self.check(small_disk(self))

    def test_coarse_times(self) -> None:
        """Where times are whole seconds: ext4 with inodes of 128 bytes."""
        self.check(made_disk(self, 8 * MIB, "mkfs.ext4", "-q", "-I", "128"))

    def test_fat(self) -> None:
        """Where times are even seconds, upper and lower case are one, and many names are refused."""
        self.check(made_disk(self, 8 * MIB, "mkfs.vfat"))


def make(share: Path, files: Any, links: Any) -> None:
    """Write what is shared, as far as one name does not stand in the way of another."""
    for path, (content, mtime_ns, executable) in files.items():
        whole = share.joinpath(*path)
        try:
            whole.parent.mkdir(exist_ok=True)
            whole.write_bytes(content)
        except OSError:
            continue
        os.utime(whole, ns=(mtime_ns, mtime_ns))
        whole.chmod(0o755 if executable else 0o644)
    for path, target in links.items():
        whole = share.joinpath(*path)
        if whole.parent.is_dir() and not os.path.lexists(whole):
            whole.symlink_to(target)


def interrupted(world: World, how: str, number: int, running: Deferred[JobProgress]) -> None:
    """Stop a job, or break its session, after some time."""
    world.alice.pass_time(number * 0.01)
    if how == "cancel":
        running.cancel()
    elif world.alice.sessions and not world.alice.sessions[-1].is_over:
        world.alice.lose()
