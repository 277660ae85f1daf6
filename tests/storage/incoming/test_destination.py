"""Tests for `p2pshare.storage.incoming.destination`."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.storage.incoming.destination import (
    SAFE_NAME_MAX,
    make_folder,
    resolve_destination,
    safe_name,
)

HARMLESS = [
    "alice.txt",
    "my_file.jpg",
    "Ünï cödé.png",
    "写真.png",
    "a b.tar.gz",
    "🎈.txt",
    "con"[:2],
    "می\u200cخواهم.txt",  # noqa: RUF001
    "PDF\u200cها.pdf",  # noqa: RUF001
    "क्\u200dष.txt",
    "👩\u200d👩\u200d👧.png",
    "🏳\ufe0f\u200d🌈",
    "x" * 251 + ".txt",
    "🎈" * 63,
]
"""Harmless names, joiners in the places where scripts need them among them."""

JOINERS = "\u200c\u200d"
DEVICES = ["CON", "prn", "Aux", "NUL", "COM1", "com9", "LPT1", "lpt¹", "COM²", "CONIN$", "clock$"]
HOSTILE = [
    *["", ".", "..", "...", " ", "  . ", "-", "--", "~", "/", "\\", "//", "\0", "\n", "\u202e"],
    *["../x", "../../etc/passwd", "/etc/passwd", "a/b", "a/../b", "./a", "a/", "a/.", "a/.."],
    *["..\\x", "\\\\server\\share", "C:\\x", "C:x", "c:", "x:stream", "file:///etc/passwd"],
    *["a\0b", "a\0.png", "a\nb", "a\rb", "a\tb", "a\x1b[2Jb", "a\x07", "a\x7fb", "a\x80b", "\x9b31m"],
    *["photo\u202egnp.exe", "\u202a", "a\u2066b", "a\u200fb", "a\u200bb", "\ufeffa", "a\u00adb"],
    *["a\u2028b", "a\u2029b", "a\u061cb", "a\ud800b", "\udfff", "a\ue000b", "a\uffffb", "\U000e0041"],
    *[".bashrc", "..bashrc", ".ssh", "....", ". .", " .x", "\u00a0.x", "\u3000x", "x\u00a0"],
    *["-rf", "--help", "-", "~root", "~", "~/x", "-.x", ".-x", " -x", "- x", "~-.x"],
    *["x.", "x..", "x ", "x. .", "x .", "x\u2003", "x.\u00a0", ".x."],
    *["a*", "a?", "a<b>", 'a"b', "a|b", "*", "?", "<", ">", "|", '"', ":"],
    *DEVICES,
    *[f"{device}.txt" for device in DEVICES],
    *[f"{device} .tar.gz" for device in DEVICES],
    *["a" * 300, "é" * 300, "x" * 199 + "é", "x." + "y" * 300, "x" * 300 + ".png", "🎈" * 100 + ".png"],
    *["\u200c", "\u200d.txt", "é\u200d", "\u200cé", "é\u200c\u200dé", "pass\u200dword", "~\u200dé", "-\u200cé"],
    *["é" * 124 + "\u200dé.png", "é\u200d.é", "é \u200d é", "é\u200d/é", "con\u200d", "é\u200d\u202eé"],
    *["CON.", "con ", "con.txt.", "aux:", "nul\0", "con\u200b", "..con", ".con", "-con", "_con", "com1.", "lpt9 .x"],
    *["%2e%2e%2f", "..%2f..", "..%c0%af", "\uff0e\uff0e/", "\u2025"],
    *["\u2024\u2024/x", "\uff0fetc", "\u2215etc", "\u29f8x"],
    *["../" * 40 + "etc/passwd", "/" * 300, "..\\" * 40, "a/" * 64, "/./"],
    *["//./", "./.", "../.", "/..", "\\..", "..;/x"],
    *["\x1b]0;pwned\x07", "\x1b]8;;http://x\x1b\\", "\x1b]52;c;eA==\x07"],
    *["\x1b[1A", "\x9d0;x\x9c", "\x00\x1b", "\x08" * 9],
    *["<script>alert(1)</script>", "<img src=x onerror=y>", "&lt;"],
    *["'; DROP TABLE--", "$(id)", "`id`", "a;b", "a&b", "${x}"],
    *["\u2066a\u2069", "\u2067.exe", "\u202dtxt", "a\u202bgpj.exe", "\u200e.txt"],
    *["a\u2060b", "a\u2061b", "\u180eb", "\ufff9x"],
    *["a\ud83db", "\ud800\udc00", "a\udc80b", "\uf8ff", "\U000f0000", "\U0010ffff"],
    *["\ufdd0", "\u0378", "\U000e0001", "\U000e007f"],
    *[" .", ". ", ".\u00a0.", "\u2003", "\u3000.", "\u1680x", "\u205fx", "\u202f."],
    *["x\u3000.", "\ufeff.x", "\u200b.", "\u00ad.."],
    *["desktop.ini:x", "x::$DATA", "a:b:c", "\\\\?\\C:\\x", "\\\\.\\pipe\\x"],
    *["//?/x", "C:", "c:/x", "Z:..", "$MFT:", "~$x", "~.x"],
    *[".p2pshare-0123456789abcdef.part", ".p2pshare-0123456789abcdef.journal"],
    *[".git", ".gitmodules", ".profile", "...x"],
    *["é" * 128, "x" * 255 + "é", "x" * 254 + "é"],
    *["🎈" * 64, "x" * 251 + ".jpeg", "." + "x" * 255, "x" * 250 + ". .png"],
    *["a" * 195 + " . .png", "." * 300, " " * 300, "-" * 300, "e\u0301" * 200, "con." + "x" * 300],
]  # fmt: skip


class SafeNameTests(SynchronousTestCase):
    def assert_safe(self, name: str) -> None:
        self.assertEqual(os.path.basename(name), name)
        self.assertNotIn(name, ("", ".", ".."))
        self.assertLessEqual(len(name.encode()), SAFE_NAME_MAX)
        self.assertFalse(set(name) & set('/\\:<>"|?*\0'), name)
        for character in name:
            if character not in JOINERS:
                self.assertNotIn(
                    unicodedata.category(character), ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
                )
        self.assertNotRegex(name, f"^[{JOINERS}]|[{JOINERS}]$|[{JOINERS}]{{2}}")
        self.assertNotRegex(name, f"[\0-\x7f][{JOINERS}][\0-\x7f]")
        self.assertNotIn(name[0], " .-~")
        self.assertNotIn(name[-1], " .")
        devices = {device.casefold() for device in DEVICES}
        self.assertNotIn(name.split(".")[0].strip().casefold(), devices)

    def test_harmless_names_stay(self) -> None:
        """A name that does no harm is not changed."""
        for name in HARMLESS:
            self.assertEqual(safe_name(name), name)

    def test_hostile_names(self) -> None:
        """Threats 1 and 4: each of the tricks that are known comes out harmless."""
        self.assertGreaterEqual(len(set(HOSTILE)), 200)
        for name in HOSTILE:
            with self.subTest(name=name):
                self.assert_safe(safe_name(name))

    def test_readable(self) -> None:
        """The result is still recognizable."""
        for name, safe in {
            "../../etc/passwd": "__.._etc_passwd",
            ".bashrc": "_bashrc",
            "-rf": "_rf",
            "nul.txt": "_nul.txt",
            "photo\u202egnp.exe": "photo_gnp.exe",
            "x" * 300 + ".png": "x" * 251 + ".png",
            "pass\u200dword": "pass_word",
            "\u200dé\u200d": "_é_",
            "": "_",
        }.items():
            self.assertEqual(safe_name(name), safe)

    @given(st.text(st.characters(codec=None, categories=None), max_size=260))
    @example("con." + "x" * 300)
    def test_any_text(self, text: str) -> None:
        """Any text at all comes out harmless, and what is harmless stays so."""
        name = safe_name(text)
        self.assert_safe(name)
        self.assertEqual(safe_name(name), name)


class ResolveDestinationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = Path(self.mktemp()).absolute()
        (self.cwd / "there").mkdir(parents=True)
        (self.cwd / "file").write_bytes(b"")

    def resolve(self, dest: str | None) -> tuple[Path, str]:
        folder, name = resolve_destination(dest, "alice.png", self.cwd)
        return folder.resolve(), name

    def test_places(self) -> None:
        """A folder keeps the default name, anything else is a file name."""
        cwd, there = self.cwd.resolve(), (self.cwd / "there").resolve()
        for dest, place in {
            None: (cwd, "alice.png"),
            ".": (cwd, "alice.png"),
            "there": (there, "alice.png"),
            "there/": (there, "alice.png"),
            "there/..": (cwd, "alice.png"),
            "new.png": (cwd, "new.png"),
            "there/new.png": (there, "new.png"),
            "./new": (cwd, "new"),
            "file": (cwd, "file"),
            str(self.cwd / "there"): (there, "alice.png"),
            str(self.cwd / "there" / "x"): (there, "x"),
        }.items():
            with self.subTest(dest=dest):
                self.assertEqual(self.resolve(dest), place)

    def test_folders_that_are_missing(self) -> None:
        """A folder is not made on the way: the sentence names the one that is missing."""
        for dest in ("gone/x", "gone/x/", "gone/.", "gone/..", "there/gone/x", "file/", "file/x"):
            with self.subTest(dest=dest), self.assertRaisesRegex(WrongUsage, "There is no folder"):
                self.resolve(dest)

    def test_new_folder(self) -> None:
        """A path with a final slash is a folder to be made, unless something has its name or its parent is missing."""
        for dest in ("new/", "there/new/", "newer//"):
            place = self.resolve(dest)
            self.assertEqual(place, (self.cwd / dest, "alice.png"))
            self.assertFalse(place[0].exists())
            for _ in range(2):
                make_folder(place[0])
                self.assertTrue(place[0].is_dir())
        os.symlink("nowhere", self.cwd / "link")
        self.assertRaises(WrongUsage, self.resolve, "link/")
        self.assertRaises(CannotSave, make_folder, self.cwd / "file")

    def test_no_file(self) -> None:
        """A device or a pipe is wrong usage: it would not be written to, but get a neighbour."""
        os.mkfifo(self.cwd / "pipe")
        for dest in ("pipe", os.devnull):
            with self.assertRaisesRegex(WrongUsage, "neither a folder nor a regular file"):
                self.resolve(dest)

    def test_no_name(self) -> None:
        """Text that is no path is wrong usage."""
        for dest in ("", "a\0b"):
            with self.subTest(dest=dest), self.assertRaises(WrongUsage):
                self.resolve(dest)

    def test_name_too_long(self) -> None:
        """A name that no file system takes is left for the one who opens it to refuse."""
        self.assertEqual(self.resolve("n" * 5000)[1], "n" * 5000)
