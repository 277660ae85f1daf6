"""The start of a service in the background, watched by the command that the user typed.

Theory of operation
-------------------
`twistd` without `-n` forks a daemon and ends as soon as the services were told to start. Ours are ready only later: a
peer when its name is registered, a registry when its store answers. twistd has a pipe from the daemon to its parent,
but that pipe carries one message of 100 bytes, which the parent shows as `An error has occurred: b'...'` and turns into
exit code 1. Neither the sentence nor the exit code of one of our errors fits through it.

So `makeService`, the last step that twistd leaves to us before it forks, calls `into_background`. That forks once more:

* The **child** goes on as twistd, daemonizes, and tells how the start goes, on a pipe of our own, by a `Launch`.
* The **parent** is the process that the user waits for. `_Watch` reads the pipe, prints what it says, and ends with
  the exit code of the start.

The pipe's writing end is inherited by twistd's own forks, but not by programs that are executed. So the pipe ends when
the daemon does, however it dies, and the parent never waits for a process that is gone. The wait has a bound besides,
`START_WAIT_MAX`: a peer whose registry is away tries again for ever, which is what it is meant to do after a boot. The
parent then says so and leaves the daemon running. What keeps a service waiting is in its log, as a warning. So until
the service is ready, each kind of warning is also shown to the user, once.

Ctrl+C and SIGTERM in the parent end the start: the daemon has a session of its own and gets no signal from the
terminal. A parent that is killed tells nobody, and the daemon goes on.

In the foreground there is no pipe. Then a `Launch` only repeats, as the last line on standard error, why the service
ended.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from p2pshare.errors import P2pshareError, StartNotFinished
from p2pshare.net.logs import Line

START_WAIT_MAX = 20.0  # seconds that the command waits for its service
END_WAIT_MAX = 4.0  # seconds that it waits for a service that has failed, or was told to stop
WARNINGS_MAX = 10  # of different kinds that are shown to the user
TEXT_MAX = 1800  # bytes of a sentence, so that a report is one piece in the pipe: of up to PIPE_BUF, 4096 bytes
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Background:
    """What a user has to know about a service in the background."""

    command: str
    """Which service, as twistd calls it."""
    log: str
    """Where its log is."""
    stop: str
    """The command that ends it."""


@implementer(ILogObserver)
class Launch:
    """Tells the command that has started a service how the start goes. In the foreground nobody waits."""

    def __init__(self, command: str, pipe: int | None = None) -> None:
        self._command = command
        self._pipe = pipe
        self._in_foreground = pipe is None
        self._warned: set[object] = set()
        if pipe is not None:
            os.set_blocking(pipe, False)

    def begun(self) -> None:
        """Tell the number of this process, which is the daemon, and from now on what its log warns of."""
        if self._pipe is not None:
            globalLogPublisher.addObserver(self)
            self._tell(pid=os.getpid())

    def __call__(self, event: LogEvent) -> None:
        """Tell a warning of the log, one of each kind."""
        if event.get("log_level") in (LogLevel.warn, LogLevel.error):
            kind = event.get("log_format")
            if kind not in self._warned and len(self._warned) < WARNINGS_MAX:
                self._warned.add(kind)
                self._tell(warning=Line.of(event).message)

    def ready(self, sentence: str) -> None:
        """Tell that the service is ready; `sentence` says what runs, without a full stop."""
        self._tell(ready=sentence)
        self._close()

    def failed(self, error: P2pshareError) -> None:
        """Tell that the service ends because of an error."""
        if not self._in_foreground:
            self._tell(failed=str(error), code=error.exit_code)
            self._close()
        elif error.exit_code:
            # At the very end, so that no line of the log comes behind it. twistd has put the log in place of
            # sys.stderr.
            atexit.register(_write, sys.__stderr__, f"{self._command}: {error}\n")

    def _tell(self, **report: object) -> None:
        if self._pipe is None:
            return
        try:
            short = {
                key: _cut(each) if isinstance(each, str) else each for key, each in report.items()
            }
            os.write(self._pipe, json.dumps(short, ensure_ascii=False).encode() + b"\n")
        except BlockingIOError:
            pass  # the parent is stopped: it misses a remark
        except OSError:
            self._close()  # the parent has left

    def _close(self) -> None:
        if self._pipe is not None:
            globalLogPublisher.removeObserver(self)
            os.close(self._pipe)
            self._pipe = None


def into_background(about: Background, wait_max: float = START_WAIT_MAX) -> Launch:
    """Return in a child process, which goes on to become the service; this process ends when the service is ready."""
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()  # or both processes write what is left in it
    child = os.fork()
    if child:
        os.close(writing)
        _watch_and_exit(about, reading, child, wait_max)
    os.close(reading)
    return Launch(about.command, writing)


def _watch_and_exit(about: Background, pipe: int, child: int, wait_max: float) -> NoReturn:
    """Watch the start, and end this process without a trace of the service that it has prepared."""
    code = 1
    try:
        code = _Watch(about, pipe, child, time.monotonic).run(wait_max)
    finally:
        os._exit(code)


class _Signalled(BaseException):
    """A signal that ends the wait."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


