"""A whole job on its way: one line that is drawn again and again, from the first word to the last file.

It always says something that is true now: how far the job is, that nothing comes, or that the connection broke and when
it is tried again. Nothing here has a thread or a timer: the caller says when to draw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rich.cells import cell_len, set_cell_size
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.ui.numbers import duration_text, rate_text, size_text
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.live_line import LiveLine
from p2pshare.wire.paths import format_path

RATE_OVER = 5.0  # seconds over which the rate is taken
SAMPLES_MAX = 256  # of how much had come at a time
QUIET_AFTER = 3.0  # seconds without a byte from which on that is said
COLUMNS_FOR_ALL = 72  # from here on there is room for whole words
COLUMNS_FOR_RATE = 30  # from here on there is room for a rate
TITLE_MIN = 8  # columns of a name, or there is none
BAR_MIN = 6  # columns of a bar, or there is none
BAR_WIDE = 20  # columns of a bar where there is room for whole words
MANY_FILES = 100  # files from which on their number per second says more than the name of one
ELLIPSIS = "~"


class Pace:
    """How fast bytes and files come, taken over the last few seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int, int]] = deque(maxlen=SAMPLES_MAX)
        self._moved: float | None = None

    def note(self, now: float, fetched: int, files: int = 0, failed: int = 0) -> None:
        """So many bytes and files have come until now, and so many files failed."""
        if not self._samples or (fetched, files, failed) != self._samples[-1][1:]:
            self._moved = now
        self._samples.append((now, fetched, files, failed))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_OVER:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self._rate(1)

    @property
    def files_rate(self) -> float:
        """Files per second."""
        return self._rate(2)

    def quiet(self, now: float) -> float:
        """Seconds since something came, or since the beginning."""
        return 0.0 if self._moved is None else now - self._moved

    def begin_again(self, now: float) -> None:
        """The connection is another one: what was before says nothing of how fast it will be."""
        self._samples.clear()
        self._moved = now

    def _rate(self, what: int) -> float:
        if len(self._samples) < 2:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        return (last[what] - first[what]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


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
        self._live = LiveLine(terminal)
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
        return self._live.is_drawn

    def link(self, change: LinkChange) -> None:
        """Know how it stands with the session."""
        self._link, self._linked = change, self._seconds()
        self.pace.begin_again(self._linked)

    def update(self, progress: JobProgress) -> None:
        """Draw the line again."""
        now = self._seconds()
        self.pace.note(now, progress.bytes_fetched, progress.files_done, progress.files_failed)
        if self.is_drawn:
            self._live.draw(self._line(progress, now))

    def line_above(self, text: str, colour: str = "") -> None:
        """Write a line above the one that is drawn; `text` may come from anywhere."""
        self._live.above(self._terminal.styled(text, colour))

    def finish(self) -> None:
        """Take the line away. May be called again."""
        self._live.stop()

    def _line(self, progress: JobProgress, now: float) -> Table:
        """What fits into the terminal: a name or what is the matter, a bar, numbers."""
        columns = self._live.columns
        trouble = self._trouble(now, columns, progress.held_elsewhere)
        if trouble and columns >= COLUMNS_FOR_ALL and progress.bytes_total and progress.bytes_done:
            trouble = f"{_part(progress):.0%} done; {trouble}"
        bar = BAR_WIDE if columns >= COLUMNS_FOR_ALL else BAR_MIN
        numbers = trouble or self._numbers(progress, columns, bar)
        left = columns - cell_len(numbers) - 1
        grid = Table.grid(expand=True)  # without padding, since rich leaves room for it at the end
        cells: list[Text | ProgressBar] = []
        title = self._title(progress, left if trouble else left - bar - 1)
        if title:
            grid.columns.append(Column(no_wrap=True))
            cells.append(Text(f"{title} "))
            left -= cell_len(title) + 1
        if left >= BAR_MIN and not trouble:
            grid.columns.append(Column(ratio=1))
            part = _part(progress) if progress.files_total is not None else 0.0
            cells.append(ProgressBar(total=1, completed=part))
        grid.columns.append(Column(no_wrap=True, justify="right" if cells else "left"))
        numbers = f" {numbers}" if cells else numbers
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

    def _trouble(self, now: float, columns: int, held_elsewhere: int) -> str:
        """Why nothing comes, if so; so many files wait for another process."""
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
        if held_elsewhere:
            return "waiting for another process that fetches the same" if wide else "waiting"
        return f"no word from {peer} for {quiet:.0f} s" if wide else f"nothing for {quiet:.0f} s"

    def _numbers(self, progress: JobProgress, columns: int, bar: int) -> str:
        """How much, how fast, how long: as much of it as there is room for beside a bar, and a name if it matters."""
        wide = columns >= COLUMNS_FOR_ALL
        files, known = _files(progress), progress.files_total is not None
        done = progress.files_done + progress.files_already_there
        parts = dict.fromkeys(("part", "count", "size", "files_rate", "rate", "left"), "")
        if known:
            parts["part"] = f"{_part(progress):.0%}"
        if files > 1 or not known:
            total = f"{files}{'' if known else '+'}"
            parts["count"] = f"{done}/{total}{' files' if wide else ''}"
        size = size_text(progress.bytes_done)
        if not known:
            parts["size"] = size
        elif wide and progress.bytes_total is not None:
            parts["size"] = _of(size, size_text(progress.bytes_total))
        if self.pace.rate and columns >= COLUMNS_FOR_RATE:
            parts["rate"] = rate_text(self.pace.rate)
        if self.pace.files_rate and wide and files >= MANY_FILES:
            parts["files_rate"] = f"{self.pace.files_rate:.0f} files/s"
        if known and wide and (seconds := self._seconds_left(progress)) is not None:
            parts["left"] = f"{duration_text(seconds)} left"
        room = columns - bar - 1
        if files < MANY_FILES and progress.current:
            room -= TITLE_MIN + 1
        kept = set[str]()
        for name in ("part", "count", "rate", "left", "files_rate", "size"):
            if parts[name] and (not kept or cell_len(_joined(parts, kept | {name})) <= room):
                kept.add(name)
        return _joined(parts, kept)

    def _seconds_left(self, progress: JobProgress) -> float | None:
        """How long the rest takes, if bytes and files go on to come as they do; None if they do not come."""
        pace, seconds = self.pace, list[float]()
        if pace.rate:
            seconds.append(((progress.bytes_total or 0) - progress.bytes_done) / pace.rate)
        if pace.files_rate and (files := _files(progress)) >= MANY_FILES:
            done = progress.files_done + progress.files_already_there + progress.files_failed
            seconds.append((files - done) / pace.files_rate)
        return max(0.0, *seconds) if seconds else None


def _joined(parts: dict[str, str], kept: set[str]) -> str:
    return ", ".join(text for name, text in parts.items() if name in kept)


def _of(done: str, total: str) -> str:
    """Two sizes as one: `1.5/2.0 MiB`."""
    (amount, unit), (_, total_unit) = done.split(), total.split()
    return f"{amount}/{total}" if unit == total_unit else f"{done}/{total}"


def _files(progress: JobProgress) -> int:
    """Files of the job, as far as they are known."""
    return progress.files_listed if progress.files_total is None else progress.files_total


def _part(progress: JobProgress) -> float:
    """How much is done: of the bytes, or of the files if all of them are empty."""
    if progress.bytes_total:
        return min(1.0, progress.bytes_done / progress.bytes_total)
    done, files = progress.files_done + progress.files_already_there, _files(progress)
    return min(1.0, done / files) if files else 1.0
