"""Tests of `p2pshare.storage.identity.key_file`."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import KeyUnusable
from p2pshare.storage.identity.key_file import SIZE_MAX, load, load_or_make, make
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.keys import SigningKey


class KeyFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "key"
        self.path.parent.mkdir()

    def refused(self, reason: str) -> None:
        """The file is refused in one sentence, and stays as it is."""
        before = self.state()
        error = self.assertRaises(KeyUnusable, load_or_make, self.path)
        self.assertEqual(error.fields["path"], self.path)
        self.assertRegex(str(error.fields["reason"]), reason)
        self.assertEqual(self.state(), before)

    def state(self) -> tuple[int, ...]:
        """Return what a change of the file would change; reading it changes the time of access."""
        now = os.lstat(self.path)
        return now.st_ino, now.st_mode, now.st_size, now.st_mtime_ns, now.st_ctime_ns

    def test_made_once(self) -> None:
        """The key is made at the first call, for its owner alone, and is the same ever after."""
        key = load_or_make(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(load_or_make(self.path).seed, key.seed)
        self.assertEqual(os.listdir(self.path.parent), ["key"])

    def test_given_seed(self) -> None:
        """The key follows from the seed that is given, and two seeds make two keys."""
        key = load_or_make(self.path, lambda: b"\1" * 32)
        self.assertEqual(key.public, SigningKey(b"\1" * 32).public)

    def test_none(self) -> None:
        """Without a file there is no key, and none is made."""
        self.assertIsNone(load(self.path))
        self.assertEqual(os.listdir(self.path.parent), [])

    def test_umask(self) -> None:
        """A generous umask does not open it to others."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        load_or_make(self.path)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_saved_again(self) -> None:
        """A byte-order mark and CR LF do not change the key, and UTF-16 is named in the error."""
        key = load_or_make(self.path)
        text = self.path.read_text()
        self.path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
        self.assertEqual(load_or_make(self.path).seed, key.seed)
        self.path.write_bytes(text.encode("utf-16"))
        self.refused("UTF-16")

    def test_never_overwritten(self) -> None:
        """A key is not made where something is."""
        key = load_or_make(self.path)
        self.assertRaises(FileExistsError, make, self.path, SigningKey(bytes(32)))
        self.assertEqual(load_or_make(self.path).seed, key.seed)

    def test_made_by_two(self) -> None:
        """Of two processes that make a key at once, the slower one takes the key of the other."""
        first: list[SigningKey] = []

        def slow_seed() -> bytes:
            first.append(load_or_make(self.path))
            return bytes(32)

        self.assertEqual(load_or_make(self.path, slow_seed).seed, first[0].seed)

    def test_readable_by_others(self) -> None:
        """A key that others may read, or write, is refused (threat 39)."""
        load_or_make(self.path)
        for mode in (0o640, 0o604, 0o620):
            self.path.chmod(mode)
            self.refused("others may read or write it. Run `chmod 600` on it")

    def test_cut_short(self) -> None:
        """A key without its end is rejected."""
        load_or_make(self.path)
        whole = self.path.read_bytes()
        for size in (0, 10, len(whole) // 2, len(whole) - 5):
            self.path.write_bytes(whole[:size])
            self.refused("it is cut short")

    def test_no_key(self) -> None:
        """Any other content is rejected."""
        other = generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        load_or_make(self.path)
        damaged = self.path.read_bytes().replace(b"MC4CAQ", b"MC4CAR")
        for content in (b"x" * 100, b"x" + os.urandom(500), other, damaged, b"\n" * (2 * SIZE_MAX)):
            self.path.write_bytes(content)
            self.refused("it is not a key")

    def test_no_plain_file(self) -> None:
        """A link, a folder or a FIFO is refused without a wait."""
        load_or_make(self.path.with_name("other"))
        self.path.symlink_to("other")
        self.refused(plain_reason(OSError(errno.ELOOP, "")))
        self.path.unlink()
        os.mkfifo(self.path, 0o600)
        self.refused("not a plain file of yours")
        self.path.unlink()
        self.path.mkdir(0o700)
        self.refused("folder|plain file")

    def test_disk_full(self) -> None:
        """A full disk is an error, and leaves no file."""

        def fsync(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch = self.patch(os, "fsync", fsync)
        error = self.assertRaises(KeyUnusable, load_or_make, self.path)
        self.assertEqual(error.fields["reason"], plain_reason(OSError(errno.ENOSPC, "")))
        patch.restore()
        self.assertEqual(os.listdir(self.path.parent), [])
