"""Tests for `p2pshare.storage.incoming.sequential_file`."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave
from p2pshare.storage.incoming import publishing
from p2pshare.storage.incoming.publishing import COPIES_MAX
from p2pshare.storage.incoming.sequential_file import SequentialFile
from p2pshare.storage.os_errors import plain_reason


def failing_with(code: int) -> Callable[..., Any]:
    """A system call that the disk refuses."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def said(number: int) -> str:
    return plain_reason(OSError(number, ""))


class SequentialFileTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder))

    def save(self, data: bytes, name: str = "alice.png", *, overwrite: bool = False) -> Path:
        with SequentialFile.create(self.folder, name) as part:
            part.write(data)
            return part.commit(overwrite=overwrite)


class CommitTests(SequentialFileTestCase):
    def test_complete_under_its_name(self) -> None:
        """The content is under the final name, and the hidden file is gone."""
        path = self.save(b"pixels")
        self.assertEqual(path, self.folder / "alice.png")
        self.assertEqual(path.read_bytes(), b"pixels")
        self.assertEqual(self.names(), ["alice.png"])

    def test_invisible_before(self) -> None:
        """Until the commit there is only a hidden, private, recognisable file."""
        with SequentialFile.create(
            self.folder, "alice.png", random_part=lambda: "0123abcd"
        ) as part:
            part.write(b"pix")
            self.assertEqual(self.names(), [".alice.png.p2pshare-0123abcd.part"])
            mode = (self.folder / self.names()[0]).stat().st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_discarded_without_commit(self) -> None:
        """A block that ends without a commit, by an error too, leaves nothing."""

        def interrupted() -> None:
            with SequentialFile.create(self.folder, "a") as part:
                part.write(b"x")
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, interrupted)
        self.assertEqual(self.names(), [])

    def test_nothing_overwritten(self) -> None:
        """A name that is taken gets a number before its suffix."""
        paths = [self.save(bytes([number])) for number in range(3)]
        self.assertEqual(
            [path.name for path in paths], ["alice.png", "alice (1).png", "alice (2).png"]
        )
        self.assertEqual([path.read_bytes() for path in paths], [b"\0", b"\1", b"\2"])

    def test_dangling_link_not_followed(self) -> None:
        """A symbolic link, even one that points nowhere, takes its name."""
        (self.folder / "alice.png").symlink_to("elsewhere")
        self.assertEqual(self.save(b"x").name, "alice (1).png")
        self.assertFalse((self.folder / "elsewhere").exists())

    def test_tries_are_bounded(self) -> None:
        """After `COPIES_MAX` copies it gives up, and leaves nothing of this one."""
        self.patch(os, "link", failing_with(errno.EEXIST))
        self.assertRaisesRegex(CannotSave, f"{COPIES_MAX} copies", self.save, b"x")
        self.assertEqual(self.names(), [])

    def test_mode_follows_umask(self) -> None:
        """The file is as open as the user's other files."""
        before = os.umask(0o027)
        try:
            path = self.save(b"x")
            self.assertEqual(os.umask(0o027), 0o027)
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)

    def test_long_names(self) -> None:
        """The longest name that a file system takes is kept; its copy is cut to fit, suffix kept."""
        name = "é" * 125 + ".jpeg"
        first, second = self.save(b"1", name), self.save(b"2", name)
        self.assertEqual(first.name, name)
        self.assertTrue(second.name.endswith(" (1).jpeg"))
        self.assertEqual(second.read_bytes(), b"2")

    def test_name_that_is_not_utf8(self) -> None:
        """A name that the user typed in another encoding is taken as it is."""
        name = os.fsdecode(b"caf\xe9.txt")
        self.assertEqual(self.save(b"x", name).name, name)

    @settings(max_examples=50)
    @given(st.lists(st.binary(max_size=300), max_size=5))
    def test_every_byte(self, chunks: list[bytes]) -> None:
        """The file is what was written, in order."""
        with SequentialFile.create(self.folder, "any") as part:
            for chunk in chunks:
                part.write(memoryview(chunk))
            path = part.commit()
        self.assertEqual(path.read_bytes(), b"".join(chunks))
        path.unlink()

    def test_file_object(self) -> None:
        """Code that wants a file can write to one, seek in it, and go on."""
        with SequentialFile.create(self.folder, "a.bin") as part:
            with part.writing() as file:
                file.write(b"XXcd")
                file.seek(0)
                file.write(b"ab")
                file.seek(0, os.SEEK_END)
            part.write(b"ef")
            self.assertEqual(part.commit().read_bytes(), b"abcdef")

    def test_over_when_committed(self) -> None:
        """A file that is committed takes no more, whoever has its descriptor by now."""
        with SequentialFile.create(self.folder, "a") as part:
            part.write(b"whole")
            part.commit()
            with open(self.folder / "b", "wb"):
                self.assertRaises(ValueError, part.commit)
                self.assertRaises(ValueError, part.write, b"x")
        self.assertEqual(self.names(), ["a", "b"])
        self.assertEqual((self.folder / "a").read_bytes(), b"whole")
        self.assertEqual((self.folder / "b").read_bytes(), b"")

    def test_many_at_once(self) -> None:
        """Of many that want one name at the same time, each gets its own, and all are whole."""
        with ThreadPoolExecutor(8) as threads:
            paths = list(threads.map(self.save, [b"%d" % number for number in range(24)]))
        self.assertEqual(len(set(paths)), 24)
        self.assertEqual(
            [path.read_bytes() for path in paths], [b"%d" % number for number in range(24)]
        )
        self.assertEqual(len(self.names()), 24)


