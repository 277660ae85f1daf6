"""Tests for `p2pshare.storage.identity.data_folder`."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from pathlib import Path

import platformdirs
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import AlreadyRunning, FolderUnusable, SecretUnusable, WrongUsage
from p2pshare.storage.identity.data_folder import (
    SECRET_NAME,
    DataFolder,
    PeerPlace,
    data_place,
    peer_folder,
    private_folders,
)
from p2pshare.storage.identity.key_file import load_or_make
from p2pshare.storage.offers.inbox_folder import expect_folder
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import shared_paths
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.offer_roots import offer_roots
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.wire.transfer_messages import Fault
from tests.storage.share_case import opened, viewer_of

REGISTRY = "http://127.0.0.1:8000"


class DataFolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "peers" / "bob"

    def open(self) -> DataFolder:
        folder = DataFolder.open(self.path, "bob")
        self.addCleanup(folder.close)
        return folder

    def test_remove(self) -> None:
        """A file is removed, one that is not there is not missed, and a folder is a sentence."""
        folder = self.open()
        (self.path / "peer.pid").write_text("1")
        for _ in range(2):
            folder.remove("peer.pid")
            self.assertFalse((self.path / "peer.pid").exists())
        (self.path / "peer.pid").mkdir()
        self.assertRaises(FolderUnusable, folder.remove, "peer.pid")

    def test_tokens_tell_nothing_of_each_other(self) -> None:
        """Each registry and name has a token of its own, which is the same whenever it is asked for."""
        folder = self.open()
        tokens = {
            folder.token(url, name) for url in (REGISTRY, "http://b") for name in ("bob", "al")
        }
        self.assertEqual(len(tokens), 4)
        self.assertIn(folder.token(REGISTRY, "bob"), tokens)
        for token in tokens:
            self.assertRegex(token, r"\A[A-Za-z0-9_-]{43}\Z")

    def test_private(self) -> None:
        """A new folder, and every file in it, is private to its owner."""
        self.open().token(REGISTRY, "bob")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        for name in os.listdir(self.path):
            self.assertEqual(stat.S_IMODE((self.path / name).stat().st_mode), 0o600, name)

    def test_running_already(self) -> None:
        """The same peer a second time is refused by name and process."""
        folder = self.open()
        error = self.assertRaises(AlreadyRunning, self.open)
        self.assertEqual(error.fields, {"name": "bob", "pid": str(os.getpid())})
        folder.close()
        self.open()

    def test_not_a_folder(self) -> None:
        """A file in the way is a clear error."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"")
        self.assertEqual(self.assertRaises(FolderUnusable, self.open).fields["path"], self.path)

    def test_token_stays(self) -> None:
        """The secret is made once and survives a restart."""
        folder = self.open()
        token = folder.token(REGISTRY, "bob")
        self.assertGreaterEqual(len(token), 43)
        self.assertEqual(folder.token(REGISTRY, "bob"), token)
        folder.close()
        self.assertEqual(self.open().token(REGISTRY, "bob"), token)

    def test_tokens_differ(self) -> None:
        """Two peers have two secrets."""
        first = self.open().token(REGISTRY, "bob")
        self.path = self.path.with_name("alice")
        self.assertNotEqual(self.open().token(REGISTRY, "bob"), first)

    def test_killed_while_making_the_token(self) -> None:
        """A secret that was not finished does not stop the next start."""
        self.path.mkdir(parents=True)
        (self.path / f".{SECRET_NAME}.0123abcd.new").write_bytes(b"half a sec")
        folder = self.open()
        self.assertEqual(folder.token(REGISTRY, "bob"), folder.token(REGISTRY, "bob"))
        self.assertEqual(sorted(os.listdir(self.path)), ["lock", SECRET_NAME])

    def test_disk_full(self) -> None:
        """A full disk makes no half secret."""
        folder = self.open()

        def fsync(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch = self.patch(os, "fsync", fsync)
        error = self.assertRaises(FolderUnusable, folder.token, REGISTRY, "bob")
        self.assertEqual(error.fields["reason"], plain_reason(OSError(errno.ENOSPC, "")))
        self.assertFalse((self.path / SECRET_NAME).exists())
        patch.restore()
        folder.token(REGISTRY, "bob")

    def test_readable_by_others(self) -> None:
        """A secret that others may read is refused, and stays as it is."""
        folder = self.open()
        token = folder.token(REGISTRY, "bob")
        (self.path / SECRET_NAME).chmod(0o640)
        self.assertRaisesRegex(SecretUnusable, "chmod 600", folder.token, REGISTRY, "bob")
        (self.path / SECRET_NAME).chmod(0o600)
        self.assertEqual(folder.token(REGISTRY, "bob"), token)

    def test_damaged(self) -> None:
        """A damaged secret is refused in one sentence, never replaced, never shown."""
        folder = self.open()
        for content in (b"", b"short\n", b"x" * 43, b"\xff" * 43 + b"\n", b"x" * 5000):
            with self.subTest(content=content[:50]):
                (self.path / SECRET_NAME).write_bytes(content)
                (self.path / SECRET_NAME).chmod(0o600)
                with self.assertRaisesRegex(SecretUnusable, "it is damaged"):
                    folder.token(REGISTRY, "bob")
                self.assertEqual((self.path / SECRET_NAME).read_bytes(), content)

    def test_no_file(self) -> None:
        """A link or a FIFO in place of the secret is refused without a wait."""
        folder = self.open()
        (self.path / SECRET_NAME).symlink_to("elsewhere")
        self.assertRaises(SecretUnusable, folder.token, REGISTRY, "bob")
        (self.path / SECRET_NAME).unlink()
        os.mkfifo(self.path / SECRET_NAME, 0o600)
        with self.assertRaises(SecretUnusable):
            folder.token(REGISTRY, "bob")


class PrivateFoldersTests(SynchronousTestCase):
    """Threats 34 and 143: what is in data folders."""

    def test_keys_of_others(self) -> None:
        """Threat 34: a share of a folder with the data of several peers and a registry reveals no key."""
        root = Path(self.mktemp()).absolute()
        self.patch(platformdirs, "user_data_path", lambda name: root / "data" / name)
        mine = Settings(registry=REGISTRY, data=root / "mine")
        keys = [peer_folder(mine, "bob"), PeerPlace(REGISTRY, "carol").path]
        keys += [data_place() / "registry", root / "public"]
        for folder in keys:
            folder.mkdir(parents=True)
            (folder / "key").write_bytes(b"secret")
        private = private_folders(mine, "bob")
        shares = shared_paths(["all=."], [], root, private)
        tree = ShareTree(shares, BlockCache(None), FolderIndex(None))
        entries = tree.list(viewer_of("eve"), (), recursive=True).entries
        found = ["/".join(each.path) for each in entries]
        self.assertEqual(found, ["all", "all/data", "all/public", "all/public/key"])
        for folder in keys[:3]:
            path = ("all", *folder.relative_to(root).parts, "key")
            self.assertRaises(Unavailable, opened, tree, "eve", path)
            self.assertRaises(WrongUsage, shared_paths, [str(folder)], [], root, private)

    def test_folders_elsewhere(self) -> None:
        """Threats 34 and 143: a data folder anywhere is known by its files, also behind a link."""
        root = Path(os.path.realpath(self.mktemp()))
        keys = {"alice": "key", "registry": "registry.key", "classic": "secret"}
        for name, file in keys.items():
            path = root / name
            with closing(DataFolder.open(path, name)) as folder:
                if file == "secret":
                    folder.token(REGISTRY, name)
                else:
                    load_or_make(path / file)
            (path / "x").mkdir()
        (root / "way").symlink_to("alice")
        (root / "public").mkdir()
        (root / "public/lock").write_bytes(b"")
        (root / "public/key").write_bytes(b"of the door")
        private = (root / "mine",)
        for name in (*keys, "way", "alice/x", "way/x"):
            self.assertRaises(WrongUsage, shared_paths, [f"x={root / name}"], [], root, private)
            self.assertRaises(WrongUsage, offer_roots, [root / name], private)
            self.assertRaises(WrongUsage, expect_folder, root / name / "new", "it", private)
        expect_folder(root / "public", "it", private)
        shares = shared_paths(["all=."], [], root, private)
        tree = ShareTree(shares, BlockCache(None), FolderIndex(None))
        for recursive, expected in (
            (False, ["public"]),
            (True, ["public", "public/key", "public/lock"]),
        ):
            entries = tree.list(viewer_of("eve"), ("all",), recursive=recursive).entries
            self.assertEqual(["/".join(each.path) for each in entries], expected)
        for hidden in (("alice",), ("way", "x"), ("alice", "key"), ("classic", "secret")):
            with self.assertRaises(Unavailable) as caught:
                tree.list(viewer_of("eve"), ("all", *hidden))
            self.assertEqual(caught.exception.why, Fault.NOT_FOUND)
        self.assertEqual(tree.survey("all").hidden, 4)


class DefaultPeerFolderTests(SynchronousTestCase):
    def test_one_for_each_registry_and_name(self) -> None:
        """Each registry and name has its own folder, and no URL leads out of it."""
        for url, registry in {
            "http://127.0.0.1:8000": "127.0.0.1_8000",
            "http://Registry.example": "registry.example_80",
            "https://registry.example/": "registry.example_443",
            "http://[::1]:8000": "__1_8000",
            "http://..:1/../..": "__1",
        }.items():
            with self.subTest(url=url):
                folder = PeerPlace(url, "bob").by_url()
                self.assertEqual(folder.parts[-4:], ("p2pshare", "peers", registry, "bob"))
