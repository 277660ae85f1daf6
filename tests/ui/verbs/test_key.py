"""Tests of `p2pshare.ui.verbs.key`."""

from __future__ import annotations

import errno
import io
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    AlreadyRunning,
    CannotRead,
    CannotSave,
    KeyUnusable,
    NotFound,
    Refused,
    SealedKeyUnusable,
    WrongUsage,
)
from p2pshare.storage.identity import key_export, key_file
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.identity.identity import KEY_NAME, SEQ_MAX, Identity, Portable
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import key as keys
from p2pshare.wire.keys import SigningKey
from tests.ui.registries import URL

PASSPHRASE = "correct horse"


class KeysTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.passphrase = str(self.home / "passphrase")
        Path(self.passphrase).write_text(f"{PASSPHRASE}\n")
        self.data = self.home / "data"
        self.settings = Settings(registry=URL, name="bob", data=self.data)
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.output = Output(Terminal.detect(self.stdout, {}), Terminal.detect(self.stderr, {}))
        self.patch(key_export, "COST", 2**14)
        self.patch(key_export.seal, "__kwdefaults__", {"cost": 2**14})

    def make_key(self) -> SigningKey:
        with closing(DataFolder.open(self.data, "bob")) as data:
            return Identity.open(data, URL, "bob").key

    def export(self, file: Path) -> int:
        return keys.export(self.settings, self.output, str(file), self.passphrase)

    def import_key(
        self,
        file: Path,
        settings: Settings,
        name: str | None = None,
        *,
        registry: str | None = None,
    ) -> int:
        return keys.import_key(
            settings, self.output, str(file), self.passphrase, name=name, registry=registry
        )


class ExportTests(KeysTestCase):
    def test_there_and_back(self) -> None:
        """An exported key is the same key on another machine; the peer may be running."""
        key = self.make_key()
        copy = self.home / "bob.key"
        with closing(DataFolder.open(self.data, "bob")):
            self.assertEqual(self.export(copy), 0)
        self.assertEqual(copy.stat().st_mode & 0o777, 0o600)
        self.assertNotIn(key.seed, copy.read_bytes())
        other = Settings(data=self.home / "other")
        self.assertEqual(self.import_key(copy, other), 0)
        restored = key_file.load(self.home / "other" / KEY_NAME)
        assert restored is not None
        self.assertEqual(restored.public, key.public)
        said = self.stdout.getvalue()
        self.assertIn(f"p2pshare key import {copy}", said)
        self.assertIn(f"p2pshare --name bob --registry {URL} --data {self.home / 'other'}\n", said)
        self.assertIn(key.public.grouped, said)

    def test_greatest_number(self) -> None:
        """The copy opens again for any sequence numbers."""
        self.make_key()
        with closing(DataFolder.open(self.data, "bob")) as data:
            Identity.open(data, URL, "bob").raise_seq(SEQ_MAX)
        self.assertEqual(self.export(self.home / "bob.key"), 0)
        other = Settings(data=self.home / "other")
        self.assertEqual(self.import_key(self.home / "bob.key", other), 0)
        with closing(DataFolder.open(self.home / "other", "bob")) as data:
            self.assertEqual(Identity.open(data, URL, "bob").seq, SEQ_MAX)

    def test_that_would_not_open(self) -> None:
        """A copy that cannot be opened, or differs, is not written, and is an error."""
        self.make_key()
        for seq in (SEQ_MAX + 1, 7):

            def sealed(portable: Portable, passphrase: str, seq: int = seq) -> bytes:
                return key_export.seal(replace(portable, seq=seq), passphrase)

            self.patch(keys, "seal", sealed)
            error = self.assertRaises(Refused, self.export, self.home / "bob.key")
            self.assertIn("could not be opened again", str(error))
        self.assertFalse((self.home / "bob.key").exists())
        self.assertEqual(self.stdout.getvalue(), "")

    def test_into_folder(self) -> None:
        """In a folder the copy is named after the user."""
        self.make_key()
        self.export(self.home)
        self.assertTrue((self.home / "bob.key").is_file())

    def test_never_overwrites(self) -> None:
        """An existing file, or a broken link, is never overwritten."""
        self.make_key()
        taken, link = self.home / "taken", self.home / "link"
        taken.write_text("mine")
        link.symlink_to("nowhere")
        for path in (taken, link):
            early = self.assertRaises(CannotSave, self.export, path)
            with mock.patch.object(os.path, "lexists", return_value=False):
                late = self.assertRaises(CannotSave, self.export, path)
            self.assertEqual((late.fields, late.fields["path"]), (early.fields, path))
        self.assertEqual(taken.read_text(), "mine")
        self.assertFalse((self.home / "nowhere").exists())

    def test_full_disk(self) -> None:
        """An incomplete copy is removed."""
        self.make_key()
        with mock.patch.object(os, "fsync", side_effect=OSError(errno.ENOSPC, "")):
            error = self.assertRaises(CannotSave, self.export, self.home / "bob.key")
        self.assertEqual(error.fields["reason"], plain_reason(OSError(errno.ENOSPC, "")))
        self.assertFalse((self.home / "bob.key").exists())
        with mock.patch.object(os, "fsync", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, self.export, self.home / "bob.key")
        self.assertFalse((self.home / "bob.key").exists())

    def test_judged_first(self) -> None:
        """Errors of the path are reported before the user types a passphrase."""
        self.make_key()
        self.patch(keys, "new_passphrase", lambda _: self.fail("asked"))
        self.assertRaises(CannotSave, self.export, self.home / "none" / "bob.key")
        with mock.patch.object(os, "access", return_value=False):
            self.assertRaises(CannotSave, self.export, self.home / "bob.key")

    def test_passphrase(self) -> None:
        """A short, empty or unreadable passphrase exports nothing."""
        self.make_key()
        for text, pattern in (
            (b"", "at least 8"),
            (b"seven77\nand more", "at least 8"),
            (b"\xff" * 9, "UTF-8"),
            (b"x" * 2000, "longer than"),
        ):
            Path(self.passphrase).write_bytes(text)
            error = self.assertRaises(WrongUsage, self.export, self.home / "bob.key")
            self.assertIn(pattern, str(error))
        self.passphrase = "/nonexistent"
        self.assertRaises(CannotRead, self.export, self.home / "bob.key")
        self.assertFalse((self.home / "bob.key").exists())

    def test_nothing_to_export(self) -> None:
        """Without a name or a key there is an error, and no key is created."""
        error = self.assertRaises(NotFound, self.export, self.home / "bob.key")
        self.assertIn("`p2pshare --name bob`", str(error))
        self.settings = Settings(registry=URL)
        self.assertRaises(WrongUsage, self.export, self.home / "bob.key")
        self.assertFalse(self.data.exists())

    def test_rotating(self) -> None:
        """During a rotation the key is not exported."""
        self.make_key()
        key_file.make(self.data / "key.next", SigningKey(bytes(32)))
        error = self.assertRaises(Refused, self.export, self.home / "bob.key")
        self.assertIn("key rotate", str(error))


