"""Tests for `p2pshare.storage.identity.known_peers`."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import KeyChanged, KnownPeersFull, KnownPeersUnusable
from p2pshare.storage.identity import known_peers
from p2pshare.storage.identity.known_peers import FILE_NAME, LOCK_NAME, KnownPeers, Pin
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.keys import SigningKey
from tests.integration.forked import Popen

URL = "http://192.0.2.1:8000"
ONE, OTHER = (SigningKey(bytes([n]) * 32).public for n in (1, 2))


PIN_MANY = """
import sys
from pathlib import Path
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.wire.keys import SigningKey
folder, url, first = sys.argv[1:]
for number in range(int(first), int(first) + 20):
    KnownPeers(Path(folder), url).pin(f"peer{number}", SigningKey(bytes([1]) * 32).public, None)
"""


class KnownPeersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute() / "data"
        self.path = self.folder / FILE_NAME
        self.known = KnownPeers(self.folder, URL)

    def assert_unusable(self, part: str) -> None:
        """Check that every method fails, and that the file is unchanged."""
        before = self.path.read_bytes()
        for use in (
            lambda: self.known.key("bob"),
            lambda: self.known.pin("bob", ONE, None),
            lambda: self.known.forget("bob"),
        ):
            error = self.assertRaises(KnownPeersUnusable, use)
            self.assertIn(part, str(error.fields["reason"]))
            self.assertEqual(error.fields["path"], self.path)
        self.assertEqual(self.path.read_bytes(), before)

    def test_first_contact(self) -> None:
        """The first key stays, for its registry, in a file of the user's own."""
        self.assertIsNone(self.known.key("bob"))
        self.assertEqual(self.known.pin("bob", ONE, None), ONE)
        self.assertEqual(self.known.pin("bob", OTHER, None), ONE)
        self.assertEqual(KnownPeers(self.folder, URL).key("bob"), ONE)
        self.assertIsNone(KnownPeers(self.folder, "http://other:8000").key("bob"))
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)

    def test_follows(self) -> None:
        """A key takes the place of the one that is known, and of no other."""
        self.known.pin("bob", ONE, None)
        self.assertEqual(self.known.pin("bob", OTHER, OTHER), ONE)
        self.assertEqual(self.known.pin("bob", OTHER, ONE), OTHER)
        self.assertEqual(self.known.key("bob"), OTHER)

    def test_forget(self) -> None:
        """A forgotten name is pinned like a new one."""
        self.assertIsNone(self.known.forget("bob"))
        self.known.pin("bob", ONE, None)
        self.known.pin("carol", ONE, None)
        self.assertEqual(self.known.forget("bob"), ONE)
        self.assertEqual((self.known.key("bob"), self.known.key("carol")), (None, ONE))
        self.assertEqual(self.known.pin("bob", OTHER, None), OTHER)

    def test_saved_again(self) -> None:
        """A byte-order mark and CR LF are no damage, and UTF-16 is named."""
        self.known.pin("bob", ONE, None)
        text = self.path.read_text()
        self.path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
        self.assertEqual(self.known.key("bob"), ONE)
        self.path.write_bytes(text.encode("utf-16"))
        self.assert_unusable("UTF-16")

    def test_compared(self) -> None:
        """A comparison is kept with the key, and lost with it; another key cannot be marked in its place."""
        known = KnownPeers(self.folder, URL, wall=lambda: 1700000000.5)
        known.pin("bob", ONE, None)
        self.assertEqual(known.pins()["bob"], Pin(ONE, 1700000000))
        self.assertRaises(KeyChanged, known.compared, "bob", OTHER)
        self.assertEqual(known.compared("bob", ONE), Pin(ONE, 1700000000, 1700000000))
        self.assertEqual(known.pin("bob", ONE, None), ONE)
        self.assertEqual(KnownPeers(self.folder, URL).pins()["bob"].compared, 1700000000)
        known.pin("bob", OTHER, ONE)
        self.assertEqual(known.pins()["bob"], Pin(OTHER, 1700000000))
        known.compared("carol", ONE)  # first contact
        self.assertEqual(known.key("carol"), ONE)
        line = f'"bob": "{OTHER} 1700000000"'
        self.assertIn(line, self.path.read_text())

    def test_earlier_file(self) -> None:
        """A file that has the keys alone is read; times that are none make it unusable."""
        self.known.pin("bob", ONE, None)
        self.assertIn(f'"bob": "{ONE}"', self.path.read_text())
        self.assertEqual(self.known.pins(), {"bob": Pin(ONE)})
        whole = self.path.read_text()
        for times in ("1 2 3", "-1", "1e3", "", str(2**53 + 1), "\u0661"):
            self.path.write_text(whole.replace(str(ONE), f"{ONE} {times}"))
            self.assertRaises(KnownPeersUnusable, self.known.pins)

    def test_damaged(self) -> None:
        """A file that is cut short, or has other content, is never overwritten."""
        self.known.pin("bob", ONE, None)
        whole = self.path.read_bytes()
        for text in (
            b"",
            whole[:-5],
            b"[]",
            whole.replace(b'"v": 1', b'"v": 2'),
            whole.replace(b'"bob"', b'"Bob"'),
            whole.replace(str(ONE).encode(), b"x" * 52),
            json.dumps({"v": 1, "peers": {URL: []}}).encode(),
            json.dumps({"v": 1, "peers": {URL: {"bob": 1}}}).encode(),
        ):
            with self.subTest(text=text):
                self.path.write_bytes(text)
                self.assert_unusable(KnownPeers.DAMAGED)

    def test_others(self) -> None:
        """A file that others may read or write is rejected."""
        self.known.pin("bob", ONE, None)
        for mode in (0o620, 0o604):
            self.path.chmod(mode)
            self.assert_unusable("chmod 600")

    def test_link(self) -> None:
        """A symbolic link is not followed."""
        self.known.pin("bob", ONE, None)
        elsewhere = self.path.rename(self.folder / "elsewhere")
        self.path.symlink_to(elsewhere)
        self.assert_unusable(plain_reason(OSError(errno.ELOOP, "")))

    def test_full(self) -> None:
        """The file is bounded, and its content is kept."""
        with mock.patch.object(known_peers, "PEERS_MAX", 2):
            for name in ("alice", "bob"):
                self.known.pin(name, ONE, None)
            self.assertRaises(KnownPeersFull, self.known.pin, "carol", ONE, None)
            self.assertEqual(self.known.pin("bob", OTHER, ONE), OTHER)
        with mock.patch.object(known_peers, "FILE_MAX", 10):
            self.known = KnownPeers(self.folder, URL)
        self.assert_unusable(KnownPeers.DAMAGED)

    def test_names(self) -> None:
        """A key leads to the names that are known by it, in this registry."""
        for name, key in (("bob", ONE), ("carol", OTHER), ("alice", ONE)):
            self.known.pin(name, key, None)
        KnownPeers(self.folder, "http://other:8000").pin("dave", ONE, None)
        self.assertEqual(self.known.names(ONE), ["alice", "bob"])
        self.assertEqual(self.known.names(SigningKey(bytes(32)).public), [])

    def test_bound_of_strangers(self) -> None:
        """A lower bound for strangers leaves room for names that the user chooses."""
        self.known.pin("alice", ONE, None)
        self.assertRaises(KnownPeersFull, self.known.pin, "bob", ONE, None, 1)
        self.assertEqual(self.known.pin("alice", OTHER, ONE, 1), OTHER)
        self.assertEqual(self.known.pin("bob", ONE, None), ONE)

    def test_disk_full(self) -> None:
        """A full disk loses no known key."""
        self.known.pin("bob", ONE, None)
        with mock.patch.object(os, "fsync", side_effect=OSError(errno.ENOSPC, "")):
            error = self.assertRaises(KnownPeersUnusable, self.known.pin, "carol", ONE, None)
        self.assertEqual(error.fields["reason"], plain_reason(OSError(errno.ENOSPC, "")))
        self.assertEqual(self.known.key("bob"), ONE)
        self.assertEqual(sorted(os.listdir(self.folder)), [FILE_NAME, LOCK_NAME])

    def test_stuck(self) -> None:
        """Another process that never lets go of the file is a sentence, after a while."""
        self.known.pin("bob", ONE, None)
        waits: list[float] = []
        with open(self.folder / LOCK_NAME) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = KnownPeers(self.folder, URL, sleep=waits.append)
            error = self.assertRaises(KnownPeersUnusable, waiting.pin, "carol", ONE, None)
        self.assertIsInstance(error.__cause__, TimeoutError)
        self.assertAlmostEqual(sum(waits), 5)

    def test_at_once(self) -> None:
        """Two processes at once lose no change."""
        command = [sys.executable, "-c", PIN_MANY, str(self.folder), URL]
        processes = [Popen([*command, first]) for first in ("0", "20")]
        self.assertEqual([process.wait(60) for process in processes], [0, 0])
        self.assertTrue(all(self.known.key(f"peer{n}") == ONE for n in range(40)))
