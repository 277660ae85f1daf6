"""Tests for `p2pshare.storage.config_file`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave, SettingsUnreadable
from p2pshare.storage.config_file import _quoted, update_config
from p2pshare.storage.settings import SETTINGS_SIZE_MAX
from tests import examples

NEW = {"registry": "http://192.0.2.1:8000", "name": "bob"}


class UpdateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "config" / "config.toml"

    def update(self, before: str) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(before)
        update_config(self.path, NEW)
        return self.path.read_text()

    def test_new(self) -> None:
        """The file and its folder are made, and only their owner can read them."""
        update_config(self.path, NEW)
        self.assertEqual(
            self.path.read_text(), 'registry = "http://192.0.2.1:8000"\nname = "bob"\n'
        )
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual(os.listdir(self.path.parent), ["config.toml"])

    def test_nothing_is_lost(self) -> None:
        """Comments and other values stay as they are, and an old line stays as a comment."""
        before = (
            '# mine\nname = "alice"  # me\nshare = [\n  "~/Public",  # name = 1\n]\nlimit = 5e6\n'
        )
        self.assertEqual(
            self.update(before),
            'registry = "http://192.0.2.1:8000"\n# mine\n# name = "alice"  # me\nname = "bob"\n'
            'share = [\n  "~/Public",  # name = 1\n]\nlimit = 5e6\n',
        )

    def test_other_forms(self) -> None:
        """Quoted and indented keys, other line ends and a byte-order mark are read like others."""
        for before in (
            '\ufeffname = "alice"\r\nlisten = 7\r\n',
            "  'name' = 'alice'\nlisten = 7",
            '"name"="alice"\nregistry = "http://192.0.2.9"\nlisten = 7',
        ):
            self.assertEqual(tomllib.loads(self.update(before)), {**NEW, "listen": 7})

    def test_same(self) -> None:
        """A file that has the values already is not written."""
        self.update("")
        before = self.path.stat()
        update_config(self.path, NEW)
        self.assertEqual(self.path.stat().st_ino, before.st_ino)

    def test_removed(self) -> None:
        """A value that is removed becomes a comment; one that is not there changes nothing."""
        before = '# mine\nname = "alice"  # me\nlimit = 5e6\n'
        self.update(before)
        update_config(self.path, {"name": None, "limit": None, "via": None})
        self.assertEqual(tomllib.loads(self.path.read_text()), {"registry": NEW["registry"]})
        self.assertIn("# limit = 5e6\n", self.path.read_text())
        before = self.path.read_text()
        update_config(self.path, {"name": None})
        self.assertEqual(self.path.read_text(), before)

    def test_link(self) -> None:
        """A symbolic link stays one; the file that it leads to is replaced."""
        self.path.parent.mkdir(parents=True)
        real = self.path.with_name("real.toml")
        real.write_text('name = "alice"\n')
        self.path.symlink_to(real)
        update_config(self.path, NEW)
        self.assertTrue(self.path.is_symlink())
        self.assertEqual(tomllib.loads(real.read_text()), NEW)

    def test_not_edited(self) -> None:
        """A file that cannot be edited by lines, read or written stays as it is, and the error says what to do."""
        for before in ('name = """\nalice"""\n', "x" * SETTINGS_SIZE_MAX, "name = \n", "\x00"):
            error = self.assertRaises((CannotSave, SettingsUnreadable), self.update, before)
            self.assertIn(str(self.path), str(error))
            self.assertEqual(self.path.read_text(), before)
        self.path.unlink()
        self.path.mkdir()
        self.assertRaises(SettingsUnreadable, update_config, self.path, NEW)
        self.path.rmdir()
        self.path.parent.rmdir()
        self.path.parent.write_text("")
        self.assertRaises((CannotSave, SettingsUnreadable), update_config, self.path, NEW)

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    @settings(max_examples=examples(50))
    def test_quoted(self, text: str) -> None:
        """Any text is the same after it is read again."""
        self.assertEqual(tomllib.loads(f"x = {_quoted(text)}"), {"x": text})
