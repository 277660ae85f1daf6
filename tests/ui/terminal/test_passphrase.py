"""Tests for `p2pshare.ui.terminal.passphrase`; process tests cover real terminals."""

from __future__ import annotations

import errno
import getpass
import io
import os
import sys
import termios
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotRead, WrongUsage
from p2pshare.ui.terminal import passphrase
from p2pshare.ui.terminal.passphrase import TRIES, consent, known_passphrase, new_passphrase


class AskTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(passphrase, "TERMINAL", os.devnull)
        self.said = io.StringIO()
        redirected = redirect_stderr(self.said)
        redirected.__enter__()
        self.addCleanup(redirected.__exit__, None, None, None)

    def answer(self, *answers: str | BaseException) -> None:
        self.patch(getpass, "getpass", mock.Mock(side_effect=answers))

    def test_new(self) -> None:
        """A new passphrase is asked for until it is long enough and typed twice."""
        self.answer("short", "long enough", "another one", "long enough", "long enough")
        self.assertEqual(new_passphrase(None), "long enough")
        self.assertEqual(self.said.getvalue().count("\n"), 2)

    def test_no_end(self) -> None:
        """The number of attempts is limited."""
        self.answer(*["short"] * TRIES)
        self.assertRaises(WrongUsage, new_passphrase, None)

    def test_given_up(self) -> None:
        """Ctrl+D, a closed terminal and invalid UTF-8 are errors; Ctrl+C and Ctrl+D end the line."""
        for fault in (
            EOFError(),
            OSError(errno.EIO, "gone"),
            termios.error(errno.EIO, "gone"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, ""),
        ):
            self.answer(fault)
            self.assertRaises(WrongUsage, known_passphrase, None)
        self.assertEqual(self.said.getvalue(), "\n")  # behind the Ctrl+D
        self.answer(KeyboardInterrupt())
        self.assertRaises(KeyboardInterrupt, known_passphrase, None)
        self.assertEqual(self.said.getvalue(), "\n\n")

    def test_terminal_closed(self) -> None:
        """Ctrl+C works on a closed terminal, too."""
        self.answer(KeyboardInterrupt())
        self.patch(self.said, "write", mock.Mock(side_effect=OSError(errno.EIO, "gone")))
        self.assertRaises(KeyboardInterrupt, known_passphrase, None)

    def test_no_terminal(self) -> None:
        """Without a terminal, the error names the flag to use."""
        self.patch(passphrase, "TERMINAL", "/nonexistent/tty")
        error = self.assertRaises(WrongUsage, known_passphrase, None)
        self.assertIn("--passphrase-file", str(error))
        with mock.patch.object(os, "isatty", return_value=False):
            self.assertIn("--yes", str(self.assertRaises(WrongUsage, consent, "?", "--yes")))

    def test_consent(self) -> None:
        """Yes and no are understood in any case, other answers are asked again, and the end of the input is no."""
        for answer, agreed in (
            ("yes\n", True),
            (" Y \n", True),
            ("No\n", False),
            ("perhaps\n\nyes\n", True),
            ("perhaps\nn\nyes\n", False),
            ("", False),
            ("perhaps", False),
        ):
            with (
                mock.patch.object(os, "isatty", return_value=True),
                mock.patch.object(sys, "stdin", io.StringIO(answer)),
            ):
                self.assertIs(consent("Really?", "--yes"), agreed)
            self.assertEqual(self.said.getvalue().endswith("(yes/no) \n"), answer[-1:] != "\n")


class FileTests(SynchronousTestCase):
    def test_stdin(self) -> None:
        """A dash is stdin, whose first line counts, with any line end."""
        lines = (b"long enough\nrest", b"long enough\r\n", b"long enough")
        for text in (*lines, "long enough\r\n".encode("utf-8-sig")):
            stdin = io.TextIOWrapper(io.BytesIO(text))
            with mock.patch.object(sys, "stdin", stdin):
                self.assertEqual(new_passphrase("-"), "long enough")

    def test_encodings(self) -> None:
        """A passphrase in another encoding is rejected; the error names the encoding, and shows no part of it."""
        path = Path(self.mktemp())
        for encoding, found in (("utf-16", "UTF-16"), ("utf-16-be", "UTF-16"), ("cp1252", "1252")):
            path.write_bytes("grüne Wiese\r\n".encode(encoding))
            error = str(self.assertRaises(WrongUsage, known_passphrase, str(path)))
            for part in (str(path), found, "as UTF-8."):
                self.assertIn(part, error)
            self.assertNotIn("Wiese", error)

    def test_no_file(self) -> None:
        """The error names a missing file."""
        error = self.assertRaises(CannotRead, known_passphrase, "/nonexistent/file")
        self.assertIn("/nonexistent/file", str(error))
