"""Tests for `p2pshare.classic.shared_files`."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.datagrams import Kind
from p2pshare.classic.shared_files import ClassicShare, OpenedFile
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.rules import Rules


def share_of(paths: Iterable[Path]) -> ClassicShare:
    return ClassicShare(SharedPath(path.name, path) for path in paths)


class ShareTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.refused: list[tuple[str, str]] = []

    def note_refused(self, path: Path, reason: str) -> None:
        self.refused.append((path.name, reason))

    def write(self, name: str, data: bytes = b"") -> Path:
        (self.folder / name).write_bytes(data or name.encode())
        return self.folder / name

    def content(self, opened: OpenedFile | None) -> bytes | None:
        if opened is None:
            return None
        with opened.file:
            return opened.file.read()

    def text(self, share: ClassicShare) -> bytes | None:
        return self.content(share.open(Kind.TEXT, self.note_refused))

    def picture(self, share: ClassicShare) -> bytes | None:
        return self.content(share.open(Kind.PICTURE, self.note_refused))


class SharedFolderTests(ShareTestCase):
    def test_rules(self) -> None:
        """Threat 70: what the owner leaves out of a folder is not served; a file that is shared itself is."""
        self.write("my_file.txt")
        self.write("my_file.jpg")
        for patterns, text, picture in (
            ((), b"my_file.txt", b"my_file.jpg"),
            (("*.txt",), None, b"my_file.jpg"),
            (("my_file.*", "!*.txt"), b"my_file.txt", None),
        ):
            rules = Rules.of(patterns)
            share = ClassicShare([SharedPath("s", self.folder, rules=rules)])
            self.assertEqual((self.text(share), self.picture(share)), (text, picture))
        alone = SharedPath("t", self.folder / "my_file.txt", rules=Rules.of(["*"]))
        self.assertEqual(self.text(ClassicShare([alone])), b"my_file.txt")
        (self.folder / ".p2pshareignore").write_text("[")
        self.assertEqual(self.text(share_of([self.folder])), None)
        self.assertIn(".p2pshareignore is not valid", self.refused[-1][1])

    def test_looked_up_at_each_request(self) -> None:
        """Files that appear in a shared folder are offered; files that are removed are not."""
        share = share_of([self.folder])
        self.assertEqual((self.text(share), self.picture(share)), (None, None))
        self.write("my_file.txt")
        self.write("my_file.webp")
        self.assertEqual((self.text(share), self.picture(share)), (b"my_file.txt", b"my_file.webp"))
        self.write("my_file.jpg")
        self.assertEqual(self.picture(share), b"my_file.jpg")
        (self.folder / "my_file.txt").unlink()
        self.assertIsNone(self.text(share))
        self.assertEqual(self.refused, [])

    def test_nothing_else(self) -> None:
        """Other files in the folder are not offered."""
        for name in ("alice.txt", "my_file", "my_file.gif", "my_file.txt.bak", "xmy_file.txt"):
            self.write(name)
        share = share_of([self.folder])
        self.assertEqual((self.text(share), self.picture(share)), (None, None))

    def test_files_named(self) -> None:
        """Single files are offered under any name; earlier paths win."""
        text, picture = self.write("notes.TXT"), self.write("photo.JPEG")
        self.write("my_file.txt")
        share = share_of([text, picture, self.folder])
        self.assertEqual((self.text(share), self.picture(share)), (b"notes.TXT", b"photo.JPEG"))

    def test_other_paths(self) -> None:
        """A path that does not exist, or has another suffix, offers nothing; its neighbours do."""
        text = self.write("notes.txt")
        share = share_of([self.folder / "gone", self.write("song.mp3"), text])
        self.assertEqual((self.text(share), self.picture(share)), (b"notes.txt", None))
        self.assertEqual(self.refused, [])

    def test_identity(self) -> None:
        """The identity stays while the content stays, and contains the size."""
        path = self.write("my_file.txt", b"12345")
        share = share_of([self.folder])

        def opened() -> OpenedFile:
            opened = share.open(Kind.TEXT, self.note_refused)
            assert opened is not None
            opened.file.close()
            return opened

        first = opened()
        self.assertEqual((first.size, first.path), (5, path))
        self.assertEqual(opened().identity, first.identity)
        path.write_bytes(b"123456")
        self.assertNotEqual(opened().identity, first.identity)


class NotPlainFilesTests(ShareTestCase):
    def test_link(self) -> None:
        """A symbolic link is refused with the reason; the next candidate is taken."""
        (self.folder / "my_file.jpg").symlink_to("/etc/passwd")
        self.write("my_file.png")
        self.assertEqual(self.picture(share_of([self.folder])), b"my_file.png")
        self.assertEqual(self.refused, [("my_file.jpg", plain_reason(OSError(errno.ELOOP, "")))])

    def test_fifo_folder_and_socket(self) -> None:
        """A path that is not a plain file is refused, without waiting for a writer."""
        os.mkfifo(self.folder / "my_file.jpg")
        (self.folder / "my_file.jpeg").mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            self.addCleanup(os.chdir, os.getcwd())
            os.chdir(self.folder)  # a socket's path may not be long
            listener.bind("my_file.png")
            self.assertIsNone(self.picture(share_of([self.folder])))
        self.assertEqual(
            self.refused,
            [(f"my_file.{suffix}", "it is not a plain file") for suffix in ("jpg", "jpeg", "png")],
        )

    def test_named(self) -> None:
        """A FIFO or a link that the user names is refused at each request, with the reason."""
        os.mkfifo(self.folder / "fifo.txt")
        (self.folder / "link.jpg").symlink_to(self.write("photo.jpg"))
        share = share_of([self.folder / "fifo.txt", self.folder / "link.jpg"])
        self.assertEqual((self.text(share), self.picture(share)), (None, None))
        self.assertEqual([name for name, _ in self.refused], ["fifo.txt", "link.jpg"])

    def test_descriptors_closed(self) -> None:
        """A refused file is closed."""
        before = len(os.listdir("/dev/fd"))
        os.mkfifo(self.folder / "my_file.txt")
        self.text(share_of([self.folder]))
        self.assertEqual(len(os.listdir("/dev/fd")), before)
