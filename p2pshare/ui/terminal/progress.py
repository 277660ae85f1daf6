"""A transfer on its way: one line that is drawn again and again, and the picture above it as it
comes.

The picture is drawn once, line by line from the top, each as soon as there are rows for all of it;
so it costs little, stays in the terminal's memory, and needs no terminal as high as itself. Nothing
here has a thread or a timer: the caller says when to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from p2pshare.pictures.pixels import Pixels
from p2pshare.pictures.preview import Preview
from p2pshare.ui.numbers import count_text, duration_text, rate_text
from p2pshare.ui.terminal.capabilities import Colours, Terminal
from p2pshare.ui.terminal.live_line import LiveLine

PREVIEW_COLUMNS = 64  # at most
PREVIEW_LINES = 20  # at most
COLUMNS_FOR_ALL = 72  # from here on there is room for every number
COLUMNS_FOR_BAR = 36  # from here on there is room for a bar and a rate


class ProgressView:
    """What a user sees of one transfer.

    Call `start`, then `update` as often as it should be drawn, at most some 15 times a second, and
    `finish` in any case: until then the cursor is hidden. Where lines cannot be drawn again, there
    is one when something has arrived and one at the end.

    Args:
        terminal: where to.
        title: what is fetched.
        unit: "bytes", or the plural of what is counted.
        total: how many there will be; None while it is not known.
        clock_seconds: the time, for the rate.
        silent: show nothing at all.
    """

    def __init__(
        self,
        terminal: Terminal,
        title: str,
        unit: str,
        total: int | None,
        clock_seconds: Callable[[], float],
        *,
        silent: bool = False,
    ) -> None:
        self._terminal = terminal
        self._title = title
        self._silent = silent
        self._redraws = terminal.redraws and not silent
        self._title_is_due = not terminal.redraws and not silent
        self._live = LiveLine(terminal)
        self._columns = terminal.columns
        self._progress = Progress(
            *_layout(terminal, title, unit),
            console=terminal.console(),
            auto_refresh=False,
            get_time=clock_seconds,
            expand=True,
        )
        self._unit = unit
        self._task: TaskID = self._progress.add_task("", total=total)
        self._picture: _GrowingPicture | None = None

    def start(self) -> None:
        """Show that it has begun."""
        if self._redraws:
            self._live.start()

    def show_picture(self, pixels: Pixels, have: npt.NDArray[np.bool_]) -> None:
        """Draw the lines of the picture for which rows have arrived since the last call.

        Args:
            pixels: the whole picture, shape (height, width, 3); it may go on filling.
            have: which of its rows are there, shape (height,); it may go on filling.
        """
        if not self._redraws or not self._terminal.shows_pictures:
            return
        if self._picture is None:
            self._picture = _GrowingPicture(self._terminal, pixels, have)
        for line in self._picture.new_lines():
            self._live.above(line)

    def update(self, done: int, total: int | None = None) -> None:
        """Draw the line again.

        Args:
            done: how many have arrived.
            total: how many there will be, if that is known only now.
        """
        if self._title_is_due and done:
            self._title_is_due = False
            self._terminal.write_line(self._title)
        if not self._redraws:
            return
        if self._columns != self._terminal.columns:
            self._columns = self._terminal.columns
            self._progress.columns = _layout(self._terminal, self._title, self._unit)
        self._progress.update(self._task, completed=done, total=total)
        self._live.draw(self._progress.get_renderable())

    @property
    def is_drawn(self) -> bool:
        """Whether the line is on the screen now."""
        return self._live.is_drawn

    def line_above(self, text: str, colour: str = "") -> None:
        """Write a line above the one that is drawn.

        Args:
            text: it may come from anywhere.
            colour: one of colorama's codes.
        """
        self._live.above(self._terminal.styled(text, colour))

    def finish(self, sentence: str | None = None) -> None:
        """Take the line away, and put a sentence in its place. May be called again."""
        if self._picture is not None:
            for line in self._picture.new_lines():
                self._live.above(line)
            self._picture = None
        self._live.stop()
        if sentence is not None and not self._silent:
            self._terminal.write_line(sentence)


class _GrowingPicture:
    """Which lines of a picture have been drawn: all from the top to the first that lacks rows."""

    def __init__(self, terminal: Terminal, pixels: Pixels, have: npt.NDArray[np.bool_]) -> None:
        height, width, _ = pixels.shape
        columns = min(PREVIEW_COLUMNS, terminal.columns - 1)
        lines = min(PREVIEW_LINES, terminal.lines - 2)
        self._preview = Preview(width, height, max(1, columns), max(1, lines))
        self._colours = terminal.colours is Colours.TRUE
        self._pixels = pixels
        self._have = have
        self._drawn = 0

    def new_lines(self) -> Iterable[str]:
        while self._drawn < self._preview.lines and self._preview.is_ready(self._have, self._drawn):
            yield self._preview.render_line(
                self._pixels, self._have, self._drawn, true_colour=self._colours
            )
            self._drawn += 1


class _Title(ProgressColumn):
    def __init__(self, title: str) -> None:
        super().__init__(Column(no_wrap=True))
        self._title = title

    def render(self, task: Task) -> Text:
        return Text(self._title)


class _Numbers(ProgressColumn):
    """How much, how fast, how long: as much of it as there is room for."""

    def __init__(self, unit: str, columns: int) -> None:
        super().__init__(Column(no_wrap=True, justify="right"))
        self._unit = unit
        self._columns = columns

    def render(self, task: Task) -> Text:
        parts = [self._amount(task)]
        if self._columns >= COLUMNS_FOR_BAR and task.speed:
            parts.append(rate_text(task.speed, self._unit))
        if self._columns >= COLUMNS_FOR_ALL and task.time_remaining:
            parts.append(f"{duration_text(task.time_remaining)} left")
        return Text(", ".join(parts))

    def _amount(self, task: Task) -> str:
        done = count_text(task.completed, self._unit)
        if task.total is None:
            return done
        if self._columns >= COLUMNS_FOR_ALL:
            if self._unit != "bytes":
                done = f"{task.completed:.0f}"
            return f"{done} of {count_text(task.total, self._unit)}"
        return f"{task.percentage:.0f} %"


def _layout(terminal: Terminal, title: str, unit: str) -> tuple[ProgressColumn, ...]:
    """The parts of the line that fit into the terminal as wide as it is now."""
    columns = terminal.columns
    shown = terminal.shown(title)[: max(8, columns // 4)]
    numbers = _Numbers(unit, columns)
    if columns < COLUMNS_FOR_BAR:
        return _Title(shown), numbers
    return _Title(shown), BarColumn(bar_width=None), numbers
