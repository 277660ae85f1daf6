"""Tests for `p2pshare.storage.incoming.partial_file`: files that come in blocks."""

from __future__ import annotations

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pshare.errors import BlockCorrupt, CannotSave, InUse, TooManyOpenFiles
from p2pshare.storage.incoming import folder as incoming_folder
from p2pshare.storage.incoming.announcement import Origin, Place
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.present_files import Stopped
from p2pshare.wire.blocks import digest_of
from tests import examples
from tests.storage.incoming_case import (
    BLOCK,
    HIDDEN,
    MTIME,
    ORIGIN,
    PLACE,
    IncomingTestCase,
    announced,
    content_of,
    pieces_of,
    root_for,
)

CONTENT = content_of(5 * BLOCK + 7)


class FinishTests(IncomingTestCase):
    """P1, P2: complete, bit for bit, and nothing overwritten."""

    def test_complete(self) -> None:
        """The file is under its name with its time, and nothing else is there."""
        path = self.fetch(CONTENT)
        self.assertEqual(path, self.path / "cat.jpg")
        self.assertEqual(path.read_bytes(), CONTENT)
        self.assertEqual(path.stat().st_mtime_ns, MTIME)
        self.assertEqual(self.names(), ["cat.jpg"])

    def test_any_size(self) -> None:
        """So is a file of any size, an empty one too, with or without a sync on the way."""
        for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK):
            for synced in (False, True):
                with self.subTest(size=size, synced=synced):
                    content = content_of(size)
                    part = self.begin(content)
                    self.write(part, content)
                    if synced:
                        part.sync()
                    path = part.finish(root_for(content))
                    self.assertEqual(path.read_bytes(), content)
                    path.unlink()
                    self.assertEqual(self.names(), [])

    def test_any_order(self) -> None:
        """Blocks may come in any order."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT, (3, 5, 0))
        self.assertEqual(part.have, ((0, 1), (3, 4), (5, 6)))
        self.write(part, CONTENT, (1, 4, 2))
        self.assertEqual(part.have, ((0, 6),))
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_hidden_before(self) -> None:
        """Threat 39: until then there is only a hidden file, which others cannot read, with a name that says whose."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT)
        part.sync()
        names = self.names()
        self.assertEqual(len(names), 2)
        for name, suffix in zip(names, ("journal", "part"), strict=True):
            self.assertRegex(name, rf"^\.p2pshare-[0-9a-f]{{16}}\.{suffix}$")
            self.assertEqual(stat.S_IMODE((self.path / name).stat().st_mode), 0o600)

    def test_mode(self) -> None:
        """It is as open as the user's files, and can be run if the other one can; that is all of the mode."""
        before = os.umask(0o027)
        try:
            with IncomingFolder.open(self.path) as folder:
                for executable, mode in ((False, 0o640), (True, 0o750)):
                    said = announced(b"", executable=executable)
                    path = folder.begin(PLACE, ORIGIN, said).finish(root_for(b""))
                    self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode)
        finally:
            os.umask(before)

    def test_nothing_overwritten(self) -> None:
        """Threat 3: a name that is taken, by a link that points nowhere too, gets a number."""
        (self.path / "cat.jpg").symlink_to(self.outside / "x")
        (self.path / "cat (1).jpg").mkdir()
        names = [self.fetch(content_of(BLOCK, seed)).name for seed in range(2)]
        self.assertEqual(names, ["cat (2).jpg", "cat (3).jpg"])
        self.assert_untouched()

    def test_overwrite(self) -> None:
        """A plain file is replaced if that was asked for, and its other names keep what it held."""
        (self.path / "cat.jpg").write_bytes(b"old")
        os.link(self.path / "cat.jpg", self.path / "kept")
        self.assertEqual(self.fetch(CONTENT, overwrite=True).name, "cat.jpg")
        self.assertEqual((self.path / "cat.jpg").read_bytes(), CONTENT)
        self.assertEqual((self.path / "kept").read_bytes(), b"old")
        self.assertEqual(self.names(), ["cat.jpg", "kept"])

    def test_overwrite_spares_links(self) -> None:
        """Threat 2: a link, or a folder, is not replaced, and not followed; what came is kept."""
        (self.outside / "victim").write_bytes(b"precious")
        (self.path / "cat.jpg").symlink_to(self.outside / "victim")
        part = self.begin(CONTENT, overwrite=True)
        self.write(part, CONTENT)
        self.assertRaisesRegex(CannotSave, "not a plain file", part.finish, root_for(CONTENT))
        self.assertEqual((self.outside / "victim").read_bytes(), b"precious")
        (self.path / "cat.jpg").unlink()
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_blocks_missing(self) -> None:
        """An end that comes too early publishes nothing, and what came is kept."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT, range(5))
        self.assertRaisesRegex(BlockCorrupt, "blocks are missing", part.finish, root_for(CONTENT))
        self.write(part, CONTENT, (5,))
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_wrong_root(self) -> None:
        """Blocks that make another file than the one announced are discarded."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT)
        self.assertRaisesRegex(BlockCorrupt, "the whole file", part.finish, root_for(CONTENT[:-1]))
        self.assertEqual(self.names(), [])

    def test_archives_stay_closed(self) -> None:
        """Threats 9 and 40: what came is a file and nothing more; nothing is unpacked, opened or run."""
        content = b"PK\3\4" + content_of(BLOCK)
        self.fetch(content, Place((), "all.zip"))
        self.assertEqual(self.names(), ["all.zip"])
        self.assertFalse(os.access(self.path / "all.zip", os.X_OK))

    def test_nothing_that_could(self) -> None:
        """Threats 9 and 40: the storage does not even import what opens, runs or unpacks things."""
        storage = Path(incoming_folder.__file__).parent
        for module in storage.glob("*.py"):
            self.assertNotRegex(
                module.read_text(),
                r"\b(subprocess|os\.(system|exec|spawn|popen)|zipfile|tarfile|shutil|webbrowser)\b",
            )

    def test_threads_want_one_name(self) -> None:
        """Threat 3: of many files that want one name at the same time, each gets its own, and is whole."""

        def fetch(seed: int) -> Path:
            content = content_of(2 * BLOCK, seed)
            origin = Origin(ORIGIN.key, (str(seed),))
            part = self.folder.begin(PLACE, origin, announced(content))
            self.write(part, content)
            return part.finish(root_for(content))

        with ThreadPoolExecutor(8) as threads:
            paths = list(threads.map(fetch, range(24)))
        for seed, path in enumerate(paths):
            self.assertEqual(path.read_bytes(), content_of(2 * BLOCK, seed))
        self.assertEqual(len(set(paths)), 24)
        self.assertEqual(len(self.names()), 24)


