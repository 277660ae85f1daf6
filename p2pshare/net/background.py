"""Starting a service in the background, while the command that the user typed waits for the result.

Theory of operation
-------------------
Without `-n`, `twistd` forks a daemon and exits as soon as the services are started. Ours are ready later: a peer when
its name is registered, a registry when its store answers. twistd has a pipe from the daemon to its parent, but that
pipe carries one message of 100 bytes. The parent prints it as `An error has occurred: b'...'` and exits with 1. If the
daemon dies without a message, the parent waits for ever, because it keeps the writing end open.

So `makeService`, the last step before twistd would fork, calls `into_background` with a complete service. That function
forks in place of twistd, which then runs the service as with `-n`:

* The **daemon** has a session of its own and no terminal. A `Launch` reports on a pipe how the start goes.
* The **parent** is the process that the user waits for. `_Watch` reads the pipe, prints the reports, and exits with the
  exit code of the start.

Only the daemon has the writing end: programs that it starts do not inherit it. So the pipe ends when the daemon dies,
and the parent never waits for a dead process. The wait also has a bound, `START_WAIT_MAX`. A peer whose registry is
away retries for ever, which is right after a boot; the parent then says so and leaves the daemon running. The reasons
to wait are warnings of the log, so until the service is ready each kind of warning is shown to the user once.

Ctrl+C and SIGTERM in the parent end the start. The daemon gets no signal from the terminal, so the parent passes it on.
If the parent is killed, the daemon goes on.

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

from twisted.internet.interfaces import IReactorDaemonize
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from p2pshare.errors import CannotStart, P2pshareError, StartNotFinished
from p2pshare.net.logs import Line
from p2pshare.storage.os_errors import plain_reason

START_WAIT_MAX = 20.0  # seconds that the command waits for its service
END_WAIT_MAX = 4.0  # seconds that it waits for a service that has failed, or was told to stop
WARNINGS_MAX = 10  # kinds of warnings that are shown to the user
TEXT_MAX = 1800  # bytes of a sentence: a report must fit into PIPE_BUF, 4096 bytes, to be written in one piece
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Background:
    """Facts about a service in the background, for its user."""

    command: str
    """The name of the service for twistd."""
    log: str
    """The path of its log."""
    stop: str
    """The command that ends it."""


@implementer(ILogObserver)
class Launch:
    """Reports how the start of a service goes, to the command that waits for it; in the foreground none waits."""

    def __init__(self, command: str, pipe: int | None = None) -> None:
        self._command = command
        self._pipe = pipe
        self._in_foreground = pipe is None
        self._warned: set[object] = set()
        if pipe is not None:
            os.set_blocking(pipe, False)
            globalLogPublisher.addObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Report a warning of the log, one of each kind, without the lines of tracebacks that twistd logs as errors."""
        if event.get("log_level") in (LogLevel.warn, LogLevel.error) and "log_io" not in event:
            kind = event.get("log_format")
            if kind not in self._warned and len(self._warned) < WARNINGS_MAX:
                self._warned.add(kind)
                why = event.get("why")  # the sentence in the facts of the line
                self._report(warning=Line.of(event).message if why is None else str(why))

    def ready(self, sentence: str) -> None:
        """Report that the service is ready; `sentence` says what runs, without a full stop."""
        self._report(ready=sentence)
        globalLogPublisher.removeObserver(self)
        self._close()

    def failed(self, error: P2pshareError) -> None:
        """Report that the service ends because of an error; the end of the pipe shows that it has ended."""
        if not self._in_foreground:
            self._report(failed=str(error), code=error.exit_code)
        elif error.exit_code:
            # At the very end, so that no line of the log follows. twistd has replaced sys.stderr by the log.
            atexit.register(_write, sys.__stderr__, f"{self._command}: {error}\n")

    def _report(self, **report: object) -> None:
        if self._pipe is None:
            return
        try:
            short = {
                key: _cut(each) if isinstance(each, str) else each for key, each in report.items()
            }
            os.write(self._pipe, json.dumps(short, ensure_ascii=False).encode() + b"\n")
        except BlockingIOError:
            pass  # the parent is suspended, and misses a remark
        except OSError:
            # The parent is gone. This may be a call of the log's publisher, which would skip the next observer if this
            # one were removed from its list now.
            self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def into_background(about: Background, reactor: object, wait_max: float = START_WAIT_MAX) -> Launch:
    """Return in the daemon, which runs the service; this process exits when the service is ready.

    Args:
        about: the service.
        reactor: runs in the daemon; it is prepared for the fork if that is necessary.
        wait_max: seconds that this process waits.

    Raises:
        CannotStart: the system cannot fork.
    """
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()  # or both processes would write the rest of the buffer
    hooks = IReactorDaemonize(reactor, None)
    if hooks is not None:
        hooks.beforeDaemonize()
    # Signals are blocked until the daemon has its own session, and this process can pass them on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = _fork()
    if child:
        os.close(writing)
        _watch_and_exit(about, reading, child, wait_max)
    os.close(reading)
    os.setsid()
    if _fork():
        os._exit(0)  # a daemon that leads no session can never get a terminal
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.write(writing, b"%d\n" % os.getpid())
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.close(null)
    if hooks is not None:
        hooks.afterDaemonize()
    return Launch(about.command, writing)


