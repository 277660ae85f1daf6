"""Tests for `p2pshare.storage.identity.adoption`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from threading import Thread

import platformdirs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import FolderUnusable, RegistryChanged
from p2pshare.storage.identity import adoption as module
from p2pshare.storage.identity.adoption import move_in
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.identity.known_peers import FILE_NAME, KnownPeers
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.statements import Receipt

LOOPBACK, LAN, NAME = "http://127.0.0.1:8000", "http://192.0.2.1:8000", "http://nas.lan:8000"
URLS = [LOOPBACK, LAN, NAME]
REGISTRY, OTHER = SigningKey(b"r" * 32), SigningKey(b"o" * 32)
ALICE = SigningKey(b"a" * 32).public


class MovingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.use(Path(self.mktemp()).absolute())

    def use(self, root: Path) -> None:
        self.patch(platformdirs, "user_data_path", lambda name: root / name)

    def old_folder(
        self, url: str, name: str = "bob", signer: SigningKey | None = REGISTRY, claim: int = 1
    ) -> bytes:
        """A folder of an earlier version, which goes by a URL; returns the content of its key file."""
        path = PeerPlace(url, name).by_url()
        folder = DataFolder.open(path, name)
        identity = Identity.open(folder, url, name)
        identity.next_seq(7)
        if signer is not None:
            receipt = Receipt(name, identity.key.public, claim, 2**40)
            identity.keep_receipt(receipt.sign(signer))
        folder.close()
        pins = {"v": 1, "peers": {url: {"alice": str(ALICE)}}}
        (path / FILE_NAME).write_text(json.dumps(pins))
        (path / FILE_NAME).chmod(0o600)
        return (path / "key").read_bytes()

    def move(self, url: str, name: str = "bob", registry: SigningKey = REGISTRY) -> Path:
        return move_in(PeerPlace(url, name), registry.public)


class MoveTests(MovingTestCase):
    def test_new(self) -> None:
        """A peer that is new here gets a folder that goes by the registry's key, whatever the URL."""
        paths = {self.move(url) for url in URLS}
        self.assertEqual(len(paths), 1)
        (path,) = paths
        self.assertEqual(path.parts[-3:], ("peers", str(REGISTRY.public), "bob"))
        self.assertFalse(path.exists())

    def test_adopted(self) -> None:
        """An old folder is found by the registry's signature, whatever the current URL of the registry."""
        for number, url in enumerate(URLS):
            self.use(Path(self.mktemp()).absolute())
            key = self.old_folder(LOOPBACK)
            path = self.move(url)
            self.assertEqual((path / "key").read_bytes(), key, number)
            self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)
            self.assertEqual(PeerPlace(url, "bob").path, path)
            self.assertEqual(KnownPeers(path, str(REGISTRY.public)).key("alice"), ALICE)
            folder = DataFolder.open(path, "bob")
            identity = Identity.open(folder, url, "bob")
            identity.meet(REGISTRY.public)
            folder.close()
            self.assertIsNotNone(identity.receipt)
            self.assertEqual(identity.seq, 7)

    def test_old_path_stays_good(self) -> None:
        """Paths into the old folder lead to where it is now: a pid file is removed by its old path."""
        self.old_folder(LOOPBACK)
        old = PeerPlace(LOOPBACK, "bob").by_url()
        (old / "peer.pid").write_text("1")
        path = self.move(LOOPBACK)
        (old / "peer.pid").unlink()
        self.assertFalse((path / "peer.pid").exists())

    def test_which_of_several(self) -> None:
        """Of two folders for one registry the one with the later claim counts; the other one stays where it is."""
        late, early = self.old_folder(LAN, claim=9), self.old_folder(LOOPBACK, claim=3)
        path = self.move(LOOPBACK)
        self.assertEqual((path / "key").read_bytes(), late)
        self.assertEqual((PeerPlace(LOOPBACK, "bob").by_url() / "key").read_bytes(), early)

    def test_never_registered(self) -> None:
        """A folder that goes by the present URL and has no receipt is the one, if there is no better one."""
        key = self.old_folder(LAN, signer=None)
        self.old_folder(NAME, signer=None)
        self.assertEqual((self.move(LAN) / "key").read_bytes(), key)
        self.use(Path(self.mktemp()).absolute())
        self.old_folder(LAN, signer=None)
        key = self.old_folder(LOOPBACK)
        self.assertEqual((self.move(LAN) / "key").read_bytes(), key)

    def test_of_another_registry(self) -> None:
        """A folder with the receipt of another registry is left alone, though it goes by the same URL."""
        key = self.old_folder(LOOPBACK, signer=OTHER)
        self.assertFalse(self.move(LOOPBACK).exists())
        self.assertEqual((PeerPlace(LOOPBACK, "bob").by_url() / "key").read_bytes(), key)

    def test_in_use(self) -> None:
        """A folder that a running process has open is used where it is, and moves when that has ended."""
        key = self.old_folder(LOOPBACK)
        old = PeerPlace(LOOPBACK, "bob").by_url()
        running = DataFolder.open(old, "bob")
        self.assertEqual(self.move(LAN), old)
        self.assertFalse(old.is_symlink())
        running.close()
        self.assertNotEqual(self.move(LAN), old)
        self.assertEqual((self.move(LAN) / "key").read_bytes(), key)

    def test_at_once(self) -> None:
        """Several that start at once agree on one folder, which has the key."""
        key = self.old_folder(LOOPBACK)
        found: list[Path] = []
        threads = [Thread(target=lambda url=url: found.append(self.move(url))) for url in URLS * 3]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(len(found), len(threads))
        self.assertEqual({(path / "key").read_bytes() for path in found}, {key})
        self.assertEqual(len(set(found)), 1)

    def test_killed_between(self) -> None:
        """A kill between the rename and the link loses nothing."""
        key = self.old_folder(LOOPBACK)
        self.patch(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        path = self.move(LOOPBACK)
        self.assertFalse(PeerPlace(LOOPBACK, "bob").by_url().exists())
        self.assertEqual(self.move(NAME), path)
        self.assertEqual((path / "key").read_bytes(), key)

    def test_cannot_move(self) -> None:
        """A folder that cannot be moved stays, with a sentence."""
        key = self.old_folder(LOOPBACK)
        parent = PeerPlace(LOOPBACK, "bob").by_key(str(REGISTRY.public)).parent
        parent.write_bytes(b"")
        error = self.assertRaises(FolderUnusable, self.move, LOOPBACK)
        self.assertEqual(error.fields["path"], PeerPlace(LOOPBACK, "bob").by_url())
        self.assertEqual((PeerPlace(LOOPBACK, "bob").by_url() / "key").read_bytes(), key)

    def test_many_registries(self) -> None:
        """Only so many folders are looked through, and always the one that goes by the present URL."""
        self.patch(module, "PLACES_MAX", 0)
        key = self.old_folder(LAN)
        self.assertEqual((self.move(LAN) / "key").read_bytes(), key)

    def test_changed(self) -> None:
        """A registry that proves another key at a known URL is an error, until the user forgets the old one."""
        self.old_folder(LOOPBACK)
        path = self.move(LOOPBACK)
        error = self.assertRaises(RegistryChanged, self.move, LOOPBACK, registry=OTHER)
        self.assertEqual(error.fields["registry"], LOOPBACK)
        self.assertEqual(PeerPlace(LOOPBACK, "bob").path, path)
        PeerPlace(LOOPBACK, "bob").registries.forget(LOOPBACK)
        fresh = self.move(LOOPBACK, registry=OTHER)
        self.assertFalse(fresh.exists())
        self.assertEqual(PeerPlace(LOOPBACK, "bob").path, fresh)
        self.assertTrue((path / "key").exists())

    def test_named_folder(self) -> None:
        """A folder that the user named is not moved; keys that were known by a URL are taken over."""
        data = Path(self.mktemp()).absolute()
        place = PeerPlace(LOOPBACK, "bob", data)
        data.mkdir()
        (data / FILE_NAME).write_text(
            json.dumps({"v": 1, "peers": {u: {"alice": str(ALICE)} for u in (LOOPBACK, NAME)}})
        )
        (data / FILE_NAME).chmod(0o600)
        self.assertEqual(move_in(place, REGISTRY.public), data)
        known = KnownPeers(data, str(REGISTRY.public))
        self.assertEqual(known.key("alice"), ALICE)
        self.assertEqual(KnownPeers(data, NAME).key("alice"), ALICE)
        self.assertIsNone(KnownPeers(data, LOOPBACK).key("alice"))
        self.assertEqual(place.key, str(REGISTRY.public))
        with self.assertRaises(RegistryChanged):
            move_in(place, OTHER.public)


class InvariantTests(MovingTestCase):
    @settings(max_examples=25, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(URLS),
            st.tuples(st.sampled_from([REGISTRY, OTHER, None]), st.integers(1, 5)),
        ),
        st.lists(st.tuples(st.sampled_from(URLS), st.booleans()), min_size=1, max_size=6),
    )
    def test_no_key_is_lost(
        self,
        folders: dict[str, tuple[SigningKey | None, int]],
        starts: list[tuple[str, bool]],
    ) -> None:
        """With any folders, and URLs in any order, every key and its folder are kept."""
        root = Path(self.mktemp()).absolute()
        self.use(root)
        keys = {self.old_folder(url, "bob", *each) for url, each in folders.items()}
        used: set[Path] = set()
        for url, makes in starts:
            path = self.move(url)
            used.add(path.resolve())
            if makes:
                folder = DataFolder.open(path, "bob")
                Identity.open(folder, url, "bob")
                keys.add((path / "key").read_bytes())
                folder.close()
        self.assertEqual(len(used), 1)
        found = {
            Path(above, "key").read_bytes() for above, _, names in os.walk(root) if "key" in names
        }
        self.assertEqual(found, keys)