class BlockTests(IncomingTestCase):
    """Only announced content is written."""

    def test_refused(self) -> None:
        """Threat 7: a block that is none, too long, too short, or another one, writes nothing."""
        part = self.begin(CONTENT)
        good = pieces_of(CONTENT)[0]
        for index, data, said in (
            (-1, good, "block -1"),
            (6, good, "block 6"),
            (2**60, good, f"block {2**60}"),
            (0, good + b"x", "block 0 .* 65 .* 64"),
            (0, good[:-1], "block 0 .* 63 .* 64"),
            (5, good, "block 5 .* 64 .* 7$|block 5 .* 64 .* 7\\."),
        ):
            with self.assertRaisesRegex(BlockCorrupt, said):
                part.write_block(index, data, digest_of(data))
        with self.assertRaisesRegex(BlockCorrupt, "another hash"):
            part.write_block(0, bytes(BLOCK), digest_of(good))
        self.assertEqual((part.have, part.unsynced), ((), 0))
        self.assertEqual(self.only_part().stat().st_size, 0)

    def test_more_than_announced(self) -> None:
        """Threat 10: who sends more than was announced fills no disk."""
        part = self.begin(b"")
        self.assertRaises(BlockCorrupt, part.write_block, 0, bytes(BLOCK), digest_of(bytes(BLOCK)))
        self.assertEqual(part.finish(root_for(b"")).stat().st_size, 0)

    def test_twice(self) -> None:
        """A block may come twice, if it is the same."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT, (0, 0))
        self.assertEqual(part.unsynced, BLOCK)
        with self.assertRaisesRegex(BlockCorrupt, "came twice"):
            part.write_block(0, bytes(BLOCK), digest_of(bytes(BLOCK)))
        self.assertEqual(part.have, ((0, 1),))

    def test_closed(self) -> None:
        """After its end, nothing is written into what may be another file's descriptor by now."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT)
        part.finish(root_for(CONTENT))
        with open(self.path / "another", "wb"):
            self.assertRaises(ValueError, self.write, part, CONTENT)
            self.assertRaises(ValueError, part.sync)
            self.assertRaises(ValueError, part.finish, root_for(CONTENT))
            part.suspend()
            part.discard()
        self.assertEqual((self.path / "another").read_bytes(), b"")

    def test_sync_while_writing(self) -> None:
        """Blocks are written by one thread while another syncs; each counts once, and all arrive."""
        content = content_of(400 * BLOCK)
        part = self.begin(content)
        done = threading.Event()

        def sync() -> None:
            while not done.is_set():
                part.sync()

        with ThreadPoolExecutor(4) as threads:
            syncing = threads.submit(sync)
            writing = [
                threads.submit(self.write, part, content, range(n, 400, 3)) for n in range(3)
            ]
            for each in writing:
                each.result()
            done.set()
            syncing.result()
        part.sync()
        self.assertEqual(part.unsynced, 0)
        self.assertEqual(part.finish(root_for(content)).read_bytes(), content)

    def test_descriptors(self) -> None:
        """However a file ends, no descriptor stays open."""
        self.records.find([b""])  # its descriptors stay
        before = len(os.listdir("/dev/fd"))
        self.fetch(CONTENT).unlink()
        for end in ("suspend", "discard", "close"):
            part = self.begin(CONTENT)
            self.write(part, CONTENT)
            part.sync()
            getattr(part, end)()
        self.assertIsNotNone(resumed := self.resume())
        assert resumed is not None
        self.assertRaises(InUse, self.resume)
        self.assertRaises(InUse, self.begin, CONTENT)
        resumed.discard()
        self.folder.close()
        self.assertEqual(len(os.listdir("/dev/fd")), before - 1)  # that of the folder


