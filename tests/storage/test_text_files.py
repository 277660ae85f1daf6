"""Tests of `p2pshare.storage.text_files`."""

from __future__ import annotations

import codecs
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.text_files import plain_ascii, plain_utf8, read_text_file

TEXT = 'name = "bob"\nshare = ["~/Bücher"]\n'
ASCII = 'name = "bob"\n'

WIDE = {
    "utf-16": "UTF-16 (little-endian)",  # with a mark, as Windows Notepad and PowerShell write
    "utf-16-le": "UTF-16 (little-endian)",
    "utf-16-be": "UTF-16 (big-endian)",
    "utf-32": "UTF-32 (little-endian)",
}


class TextFileTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """A byte-order mark of UTF-8 and CR LF are accepted."""
        for ends in ("\n", "\r\n"):
            for encoding in ("utf-8", "utf-8-sig"):
                written = TEXT.replace("\n", ends).encode(encoding)
                self.assertEqual(plain_utf8(written).decode(), TEXT)
                self.assertEqual(plain_ascii(written).decode(), TEXT)

    def test_wide(self) -> None:
        """The error names the encoding, found with or without a mark, and the remedy."""
        marked = codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")
        contents = [(TEXT.encode(encoding), name) for encoding, name in WIDE.items()]
        for content, name in [*contents, (marked, "UTF-16 (big-endian)")]:
            for read in (plain_utf8, plain_ascii):
                error = self.assertRaises(OSError, read, content)
                self.assertEqual(str(error), f"it is in {name}. Save it as UTF-8")

    def test_eight_bits(self) -> None:
        """An 8-bit encoding is named with its line; a character of the text is not, as it may be secret."""
        for text, such in ((TEXT, "Windows-1252 or Latin-1"), ("a\nb\n€", "Windows-1252")):
            line = text[: text.index("ü" if "ü" in text else "€")].count("\n") + 1
            error = self.assertRaises(OSError, plain_utf8, text.encode("cp1252"))
            self.assertEqual(
                str(error),
                f"line {line} is not UTF-8, but in an 8-bit encoding such as {such}. Save it as UTF-8",
            )

    def test_no_text(self) -> None:
        """Zeros are not a text, as a disk leaves after a loss of power; each reader judges them as damage."""
        error = self.assertRaises(OSError, plain_utf8, bytes(64))
        self.assertIn("NUL", str(error))
        self.assertEqual(plain_ascii(bytes(64)), bytes(64))

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff")))
    def test_any_text(self, text: str) -> None:
        """Every text in UTF-8 is returned unchanged."""
        self.assertEqual(plain_utf8(text.encode("utf-8-sig")).decode(), text)
        self.assertEqual(plain_utf8(text.encode()).decode(), text)

    @given(st.binary(max_size=64))
    def test_any_bytes(self, content: bytes) -> None:
        """Any bytes are a text in UTF-8 or an error of one line."""
        try:
            plain_utf8(content).decode()
        except OSError as error:
            self.assertIn("UTF-8", str(error))
            self.assertNotIn("\n", str(error))

    def test_files(self) -> None:
        """A long file is cut where the caller wants, and a cut character is no other encoding."""
        path = Path(self.mktemp())
        path.write_text("aü", "utf-8-sig")
        self.assertEqual(read_text_file(path, 100).decode(), "aü")
        self.assertEqual(read_text_file(path, 5), codecs.BOM_UTF8 + b"a\xc3")
        error = self.assertRaises(OSError, read_text_file, path.parent, 100)
        self.assertEqual(str(error), "it is not a plain file")
