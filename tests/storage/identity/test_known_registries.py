"""Tests for `p2pshare.storage.identity.known_registries`."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import KnownRegistriesUnusable
from p2pshare.storage.identity import known_registries as module
from p2pshare.storage.identity.known_registries import FILE_NAME, LOCK_NAME, KnownRegistries
from p2pshare.storage.locks import PAUSE, TRIES_MAX
from p2pshare.wire.keys import SigningKey

URL, OTHER_URL = "http://192.0.2.1:8000", "http://nas.lan:8000"
KEY, OTHER_KEY = (str(SigningKey(bytes([n]) * 32).public) for n in (1, 2))


class KnownRegistriesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.slept: list[float] = []

    def known(self) -> KnownRegistries:
        """The file, as another process sees it."""
        return KnownRegistries(self.folder, self.slept.append)

    def test_first_contact(self) -> None:
        """The first key of a URL stays its key; one registry may have several URLs."""
        self.assertIsNone(self.known().key(URL))
        self.assertEqual(self.known().pin(URL, KEY), KEY)
        self.assertEqual(self.known().pin(URL, OTHER_KEY), KEY)
        self.known().pin(OTHER_URL, KEY)
        self.assertEqual(self.known().all(), {URL: KEY, OTHER_URL: KEY})
        self.assertEqual(stat.S_IMODE((self.folder / FILE_NAME).stat().st_mode), 0o600)

    def test_forgotten(self) -> None:
        """The next key of a forgotten URL is accepted; other URLs keep theirs."""
        self.known().pin(URL, KEY)
        self.known().pin(OTHER_URL, KEY)
        self.assertEqual(self.known().forget(URL), KEY)
        self.assertIsNone(self.known().forget(URL))
        self.assertEqual(self.known().pin(URL, OTHER_KEY), OTHER_KEY)
        self.assertEqual(self.known().key(OTHER_URL), KEY)

    def test_bounded(self) -> None:
        """A new URL takes the place of the oldest."""
        self.patch(module, "REGISTRIES_MAX", 3)
        for number in range(5):
            self.known().pin(f"http://r{number}", KEY)
        self.assertEqual(list(self.known().all()), ["http://r2", "http://r3", "http://r4"])

    def test_damaged(self) -> None:
        """A damaged file is an error, and stays as it is."""
        self.known().pin(URL, KEY)
        path = self.folder / FILE_NAME
        for content in (
            b"",
            b"{",
            b'{"v": 2, "registries": {}}',
            b'{"v": 1, "registries": []}',
            b'{"v": 1, "registries": {"http://a": "x"}}',
            b'{"v": 1, "registries": {"http://a": 1}}',
            b" " * (module.FILE_MAX + 1),
        ):
            path.write_bytes(content)
            for ask in (self.known().all, lambda: self.known().pin(URL, KEY)):
                error = self.assertRaises(KnownRegistriesUnusable, ask)
                self.assertEqual(error.fields, {"path": path, "reason": KnownRegistries.DAMAGED})
            self.assertEqual(path.read_bytes(), content)

    def test_open_to_others(self) -> None:
        """A file that others may write is not believed (threat 39)."""
        self.known().pin(URL, KEY)
        (self.folder / FILE_NAME).chmod(0o666)
        with self.assertRaisesRegex(KnownRegistriesUnusable, "chmod 600"):
            self.known().key(URL)

    def test_locked(self) -> None:
        """A process that keeps the lock is waited for, and not for ever."""
        self.folder.mkdir()
        with open(self.folder / LOCK_NAME, "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            error = self.assertRaises(KnownRegistriesUnusable, self.known().pin, URL, KEY)
            self.assertIsInstance(error.__cause__, TimeoutError)
            self.assertEqual(self.slept, [PAUSE] * TRIES_MAX)
        self.known().pin(URL, KEY)

    def test_cannot_be_written(self) -> None:
        """A folder that cannot be made is a sentence."""
        self.folder.write_bytes(b"")
        with self.assertRaisesRegex(KnownRegistriesUnusable, os.fspath(self.folder)):
            self.known().pin(URL, KEY)
