"""Tests for `p2pshare.ui.terminal.capabilities`."""

from __future__ import annotations

import io
import unicodedata

from colorama import Fore
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.terminal.capabilities import Colours, Terminal
from p2pshare.wire.display import display
from tests.ui.screens import COLOURFUL, FakeTty, real_terminal


class DisplayTests(SynchronousTestCase):
    def test_harmless(self) -> None:
        """Text of any language is unchanged."""
        for text in ("alice", "Zoë and 写真 🎈", "a\\x1bb", ""):
            self.assertEqual(display(text), text)

    def test_escaped(self) -> None:
        """Characters that a terminal obeys, hides or reverses become visible (threat 4)."""
        for text, shown in {
            "a\x1b[2Jb": "a\\x1b[2Jb",
            "a\nb\r\t\0\x7f": "a\\x0ab\\x0d\\x09\\x00\\x7f",
            "\x9b31m": "\\x9b31m",
            "photo\u202egnp.exe": "photo\\u202egnp.exe",
            "\u2066\u200f\ufeff\u2028\u2029": "\\u2066\\u200f\\ufeff\\u2028\\u2029",
            "\ud800\ue000\U000e0041": "\\ud800\\ue000\\U000e0041",
        }.items():
            self.assertEqual(display(text), shown)

    @given(st.text(st.characters(codec=None, categories=None)))
    def test_anything(self, text: str) -> None:
        """No text contains a character that moves the cursor or reverses the direction."""
        categories = {unicodedata.category(character) for character in display(text)}
        self.assertFalse(categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class DetectTests(SynchronousTestCase):
    def test_colours(self) -> None:
        """The usual variables are followed, and NO_COLOR wins."""
        for is_tty, environ, colours in (
            (True, COLOURFUL, Colours.TRUE),
            (True, {"TERM": "xterm-256color"}, Colours.INDEXED),
            (True, {"TERM": "xterm-direct"}, Colours.TRUE),
            (True, {"TERM": "xterm"}, Colours.BASIC),
            (True, {"TERM": "dumb"}, Colours.NONE),
            (True, {"TERM": "dumb", "COLORTERM": "truecolor"}, Colours.NONE),
            (True, {}, Colours.NONE),
            (True, COLOURFUL | {"NO_COLOR": "1"}, Colours.NONE),
            (True, COLOURFUL | {"NO_COLOR": ""}, Colours.TRUE),
            (True, COLOURFUL | {"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, Colours.NONE),
            (False, COLOURFUL, Colours.NONE),
            (False, COLOURFUL | {"CLICOLOR_FORCE": "1"}, Colours.TRUE),
            (False, COLOURFUL | {"CLICOLOR_FORCE": "0"}, Colours.NONE),
        ):
            with self.subTest(is_tty=is_tty, environ=environ):
                stream = FakeTty() if is_tty else io.StringIO()
                self.assertEqual(Terminal.detect(stream, environ).colours, colours)

    def test_what_it_can_do(self) -> None:
        """Lines are redrawn on capable terminals; pictures need colours and Unicode."""
        colourful = Terminal.detect(FakeTty(), COLOURFUL)
        self.assertTrue(colourful.is_tty and colourful.redraws and colourful.shows_pictures)
        dumb = Terminal.detect(FakeTty(), {"TERM": "dumb"})
        self.assertTrue(dumb.is_tty)
        self.assertFalse(dumb.redraws or dumb.shows_pictures)
        self.assertFalse(Terminal.detect(FakeTty(), {"TERM": "xterm"}).shows_pictures)
        self.assertFalse(Terminal.detect(io.StringIO(), COLOURFUL).redraws)

    def test_size(self) -> None:
        """The size is the current one, or 80 x 24 if it is unknown."""
        with real_terminal(40) as real:
            terminal = Terminal.detect(real.stream, COLOURFUL)
            self.assertEqual((terminal.columns, terminal.lines), (40, 24))
            real.resize(33)
            self.assertEqual(terminal.columns, 33)
            real.resize(0)
            self.assertEqual(terminal.columns, 80)
        self.assertEqual(Terminal.detect(FakeTty(), {}).columns, 80)


class WriteLineTests(SynchronousTestCase):
    def test_one_line(self) -> None:
        """Any text becomes one line."""
        stream = io.StringIO()
        Terminal.detect(stream, {}).write_line("a\nb\x1b[2J", Fore.RED)
        self.assertEqual(stream.getvalue(), "a\\x0ab\\x1b[2J\n")

    def test_colour(self) -> None:
        """Colours are set and reset if there are any."""
        stream = FakeTty()
        Terminal.detect(stream, COLOURFUL).write_line("a", Fore.RED)
        self.assertEqual(stream.getvalue(), "\x1b[31ma\x1b[0m\n")

    def test_other_encodings(self) -> None:
        """Characters that a stream lacks are escaped, and no error."""
        buffer = io.BytesIO()
        stream = io.TextIOWrapper(buffer, encoding="ascii")
        terminal = Terminal.detect(stream, COLOURFUL)
        self.assertFalse(terminal.unicode)
        terminal.write_line("Zoë ▀")
        self.assertEqual(buffer.getvalue(), b"Zo\\xeb \\u2580\n")

    def test_between_words(self) -> None:
        """Long text is broken between words on a terminal, but not in a pipe."""
        text = "word " * 20 + "x" * 90
        stream = FakeTty()
        Terminal.detect(stream, {"TERM": "dumb"}).write_line(text)
        self.assertEqual([len(line) for line in stream.getvalue().splitlines()], [79, 19, 90])
        pipe = io.StringIO()
        Terminal.detect(pipe, {}).write_line(text)
        self.assertEqual(pipe.getvalue(), text + "\n")