def _fork() -> int:
    try:
        return os.fork()
    except OSError as error:
        reason = f"it cannot go into the background: {plain_reason(error)}"
        raise CannotStart(what="The service", reason=reason) from error


def _watch_and_exit(about: Background, pipe: int, child: int, wait_max: float) -> NoReturn:
    """Watch the start, then exit without running the exit handlers of the service."""
    code = 1
    try:
        os.waitpid(child, 0)  # it exits at once, after it has forked the daemon
        code = _Watch(about, pipe, time.monotonic).run(wait_max)
    finally:
        os._exit(code)


class _Signalled(BaseException):
    """A signal that ends the wait."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


class _Watch:
    """Reads the reports of a service that starts, for the command that waits."""

    def __init__(self, about: Background, pipe: int, clock: Callable[[], float]) -> None:
        """Prepare it.

        Args:
            about: the service.
            pipe: on which the service sends its pid, and then its reports.
            clock: returns seconds.
        """
        self._about = about
        self._pipe = pipe
        self._clock = clock
        self._rest = b""
        self._pid = 0

    def run(self, wait_max: float) -> int:
        """Wait until the service is ready, has failed, or takes too long; return the exit code."""
        pid = self._next_report(self._clock() + END_WAIT_MAX)
        if not isinstance(pid, int):
            return self._ended()
        self._pid = pid
        try:
            for number in _SIGNALS:
                signal.signal(number, _raise)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return self._wait(self._clock() + wait_max, wait_max)
        except _Signalled as signalled:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
            self._await_end()
            self._remark("Stopped before it was ready.")
            return signalled.exit_code

    def _wait(self, deadline: float, wait_max: float) -> int:
        while (report := self._next_report(deadline)) is not None:
            match report:
                case {"warning": str(text)}:
                    self._remark(text)
                case {"ready": str(sentence)}:
                    line = f"{sentence}, in the background as process {self._pid}."
                    about = self._about
                    _write(sys.stdout, f"{line} Log: {about.log}. Stop it with: {about.stop}\n")
                    return 0
                case {"failed": str(sentence), "code": int(code)}:
                    self._await_end()
                    self._remark(sentence)
                    return (
                        code or 1
                    )  # it was stopped on purpose: that is no error, but it is not ready
                case {}:
                    return self._ended()
        late = StartNotFinished(
            seconds=f"{wait_max:g}", pid=self._pid, log=self._about.log, stop=self._about.stop
        )
        self._remark(str(late))
        return late.exit_code

    def _ended(self) -> int:
        """Return the exit code of a service that has ended without a report."""
        self._remark(f"The service ended before it was ready: see its log, {self._about.log}.")
        return 1

    def _await_end(self) -> None:
        """Wait until the service has released its folder and ports: then the same command can be repeated at once."""
        deadline = self._clock() + END_WAIT_MAX
        while self._next_report(deadline):
            pass

    def _next_report(self, deadline: float) -> Any:
        """Return the next report; {} if the service has ended, and None if the time is up."""
        while b"\n" not in self._rest:
            left = deadline - self._clock()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                return None
            data = os.read(self._pipe, 4096)
            if not data:
                return {}
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def _remark(self, text: str) -> None:
        _write(sys.stderr, f"{self._about.command}: {text}\n")


def _cut(text: str) -> str:
    return text.encode("utf-8", "backslashreplace")[:TEXT_MAX].decode("utf-8", "ignore")


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Signalled(number)


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line for people, if the terminal still exists."""
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.write(text)
            stream.flush()
