"""Tests for `p2pshare.ui.terminal.passphrase`; what it asks on a terminal is tested as a process, too."""

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
        """A new one is asked for until it is long enough and the same twice."""
        self.answer("short", "long enough", "another one", "long enough", "long enough")
        self.assertEqual(new_passphrase(None), "long enough")
        self.assertEqual(self.said.getvalue(), "That is too short.\nThose are not the same.\n")

    def test_no_end(self) -> None:
        """It does not ask for ever."""
        self.answer(*["short"] * TRIES)
        self.assertIn(
            "nothing was written", str(self.assertRaises(WrongUsage, new_passphrase, None))
        )

    def test_given_up(self) -> None:
        """Ctrl+D, a closed terminal, and what is no text, are sentences; Ctrl+C leaves a line of its own."""
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
        """Ctrl+C is Ctrl+C also on a terminal that takes no more."""
        self.answer(KeyboardInterrupt())
        self.patch(self.said, "write", mock.Mock(side_effect=OSError(errno.EIO, "gone")))
        self.assertRaises(KeyboardInterrupt, known_passphrase, None)

    def test_no_terminal(self) -> None:
        """Where nobody can be asked, a flag is named that helps."""
        self.patch(passphrase, "TERMINAL", "/nonexistent/tty")
        error = self.assertRaises(WrongUsage, known_passphrase, None)
        self.assertIn("--passphrase-file", str(error))
        with mock.patch.object(os, "isatty", return_value=False):
            self.assertIn("say --yes", str(self.assertRaises(WrongUsage, consent, "?", "--yes")))

    def test_consent(self) -> None:
        """Yes is yes and no is no, in any case; all else is asked again, and the end of the input is no."""
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
        """A dash is stdin, of which the first line counts, whatever ends it."""
        lines = (b"long enough\nrest", b"long enough\r\n", b"long enough")
        for text in (*lines, "long enough\r\n".encode("utf-8-sig")):
            stdin = io.TextIOWrapper(io.BytesIO(text))
            with mock.patch.object(sys, "stdin", stdin):
                self.assertEqual(new_passphrase("-"), "long enough")

    def test_encodings(self) -> None:
        """A passphrase in another encoding would be another one: the encoding is named, and no part of the line."""
        path = Path(self.mktemp())
        for encoding, found in (("utf-16", "UTF-16"), ("utf-16-be", "UTF-16"), ("cp1252", "1252")):
            path.write_bytes("grüne Wiese\r\n".encode(encoding))
            error = str(self.assertRaises(WrongUsage, known_passphrase, str(path)))
            for part in (str(path), found, "as UTF-8."):
                self.assertIn(part, error)
            self.assertNotIn("Wiese", error)

    def test_no_file(self) -> None:
        """A file that is not there is named."""
        error = self.assertRaises(CannotRead, known_passphrase, "/nonexistent/file")
        self.assertIn("/nonexistent/file", str(error))