class OverwriteTests(SequentialFileTestCase):
    def test_replaces_file(self) -> None:
        """A plain file is replaced, as asked; another link to the old one keeps its bytes."""
        old = self.save(b"old")
        os.link(old, self.folder / "kept")
        self.assertEqual(self.save(b"new", overwrite=True), old)
        self.assertEqual(old.read_bytes(), b"new")
        self.assertEqual((self.folder / "kept").read_bytes(), b"old")

    def test_new_name(self) -> None:
        """Where there is nothing to replace, the file is simply there."""
        self.assertEqual(self.save(b"new", overwrite=True).read_bytes(), b"new")

    def test_folder_stays(self) -> None:
        """A folder of that name is not touched."""
        (self.folder / "alice.png").mkdir()
        self.assertRaisesRegex(CannotSave, "not a plain file", self.save, b"x", overwrite=True)
        self.assertEqual(self.names(), ["alice.png"])

    def test_link_stays(self) -> None:
        """Nothing is written through a symbolic link, and the link stays."""
        (self.folder / "victim").write_bytes(b"precious")
        (self.folder / "alice.png").symlink_to("victim")
        self.assertRaisesRegex(CannotSave, "not a plain file", self.save, b"x", overwrite=True)
        self.assertEqual((self.folder / "victim").read_bytes(), b"precious")
        self.assertTrue((self.folder / "alice.png").is_symlink())


class ThreadTests(SequentialFileTestCase):
    def test_discarded_while_it_is_written(self) -> None:
        """Discarding waits for a thread that is writing, which then cannot write or commit any more."""
        part = SequentialFile.create(self.folder, "alice.png")
        with part.writing() as file:
            file.write(b"half")
            discarding = threading.Thread(target=part.discard)
            discarding.start()
            discarding.join(0.05)
            self.assertTrue(discarding.is_alive())
            file.write(b"whole")
        discarding.join(10)
        self.assertFalse(discarding.is_alive())
        self.assertRaises(ValueError, part.commit)
        self.assertEqual(self.names(), [])


