"""The output of a verb: sentences and tables for people, or one JSON object per line for programs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from colorama import Fore

from p2pshare.errors import P2pshareError, WrongUsage
from p2pshare.ui.terminal.capabilities import Terminal

FAILURES_SHOWN = 5  # errors of one kind that are shown to people

if TYPE_CHECKING:  # slow to import, and often not needed
    from p2pshare.ui.terminal.graphics import ITerminalReactor
    from p2pshare.ui.terminal.job_view import JobView
    from p2pshare.ui.terminal.transfer_rows import TransferRows


class Output:
    """The streams of a verb.

    Args:
        stdout: the stream of results.
        stderr: the stream of progress, and of errors for people.
        json: write events to stdout instead of sentences, tables and errors.
        quiet: write only results and errors.
    """

    def __init__(
        self, stdout: Terminal, stderr: Terminal, *, json: bool = False, quiet: bool = False
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._json = json
        self._quiet = quiet
        self._view: JobView | TransferRows | None = None
        self.on_event: Callable[[str, dict[str, object]], object] = lambda *_: None
        """Is called with each event, even if no program reads them."""
        self._knows_graphics = False
        self._complained = ""
        self._shown: Counter[str] = Counter()  # failures by kind
        self._not_shown: Counter[str] = Counter()

    def give_stdout(self) -> int:
        """Return the descriptor of stdout for the bytes of a file; all else goes to stderr from now on.

        Raises:
            WrongUsage: stdout is a terminal, which would obey control characters in the file.
        """
        if self._stdout.is_tty:
            reason = "Standard output is a terminal, which the content of a file may control."
            raise WrongUsage(
                reason=f"{reason} Use a pipe or a file, such as `get PEER:FILE - | less`."
            )
        self._stdout.stream.flush()
        fd = self._stdout.stream.fileno()
        self._stdout = self._stderr
        return fd

    def line(self, text: str, colour: str = "") -> None:
        """Write a sentence for people; `colour` is a code of colorama."""
        if self._json or self._quiet:
            return
        if self._stdout.is_tty:
            self._write_above(self._stdout, text, colour)
        else:
            self._stdout.write_line(text, colour)

    def remark(self, text: str) -> None:
        """Write a sentence for people to stderr, since it is not a result and must not get into a pipe."""
        if not self._json and not self._quiet:
            self._write_above(self._stderr, text)

    def event(self, kind: str, /, **fields: object) -> None:
        """Write `{"event": kind, …}` for programs; paths become text."""
        self.on_event(kind, fields)
        if self._json:
            self._stdout.write_line(json.dumps({"event": kind, **fields}, default=str))

    def error(self, error: P2pshareError) -> None:
        """Write an error: a sentence on stderr for people, an event for programs."""
        self.event("error", **_fields_of(error))
        self._complain(error)

    def failed(self, origin: str, error: P2pshareError) -> None:
        """Write the error of one of many items, which is `origin`.

        People see the first `FAILURES_SHOWN` errors of each kind, and the same sentence only once. `end_failures`
        writes the number of the others.
        """
        self.event("failed", **{"from": origin}, **_fields_of(error))
        kind = kind_of(error)
        if str(error) == self._complained or self._shown[kind] >= FAILURES_SHOWN:
            self._not_shown[kind] += 1
        else:
            self._shown[kind] += 1
            self._complain(error)

    def end_failures(self) -> None:
        """Write how many errors of each kind were not shown, and reset the counts."""
        if not self._json:
            for kind, count in self._not_shown.items():
                why = kind.removeprefix("remote_").replace("_", " ")
                text = f"p2pshare: {count} more failed ({why}); --json lists all."
                self._write_above(self._stderr, text, Fore.RED)
        self._shown.clear()
        self._not_shown.clear()

    def result(self, text: str) -> None:
        """Write a result for people, also with `--quiet`."""
        if not self._json:
            self._stdout.write_line(text)

    def rows(self, rows: Iterable[Sequence[str]]) -> None:
        """Write rows for a pipe: one per line, with tabs between the cells."""
        if self._json:
            return
        for row in rows:
            self._stdout.stream.write("\t".join(map(self._stdout.shown, row)) + "\n")
        self._stdout.stream.flush()

    def screen(self) -> Terminal | None:
        """Return the terminal on which people read results; None if there is none."""
        return self._stdout if self._stdout.is_tty and not self._json else None

    @property
    def shows_pictures(self) -> bool:
        """Whether the view of a job can show pictures, as far as `detect_graphics` was awaited."""
        return self._stderr.shows_pictures and not self._json and not self._quiet

    async def detect_graphics(
        self, reactor: ITerminalReactor, choice: str, environ: Mapping[str, str]
    ) -> None:
        """Ask the terminal once how it shows pictures, if people see it; see `p2pshare.ui.terminal.graphics`."""
        is_seen = self._stderr.redraws and not self._json and not self._quiet
        if is_seen and not self._knows_graphics:
            self._knows_graphics = True
            from p2pshare.ui.terminal.graphics import detect_graphics

            graphics = await detect_graphics(reactor, self._stderr, choice, environ)
            self._stderr = replace(self._stderr, graphics=graphics)

    @property
    def is_quiet(self) -> bool:
        """Whether only results and errors are written."""
        return self._quiet

    def job(self, peer: str, clock_seconds: Callable[[], float]) -> JobView:
        """Return a view of a job with one peer; `line` writes above it.

        It draws nothing with --json and --quiet, nor on a terminal to which the bytes of a file are written.
        """
        from p2pshare.ui.terminal.job_view import JobView

        silent = self._json or self._quiet
        view = JobView(self._stderr, peer, clock_seconds, silent=silent)
        self._view = view
        return view

    def transfer_rows(self) -> TransferRows:
        """Return a view of transfers with several people; it draws nothing with --json and --quiet."""
        from p2pshare.ui.terminal.transfer_rows import TransferRows

        view = TransferRows(self._stderr, silent=self._json or self._quiet)
        self._view = view
        return view

    def end_view(self) -> None:
        """Erase the progress line, after a verb that had no time to do so."""
        if self._view is not None:
            self._view.finish()
        self.end_failures()

    def _complain(self, error: P2pshareError) -> None:
        self._complained = str(error)
        if not self._json:
            self._write_above(self._stderr, f"p2pshare: {error}", Fore.RED)

    def _write_above(self, terminal: Terminal, text: str, colour: str = "") -> None:
        """Write a line, above the progress line if that is drawn."""
        if self._view is not None and self._view.is_drawn:
            self._view.line_above(text, colour)
        else:
            terminal.write_line(text, colour)


def _fields_of(error: P2pshareError) -> dict[str, object]:
    return {"kind": kind_of(error), "message": str(error), "exit_code": error.exit_code}


def kind_of(error: P2pshareError) -> str:
    """Return the stable name of an error for programs, such as `name_taken`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
