"""A whole job on its way: one line that is drawn again and again, from the first word to the last file.

It always says something that is true now: how far the job is, that nothing comes, or that the connection broke and when
it is tried again. Nothing here has a thread or a timer: the caller says when to draw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rich.cells import cell_len, set_cell_size
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from p2pshare.peer.fetch_job import JobProgress
from p2pshare.peer.link_change import LinkChange, LinkState
from p2pshare.ui.numbers import duration_text, rate_text, size_text
from p2pshare.ui.terminal import Terminal
from p2pshare.wire.paths import format_path

RATE_OVER = 5.0  # seconds over which the rate is taken
SAMPLES_MAX = 256  # of how much had come at a time
QUIET_AFTER = 3.0  # seconds without a byte from which on that is said
COLUMNS_FOR_ALL = 72  # from here on there is room for every number
COLUMNS_FOR_RATE = 30  # from here on there is room for a rate
TITLE_MIN = 8  # columns of a name, or there is none
BAR_MIN = 6  # columns of a bar, or there is none
ECHO = len("^C")  # columns
ELLIPSIS = "~"


class Pace:
    """How fast bytes come, taken over the last few seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)
        self._moved: float | None = None

    def note(self, now: float, fetched: int) -> None:
        """So many bytes have come until now."""
        if not self._samples or fetched != self._samples[-1][1]:
            self._moved = now
        self._samples.append((now, fetched))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_OVER:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Bytes per second."""
        if len(self._samples) < 2:
            return 0.0
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def quiet(self, now: float) -> float:
        """Seconds since the last byte, or since the beginning."""
        return 0.0 if self._moved is None else now - self._moved

    def begin_again(self, now: float) -> None:
        """The connection is another one: what was before says nothing of how fast it will be."""
        self._samples.clear()
        self._moved = now


class JobView:
    """What a user sees of a job with one peer.

    Call `start`, then `update` as often as it should be drawn, and `finish` in any case: until then the cursor is
    hidden. Where lines cannot be drawn again, nothing is.
    """

    def __init__(
        self,
        terminal: Terminal,
        peer: str,
        clock_seconds: Callable[[], float],
        *,
        silent: bool = False,
    ) -> None:
        """Draw on `terminal`, unless `silent`; `peer` is from whom the files come."""
        self._terminal = terminal
        self._peer = peer
        self._seconds = clock_seconds
        self._console = terminal.console()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._redraws = terminal.redraws and not silent
        self._link: LinkChange | None = None
        self._linked = 0.0  # when that was
        self.pace = Pace()

    def start(self) -> None:
        """Show that it has begun."""
        if self._redraws:
            self._live.start()

    @property
    def is_drawn(self) -> bool:
        """Whether the line is on the screen now."""
        return self._live.is_started

    def link(self, change: LinkChange) -> None:
        """Know how it stands with the session."""
        self._link, self._linked = change, self._seconds()
        self.pace.begin_again(self._linked)

    def update(self, progress: JobProgress) -> None:
        """Draw the line again."""
        now = self._seconds()
        self.pace.note(now, progress.bytes_fetched)
        if not self.is_drawn:
            return
        self._console.width = self._columns
        self._live.update(self._line(progress, now), refresh=True)

    def line_above(self, text: str, colour: str = "") -> None:
        """Write a line above the one that is drawn; `text` may come from anywhere."""
        self._console.print(Text.from_ansi(self._terminal.styled(text, colour)), soft_wrap=True)

    def finish(self) -> None:
        """Take the line away. May be called again."""
        self._live.stop()

    @property
    def _columns(self) -> int:
        """How wide the line is: what a terminal shows of Ctrl+C has room behind it."""
        return max(1, self._terminal.columns - ECHO)

    def _line(self, progress: JobProgress, now: float) -> Table:
        """What fits into the terminal: a name or what is the matter, a bar, numbers."""
        columns = self._columns
        trouble = self._trouble(now, columns)
        if trouble and columns >= COLUMNS_FOR_ALL and progress.bytes_total and progress.bytes_done:
            trouble = f"{_part(progress.bytes_done, progress.bytes_total):.0%} done; {trouble}"
        numbers = trouble or self._numbers(progress, columns)
        left = columns - cell_len(numbers) - 1
        grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
        cells: list[Text | ProgressBar] = []
        title = self._title(progress, left if trouble else max(TITLE_MIN, left - BAR_MIN - 1))
        if left >= TITLE_MIN and title:
            grid.columns.append(Column(no_wrap=True))
            cells.append(Text(title))
            left -= cell_len(title) + 1
        if left >= BAR_MIN and not trouble:
            grid.columns.append(Column(ratio=1))
            cells.append(_bar(progress))
        grid.columns.append(Column(no_wrap=True, justify="right" if cells else "left"))
        style = "yellow" if trouble else ""
        cells.append(
            Text(set_cell_size(numbers, columns) if cell_len(numbers) > columns else numbers, style)
        )
        grid.add_row(*cells)
        return grid

    def _title(self, progress: JobProgress, columns: int) -> str:
        """What comes just now, in so many columns, the end of it rather than the beginning."""
        if not progress.current or columns < TITLE_MIN:
            return ""
        title = self._terminal.shown(format_path(progress.current[0]))
        if cell_len(title) <= columns:
            return title
        while cell_len(title) > columns - len(ELLIPSIS):
            title = title[max(1, (cell_len(title) - columns) // 2) :]
        return ELLIPSIS + title

    def _trouble(self, now: float, columns: int) -> str:
        """Why nothing comes, if so."""
        wide = columns >= COLUMNS_FOR_ALL
        peer = self._terminal.shown(self._peer)
        link = self._link
        if link is not None and link.state is LinkState.BROKEN:
            left = duration_text(max(1, round(self._linked + link.retry_in - now)))
            what = "the connection broke" if link.again else f"{peer} is not ready"
            return f"{what}, trying again in {left}" if wide else f"broken, again in {left}"
        since = max(0.0, now - self._linked)
        if link is None or link.state is LinkState.CONNECTING:
            if since < 1 or link is None:
                return f"connecting to {peer}" if wide else "connecting"
            return (
                f"connecting to {peer} for {since:.0f} s" if wide else f"connecting, {since:.0f} s"
            )
        quiet = self.pace.quiet(now)
        if quiet < QUIET_AFTER:
            return ""
        return f"no word from {peer} for {quiet:.0f} s" if wide else f"nothing for {quiet:.0f} s"

    def _numbers(self, progress: JobProgress, columns: int) -> str:
        """How much, how fast, how long: as much of it as there is room for."""
        rate, total = self.pace.rate, progress.bytes_total
        done = progress.files_done + progress.files_already_there
        wide = columns >= COLUMNS_FOR_ALL
        parts = []
        if progress.files_total is None:
            if done + progress.files_listed > 1:
                parts.append(f"{done} files" if wide else f"{done}")
        elif progress.files_total > 1:
            between = " of " if wide else "/"
            parts.append(f"{done}{between}{progress.files_total}{' files' if wide else ''}")
        if total is None:
            parts.append(size_text(progress.bytes_done))
        elif wide:
            parts.append(f"{size_text(progress.bytes_done)} of {size_text(total)}")
        else:
            parts.append(f"{_part(progress.bytes_done, total):.0%}")
        if rate and columns >= COLUMNS_FOR_RATE:
            parts.append(rate_text(rate))
        if rate and total is not None and wide:
            parts.append(f"{duration_text((total - progress.bytes_done) / rate)} left")
        return ", ".join(parts)


def _bar(progress: JobProgress) -> ProgressBar:
    if progress.bytes_total is None:
        return ProgressBar(total=1, completed=0)
    return ProgressBar(total=1, completed=_part(progress.bytes_done, progress.bytes_total))


def _part(done: int, total: int) -> float:
    return min(1.0, done / total) if total else 1.0
