"""Tests of `p2pshare.ui.terminal.transfer_rows`."""

from __future__ import annotations

from rich.cells import cell_len
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.transfer_rows import TransferRow, TransferRows, row_text
from tests.ui.screens import COLOURFUL, FakeTty, real_terminal

GIB = 1 << 30
RUNNING = TransferRow("bob", "", GIB, 3 * GIB, 45.1 * (1 << 20))


class TransferRowsTests(SynchronousTestCase):
    def test_widths(self) -> None:
        """A row fits at every width, and the name and the part that is done stay the longest."""
        terminal = Terminal.detect(FakeTty(), COLOURFUL)
        wide = TransferRow("b" * 32, "", GIB, 3 * GIB, 45e6)
        other = TransferRow("b" * 32, "漢" * 30)
        for columns in range(1, 120):
            for row in (RUNNING, wide, other, TransferRow("bob\x1b[2J", "offline")):
                self.assertLessEqual(cell_len(row_text(row, columns, terminal)), columns)
        self.assertEqual(row_text(RUNNING, 39, terminal), "bob: 33%, 45.1 MiB/s, 45 s left")
        self.assertEqual(row_text(RUNNING, 10, terminal), "bob: 33%")
        self.assertRegex(row_text(RUNNING, 79, terminal), r"1\.0 GiB of 3\.0 GiB +\[#{7}-{13}\]$")

    def test_screen(self) -> None:
        """Rows are redrawn in place; lines above stay, and in the end nothing of the rows is left."""
        with real_terminal(40) as terminal:
            rows = TransferRows(Terminal.detect(terminal.stream, COLOURFUL))
            for done in (0, 50, 100):
                rows.update([TransferRow("bob", "", done, 100), TransferRow("carol", "offline")])
                shown = terminal.show()
            self.assertEqual(shown, ["bob: 100%, 100 bytes of 100 bytes", "carol: offline"])
            rows.line_above("a line")
            rows.update([TransferRow("carol", "offline")])
            self.assertEqual(terminal.show(), ["a line", "carol: offline"])
            rows.update([])
            self.assertEqual(terminal.show(), ["a line"])
            self.assertFalse(terminal.screen.cursor_hidden)

    def test_many(self) -> None:
        """More people than lines are counted."""
        with real_terminal(40) as terminal:
            rows = TransferRows(Terminal.detect(terminal.stream, COLOURFUL))
            rows.update([TransferRow(f"n{number}", "offline") for number in range(50)])
            shown = terminal.show()
            self.assertEqual((len(shown), shown[-1]), (22, "and 29 more"))
            rows.finish()
            rows.finish()
            self.assertEqual(terminal.show(), [""])

    def test_silent(self) -> None:
        """Nothing is drawn where nothing can be redrawn."""
        stream = FakeTty()
        for rows in (
            TransferRows(Terminal.detect(stream, COLOURFUL), silent=True),
            TransferRows(Terminal.detect(stream, {"TERM": "dumb"})),
        ):
            rows.update([RUNNING])
            rows.finish()
        self.assertEqual(stream.getvalue(), "")
