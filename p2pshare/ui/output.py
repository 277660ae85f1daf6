"""What a verb says: sentences and tables for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from colorama import Fore

from p2pshare.errors import P2pshareError
from p2pshare.ui.terminal.capabilities import Terminal

FAILURES_SHOWN = 5  # of one kind that people see in full

if TYPE_CHECKING:  # what takes its time to import, where there may be nothing to show
    from p2pshare.ui.terminal.job_view import JobView


class LiveLine(Protocol):
    """A line that is drawn again and again, on stderr."""

    @property
    def is_drawn(self) -> bool:
        """Whether it is on the screen now."""
        ...

    def line_above(self, text: str, colour: str = "") -> None:
        """Write a line above it."""
        ...

    def finish(self) -> None:
        """Take it away."""
        ...


class Output:
    """Where a verb writes to.

    Args:
        stdout: results go here.
        stderr: progress, and errors for people, go here.
        json: write events instead of sentences and tables, errors too, all to stdout.
        quiet: write no sentences and no progress; results and errors remain.
    """

    def __init__(
        self, stdout: Terminal, stderr: Terminal, *, json: bool = False, quiet: bool = False
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._json = json
        self._quiet = quiet
        self._view: LiveLine | None = None
        self.on_event: Callable[[str, dict[str, object]], object] = lambda *_: None
        """Hears of each event, also where no program reads them."""
        self._complained = ""
        self._shown: Counter[str] = Counter()  # failures by kind
        self._not_shown: Counter[str] = Counter()

    def line(self, text: str, colour: str = "") -> None:
        """Say something to people; `colour` is one of colorama's codes."""
        if self._json or self._quiet:
            return
        if self._stdout.is_tty:
            self._write_above(self._stdout, text, colour)
        else:
            self._stdout.write_line(text, colour)

    def remark(self, text: str) -> None:
        """Say something to people that is no result, and so must not get into a pipe."""
        if not self._json and not self._quiet:
            self._write_above(self._stderr, text)

    def event(self, kind: str, /, **fields: object) -> None:
        """Tell programs that something happened, as `{"event": kind, …}`; paths become text."""
        self.on_event(kind, fields)
        if self._json:
            self._stdout.write_line(json.dumps({"event": kind, **fields}, default=str))

    def error(self, error: P2pshareError) -> None:
        """Say what went wrong: to people on stderr, to programs as an event."""
        self.event("error", **_told(error))
        self._complain(error)

    def failed(self, origin: str, error: P2pshareError) -> None:
        """Say that one of many things did not work, to programs as an event with what it was.

        People see the first `FAILURES_SHOWN` errors of each kind, and one that repeats itself once. `end_failures`
        counts the others.
        """
        self.event("failed", **{"from": origin}, **_told(error))
        kind = kind_of(error)
        if str(error) == self._complained or self._shown[kind] >= FAILURES_SHOWN:
            self._not_shown[kind] += 1
        else:
            self._shown[kind] += 1
            self._complain(error)

    def end_failures(self) -> None:
        """Say how many failures of each kind were not shown, and count from the beginning again."""
        if not self._json:
            for kind, count in self._not_shown.items():
                why = kind.removeprefix("remote_").replace("_", " ")
                text = f"p2pshare: {count} more failed ({why}); --json names each."
                self._write_above(self._stderr, text, Fore.RED)
        self._shown.clear()
        self._not_shown.clear()

    def result(self, text: str) -> None:
        """Show a line that was asked for, which stays with `--quiet`, to people."""
        if not self._json:
            self._stdout.write_line(text)

    def rows(self, rows: Iterable[Sequence[str]]) -> None:
        """Show rows of cells as they are read in a pipe: one a line, with tabs between the cells."""
        if self._json:
            return
        for row in rows:
            self._stdout.stream.write("\t".join(map(self._stdout.shown, row)) + "\n")
        self._stdout.stream.flush()

    def screen(self) -> Terminal | None:
        """The terminal that people read results on, if it is one."""
        return self._stdout if self._stdout.is_tty and not self._json else None

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing but results and errors."""
        return self._quiet

    def job(self, peer: str, clock_seconds: Callable[[], float]) -> JobView:
        """Return a view of a job with one peer. It draws nothing with --json and --quiet; `line` writes above it."""
        from p2pshare.ui.terminal.job_view import JobView

        view = JobView(self._stderr, peer, clock_seconds, silent=self._json or self._quiet)
        self._view = view
        return view

    def end_view(self) -> None:
        """Take away what is drawn, where a verb had no time to do so itself."""
        if self._view is not None:
            self._view.finish()
        self.end_failures()

    def _complain(self, error: P2pshareError) -> None:
        self._complained = str(error)
        if not self._json:
            self._write_above(self._stderr, f"p2pshare: {error}", Fore.RED)

    def _write_above(self, terminal: Terminal, text: str, colour: str = "") -> None:
        """Write a line to where a live one may be drawn."""
        if self._view is not None and self._view.is_drawn:
            self._view.line_above(text, colour)
        else:
            terminal.write_line(text, colour)


def _told(error: P2pshareError) -> dict[str, object]:
    return {"kind": kind_of(error), "message": str(error), "exit_code": error.exit_code}


def kind_of(error: P2pshareError) -> str:
    """The stable name of an error for programs, such as `name_taken`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
