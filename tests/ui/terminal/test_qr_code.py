"""Tests for `p2pshare.ui.terminal.qr_code`."""

from __future__ import annotations

import re

import segno
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.terminal.capabilities import Colours, Terminal
from p2pshare.ui.terminal.qr_code import BORDER, COLUMNS_MIN, qr_lines
from tests.ui.screens import COLOURFUL, FakeTty, real_terminal

TEXT = "P2PSHARE:AEAQAIADUED3746OCCZ7B24G5DDTUXQEZM7SNMME3UUGV6HO4QZSBEVJRXAB" + "A" * 40
_LIGHT = {" ": (0, 0), "▄": (0, 1), "▀": (1, 0), "█": (1, 1)}
"""Whether the upper and the lower module of a cell is light."""


class QrLinesTests(SynchronousTestCase):
    def test_modules(self) -> None:
        """The cells are the modules of the code, with light ones drawn, and a border around them."""
        for text in (TEXT, TEXT * 3):
            lines = qr_lines(text, Terminal.detect(FakeTty(), {}))
            rows = [
                row for line in lines for row in zip(*(_LIGHT[each] for each in line), strict=True)
            ]
            code = segno.make(text, error="l", micro=False, boost_error=False)
            wanted = [
                tuple(1 - bool(each) for each in row) for row in code.matrix_iter(border=BORDER)
            ]
            self.assertEqual(rows[: len(wanted)], wanted)
            self.assertTrue(all(map(all, rows[len(wanted) :])))

    def test_colours(self) -> None:
        """Where there are colours, each line is white on black and resets them at its end."""
        for environ, colours in ((COLOURFUL, Colours.TRUE), ({"TERM": "xterm"}, Colours.BASIC)):
            terminal = Terminal.detect(FakeTty(), environ)
            self.assertEqual(terminal.colours, colours)
            for line in qr_lines(TEXT, terminal):
                self.assertTrue(re.fullmatch(r"\x1b\[[0-9;]+m[ ▄▀█]+\x1b\[0m", line), line)

    def test_no_room(self) -> None:
        """Narrow terminals, those without Unicode, and texts that are too long for a code get none."""
        for columns, shows in (
            (80, True),
            (COLUMNS_MIN, True),
            (COLUMNS_MIN - 1, False),
            (40, False),
        ):
            with real_terminal(columns) as terminal:
                lines = qr_lines(TEXT, Terminal.detect(terminal.stream, {}))
                self.assertEqual(bool(lines), shows)
                self.assertTrue(all(len(line) <= columns for line in lines))
        self.assertEqual(qr_lines("A" * 700, Terminal.detect(FakeTty(), {})), [])
        self.assertEqual(qr_lines("A" * 5000, Terminal.detect(FakeTty(), {})), [])

        class AsciiTty(FakeTty):
            encoding = "ascii"

        self.assertEqual(qr_lines(TEXT, Terminal.detect(AsciiTty(), {})), [])
