"""Tests of `p2pshare.peer.browse.archive` and `zip_stream`, with a sharer in memory."""

from __future__ import annotations

import io
import itertools
import random
import time
import zipfile
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import ControlRefused, RemoteNotFound, SourceChanged
from p2pshare.peer.browse.archive import (
    ARCHIVES_MAX,
    LEFT_OUT,
    LEFT_OUT_MAX,
    OPEN_AHEAD,
    Archives,
    ReaderGone,
)
from p2pshare.peer.browse.reading import Readings
from p2pshare.peer.browse.zip_stream import ZipStream, unused
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.transfer_messages import (
    Cancel,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    List,
    Listing,
)
from tests.peer.browse.test_sessions import BrowseTestCase
from tests.peer.memory_sharer import MTIME, MemorySession, give


class Saved:
    """A writer that keeps all, and may stop to take more."""

    def __init__(self) -> None:
        self.data = b""
        self.is_over = False
        self.is_stalled = False
        self.stalls_at = 0
        """Bytes that are taken before it stops."""
        self._waiting: list[Deferred[None]] = []

    def write(self, data: bytes) -> None:
        self.data += data

    def drained(self) -> Deferred[None]:
        if not self.is_stalled or len(self.data) <= self.stalls_at:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def go_on(self) -> None:
        """Take all from now on."""
        self.is_stalled = False
        while self._waiting:
            self._waiting.pop().callback(None)

    @property
    def zip(self) -> zipfile.ZipFile:
        found = zipfile.ZipFile(io.BytesIO(self.data))
        assert found.testzip() is None
        return found