class ImportTests(KeysTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.key = self.make_key()
        self.copy = self.home / "bob.key"
        self.export(self.copy)
        self.other = Settings(registry="http://other:8000", data=self.home / "other")

    def test_never_replaces(self) -> None:
        """Another key is never replaced; importing the same key again is allowed."""
        self.import_key(self.copy, self.other)
        self.import_key(self.copy, self.other)
        (self.home / "other" / KEY_NAME).unlink()
        with closing(DataFolder.open(self.home / "other", "bob")) as data:
            Identity.open(data, URL, "bob")
        self.assertRaises(KeyUnusable, self.import_key, self.copy, self.other)

    def test_default_folder(self) -> None:
        """The default data folder needs no flag."""
        with mock.patch.dict(os.environ, XDG_DATA_HOME=str(self.home)):
            self.import_key(self.copy, Settings())
        self.assertTrue(self.stdout.getvalue().endswith(f"--registry {URL}\n"))

    def test_running(self) -> None:
        """A key is not imported under a running peer."""
        self.patch(keys, "known_passphrase", lambda _: self.fail("asked"))
        with closing(DataFolder.open(self.home / "other", "bob")):
            self.assertRaises(AlreadyRunning, self.import_key, self.copy, self.other)
        self.copy.write_text("nonsense")
        self.assertRaises(SealedKeyUnusable, self.import_key, self.copy, self.other)

    def test_elsewhere(self) -> None:
        """A key may be imported for another registry or name."""
        other = replace(self.other, name="carol")
        self.import_key(self.copy, other, "Carol", registry="http://other:8000/")
        self.assertIn("--name carol --registry http://other:8000", self.stdout.getvalue())

    def test_encodings(self) -> None:
        """A copy that an editor has saved again is accepted; UTF-16 is named in the error."""
        text = self.copy.read_text()
        self.copy.write_bytes(text.encode("utf-16"))
        error = self.assertRaises(CannotRead, self.import_key, self.copy, self.other)
        self.assertEqual(error.fields["path"], self.copy)
        self.assertIn("UTF-16", str(error.fields["reason"]))
        self.copy.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
        self.assertEqual(self.import_key(self.copy, self.other), 0)

    def test_damaged(self) -> None:
        """A damaged copy and a wrong passphrase change nothing."""
        whole = self.copy.read_bytes()
        for content in (b"", whole[:-20], whole.replace(b'"bob"', b'"eve"'), bytes(20_000)):
            self.copy.write_bytes(content)
            self.assertRaises(SealedKeyUnusable, self.import_key, self.copy, self.other)
        self.copy.write_bytes(whole)
        Path(self.passphrase).write_text("another one")
        error = self.assertRaises(SealedKeyUnusable, self.import_key, self.copy, self.other)
        self.assertEqual(error.fields, {"reason": key_export.NOT_OPENED})
        self.assertFalse((self.home / "other").exists())
        for path in (self.home, self.home / "none"):
            self.assertRaises(CannotRead, self.import_key, path, self.other)
