"""Tests of `p2pshare.storage.identity.identity`."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import IdentityUnusable, KeyUnusable
from p2pshare.storage.identity import identity as module
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.identity.identity import RECEIPTS_MAX, SEQ_MAX, Identity
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.keys import SigningKey

URL = "http://127.0.0.1:8000"
FULL = plain_reason(OSError(errno.ENOSPC, ""))


class Killed(BaseException):
    """A `kill -9`, as the code inside sees it."""


TOO_GREAT = b'{"seq": %d, "receipts": {}}' % (SEQ_MAX + 1)


class IdentityTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.folder = DataFolder.open(self.path, "bob")
        self.addCleanup(lambda: self.folder.close())

    def open(self, url: str = URL, name: str = "bob") -> Identity:
        """The identity, as it is after a restart."""
        self.folder.close()
        self.folder = DataFolder.open(self.path, "bob")
        return Identity.open(self.folder, url, name)


class IdentityTests(IdentityTestCase):
    def test_made_once(self) -> None:
        """The key is made at the first start, and all is private."""
        key = self.open().key.public
        self.open().next_seq(1)
        self.assertEqual(self.open().key.public, key)
        for name in ("key", "identity"):
            self.assertEqual(stat.S_IMODE((self.path / name).stat().st_mode), 0o600, name)

    @settings(max_examples=30)
    @given(st.lists(st.integers(0, 2**42), min_size=1, max_size=5))
    def test_numbers_grow(self, times: list[int]) -> None:
        """Each number is greater than all before, and at least the time, whatever the clock does, over restarts."""
        identity = self.open()
        before = identity.seq
        for now in times:
            number = identity.next_seq(now)
            self.assertGreater(number, before)
            self.assertGreaterEqual(number, now)
            identity, before = self.open(), number
            self.assertEqual(identity.seq, number)

    def test_synced_before_it_returns(self) -> None:
        """A number that was given has reached the disk, and so has the folder's entry of it."""
        identity = self.open()
        synced: list[bool] = []
        real = os.fsync

        def fsync(fd: int) -> None:
            synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))
            real(fd)

        self.patch(os, "fsync", fsync)
        identity.next_seq(5)
        self.assertEqual(synced, [False, True])

    def test_raised(self) -> None:
        """After a registry has reported a greater number, the next one is greater."""
        identity = self.open()
        identity.next_seq(100)
        identity.raise_seq(50)
        self.assertEqual(identity.seq, 100)
        identity.raise_seq(5000)
        self.assertEqual(self.open().next_seq(100), 5001)

    def test_greatest(self) -> None:
        """A number that could not be read back is a sentence; the file stays as it was, and can be used."""
        identity = self.open()
        identity.next_seq(100)
        for beyond in (identity.next_seq, identity.raise_seq):
            self.assertRaisesRegex(IdentityUnusable, str(SEQ_MAX + 1), beyond, SEQ_MAX + 1)
            self.assertEqual((identity.seq, self.open().seq), (100, 100))
        self.assertEqual(identity.next_seq(SEQ_MAX), SEQ_MAX)
        self.assertRaisesRegex(IdentityUnusable, str(SEQ_MAX + 1), identity.next_seq, 0)
        self.assertEqual(self.open().seq, SEQ_MAX)

    def test_receipts(self) -> None:
        """Each registry and name has its own receipt, the last one; forgotten is forgotten."""
        self.open().keep_receipt("one")
        self.open("http://other").keep_receipt("two")
        self.open().keep_receipt("three")
        self.assertEqual((self.open().receipt, self.open("http://other").receipt), ("three", "two"))
        self.assertIsNone(self.open(name="alice").receipt)
        self.open().forget_receipt()
        self.assertEqual((self.open().receipt, self.open("http://other").receipt), (None, "two"))

    def test_too_many_receipts(self) -> None:
        """The oldest ones make room."""
        for number in range(RECEIPTS_MAX + 1):
            self.open(f"http://r{number}").keep_receipt(str(number))
        self.assertIsNone(self.open("http://r0").receipt)
        self.assertEqual(self.open(f"http://r{RECEIPTS_MAX}").receipt, str(RECEIPTS_MAX))

    def test_damaged(self) -> None:
        """Numbers and receipts that cannot be read are a sentence, and stay as they are."""
        self.open().next_seq(1)
        path = self.path / "identity"
        for content in (
            b"",
            b"{",
            b"[]",
            b'{"seq": -1, "receipts": {}}',
            b'{"seq": 1}',
            b"\xff",
            TOO_GREAT,
        ):
            path.write_bytes(content)
            self.assertRaisesRegex(IdentityUnusable, "it is damaged", self.open)
            self.assertEqual(path.read_bytes(), content)
        path.write_bytes(b'{"seq": 1, "receipts": {}}')
        path.chmod(0o644)
        self.assertRaisesRegex(IdentityUnusable, "others may read", self.open)

    def test_disk_full(self) -> None:
        """A number that cannot be kept is not given."""
        identity = self.open()
        identity.next_seq(7)

        def fsync(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch = self.patch(os, "fsync", fsync)
        self.assertRaisesRegex(IdentityUnusable, FULL, identity.next_seq, 8)
        self.assertRaisesRegex(KeyUnusable, FULL, identity.begin_rotation)
        patch.restore()
        self.assertEqual(self.open().seq, 7)
        self.assertEqual(sorted(os.listdir(self.path)), ["identity", "key", "lock"])


class RotationTests(IdentityTestCase):
    def test_rotation(self) -> None:
        """The next key exists before it is used, replaces the current one, and the current one is kept."""
        identity = self.open()
        old = identity.key.public
        following = identity.begin_rotation()
        self.assertEqual((identity.key.public, identity.old_key), (old, None))
        self.assertEqual(identity.begin_rotation().seed, following.seed)
        self.assertEqual(self.open().begin_rotation().seed, following.seed)
        identity.finish_rotation()
        for each in (identity, self.open()):
            self.assertEqual((each.key.seed, each.next_key), (following.seed, None))
            self.assertEqual(each.old_key and each.old_key.public, old)

    def test_twice(self) -> None:
        """A second rotation makes a third key; the first one is forgotten."""
        identity = self.open()
        keys = {identity.key.public}
        for _ in range(2):
            before = identity.key.public
            identity.begin_rotation()
            identity.finish_rotation()
            keys.add(identity.key.public)
            self.assertEqual(identity.old_key and identity.old_key.public, before)
        self.assertEqual(len(keys), 3)

    def test_killed_anywhere(self) -> None:
        """Killed before any step that writes, the next start has the old key or both, or the new one."""
        steps = [(os, "open"), (os, "link"), (os, "replace"), (os, "unlink"), (os, "fsync")]
        at = 0
        while True:
            old, following, killed = self.rotate_killed(steps, at)
            found = self.open()
            if found.key.public == old:
                self.assertIn(found.next_key and found.next_key.public, (None, following))
                found.begin_rotation()
                found.finish_rotation()
            self.assertEqual(
                found.key.public if following else None, following, f"killed at step {at}"
            )
            self.assertEqual(found.old_key and found.old_key.public, old)
            self.assertLessEqual(
                set(os.listdir(self.path)), {"key", "key.old", "lock", ".key.old.new"}
            )
            if not killed:
                break
            at += 1
        self.assertGreater(at, 8)

    def rotate_killed(self, steps: list[tuple[Any, str]], at: int) -> tuple[Any, Any, bool]:
        """Rotate until before step `at`; the key before, the one that follows if it was known, and whether that was."""
        identity = self.open()
        old = identity.key.public
        count = 0
        patches = []

        def dying(real: Any) -> Any:
            def step(*args: Any, **keywords: Any) -> Any:
                nonlocal count
                count += 1
                if count > at:
                    raise Killed
                return real(*args, **keywords)

            return step

        for owner, name in steps:
            patches.append(self.patch(owner, name, dying(getattr(owner, name))))
        following = None
        try:
            following = identity.begin_rotation().public
            identity.finish_rotation()
            killed = False
        except Killed:
            killed = True
        for patch in patches:
            patch.restore()
        return old, following or (self.next_of() if killed else None), killed

    def next_of(self) -> Any:
        found = key_file.load(self.path / module.NEXT_NAME)
        return found and found.public

    def test_damaged_next_key(self) -> None:
        """A next key that cannot be read is a sentence, and stays."""
        self.open().begin_rotation()
        (self.path / "key.next").write_bytes(b"x" * 100)
        error = self.assertRaises(KeyUnusable, self.open)
        self.assertEqual(error.fields["path"], self.path / "key.next")


class RestoreTests(IdentityTestCase):
    def test_elsewhere(self) -> None:
        """An export makes another folder the same peer, with its numbers and receipt."""
        here = self.open()
        here.next_seq(500)
        here.keep_receipt("receipt")
        portable = here.portable()
        self.path = self.path.with_name("elsewhere")
        self.folder.close()
        self.folder = DataFolder.open(self.path, "bob")
        for _ in range(2):
            Identity.restore(self.folder, portable)
            there = self.open()
            self.assertEqual(there.key.seed, here.key.seed)
            self.assertEqual((there.seq, there.receipt), (500, "receipt"))
            there.raise_seq(500)

    def test_another_key_is_there(self) -> None:
        """An existing key is never overwritten."""
        here = self.open()
        seed = here.key.seed
        portable = here.portable()
        other = module.Portable("bob", URL, bytes(32), 9, None)
        self.assertRaisesRegex(KeyUnusable, "another key", Identity.restore, self.folder, other)
        self.assertEqual(self.open().key.seed, seed)
        self.assertEqual(Identity.restore(self.folder, portable).key.seed, seed)

    def test_newer_state_stays(self) -> None:
        """An old export does not undo newer numbers and receipts."""
        here = self.open()
        here.next_seq(10)
        portable = here.portable()
        here.next_seq(20)
        here.keep_receipt("newer")
        restored = Identity.restore(self.folder, portable)
        self.assertEqual((restored.seq, restored.receipt), (20, "newer"))

    def test_key_follows_seed(self) -> None:
        """The key is that of the seed."""
        portable = module.Portable("bob", URL, b"\1" * 32, 0, None)
        Identity.restore(self.folder, portable)
        self.assertEqual(self.open().key.public, SigningKey(b"\1" * 32).public)
