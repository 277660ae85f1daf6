"""Desktop notifications by the program `notify-send`, if there is one.

What a notification tells comes from other people, so it is shown as plain text: control and bidirectional characters
are escaped, markup is quoted, and no text can be taken for an option. A failure is logged, and disturbs nothing. A
sender of many files costs a few notifications, not one for each.
"""

from __future__ import annotations

import html
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from p2pshare.net.child_process import ChildProcess, Program
from p2pshare.wire.display import display

PROGRAM = "notify-send"
SHOWN_MAX = 5  # notifications in `SHOWN_TIME`
SHOWN_TIME = 60.0  # seconds
RUNNING_MAX = 2  # programs that run at once; usually one ends within milliseconds
RUN_MAX = 10.0  # seconds until one that does not end is ended
END_TIMEOUT = 0.5  # seconds from SIGTERM to SIGKILL
TITLE_MAX = 100  # characters of the title
LINE_MAX = 200  # characters of a line below it


class Notifier:
    """Shows notifications to the user of this machine."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        find: Callable[[str], str | None] = shutil.which,
        *,
        shown_max: int = SHOWN_MAX,
    ) -> None:
        """Show up to `shown_max` notifications in `SHOWN_TIME`; `find` returns the path of a program."""
        self._reactor = reactor
        self._find = find
        self._shown: deque[float] = deque(maxlen=shown_max)  # when, in seconds of the reactor
        self._running: set[ChildProcess] = set()
        self._is_stopped = False
        self.dropped = 0
        """Notifications that were not shown, because there were too many."""

    def show(self, title: str, *lines: str) -> None:
        """Show lines of text below a title, unless there were too many of late, or the program is missing."""
        program = None if self._is_stopped else self._find(PROGRAM)
        if program is None:
            return
        now = self._reactor.seconds()
        is_full = len(self._shown) == self._shown.maxlen and now - self._shown[0] < SHOWN_TIME
        if is_full or len(self._running) >= RUNNING_MAX:
            self.dropped += 1
            return
        self._shown.append(now)
        words = [
            "--app-name=p2pshare",
            "--",
            _plain(title, TITLE_MAX),
            "\n".join(map(_body, lines)),
        ]
        child = ChildProcess(self._reactor, lambda line: self._log.debug("{line}", line=line))
        self._running.add(child)
        timer = self._reactor.callLater(RUN_MAX, self._end, child)

        def ended(reason: str) -> None:
            self._running.discard(child)
            if timer.active():
                timer.cancel()
            if reason != "exit code 0":
                self._log.info(
                    "notification failed: program={program} why={why}", program=program, why=reason
                )

        child.ended.addCallback(ended)
        child.start(Program([str(Path(program).absolute()), *words]))

    async def finish(self) -> None:
        """Wait until all programs have ended, which takes at most `RUN_MAX`."""
        running: list[Deferred[str]] = [Deferred() for _ in self._running]
        for child, gone in zip(self._running, running, strict=True):
            child.ended.chainDeferred(gone)
        await gatherResults(running)

    async def stop(self) -> None:
        """End the programs that run, and show nothing more."""
        self._is_stopped = True
        await gatherResults([self._end(each) for each in list(self._running)])

    def _end(self, child: ChildProcess) -> Deferred[None]:
        return Deferred.fromCoroutine(child.end(END_TIMEOUT))


def _plain(text: str, most: int) -> str:
    """Return text in which nothing has an effect, cut to so many characters."""
    shown = display(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _body(text: str) -> str:
    """Return a line of the body. The desktop takes it for markup, and `notify-send` obeys backslashes in it."""
    return html.escape(_plain(text, LINE_MAX), quote=False).replace("\\", "\\\\")
