"""Tests for `p2pshare.storage.incoming.local_names`: a name is kept if the file system takes it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.incoming.announcement import Place
from p2pshare.storage.incoming.destination import SAFE_NAME_MAX, safe_name, storable_name
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.wire.paths import component_fault
from tests import examples

KEPT = (
    "con.txt", "-rf", "~tilde", "a:b*c?.txt", "back\\slash", "trail ", "end.", 'a"b', "a|b", "'q'",
    "cafe\u0301", "日本語.txt", "👨‍👩‍👧.png", "שלום\u200f.txt", "x" * 255, "é" * 127, "$(rm -rf)", " lead",
)  # fmt: skip
ALTERED = {
    "a\nb": "a_b",
    "\x1b[2J": "_[2J",
    "\u202egpj.exe": "_gpj.exe",
    "a\u2028b": "a_b",
    "\x7f\x9b": "__",
    "a\u2067b": "a_b",
}


class RefusingDisk:
    """`os.open` of a file system that rejects some characters and removes dots and blanks at the end."""

    def __init__(self, refused: str, code: int = errno.EINVAL, *, cuts: bool = False) -> None:
        self._refused = refused
        self._code = code
        self._cuts = cuts
        self._open: Callable[..., Any] = os.open
        self.asked = 0

    def open(self, path: Any, *args: Any, **options: Any) -> Any:
        if ".p2pshare-probe" in str(path):
            self.asked += 1
            if any(each in str(path) for each in self._refused):
                raise OSError(self._code, os.strerror(self._code))
            if self._cuts:
                path = str(path).rstrip(". ")
        return self._open(path, *args, **options)


class LocalNamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()

    def names(self, *names: str, portable: bool = False) -> list[str]:
        """What names become."""
        with IncomingFolder.open(self.path, portable_names=portable) as folder:
            return [folder.local_place(Place((), name)).name for name in names]

    def test_kept(self) -> None:
        """Every name that Linux takes is kept, whatever a shell or another system makes of it."""
        self.assertEqual(tuple(self.names(*KEPT)), KEPT)
        self.assertEqual(os.listdir(self.path), [])

    def test_altered(self) -> None:
        """Characters that a terminal obeys, or that show others in another order, are not stored (threat 1)."""
        self.assertEqual(self.names(*ALTERED), list(ALTERED.values()))

    def test_portable(self) -> None:
        """If that is wished, all names are portable."""
        self.assertEqual(self.names(*KEPT, portable=True), list(map(safe_name, KEPT)))

    def test_refused(self) -> None:
        """A name that the file system refuses becomes a portable one; others are kept, and it is asked once for each
        set of characters.
        """
        for code in (errno.EINVAL, errno.EILSEQ, errno.EPERM):
            disk = RefusingDisk(":", code)
            with patch.object(os, "open", disk.open):
                names = self.names("a:b", "c:d", "a?b", "con.txt", "e:f?")
            self.assertEqual(names, ["a_b", "c_d", "a?b", "con.txt", "e_f_"])
            self.assertEqual(disk.asked, 3 + 2)  # and twice whether any file can be made

    def test_cut_off(self) -> None:
        """A file system that cuts off points and blanks at the end does not take such names."""
        with patch.object(os, "open", RefusingDisk("", cuts=True).open):
            self.assertEqual(self.names("end.", "trail ", "a:"), ["end", "trail", "a:"])

    def test_tells_nothing(self) -> None:
        """Where no file can be made, nothing is known, and the name is kept: saving will tell."""
        with patch.object(os, "open", RefusingDisk("p", errno.EROFS).open):
            self.assertEqual(self.names("a:b"), ["a:b"])

    def test_short_names(self) -> None:
        """A name that is too long for the file system is cut, and keeps its suffix."""
        real = os.fstatvfs

        def short(fd: int) -> Any:
            status = list(real(fd))
            status[9] = 143
            return os.statvfs_result(status)

        with patch.object(os, "fstatvfs", short):
            (name,) = self.names("x" * 200 + ".jpg")
        self.assertEqual(name, "x" * 139 + ".jpg")

    @settings(max_examples=examples(60))
    @given(st.text(min_size=1, max_size=40).filter(lambda name: component_fault(name) is None))
    @example("a/b"[0])
    @example("\u202e")
    def test_any_name(self, name: str) -> None:
        """Threat 1: any remote name becomes one component that is neither empty nor hidden, and can be stored."""
        for portable in (False, True):
            (local,) = self.names(name, portable=portable)
            self.assertNotIn("/", local)
            self.assertFalse(local.startswith("."))
            self.assertTrue(0 < len(local.encode()) <= SAFE_NAME_MAX)
            path = self.path / local
            path.touch()
            self.assertEqual(os.listdir(self.path), [local])
            path.unlink()
        self.assertEqual(storable_name(storable_name(name)), storable_name(name))
