"""Tests for `p2pshare.storage.shares.tree` and `p2pshare.storage.shares.paths`."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest

from p2pshare.storage.file_times import TICK
from p2pshare.storage.shares import paths as share_paths
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.outgoing_files import OutgoingFile, WholeOutgoing
from p2pshare.storage.shares.paths import LINKS_MAX
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.blocks import BLOCK_SIZE, digest_of
from p2pshare.wire.transfer_messages import EntryKind, Fault, Omitted
from tests.storage.share_case import OLD, ShareTestCase, viewer_of

SCRIPTS = (
    "photo.jpg", "naïve café.txt", "ελληνικά", "кириллица", "עברית", "العربية", "हिन्दी", "ไทย",
    "中文", "日本語", "한국어", "🎉 party 🎉", "a b", "-rf", "~", "con", "a\\b", "a:b", "line\nbreak",
    "\x1b[31mred", "\u202egnp.exe", "e\u0301", "é", "x" * 255, "<script>", "%2e%2e", "$(id)", "'\"",
)  # fmt: skip

HOSTILE = (
    ("..",), (".",), ("",), ("s", ".."), ("s", "..", "secret"), ("s", ".", "a"), ("s", "", "a"),
    ("s", "../secret"), ("s", "/etc/passwd"), ("s", "etc/passwd"), ("s", "sub/../../secret"),
    ("s", "a\0"), ("s", "\0"), ("s", "\udcff"), ("s", "x" * 256), ("s", "é" * 128), ("s", "a", ".."),
    ("s", ".hidden"), ("s", "sub", ".."), ("s", "sub", "..", "..", "secret"), ("/etc", "passwd"),
    ("../s",), ("s/a",), ("s\0",), ("S", "a"), ("s", *["x"] * 500), ("s", "x" * 100_000),
)  # fmt: skip


class PathTests(ShareTestCase):
    def test_files(self) -> None:
        """Files come as they are, at any depth."""
        self.write("a", b"1")
        self.write("sub/deep/b", b"22")
        self.assertEqual(self.content("s", "a"), b"1")
        self.assertEqual(self.content("s", "sub", "deep", "b"), b"22")

    def test_every_script(self) -> None:
        """Every Unicode name that a file system accepts can be listed and fetched."""
        for name in SCRIPTS:
            self.write(name, name.encode())
        self.assertEqual(self.names("s"), sorted(SCRIPTS))
        for name in SCRIPTS:
            self.assertEqual(self.content("s", name), name.encode())

    def test_hostile_paths(self) -> None:
        """Threat 1: a path that climbs, is absolute, odd or too long opens nothing."""
        self.write("../secret", b"secret")
        self.write("a")
        self.write("sub/a")
        self.write(".hidden")
        before = len(os.listdir("/dev/fd"))
        for path in HOSTILE:
            self.assertEqual(self.open_fault(*path), Fault.NOT_FOUND, path)
            self.assertEqual(self.fault(self.listed, "bob", path), Fault.NOT_FOUND, path)
        for after in (
            ("..",),
            (".",),
            ("",),
            ("sub", ".."),
            ("/",),
            ("\0",),
            ("\udcff",),
            (".p2pshareignore",),
        ):
            listing = (("s",), after, 10, True)
            self.assertEqual(self.fault(self.listed, "bob", *listing), Fault.NOT_FOUND)
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_kinds(self) -> None:
        """A folder cannot be opened, a file cannot be listed, and nothing is beneath a file."""
        self.write("sub/a")
        folders: tuple[tuple[str, ...], ...] = ((), ("s",), ("s", "sub"))
        for path in folders:
            self.assertEqual(self.open_fault(*path), Fault.IS_FOLDER)
        self.assertEqual(self.fault(self.listed, "bob", ("s", "sub", "a")), Fault.IS_FILE)
        for path in (("s", "sub", "a", "b"), ("s", "gone"), ("gone",), ("s", "gone", "a")):
            self.assertEqual(self.open_fault(*path), Fault.NOT_FOUND)
            self.assertEqual(self.fault(self.listed, "bob", path), Fault.NOT_FOUND)

    def test_attributes(self) -> None:
        """Size, time and the executable bit are the file's; the version changes when its content may have."""
        path = self.write("a", b"12345")
        path.chmod(0o755)
        opened = self.open("bob", ("s", "a"))
        opened.close()
        self.assertEqual((opened.size, opened.mtime_ns, opened.executable), (5, OLD, True))
        path.chmod(0o644)
        again = self.open("bob", ("s", "a"))
        again.close()
        self.assertFalse(again.executable)
        os.utime(path, ns=(OLD, OLD + 1))
        versions = {opened.version, self.version("a")}
        path.write_bytes(b"123456")
        os.utime(path, ns=(OLD, OLD))
        versions.add(self.version("a"))
        self.write("b", b"12345")
        os.replace(self.root / "b", path)
        versions.add(self.version("a"))
        self.assertEqual(len(versions), 4)

    def version(self, *path: str, share: str = "s") -> str:
        opened = self.open("bob", (share, *path))
        opened.close()
        return opened.version

    def test_any_time(self) -> None:
        """A file keeps its time to the nanosecond, also one of the year 2300, and is read and listed as any other."""
        for mtime_ns in (-1_500, 10_413_792_000_123_456_789):
            self.write("a", bytes(BLOCK_SIZE + 1), mtime_ns)
            opened = self.open("bob", ("s", "a"))
            opened.finish()
            opened.close()
            self.assertEqual(opened.mtime_ns, mtime_ns)
            (entry,) = self.tree.list(viewer_of("bob"), ("s",)).entries
            self.assertEqual(entry.mtime_ns, mtime_ns)

    def test_version_listed(self) -> None:
        """A listing has the version of the later header, also through a link and for a shared file."""
        self.write("d/a")
        (self.root / "d/link").symlink_to("a")
        self.tree = self.share(SharedPath("s", self.root), SharedPath("one", self.root / "d/a"))
        for above in ((), ("s",), ("s", "d")):
            entries = self.tree.list(viewer_of("bob"), above, recursive=True).entries
            for entry in entries:
                path = (*above, *entry.path)
                if entry.kind is EntryKind.FILE:
                    self.assertEqual(entry.version, self.version(*path[1:], share=path[0]))
                else:
                    self.assertEqual(entry.version, "")

    def test_version_changed_just_now(self) -> None:
        """The version of a file that was changed just now is good for once: its next change may leave no trace."""
        self.write("a")
        now = os.stat(self.root / "a").st_ctime_ns
        for passed, same in ((0, False), (TICK + 1, True), (-TICK - 2, True)):
            ticks = itertools.count(now + passed)
            shares = [SharedPath("s", self.root)]
            self.tree = ShareTree(shares, self.cache, self.index, ticks.__next__)
            self.assertIs(self.version("a") == self.version("a"), same)


