"""Tests of `p2pshare.storage.identity.private_file`."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.identity.private_file import (
    create_private,
    read_private,
    remove_unfinished,
    rename_private,
    replace_private,
)
from p2pshare.storage.os_errors import plain_reason


class PrivateFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "file"

    def fill_disk(self) -> None:
        def fsync(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "fsync", fsync)

    def test_created(self) -> None:
        """A new file is its owner's alone, and whole."""
        create_private(self.path, b"content")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(read_private(self.path, 100), b"content")
        self.assertEqual(read_private(self.path, 3), b"con")

    def test_linked_folder(self) -> None:
        """The folder may be a link, to another disk for example; all changes of files in it become durable."""
        link = self.folder.with_name(f"{self.folder.name}-link")
        link.symlink_to(self.folder.resolve())
        create_private(link / "file", b"one")
        replace_private(link / "file", b"two")
        rename_private(link / "file", link / "other")
        self.assertEqual(read_private(self.folder / "other", 100), b"two")

    def test_saved_again(self) -> None:
        """An editor may have added a byte-order mark and CR; UTF-16 is named."""
        create_private(self.path, "one\r\ntwo\r\n".encode("utf-8-sig"))
        self.assertEqual(read_private(self.path, 100), b"one\ntwo\n")
        replace_private(self.path, "one\r\n".encode("utf-16"))
        self.assertIn("UTF-16", str(self.assertRaises(OSError, read_private, self.path, 100)))

    def test_not_overwritten(self) -> None:
        """An existing file or dangling link is kept, and no other file is left."""
        self.path.write_bytes(b"mine")
        self.assertRaises(FileExistsError, create_private, self.path, b"new")
        self.assertEqual(self.path.read_bytes(), b"mine")
        self.path.unlink()
        self.path.symlink_to("nowhere")
        self.assertRaises(FileExistsError, create_private, self.path, b"new")
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_replaced(self) -> None:
        """A file is replaced whole, and is private then whatever it was."""
        self.path.write_bytes(b"old")
        self.path.chmod(0o644)
        replace_private(self.path, b"new")
        self.assertEqual(read_private(self.path, 100), b"new")
        rename_private(self.path, self.folder / "other")
        self.assertEqual(os.listdir(self.folder), ["other"])

    def test_disk_full(self) -> None:
        """On a full disk the old file is kept, and nothing of a new one."""
        self.path.write_bytes(b"old")
        self.fill_disk()
        self.assertRaises(OSError, replace_private, self.path, b"new")
        self.assertRaises(OSError, create_private, self.folder / "other", b"new")
        self.assertEqual((os.listdir(self.folder), self.path.read_bytes()), (["file"], b"old"))

    def test_in_the_way(self) -> None:
        """A folder cannot be replaced by a file."""
        self.path.mkdir()
        self.assertRaises(OSError, replace_private, self.path, b"new")
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_not_read(self) -> None:
        """The errors for a file open to others, a link and a FIFO say so."""
        self.path.write_bytes(b"x")
        self.path.chmod(0o604)
        link, fifo = self.folder / "link", self.folder / "fifo"
        link.symlink_to("file")
        os.mkfifo(fifo, 0o600)
        for path, reason in (
            (self.path, "others may read"),
            (link, "symbolic link"),
            (fifo, "not a plain file of yours"),
        ):
            with self.assertRaises(OSError) as caught:
                read_private(path, 10)
            self.assertIn(reason, plain_reason(caught.exception))
        self.assertRaises(FileNotFoundError, read_private, self.folder / "none", 10)

    def test_unfinished(self) -> None:
        """Only files that a killed process left are removed."""
        for name in (".key.0123abcd.new", ".key.next.00000000.new"):
            (self.folder / name).write_bytes(b"half")
        kept = {".mine.new", "key.0123abcd.new", ".key.0123abcd.news", "key"}
        for name in kept:
            (self.folder / name).write_bytes(b"")
        remove_unfinished(self.folder)
        self.assertEqual(set(os.listdir(self.folder)), kept)