class _Watch:
    """What the waiting command does."""

    def __init__(
        self, about: Background, pipe: int, child: int, clock: Callable[[], float]
    ) -> None:
        """Watch the start of a service.

        Args:
            about: the service.
            pipe: on which it reports.
            child: the process that becomes twistd, and ends when the daemon has begun.
            clock: seconds.
        """
        self._about = about
        self._pipe = pipe
        self._child = child
        self._clock = clock
        self._rest = b""
        self._pid: int | None = None

    def run(self, wait_max: float) -> int:
        """Wait until the service is ready, has failed, or takes too long; returns the exit code."""
        for number in _SIGNALS:
            signal.signal(number, _raise)
        try:
            return self._wait(self._clock() + wait_max, wait_max)
        except _Signalled as signalled:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._end_service()
            return signalled.exit_code

    def _wait(self, deadline: float, wait_max: float) -> int:
        while (report := self._next_report(deadline)) is not None:
            match report:
                case {"pid": int(pid)}:
                    self._pid = pid
                case {"warning": str(text)}:
                    self._remark(text)
                case {"ready": str(sentence)}:
                    self._announce(sentence)
                    return 0
                case {"failed": str(sentence), "code": int(code)}:
                    self._await_end()
                    if code:
                        self._remark(sentence)
                    return code
                case {}:
                    return self._ended()
        late = StartNotFinished(
            seconds=f"{wait_max:g}", pid=self._pid, log=self._about.log, stop=self._about.stop
        )
        self._remark(str(late))
        return late.exit_code

    def _announce(self, sentence: str) -> None:
        about = self._about
        told = f"{sentence}, in the background as process {self._pid}."
        _write(sys.stdout, f"{told} Log: {about.log}. Stop it with: {about.stop}\n")

    def _ended(self) -> int:
        """The exit code of a service that has ended without a word on the pipe."""
        _, status = os.waitpid(self._child, 0)
        code = os.waitstatus_to_exitcode(status)
        if self._pid is None and code > 0:
            return code  # it ended before it left the terminal, and has said why
        self._remark(f"The service ended before it was ready: see its log, {self._about.log}.")
        return 1

    def _end_service(self) -> None:
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
            self._await_end()
        self._remark("Stopped before it was ready.")

    def _await_end(self) -> None:
        """Wait until the service has given everything free: then the same command can be tried again at once."""
        deadline = self._clock() + END_WAIT_MAX
        while self._next_report(deadline):
            pass

    def _next_report(self, deadline: float) -> dict[str, Any] | None:
        """The next report; an empty one is the end of the service, and None that of the time."""
        while b"\n" not in self._rest:
            left = deadline - self._clock()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                return None
            data = os.read(self._pipe, 4096)
            if not data:
                return {}
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        report: dict[str, Any] = json.loads(line)
        return report

    def _remark(self, text: str) -> None:
        _write(sys.stderr, f"{self._about.command}: {text}\n")


def _cut(text: str) -> str:
    return text.encode("utf-8", "backslashreplace")[:TEXT_MAX].decode("utf-8", "ignore")


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Signalled(number)


def _write(stream: TextIO | None, text: str) -> None:
    """Write for people; a terminal that is gone changes nothing."""
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.write(text)
            stream.flush()