class FailureTests(SequentialFileTestCase):
    def assert_fails(self, number: int) -> None:
        error = self.assertRaises(CannotSave, self.save, b"x")
        self.assertEqual(error.fields, {"path": self.folder / "alice.png", "reason": said(number)})
        self.assertEqual(self.names(), [])

    def test_disk_full(self) -> None:
        """A full disk is reported whenever it shows, and leaves nothing."""
        for call in ("write", "fsync", "link"):
            with self.subTest(call=call):
                patch = self.patch(os, call, failing_with(errno.ENOSPC))
                self.assert_fails(errno.ENOSPC)
                patch.restore()

    def test_reasons(self) -> None:
        """Other errors of a disk are reported in plain words."""
        for code, sentence in {
            errno.EDQUOT: "your disk quota is used up",
            errno.EIO: "the disk reports an error",
            errno.EROFS: "the disk is read-only",
            errno.EACCES: "you do not have the permission",
            errno.EFBIG: "larger than",
            errno.ENOLCK: os.strerror(errno.ENOLCK),
        }.items():
            with self.subTest(sentence=sentence):
                patch = self.patch(os, "write", failing_with(code))
                self.assert_fails(code)
                self.assertIn(sentence, said(code))
                patch.restore()

    def test_disk_full_in_file_object(self) -> None:
        """A failure of code that writes to the file object is the same clear error."""

        def interrupted() -> None:
            with SequentialFile.create(self.folder, "a") as part, part.writing():
                raise OSError(errno.ENOSPC, "No space left on device")

        self.assertRaisesRegex(CannotSave, said(errno.ENOSPC), interrupted)
        self.assertEqual(self.names(), [])

    def test_folder_cannot_be_synced(self) -> None:
        """Some disks sync no folders, which is no failure; an I/O error is, and leaves nothing."""
        for code, saved in ((errno.EINVAL, True), (errno.EIO, False)):
            with self.subTest(code=code):
                self.patch(os, "fsync", self.failing_for_folders(code))
                if saved:
                    self.save(b"x").unlink()
                else:
                    self.assert_fails(errno.EIO)

    def failing_for_folders(self, code: int) -> Callable[[int], None]:
        def fsync(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(code, os.strerror(code))

        return fsync

    def test_short_writes(self) -> None:
        """A system that takes a byte at a time gets them all."""
        write = os.write
        self.patch(os, "write", lambda fd, data: write(fd, data[:1]))
        self.assertEqual(self.save(b"abcdef").read_bytes(), b"abcdef")

    def test_no_links(self) -> None:
        """A disk without links gives the same promises."""
        self.patch(os, "link", failing_with(errno.EPERM))
        self.assertEqual(self.save(b"0", "zero").read_bytes(), b"0")
        (self.folder / "zero").unlink()
        self.patch(publishing, "rename_no_replace", failing_with(errno.EINVAL))
        self.assertEqual(self.save(b"1").read_bytes(), b"1")
        self.assertEqual(self.save(b"2").name, "alice (1).png")
        self.assertEqual((self.folder / "alice.png").read_bytes(), b"1")
        self.patch(os, "rename", failing_with(errno.EIO))
        self.assertRaises(CannotSave, self.save, b"3")
        self.assertEqual(self.names(), ["alice (1).png", "alice.png"])

    def test_no_folder(self) -> None:
        """A folder that is not there, or is none, is a clear error."""
        (self.folder / "file").write_bytes(b"")
        for name, number in (("gone", errno.ENOENT), ("file", errno.ENOTDIR)):
            with self.assertRaisesRegex(CannotSave, said(number)):
                SequentialFile.create(self.folder / name, "alice.png")

    def test_hidden_name_taken(self) -> None:
        """An existing hidden file is not touched."""
        with SequentialFile.create(self.folder, "a", random_part=lambda: "same"):
            with self.assertRaisesRegex(CannotSave, said(errno.EEXIST)):
                SequentialFile.create(self.folder, "a", random_part=lambda: "same")
            self.assertEqual(len(self.names()), 1)

    def test_name_too_long(self) -> None:
        """A name that the file system does not take is a clear error, at the commit."""
        self.assertRaisesRegex(CannotSave, said(errno.ENAMETOOLONG), self.save, b"x", "n" * 300)
        self.assertEqual(self.names(), [])

    def test_names_that_leave_the_folder(self) -> None:
        """Nothing but a single path component is a name."""
        for name in ("", ".", "..", "../x", "a/b", "/etc/passwd", "a/"):
            with self.subTest(name=name), self.assertRaises(CannotSave):
                SequentialFile.create(self.folder, name)

    def test_descriptors_closed(self) -> None:
        """Neither success nor failure leaves a descriptor open."""
        before = len(os.listdir("/dev/fd"))
        self.save(b"x")
        patch = self.patch(os, "write", failing_with(errno.EIO))
        self.assertRaises(CannotSave, self.save, b"x")
        patch.restore()
        self.assertRaises(CannotSave, SequentialFile.create, self.folder / "gone", "x")
        self.assertEqual(len(os.listdir("/dev/fd")), before)