class ResumeTests(IncomingTestCase):
    """P3: a kill costs at most the tail that was not synced."""

    def kept(self, synced: int = 3, written: int = 5) -> None:
        """A partial file of a process that is gone: some blocks journalled, some only written."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT, range(synced))
        part.sync()
        self.write(part, CONTENT, range(synced, written))
        part.close()

    def test_goes_on(self) -> None:
        """A resumed part has the journalled blocks and the announced facts, and the missing blocks complete it."""
        self.kept()
        part = self.resume()
        assert part is not None
        self.assertEqual(part.have, ((0, 3),))
        self.assertEqual(part.announced, announced(CONTENT))
        self.assertEqual(
            (part._target.origin, part._target.place, part.unsynced), (ORIGIN, PLACE, 0)
        )
        self.write(part, CONTENT, range(3, 6))
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)
        self.assertEqual(self.names(), ["cat.jpg"])

    def test_again_and_again(self) -> None:
        """It may be kept as often as need be; suspending loses nothing."""
        for index in range(6):
            part = self.resume() or self.begin(CONTENT)
            self.assertEqual(part.have, ((0, index),) if index else ())
            self.write(part, CONTENT, (index,))
            part.suspend()
        part = self.resume() or self.begin(CONTENT)
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_too_many_open_files(self) -> None:
        """A resumption that fails for want of descriptors leaves none open."""
        self.kept()

        def fail(fd: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        before = len(os.listdir("/dev/fd"))
        with mock.patch.object(os, "dup", fail):
            self.assertRaises(TooManyOpenFiles, self.resume)
        self.assertEqual(len(os.listdir("/dev/fd")), before)
        self.assertIsNotNone(self.resume())

    def test_none(self) -> None:
        """Without a partial file of this origin for this place there is nothing to go on with."""
        self.assertIsNone(self.resume())
        self.assertIsNone(self.resume(Place(("gone",), "cat.jpg")))
        self.kept()
        self.assertIsNone(self.folder.resume(PLACE, Origin(ORIGIN.key, ("photos", "dog.jpg"))))
        self.assertIsNone(self.resume(Place((), "dog.jpg")))
        part = self.resume()
        self.assertIsNotNone(part)

    def test_begin_discards(self) -> None:
        """A new part uses nothing of an earlier try."""
        self.kept()
        part = self.begin(CONTENT[:BLOCK])
        self.assertEqual(part.have, ())
        part.close()
        self.assertIsNone(self.resume())

    def test_changed_blocks(self) -> None:
        """Blocks that are no longer what they were are not believed."""
        self.kept(5, 5)
        with open(self.only_part(), "r+b") as file:
            file.seek(BLOCK + 3)
            file.write(b"!")
            file.truncate(4 * BLOCK + 9)
        part = self.resume()
        assert part is not None
        self.assertEqual(part.have, ((0, 1), (2, 4)))
        self.write(part, CONTENT, (1, 4, 5))
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    @settings(max_examples=examples(60))
    @given(st.data())
    def test_any_damage(self, data: st.DataObject) -> None:
        """After any damage to journal and part, every block that counts is right, and the file can be completed."""
        self.kept(5, 6)
        for suffix in (".journal", ".part"):
            file = self.only_part(suffix)
            content = bytearray(file.read_bytes())
            del content[data.draw(st.integers(0, len(content))) :]
            for at in (
                data.draw(st.lists(st.integers(0, len(content) - 1), max_size=2)) if content else ()
            ):
                content[at] = data.draw(st.integers(0, 255))
            content += data.draw(st.binary(max_size=60))
            file.write_bytes(content)
        held = self.only_part().read_bytes()
        part = self.resume()
        if part is None:
            part = self.begin(CONTENT)
        else:
            self.assertEqual(part.announced, announced(CONTENT))
            for first, end in part.have:
                self.assertEqual(
                    held[first * BLOCK : end * BLOCK], CONTENT[first * BLOCK : end * BLOCK]
                )
        there = {index for run in part.have for index in range(*run)}
        self.write(part, CONTENT, [index for index in range(6) if index not in there])
        path = part.finish(root_for(CONTENT))
        self.assertEqual(path.read_bytes(), CONTENT)
        path.unlink()
        self.assertEqual(self.names(), [])

    @settings(max_examples=40)
    @given(st.integers(0, 400))
    def test_any_prefix_of_the_journal(self, length: int) -> None:
        """Of a journal that was cut off, all records that are whole count, and new ones go behind them."""
        self.kept(5, 5)
        journal = self.only_part(".journal")
        content = journal.read_bytes()
        header = len(content) - 5 * 48
        journal.write_bytes(content[:length])
        part = self.resume()
        whole = max(0, min(5, (length - header) // 48))
        if not whole:
            self.assertIsNone(part)
            self.assertEqual(self.names(), [])
            return
        assert part is not None
        self.assertEqual(part.have, ((0, whole),))
        self.write(part, CONTENT, range(whole, 6))
        part.suspend()
        part = self.resume()
        assert part is not None
        self.assertEqual(part.have, ((0, 6),))
        part.discard()

    def test_progress_and_stop(self) -> None:
        """Hashing again tells how far it is, and stops when told to, which costs nothing."""
        self.kept()
        seen: list[tuple[int, int]] = []
        with self.assertRaises(Stopped):
            self.resume(on_progress=lambda *done: seen.append(done), stop=lambda: len(seen) == 2)
        self.assertEqual(seen, [(0, 3), (1, 3)])
        part = self.resume()
        assert part is not None
        self.assertEqual(part.have, ((0, 3),))

    def test_in_use(self) -> None:
        """A partial file that somebody has is left alone, and the error says why."""
        self.kept()
        part = self.resume()
        assert part is not None
        for call in (self.resume, lambda: self.begin(CONTENT)):
            self.assertEqual(self.assertRaises(InUse, call).fields, {"path": self.path / "cat.jpg"})
        self.assertEqual(part.have, ((0, 3),))

    def test_published_and_killed(self) -> None:
        """Leftovers of a file that was published before a kill are recognized, and the file is not written to."""
        for leftover in ("part and journal", "journal"):
            for call in ("resume", "begin", "find"):
                with self.subTest(leftover=leftover, call=call):
                    self.kept(6, 6)
                    part, path = self.only_part(), self.path / "cat.jpg"
                    os.utime(part, ns=(MTIME, MTIME))
                    os.link(part, path)
                    if leftover == "journal":
                        part.unlink()
                    if call == "resume":
                        self.assertIsNone(self.resume())
                    elif call == "begin":
                        self.begin(b"another file").discard()
                    else:
                        found = self.find(CONTENT)
                        self.assertEqual(found, path)
                    self.assertEqual(path.read_bytes(), CONTENT)
                    self.assertEqual(self.names(), ["cat.jpg"])
                    path.unlink()

    def test_no_leftovers(self) -> None:
        """Threat 39: a discarded file leaves nothing, and one of a process that was killed goes with the next try."""
        self.kept()
        self.begin(CONTENT).discard()
        self.assertEqual([name for name in self.names() if name.startswith(HIDDEN)], [])
