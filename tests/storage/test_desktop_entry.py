"""Tests of `p2pshare.storage.desktop_entry`, which read an entry as the specification says."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.storage.desktop_entry import (
    SCHEME_TYPE,
    entry_text,
    read_entry,
    remove_entry,
    write_entry,
)

PROGRAM = "/home/bob/.p2pshare/bin/p2pshare"
_WORD = re.compile(r'"((?:[^"`$\\]|\\["`$\\])*)"|([^ "`$\\\'<>~|&;*?#()]+)')


def words_of(entry: str) -> list[str]:
    """Return the words of `Exec` as a desktop reads them: escapes of texts, quotation marks, then field codes."""
    (value,) = re.findall(r"^Exec=(.*)$", entry, re.M)
    text, words, end = value.replace("\\\\", "\0").replace("\0", "\\"), [], 0
    assert value.count("\\") % 2 == 0
    while end < len(text):
        match = _WORD.match(text, end)
        assert match is not None, text[end:]
        quoted = match[1] is not None
        word = re.sub(r"\\(.)", r"\1", match[1]) if quoted else match[2]
        assert re.fullmatch(r"(?:[^%]|%%)*", word) or (word == "%u" and not quoted)
        words.append(word.replace("%%", "%"))
        end = match.end()
        assert text[end : end + 1] in (" ", "")
        end += 1
    return words


class EntryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_plain(self) -> None:
        """Plain words have no quotation marks, since `xdg-open` alone cannot read those."""
        entry = entry_text([PROGRAM, "open", "--desktop", "--"])
        self.assertIn(f"\nExec={PROGRAM} open --desktop -- %u\n", entry)
        self.assertIn(f"\nMimeType={SCHEME_TYPE};\n", entry)
        self.assertTrue(entry.startswith("[Desktop Entry]\nType=Application\nName="))

    @given(
        st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1), max_size=4)
    )
    def test_any_words(self, words: list[str]) -> None:
        """Each word arrives as it is, and none of them becomes a field code, a key or another word (threat 130)."""
        entry = entry_text([PROGRAM, *words])
        self.assertEqual(words_of(entry), [PROGRAM, *words, "%u"])
        self.assertEqual(len(re.findall(r"^Exec=", entry, re.M)), 1)

    def test_hostile(self) -> None:
        """A word with a line end, and a program without an absolute path, are rejected (threat 130)."""
        for command in (
            [PROGRAM, "--name", "a\nExec=/bin/sh"],
            [PROGRAM, "\0"],
            ["p2pshare"],
            ["/a=b/p2pshare"],
            ["/a%b/p2pshare"],
        ):
            self.assertRaises(WrongUsage, entry_text, command)

    def test_file(self) -> None:
        """The file is written, replaced, read and removed."""
        self.assertIsNone(read_entry(self.folder))
        self.assertFalse(remove_entry(self.folder))
        for text in ("one", "two"):
            path = write_entry(self.folder, text)
            self.assertEqual(read_entry(self.folder), text)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o644)
        self.assertEqual([each.name for each in path.parent.iterdir()], [path.name])
        self.assertTrue(remove_entry(self.folder))
        self.assertIsNone(read_entry(self.folder))

    def test_unwritable(self) -> None:
        """A folder that is a file is an error with a sentence."""
        self.folder.write_text("")
        self.assertRaises(CannotSave, write_entry, self.folder, "x")
        self.assertRaises(CannotSave, remove_entry, self.folder)