class PrivateTests(ShareTestCase):
    def assert_private(self, *names: str) -> None:
        """These are neither listed nor opened, and `a` is."""
        self.write("a")
        self.assertEqual(self.names("s"), ["a"])
        self.assertEqual(self.names(recursive=True), ["s", "s/a"])
        for name in names:
            self.assertEqual(self.open_fault("s", *name.split("/")), Fault.NOT_FOUND, name)

    def test_hidden(self) -> None:
        """Hidden files, and files in hidden folders, are private."""
        self.write(".secret")
        self.write(".git/config")
        self.assert_private(".secret", ".git/config")

    def test_no_unicode(self) -> None:
        """A name that is no UTF-8 is private."""
        (self.root / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
        self.assert_private(os.fsdecode(b"\xff\xfe"))

    def test_special_files(self) -> None:
        """FIFOs and sockets are private, and opening them does not block."""
        os.mkfifo(self.root / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            self.addCleanup(os.chdir, os.getcwd())
            os.chdir(self.root)  # a socket's path may not be long
            listener.bind("socket")
        self.assert_private("fifo", "socket")

    def test_devices(self) -> None:
        """Devices are private, and are not opened."""
        try:
            os.mknod(self.root / "null", 0o020666, os.makedev(1, 3))
        except PermissionError:
            raise SkipTest("devices can be made by root alone") from None
        self.assert_private("null")

    def test_too_large(self) -> None:
        """A file of a size that no message can say is private."""
        self.patch(share_paths, "FILE_SIZE_MAX", 10)
        self.write("most", bytes(10))
        self.assertEqual(self.content("s", "most"), bytes(10))
        (self.root / "most").rename(self.folder / "most")
        self.write("huge", bytes(11))
        self.assert_private("huge")

    def test_private_folder(self) -> None:
        """The folder of the key is private, whichever path leads there."""
        self.write("data/key")
        self.write("sub/x")
        (self.root / "way").symlink_to("data")
        self.tree = self.share(
            SharedPath("s", self.root, private=(self.root / "gone", self.root / "data"))
        )
        self.assertEqual(self.names("s", recursive=True), ["sub", "sub/x"])
        for path in (("s", "data"), ("s", "way"), ("s", "data", "key"), ("s", "way", "key")):
            self.assertEqual(self.open_fault(*path), Fault.NOT_FOUND)
            self.assertEqual(self.fault(self.listed, "bob", path), Fault.NOT_FOUND)
        (self.root / "direct").symlink_to("data/key")
        self.assertEqual(self.open_fault("s", "direct"), Fault.NOT_FOUND)
        shutil.rmtree(self.root / "data")
        self.assertEqual(self.names("s"), ["sub"])


class LinkTests(ShareTestCase):
    def link(self, name: str, target: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        (self.root / name).symlink_to(target)

    def test_inside(self) -> None:
        """Links within a share are followed: up and down, absolute, and in chains."""
        self.write("sub/deep/a", b"it")
        self.link("down", "sub/deep/a")
        self.link("sub/other/up", "../deep/a")
        self.link("absolute", str(self.root / "sub/deep/a"))
        self.link("folder", "./sub//deep/")
        self.link("chain", "folder/../other/up")
        self.link("sub/top", "..")
        for path in ("down", "sub/other/up", "absolute", "folder/a", "chain", "sub/top/down"):
            self.assertEqual(self.content("s", *path.split("/")), b"it", path)
        self.assertEqual(self.names("s", "folder"), ["a"])
        kinds = {entry.path[0]: entry.kind for entry in self.listed("bob", ("s",))[0]}
        self.assertEqual(kinds["folder"], EntryKind.FOLDER)
        self.assertEqual(kinds["chain"], EntryKind.FILE)

    def test_outside(self) -> None:
        """Threat 2: links that lead out, finally or on their way, are private, and so are links to hidden files."""
        self.write("../secret", b"secret")
        self.write("../shared-too/secret", b"secret")
        self.write(".hidden/secret", b"secret")
        self.write("sub/x")
        targets = (
            "../secret", "/etc/passwd", "..", "/", str(self.folder / "secret"), "sub/../../secret",
            "../shared/../secret", str(self.root) + "-too/secret", str(self.root) + "/../secret",
            ".hidden/secret", ".hidden", "gone", "/proc/self/root/etc/passwd", "sub/x/..", "self",
        )  # fmt: skip
        for number, target in enumerate(targets):
            name = "self" if target == "self" else f"link{number}"
            self.link(name, target)
            self.assertEqual(self.open_fault("s", name), Fault.NOT_FOUND, target)
            for path in (("s", name, "passwd"), ("s", name, "secret")):
                self.assertEqual(self.open_fault(*path), Fault.NOT_FOUND, target)
            self.assertEqual(self.fault(self.listed, "bob", ("s", name)), Fault.NOT_FOUND)
        self.assertEqual(self.names("s", recursive=True), ["sub", "sub/x"])

    def test_bounds(self) -> None:
        """Threat 7: chains and knots of links end."""
        self.write("a")
        self.link("link0", "a")
        for number in range(LINKS_MAX):
            self.link(f"link{number + 1}", f"link{number}")
        self.link("knot", "/".join(["sub", ".."] * 500 + ["a"]))
        self.write("sub/x")
        self.assertEqual(self.content("s", f"link{LINKS_MAX - 1}"), b"public")
        for name in (f"link{LINKS_MAX}", "knot"):
            self.assertEqual(self.open_fault("s", name), Fault.NOT_FOUND)

    def test_root_is_a_link(self) -> None:
        """The share itself may be a link, which the user named, and links in it go by either path."""
        self.write("a", b"it")
        (self.folder / "way").symlink_to("shared")
        self.link("real", str(self.root / "a"))
        self.link("named", str(self.folder / "way" / "a"))
        self.tree = self.share(SharedPath("s", self.folder / "way"))
        for name in ("a", "real", "named"):
            self.assertEqual(self.content("s", name), b"it")
        self.tree = self.share(SharedPath("s", self.folder / "way", may_be_link=False))
        self.assertEqual(self.open_fault("s", "a"), Fault.NOT_FOUND)
        self.assertEqual(self.names(), [])


class SwappedTests(ShareTestCase):
    """Threat 2: somebody changes the share while we look at it."""

    def swap_before(self, function: str, name: str, target: str) -> None:
        """Put a link in the place of a name just before a system call is made with it, once."""
        genuine = getattr(os, function)

        def swapped(path: object, *arguments: object, **keywords: object) -> object:
            here = self.root / name
            if path == Path(name).name and not here.is_symlink():
                here.rename(self.folder / "was")
                here.symlink_to(target)
            return genuine(path, *arguments, **keywords)

        self.patch(os, function, swapped)

    def test_file(self) -> None:
        """A file that becomes a link after it was looked at is not followed."""
        self.write("../secret", b"secret")
        self.write("a")
        self.swap_before("open", "a", "../secret")
        self.assertEqual(self.fault(self.open, "bob", ("s", "a")), Fault.NOT_FOUND)
        self.assertTrue((self.root / "a").is_symlink())

    def test_folder(self) -> None:
        """So with a folder on the way, in a listing as well."""
        self.write("../outside/secret", b"secret")
        self.write("sub/secret")
        self.swap_before("open", "sub", "../outside")
        path = ("s", "sub", "secret")
        self.assertEqual(self.fault(self.open, "bob", path), Fault.NOT_FOUND)
        self.assertEqual(self.names("s", recursive=True), [])

    def test_linked_folder(self) -> None:
        """A folder that a link leads to, and that becomes a link itself just before it is opened, is not listed."""
        self.write("../outside/secret", b"secret")
        self.write("sub/a")
        (self.root / "a-way").symlink_to("sub")
        self.swap_before("open", "sub", "../outside")
        self.assertEqual(self.omitted("s"), {"a-way": Omitted.LINK, "sub": Omitted.LINK})
        self.assertEqual(self.names("s", recursive=True), [])

    def test_link_becomes_folder(self) -> None:
        """A link that becomes a folder meanwhile is not found, rather than unreadable."""
        (self.root / "way").symlink_to("sub")
        genuine = os.readlink

        def swapped(path: str, **keywords: int) -> str:
            (self.root / "way").unlink()
            (self.root / "way").mkdir()
            return genuine(path, **keywords)

        with patch.object(os, "readlink", swapped):
            self.assertEqual(self.fault(self.open, "bob", ("s", "way")), Fault.NOT_FOUND)
        self.assertEqual(self.open_fault("s", "way"), Fault.IS_FOLDER)

    def test_file_becomes_fifo(self) -> None:
        """A file that becomes a FIFO meanwhile is closed again without blocking."""
        self.write("a")
        genuine = os.open

        def swapped(path: str, *arguments: int, **keywords: int) -> int:
            if path == "a":
                (self.root / "a").unlink()
                os.mkfifo(self.root / "a")
            return genuine(path, *arguments, **keywords)

        before = len(os.listdir("/dev/fd"))
        self.patch(os, "open", swapped)
        self.assertEqual(self.fault(self.open, "bob", ("s", "a")), Fault.NOT_FOUND)
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_folder_of_a_batch(self) -> None:
        """A batch keeps reading the folder that it opened, even if a link replaces that folder."""
        self.write("../outside/b", b"secret")
        self.write("sub/a", b"it")
        self.write("sub/b", b"it")
        genuine = os.pread

        def swapped(fd: int, size: int, offset: int) -> bytes:
            if not (self.root / "sub").is_symlink():
                (self.root / "sub").rename(self.folder / "was")
                (self.root / "sub").symlink_to("../outside")
            return genuine(fd, size, offset)

        self.patch(os, "pread", swapped)
        found = self.tree.open_many(viewer_of("bob"), [("s", "sub", "a"), ("s", "sub", "b")])
        self.assertEqual(
            [isinstance(each, WholeOutgoing) and each.data for each in found], [b"it"] * 2
        )
        self.assertEqual(self.open_fault("s", "sub", "b"), Fault.NOT_FOUND)


class ChangeTests(ShareTestCase):
    def test_seen_at_once(self) -> None:
        """New, changed and removed files of a share are seen at once."""
        self.assertEqual(self.names("s"), [])
        self.write("a", b"1")
        self.assertEqual((self.names("s"), self.content("s", "a")), (["a"], b"1"))
        self.write("a", b"2", OLD + 1)
        self.assertEqual(self.content("s", "a"), b"2")
        (self.root / "a").unlink()
        self.assertEqual((self.names("s"), self.open_fault("s", "a")), ([], Fault.NOT_FOUND))

    def test_share_goes_and_comes_back(self) -> None:
        """A share that is not there is not listed; it may come back, as another folder or as a file."""
        self.write("a", b"1")
        self.root.rename(self.folder / "away")
        self.assertEqual((self.names(), self.open_fault("s", "a")), ([], Fault.NOT_FOUND))
        self.assertEqual(self.fault(self.listed, "bob", ("s",)), Fault.NOT_FOUND)
        self.write("b", b"2")
        self.assertEqual((self.names("s"), self.content("s", "b")), (["b"], b"2"))
        shutil.rmtree(self.root)
        self.root.write_bytes(b"3")
        self.assertEqual((self.names(recursive=True), self.content("s")), (["s"], b"3"))
        self.assertEqual(self.fault(self.listed, "bob", ("s",)), Fault.IS_FILE)
        self.assertEqual(self.open_fault("s", "a"), Fault.NOT_FOUND)

    def test_single_file(self) -> None:
        """A share may be a file, which stands at the top."""
        self.tree = self.share(SharedPath("song.mp3", self.write("x", b"la")))
        ((entry,), _) = self.listed("bob", ())
        self.assertEqual((entry.path, entry.kind, entry.size), (("song.mp3",), EntryKind.FILE, 2))
        self.assertEqual(self.content("song.mp3"), b"la")

    def test_share_becomes_special(self) -> None:
        """A share that becomes a FIFO is not there."""
        self.root.rmdir()
        os.mkfifo(self.root)
        self.assertEqual((self.names(), self.open_fault("s")), ([], Fault.NOT_FOUND))


class AllowTests(ShareTestCase):
    """Threat 34: viewers see only shares that are for them."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("open", "bobs", "carols", "nobodys"):
            self.write(f"{name}/sub/file", name.encode())
        allowed = {"open": None, "bobs": {"bob"}, "carols": {"carol", "bob"}, "nobodys": set()}
        self.tree = self.share(
            *(
                SharedPath(name, self.root / name, None if names is None else frozenset(names))
                for name, names in allowed.items()
            )
        )

    def test_matrix(self) -> None:
        """Each viewer sees their shares; all others seem not to exist."""
        sees = {"bob": {"open", "bobs", "carols"}, "carol": {"open", "carols"}, "dave": {"open"}}
        for viewer, seen in sees.items():
            self.assertEqual(self.names(viewer=viewer), sorted(seen))
            tops = {name.split("/")[0] for name in self.names(viewer=viewer, recursive=True)}
            self.assertEqual(tops, seen)
            for name in ("open", "bobs", "carols", "nobodys"):
                if name in seen:
                    self.assertEqual(
                        self.content(name, "sub", "file", viewer=viewer), name.encode()
                    )
                    continue
                for path in ((name,), (name, "sub"), (name, "sub", "file"), (name, "x")):
                    nothing = ("nothing", *path[1:])
                    self.assertEqual(
                        self.open_fault(*path, viewer=viewer),
                        self.open_fault(*nothing, viewer=viewer),
                    )
                    self.assertEqual(
                        self.fault(self.listed, viewer, path),
                        self.fault(self.listed, viewer, nothing),
                    )

    def test_nothing_is_looked_up(self) -> None:
        """The disk is not accessed for viewers that may not see a share, so the time reveals nothing."""
        asked: list[object] = []
        for name in ("open", "stat"):
            self.patch(os, name, lambda *arguments, **_: asked.append(arguments))
        for path in (("bobs",), ("bobs", "sub", "file"), ("nothing",)):
            self.assertEqual(self.open_fault(*path, viewer="dave"), Fault.NOT_FOUND)
            self.assertEqual(self.fault(self.listed, "dave", path), Fault.NOT_FOUND)
        self.assertEqual(asked, [])


class TroubleTests(ShareTestCase):
    def fail_opening(self, name: str, code: int) -> None:
        genuine = os.open

        def failing(path: object, *arguments: int, **keywords: int) -> int:
            if path == name:
                raise OSError(code, os.strerror(code))
            return genuine(path, *arguments, **keywords)  # type: ignore[arg-type]

        self.patch(os, "open", failing)

    def test_unreadable(self) -> None:
        """A file that cannot be read is listed, and unreadable."""
        self.write("a")
        for code in (errno.EACCES, errno.EPERM, errno.EIO):
            self.fail_opening("a", code)
            self.assertEqual(self.open_fault("s", "a"), Fault.UNREADABLE)
            self.assertEqual(self.names("s"), ["a"])

    def test_too_many_files(self) -> None:
        """Too many open files is a temporary fault: nothing is reported as unreadable or left out."""
        self.write("sub/a")
        self.fail_opening("sub", errno.EMFILE)
        self.assertEqual(self.open_fault("s", "sub", "a"), Fault.BUSY)
        self.assertEqual(self.fault(self.listed, "bob", ("s", "sub")), Fault.BUSY)
        self.assertEqual(self.fault(self.listed, "bob", ("s",), (), 10, True), Fault.BUSY)
        (self.root / "way").symlink_to("sub/a")
        self.assertEqual(self.fault(self.listed, "bob", ("s",)), Fault.BUSY)

    def test_unreadable_folder(self) -> None:
        """A folder that cannot be read is reported, not listed as empty, and the listing continues."""
        self.write("sub/a")
        self.write("z")
        self.fail_opening("sub", errno.EACCES)
        self.assertEqual(self.names("s", recursive=True), ["z"])
        self.assertEqual(self.omitted("s"), {"sub": Omitted.UNREADABLE})
        self.assertEqual(self.fault(self.listed, "bob", ("s", "sub")), Fault.UNREADABLE)

    def test_descriptors(self) -> None:
        """No request leaves a descriptor open."""
        self.write("sub/a")
        (self.root / "way").symlink_to("sub/a")
        before = len(os.listdir("/dev/fd"))
        self.listed("bob", ("s",), (), 1, True)
        self.names("s", recursive=True)
        for path in (
            ("s", "sub", "a"),
            ("s", "way"),
            ("s", "gone"),
            ("s", "sub"),
            ("s", "way", "x"),
        ):
            self.tree.open_many(viewer_of("bob"), [path])
        self.open("bob", ("s", "way")).close()
        self.assertEqual(len(os.listdir("/dev/fd")), before)


class ManyTests(ShareTestCase):
    def test_one_by_one(self) -> None:
        """Each path has its own result, in order, and a failure stops no other."""
        self.write("a", b"1")
        self.write("empty", b"")
        self.write("sub/b", b"22")
        self.write("large", bytes(BLOCK_SIZE + 1))
        paths = [
            ("s", *name.split("/")) for name in ("a", "gone", "sub/b", "sub", "empty", "large")
        ]
        a, gone, b, sub, empty, large = self.tree.open_many(viewer_of("bob"), paths)
        assert isinstance(a, WholeOutgoing) and isinstance(b, WholeOutgoing)
        assert isinstance(empty, WholeOutgoing) and isinstance(large, OutgoingFile)
        large.close()
        self.assertEqual((a.data, a.digest, a.path), (b"1", digest_of(b"1"), ("s", "a")))
        self.assertEqual((b.data, empty.data, empty.digest), (b"22", b"", None))
        self.assertEqual(large.size, BLOCK_SIZE + 1)
        assert isinstance(gone, Unavailable) and isinstance(sub, Unavailable)
        self.assertEqual((gone.why, sub.why), (Fault.NOT_FOUND, Fault.IS_FOLDER))

    def test_bytes(self) -> None:
        """Threat 7: files beyond the allowed memory are opened, but not read."""
        for name in "abcd":
            self.write(name, name.encode() * 40)
        found = self.tree.open_many(
            viewer_of("bob"), [("s", name) for name in "abcd"], bytes_max=100
        )
        for each in found:
            if isinstance(each, OutgoingFile):
                each.close()
        self.assertEqual(
            [type(each) for each in found],
            [WholeOutgoing, WholeOutgoing, OutgoingFile, OutgoingFile],
        )

    def test_many_folders(self) -> None:
        """Few folders are open at a time, and none in the end."""
        paths = [("s", f"sub{number % 20}", "a") for number in range(60)]
        for _, folder, name in paths:
            self.write(f"{folder}/{name}", folder.encode())
        before = len(os.listdir("/dev/fd"))
        found = self.tree.open_many(viewer_of("bob"), paths)
        self.assertEqual(
            [isinstance(each, WholeOutgoing) and each.data.decode() for each in found],
            [folder for _, folder, _ in paths],
        )
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_defect(self) -> None:
        """After an unexpected error, files that were opened before are closed."""
        self.write("large", bytes(BLOCK_SIZE + 1))
        self.write("a")
        before = len(os.listdir("/dev/fd"))
        with patch.object(os, "pread", side_effect=MemoryError):
            paths = [("s", "large"), ("s", "a")]
            self.assertRaises(MemoryError, self.tree.open_many, viewer_of("bob"), paths)
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_changed_while_read(self) -> None:
        """A small file that is changed while it is read is not sent."""
        path = self.write("a", b"12345")
        genuine = os.pread

        def changing(fd: int, size: int, offset: int) -> bytes:
            data = genuine(fd, size, offset)
            self.write("a", b"123")
            return data

        with patch.object(os, "pread", changing):
            (found,) = self.tree.open_many(viewer_of("bob"), [("s", "a")])
        assert isinstance(found, Unavailable)
        self.assertEqual((found.why, path.stat().st_size), (Fault.CHANGED, 3))


class AnyPathTests(ShareTestCase):
    @settings(max_examples=50)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(["s", "sub", "a", "..", ".", "", "/", "up", "out", "\0", ".h"]),
                st.text(max_size=3),
            ),
            max_size=6,
        ).map(tuple)
    )
    def test_nothing_secret(self, path: tuple[str, ...]) -> None:
        """Threats 1 and 2: any path returns public content, or is unavailable."""
        if not (self.root / "sub").exists():
            self.write("../secret", b"secret")
            self.write(".h/secret", b"secret")
            self.write("sub/a")
            (self.root / "up").symlink_to("sub/..")
            (self.root / "out").symlink_to("..")
        (found,) = self.tree.open_many(viewer_of("bob"), [path])
        if isinstance(found, WholeOutgoing):
            self.assertEqual(found.data, b"public")
        else:
            assert isinstance(found, Unavailable)
            self.assertIn(found.why, (Fault.NOT_FOUND, Fault.IS_FOLDER))
        try:
            entries, _ = self.listed("bob", path, recursive=True)
        except Unavailable as error:
            self.assertIn(error.why, (Fault.NOT_FOUND, Fault.IS_FILE))
        else:
            names = {name for entry in entries for name in entry.path}
            self.assertLessEqual(names, {"s", "sub", "a", "up"})


class OrderTests(ShareTestCase):
    def test_top(self) -> None:
        """The shares are listed by name, however they were given, and by pages."""
        shared = SharedPath("b", self.root)
        self.tree = self.share(shared, replace(shared, name="a"), replace(shared, name="c"))
        self.write("x")
        self.assertEqual(self.names(), ["a", "b", "c"])
        pages = self.all_entries((), 2, recursive=True)
        self.assertEqual(
            ["/".join(entry.path) for entry in pages], ["a", "a/x", "b", "b/x", "c", "c/x"]
        )
