"""The view of an offer: a live line for each person, with the state, or the progress of the transfer.

The rows follow the rules of `job_view`: each is always true, fits into the terminal, and is left out where nothing can
be redrawn. The name stays readable at 40 columns, then comes the part that is done, then the rate, then the time left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.live_line import LiveLine
from p2pshare.wire.quantities import duration_text, rate_text, size_text

NAME_COLUMNS = 16  # columns of a name beside other text; of a longer one the end is left out
BAR_COLUMNS = 20
COLUMNS_FOR_BAR = 72
ELLIPSIS = "~"


@dataclass(frozen=True, slots=True)
class TransferRow:
    """The state of a transfer with one person; the texts may come from outside."""

    name: str
    state: str = ""
    """What is awaited; empty while bytes arrive."""
    done: int = 0
    """Bytes."""
    total: int = 0
    """Bytes."""
    rate: float = 0.0
    """Bytes per second."""


class TransferRows:
    """Draws the rows in place. Always call `finish`: the cursor is hidden until then."""

    def __init__(self, terminal: Terminal, *, silent: bool = False) -> None:
        """Draw on `terminal`, unless `silent` or it cannot redraw."""
        self._terminal = terminal
        self.redraws = terminal.redraws and not silent
        """Whether rows are drawn at all."""
        self._live = LiveLine(terminal)

    @property
    def is_drawn(self) -> bool:
        """Whether the rows are on the screen now."""
        return self._live.is_drawn

    def update(self, rows: Sequence[TransferRow]) -> None:
        """Draw other rows in place of those before."""
        if not self.redraws:
            return
        if not rows:
            self.finish()
            return
        if not self._live.is_drawn:
            self._live.start()
        room = max(1, self._terminal.lines - 2)
        shown = list(rows) if len(rows) <= room else list(rows)[: max(1, room - 1)]
        lines = [Text(row_text(row, self._live.columns, self._terminal)) for row in shown]
        if len(shown) < len(rows) and room > 1:
            more = f"and {len(rows) - len(shown)} more"
            lines.append(Text(_cut(more, self._live.columns)))
        self._live.draw(Text("\n").join(lines), len(lines))

    def line_above(self, text: str, colour: str = "") -> None:
        """Write a line of text, from any source, above the rows."""
        self._live.above(self._terminal.styled(text, colour))

    def finish(self) -> None:
        """Erase the rows. May be called again."""
        self._live.stop()


def row_text(row: TransferRow, columns: int, terminal: Terminal) -> str:
    """Return a row that is at most `columns` wide."""
    name = terminal.shown(row.name)
    if row.state:
        rest = terminal.shown(row.state)
        room = max(NAME_COLUMNS, columns - cell_len(rest) - 2)
        return _cut(f"{_cut(name, room)}: {rest}", columns)
    part = min(1.0, row.done / row.total) if row.total else 0.0
    text = f"{_cut(name, NAME_COLUMNS)}: {part:.0%}"
    details = []
    if row.rate:
        details.append(rate_text(row.rate))
        details.append(f"{duration_text(max(0.0, (row.total - row.done) / row.rate))} left")
    details.append(f"{size_text(row.done)} of {size_text(row.total)}")
    for detail in details:
        if cell_len(text) + cell_len(detail) + 2 <= columns:
            text += f", {detail}"
    if columns >= COLUMNS_FOR_BAR and cell_len(text) + BAR_COLUMNS + 3 <= columns:
        filled = round(part * BAR_COLUMNS)
        bar = "#" * filled + "-" * (BAR_COLUMNS - filled)
        text += f"{' ' * (columns - cell_len(text) - BAR_COLUMNS - 2)}[{bar}]"
    return _cut(text, columns)


def _cut(text: str, columns: int) -> str:
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, max(0, columns - len(ELLIPSIS))) + ELLIPSIS