class ArchiveTests(BrowseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.readings = Readings(self.sessions)
        self.archives = Archives(self.sessions, self.readings)
        self.saved = Saved()

    def begin(self, *paths: str, seconds: float = 20.0) -> Deferred[None]:
        """Begin to write a zip of these paths."""
        wanted = [tuple(each.split("/")) for each in paths]
        selection = self.do(self.archives.select("alice", wanted))
        writing = self.archives.begin(selection, self.saved)
        self.alice.pass_time(seconds)
        return writing

    def test_many_small_files(self) -> None:
        """Some files are opened ahead; they come in the order of their names, over several pages."""
        names = [f"{number:04}.txt" for number in range(900)]
        for name in names:
            self.alice.put(f"s/{name}", name.encode())
        self.successResultOf(self.begin("s", seconds=4 * 900 / OPEN_AHEAD * 0.02))
        self.assertEqual(self.saved.zip.namelist(), ["s/", *(f"s/{name}" for name in names)])
        self.assertEqual(self.saved.zip.read("s/0899.txt"), b"0899.txt")
        self.assertEqual(len(self.alice.heard_of(List)), 3)
        self.assertEqual(self.readings.count, 0)

    def test_left_out(self) -> None:
        """A file that fails before its first byte is left out, as is a path that is gone, and what is too much."""
        for name in ("a", "b", "c"):
            self.alice.put(f"s/{name}", b"x" * 2 * BLOCK_SIZE)
        self.alice.answers["s", "b"] = lambda session, get: session.say(
            Failed(get.id, Fault.UNREADABLE)
        )
        self.successResultOf(self.begin("s", "t/gone"))
        self.assertEqual(self.saved.zip.namelist(), ["s/", "s/a", "s/c", LEFT_OUT])
        told = self.saved.zip.read(LEFT_OUT).decode()
        self.assertIn("s/b", told)
        self.assertIn("t/gone", told)
        self.archives, self.saved = Archives(self.sessions, self.readings, files_max=2), Saved()
        self.successResultOf(self.begin("s"))
        self.assertEqual(self.saved.zip.namelist(), ["s/", "s/a", LEFT_OUT])
        self.assertIn("at most 2 files", self.saved.zip.read(LEFT_OUT).decode())
        self.fail_with(RemoteNotFound, self.archives.select("alice", [("gone",)]))

    def test_broken(self) -> None:
        """A file that changes after its first byte ends the zip without its end, and nothing stays open."""
        path = self.alice.put("s/a", b"x" * 20 * BLOCK_SIZE)
        self.saved.is_stalled, self.saved.stalls_at = True, BLOCK_SIZE
        writing = self.begin("s")
        self.assertGreater(len(self.saved.data), BLOCK_SIZE)
        self.alice.versions[path] = "v2"
        self.saved.go_on()
        self.alice.pass_time(5)
        self.failureResultOf(writing, SourceChanged)
        self.assertRaises(zipfile.BadZipFile, zipfile.ZipFile, io.BytesIO(self.saved.data))
        self.assertEqual(self.readings.count, 0)

    def test_reader_leaves(self) -> None:
        """Threat 124: a reader that leaves, or takes nothing for too long, ends everything."""
        self.alice.put("s/a", b"x" * 20 * BLOCK_SIZE)
        self.saved.is_stalled = True
        writing = self.begin("s")
        self.saved.is_over = True
        self.saved.go_on()
        self.alice.pass_time(1)
        self.failureResultOf(writing, ReaderGone)
        self.saved = Saved()
        self.saved.is_stalled = True
        writing = self.begin("s")
        writing.cancel()
        self.failureResultOf(writing, CancelledError)
        self.alice.pass_time(1)
        self.assertEqual(self.readings.count, 0)
        self.saved = Saved()
        self.saved.is_stalled = True
        writing = self.begin("s")
        self.clock.advance(700)
        self.failureResultOf(writing)
        self.assertEqual(self.readings.count, 0)

    def test_too_many(self) -> None:
        """Threat 124: the zips that are written at once are bounded; stopping ends them."""
        self.alice.put("s/a", b"x" * 20 * BLOCK_SIZE)
        self.saved.is_stalled = True
        begun = [self.begin("s", seconds=1) for _ in range(ARCHIVES_MAX)]
        self.fail_with(ControlRefused, self.archives.select("alice", [("s",)]))
        self.archives.stop()
        for each in begun:
            self.failureResultOf(each)
        looks = [
            Deferred.fromCoroutine(self.archives.select("alice", [("s",)]))
            for _ in range(ARCHIVES_MAX + 1)
        ]
        self.failureResultOf(looks.pop(), ControlRefused)
        self.alice.pass_time(1)
        for look in looks:
            self.successResultOf(look)

    def test_endless(self) -> None:
        """Threat 124: a folder that never ends fills no memory, and ends the zip at its bound, which says so."""

        def endless(session: MemorySession, question: List) -> None:
            first = int(question.after[0]) + 1 if question.after else 0
            entries = tuple(
                Entry((f"{number:09}",), EntryKind.FILE, 0, MTIME, "v")
                for number in range(first, first + question.limit)
            )
            session.say(Listing(question.id, entries, True))

        def empty(session: MemorySession, get: Any) -> None:
            session.say(Failed(get.id, Fault.UNREADABLE))

        self.alice.list_answer, self.alice.answer = endless, empty
        self.archives = Archives(self.sessions, self.readings, files_max=LEFT_OUT_MAX + 100)
        self.successResultOf(self.begin("s", seconds=60))
        told = self.saved.zip.read(LEFT_OUT).decode().splitlines()
        self.assertEqual(len(told), LEFT_OUT_MAX + 2)
        self.assertEqual(told[-2], "99 more files and folders are left out.")
        self.assertIn("All others", told[-1])
        self.archives = Archives(self.sessions, self.readings, names_max=9 * 50)
        self.saved = Saved()
        self.successResultOf(self.begin("s", seconds=60))
        told = self.saved.zip.read(LEFT_OUT).decode().splitlines()
        self.assertLess(len(told), 51)
        self.assertIn("450 characters", told[-1])

    def test_ahead(self) -> None:
        """Files that were opened ahead are closed if the zip breaks off."""
        for name in "abcdefghij":
            self.alice.put(f"s/{name}", b"x")
        self.alice.answers["s", "a"] = lambda session, get: session.say(
            FileHeader(get.id, 5, MTIME, False, "v1")
        )
        writing = self.begin("s", seconds=1)
        self.assertEqual(self.readings.count, OPEN_AHEAD)
        writing.cancel()
        self.failureResultOf(writing, CancelledError)
        self.alice.pass_time(1)
        self.assertEqual(self.readings.count, 0)
        self.assertGreaterEqual(len(self.alice.heard_of(Cancel)), 1)
        self.alice.answers.clear()
        self.alice.answer = give


class ZipStreamTests(SynchronousTestCase):
    """The format."""

    def test_round_trip(self) -> None:
        """What is written is read again by the standard library, with times, modes and any names."""
        stream, rng = ZipStream(), random.Random(1)
        content = {
            f"folder/{rng.randrange(1000)}.txt": rng.randbytes(rng.randrange(3000))
            for _ in range(50)
        }
        data = stream.add_folder(("folder",), 1_700_000_000)
        for name, each in content.items():
            data += stream.begin_file(
                name.split("/"), len(each), 1_700_000_000, name.endswith("1.txt")
            )
            data += b"".join(stream.add(each[at : at + 1000]) for at in range(0, len(each), 1000))
            data += stream.end_file()
        data += stream.end()
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            self.assertIsNone(found.testzip())
            self.assertEqual({name: found.read(name) for name in content}, content)
            for info in found.infolist()[1:]:
                executable = info.filename.endswith("1.txt")
                self.assertEqual(info.external_attr >> 16 & 0o777, 0o755 if executable else 0o644)
                self.assertEqual(info.date_time[0], 2023)

    def test_hostile_names(self) -> None:
        """Threat 121: no name leads out of the folder, is a device, or comes twice, and any time is a date."""
        stream, data = ZipStream(), b""
        names = ("..", "C:\\x", "con", "a/b", "-rf", "x\u202e", "CON", "a:b", "a?b", " ", "é" * 200)
        for name in names:
            for mtime in (-(10**20), 0.0, 10.0**20):
                data += (
                    stream.begin_file(("top", name), 1, mtime)
                    + stream.add(b"x")
                    + stream.end_file()
                )
        data += stream.end()
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            self.assertEqual(len(found.namelist()), len(set(found.namelist())))
            for name in found.namelist():
                self.assertNotRegex(name, r'[\\:?*"<>|\x00-\x1f\u202e]')
                self.assertRegex(name, "^top/[^/]+$")
                self.assertNotIn("..", name.split("/"))
                self.assertNotEqual(name.casefold(), "top/con")

    def test_large(self) -> None:
        """A file of 4 GiB and more has the fields of Zip64, which are decided by the size that is announced."""
        stream = ZipStream()
        small, large = stream.begin_file(("s",), 10, 0.0), b""
        stream.add(b"0123456789")
        stream.end_file()
        large = stream.begin_file(("l",), 5 * 2**30, 0.0)
        self.assertNotIn(b"\x01\x00\x10\x00", small)
        self.assertIn(b"\x01\x00\x10\x00", large)
        stream.abandon()

    def test_unused(self) -> None:
        """A number goes in front of the end of a name."""
        taken = {"a.txt", "a (2).txt", "b", ".c", "d/e.f"}
        for name, expected in (
            ("a.txt", "a (3).txt"),
            ("b", "b (2)"),
            (".c", ".c (2)"),
            ("d/e.f", "d/e (2).f"),
            ("new", "new"),
        ):
            self.assertEqual(unused(name, taken.__contains__)[0], expected)

    def test_unused_often(self) -> None:
        """Threat 121: thousands of names that become the same cost no more than others (processor time)."""
        stream, data = ZipStream(), b""
        names = ["".join(each) for each in itertools.product('<>:"|?*', repeat=5)]
        began = time.process_time()
        for name in names:
            data += stream.add_folder((name,), 0.0)
        self.assertLess(time.process_time() - began, 10.0)
        with zipfile.ZipFile(io.BytesIO(data + stream.end())) as found:
            self.assertEqual(len(set(found.namelist())), len(names))
