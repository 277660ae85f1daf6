"""The view of a job: one line that is redrawn in place from the start of the job to its end.

Rules of the line:

* It is always true. It shows the progress only while bytes arrive. While the connection is being made, is broken, or is
  silent for `QUIET_AFTER`, it says so instead.
* It never wraps: a wrapped line could not be erased (see `live_line`). Each part has a width, and parts are left out
  until the rest fits. Every width is measured in cells, as a wide character takes two.
* Parts are left out in this order: size, files per second, time left, rate, count. The percentage always stays. The
  name of the current file and the bar share what is left; below `TITLE_MIN` and `BAR_MIN` columns they are left out.
* The rate covers `RATE_OVER` seconds. A mean over the whole job reacts too slowly, and over one second it jumps. It
  starts again with each connection, as the old rate says nothing about the new path.
* The time left is that of the bytes or of the files, whichever is longer: many small files cost round trips, not bytes.
* Where a line cannot be redrawn, nothing is drawn.

Nothing here has a thread or a timer: the caller decides when to draw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.live_line import LiveLine
from p2pshare.wire.paths import format_path
from p2pshare.wire.quantities import duration_text, rate_text, size_text

if TYPE_CHECKING:  # numpy takes its time to import, and sessions have no use for it
    import numpy as np
    import numpy.typing as npt

    from p2pshare.pictures.pixels import Pixels
    from p2pshare.ui.terminal.drawn_picture import DrawnPicture
    from p2pshare.ui.terminal.growing_picture import GrowingPicture

RATE_OVER = 5.0  # seconds
SAMPLES_MAX = 256  # samples of the progress
QUIET_AFTER = 3.0  # seconds without a byte
COLUMNS_FOR_ALL = 72  # columns from which on words are not abbreviated
COLUMNS_FOR_RATE = 30  # columns from which on the rate is shown
TITLE_MIN = 8  # columns
BAR_MIN = 6  # columns
BAR_WIDE = 20  # columns of the bar if words are not abbreviated
MANY_FILES = 100  # files from which on their rate says more than the name of one of them
PATH_SHOWN = 3.0  # seconds after a session was opened, in which the line shows its path
ELLIPSIS = "~"


class Pace:
    """How fast bytes and files arrive, over the last few seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int, int]] = deque(maxlen=SAMPLES_MAX)
        self._moved: float | None = None

    def note(self, now: float, fetched: int, files: int = 0, failed: int = 0) -> None:
        """Add a sample: the bytes and files that arrived until now, and the files that failed."""
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
        """Return the seconds since something arrived, or since the start."""
        return 0.0 if self._moved is None else now - self._moved

    def begin_again(self, now: float) -> None:
        """Forget the samples, as the connection is a new one."""
        self._samples.clear()
        self._moved = now

    def _rate(self, what: int) -> float:
        if len(self._samples) < 2:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        return (last[what] - first[what]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


class JobView:
    """What a user sees of a job with one peer.

    Call `start`, then `update` to draw, and `finish` in any case: until then the cursor is hidden.
    """

    def __init__(
        self,
        terminal: Terminal,
        peer: str,
        clock_seconds: Callable[[], float],
        *,
        silent: bool = False,
    ) -> None:
        """Draw on `terminal`, unless `silent`; `peer` is the name of the sharer."""
        self._terminal = terminal
        self._peer = peer
        self._seconds = clock_seconds
        self._live = LiveLine(terminal)
        self._redraws = terminal.redraws and not silent
        self._link: LinkChange | None = None
        self._linked = 0.0  # when that was
        self._picture: GrowingPicture | None = None
        self.pace = Pace()

    def start(self) -> None:
        """Begin."""
        if self._redraws:
            self._live.start()

    @property
    def is_drawn(self) -> bool:
        """Whether the line is on the screen now."""
        return self._live.is_drawn

    def link(self, change: LinkChange) -> None:
        """Note the state of the connection."""
        self._link, self._linked = change, self._seconds()
        self.pace.begin_again(self._linked)

    def update(self, progress: JobProgress) -> None:
        """Draw the line."""
        now = self._seconds()
        self.pace.note(now, progress.bytes_fetched, progress.files_done, progress.files_failed)
        if self.is_drawn:
            self._live.draw(self._line(progress, now))

    def show_picture(self, pixels: Pixels, have: npt.NDArray[np.bool_]) -> None:
        """Show what has arrived of a picture above the line, if that is more than at the last call.

        Args:
            pixels: the picture; it may change while its rows arrive.
            have: which of its rows have arrived, shape (height,); it may change, too.
        """
        if not self._can_show:
            return
        if self._picture is None or self._picture.pixels is not pixels:
            from p2pshare.ui.terminal.growing_picture import GrowingPicture

            self._picture = GrowingPicture(self._terminal, pixels, have)
        for line in self._picture.new_lines():
            self._live.above(line)
        if (drawn := self._picture.drawn_again()) is not None:
            self._live.picture(drawn)

    def draw_image(self, pixels: Pixels, *, enlarged: bool = False) -> DrawnPicture:
        """Return a picture for `show_image`; this takes up to a second, and may run in a thread.

        Args:
            pixels: the whole picture.
            enlarged: whether it is the preview of a larger picture, and shown as large as that.
        """
        from p2pshare.ui.terminal.drawn_picture import draw_picture

        return draw_picture(self._terminal, pixels, enlarged=enlarged)

    def show_image(self, picture: DrawnPicture) -> None:
        """Write a picture above the line, in place of the one before if nothing was written since."""
        if self._can_show:
            self._live.picture(picture)

    @property
    def _can_show(self) -> bool:
        return self.is_drawn and self._terminal.shows_pictures

    def line_above(self, text: str, colour: str = "") -> None:
        """Write a line of text, from any source, above the line that is drawn."""
        self._live.above(self._terminal.styled(text, colour))

    def finish(self) -> None:
        """Erase the line. May be called again."""
        self._live.stop()

    def _line(self, progress: JobProgress, now: float) -> Table:
        """Return what fits into the terminal: the current file, a bar and numbers, or why nothing arrives."""
        columns = self._live.columns
        trouble = self._trouble(now, columns, progress.held_elsewhere)
        if trouble and columns >= COLUMNS_FOR_ALL and progress.bytes_total and progress.bytes_done:
            trouble = f"{_part(progress):.0%} done; {trouble}"
        bar = BAR_WIDE if columns >= COLUMNS_FOR_ALL else BAR_MIN
        numbers = trouble or self._path(progress, now, columns)
        numbers = numbers or self._numbers(progress, columns, bar)
        left = columns - cell_len(numbers) - 1
        grid = Table.grid(
            expand=True
        )  # padding=0, as rich adds padding at the end of the line, too
        cells: list[Text | ProgressBar] = []
        title = self._title(progress, left if trouble else left - bar - 1)
        if title:
            grid.columns.append(Column(no_wrap=True))
            cells.append(Text(f"{title} "))
            left -= cell_len(title) + 1
        if left >= BAR_MIN and not trouble:
            grid.columns.append(Column(ratio=1))
            part = _part(progress) if progress.bytes_total is not None else 0.0
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
        """Return the path of the current file; if it is too long, its end."""
        if not progress.current or columns < TITLE_MIN:
            return ""
        title = self._terminal.shown(format_path(progress.current[0]))
        if cell_len(title) <= columns:
            return title
        while cell_len(title) > columns - len(ELLIPSIS):
            title = title[max(1, (cell_len(title) - columns) // 2) :]
        return ELLIPSIS + title

    def _trouble(self, now: float, columns: int, held_elsewhere: int) -> str:
        """Return why nothing arrives, or ""; `held_elsewhere` files wait for another process."""
        wide = columns >= COLUMNS_FOR_ALL
        peer = self._terminal.shown(self._peer)
        link = self._link
        if link is not None and link.awaits_acceptance:
            return f"waiting until {peer} accepts your key" if wide else "waiting for consent"
        if link is not None and link.state is LinkState.BROKEN:
            left = duration_text(max(1, round(self._linked + link.retry_in - now)))
            what = "the connection broke" if link.again else f"{peer} is not ready"
            return f"{what}, trying again in {left}" if wide else f"broken, again in {left}"
        if link is None or link.state is LinkState.CONNECTING:
            since = max(0.0, now - self._linked) if link is not None else 0.0
            what = f"connecting to {peer}" if wide else "connecting"
            if since < 1:
                return what
            return f"{what} for {since:.0f} s" if wide else f"{what}, {since:.0f} s"
        quiet = self.pace.quiet(now)
        if quiet < QUIET_AFTER:
            return ""
        if held_elsewhere:
            return "waiting for another process that fetches the same" if wide else "waiting"
        return f"nothing from {peer} for {quiet:.0f} s" if wide else f"nothing for {quiet:.0f} s"

    def _path(self, progress: JobProgress, now: float, columns: int) -> str:
        """Return the path of a session that was just opened, and "" later or where it has no room."""
        if self._link is None or self._link.path is None or now - self._linked >= PATH_SHOWN:
            return ""
        part = f"{_part(progress):.0%}, " if progress.bytes_total is not None else ""
        text = f"{part}{self._link.path}"
        return text if cell_len(text) + BAR_MIN < columns else ""

    def _numbers(self, progress: JobProgress, columns: int, bar: int) -> str:
        """Return as many numbers as fit beside a bar, and beside a name if names are shown."""
        wide = columns >= COLUMNS_FOR_ALL
        files, known = _files(progress), progress.bytes_total is not None
        done = progress.files_done + progress.files_already_there
        parts = dict.fromkeys(("part", "count", "size", "files_rate", "rate", "left", "via"), "")
        if known:
            parts["part"] = f"{_part(progress):.0%}"
        if files > 1 or progress.files_total is None:
            total = f"{files}{'' if progress.files_total is not None else '+'}"
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
        if wide and self._link is not None and self._link.path is not None:
            parts["via"] = f"via {self._link.path.carrier}"
        room = columns - bar - 1
        if files < MANY_FILES and progress.current:
            room -= TITLE_MIN + 1
        kept = set[str]()
        for name in ("part", "count", "rate", "left", "files_rate", "size", "via"):
            if parts[name] and (not kept or cell_len(_joined(parts, kept | {name})) <= room):
                kept.add(name)
        return _joined(parts, kept)

    def _seconds_left(self, progress: JobProgress) -> float | None:
        """Return how long the rest takes at the present rates; None if nothing arrives."""
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
    """Return two sizes as one: `1.5/2.0 MiB`."""
    (amount, unit), (_, total_unit) = done.split(), total.split()
    return f"{amount}/{total}" if unit == total_unit else f"{done}/{total}"


def _files(progress: JobProgress) -> int:
    """Return the number of files, as far as it is known."""
    return progress.files_listed if progress.files_total is None else progress.files_total


def _part(progress: JobProgress) -> float:
    """Return the part that is done: of the bytes, or of the files if all of them are empty."""
    if progress.bytes_total:
        return min(1.0, progress.bytes_done / progress.bytes_total)
    done, files = progress.files_done + progress.files_already_there, _files(progress)
    return min(1.0, done / files) if files else 1.0
