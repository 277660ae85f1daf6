"""The start of a service in the background, watched by the command that the user typed.

Theory of operation
-------------------
`twistd` without `-n` forks a daemon and ends as soon as the services were told to start. Ours are ready only later: a
peer when its name is registered, a registry when its store answers. twistd has a pipe from the daemon to its parent,
but that pipe carries one message of 100 bytes, which the parent shows as `An error has occurred: b'...'` and turns into
exit code 1. If the daemon ends without a message, the parent waits for ever, as it holds the writing end, too.

So `makeService`, the last step that twistd leaves to us before it forks, calls `into_background` when the service is
built. That forks instead of twistd, which then runs the service as with `-n`:

* The **daemon** has a session of its own and no terminal. It tells how the start goes, on a pipe, by a `Launch`.
* The **parent** is the process that the user waits for. `_Watch` reads the pipe, prints what it says, and ends with
  the exit code of the start.

The pipe's writing end is the daemon's alone: programs that it starts do not inherit it. So the pipe ends when the
daemon does, however it dies, and the parent never waits for a process that is gone. The wait has a bound besides,
`START_WAIT_MAX`: a peer whose registry is away tries again for ever, which is what it is meant to do after a boot. The
parent then says so and leaves the daemon running. A service logs a warning for each
reason to wait. So until the service is ready, each kind of warning is also shown to the user, once.

Ctrl+C and SIGTERM in the parent end the start: the daemon gets no signal from the terminal, so the parent passes it on.
A parent that is killed tells nobody, and the daemon goes on.

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
from p2pshare.storage.reasons import plain_reason

START_WAIT_MAX = 20.0  # seconds that the command waits for its service
END_WAIT_MAX = 4.0  # seconds that it waits for a service that has failed, or was told to stop
WARNINGS_MAX = 10  # of different kinds that are shown to the user
TEXT_MAX = 1800  # bytes of a sentence, so that a report is one piece in the pipe: of up to PIPE_BUF, 4096 bytes
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Background:
    """Facts about a service in the background that its user needs."""

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
            globalLogPublisher.addObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Tell a warning of the log, one of each kind; not the lines of a traceback, which twistd logs as errors."""
        if event.get("log_level") in (LogLevel.warn, LogLevel.error) and "log_io" not in event:
            kind = event.get("log_format")
            if kind not in self._warned and len(self._warned) < WARNINGS_MAX:
                self._warned.add(kind)
                self._tell(warning=Line.of(event).message)

    def ready(self, sentence: str) -> None:
        """Tell that the service is ready; `sentence` says what runs, without a full stop."""
        self._tell(ready=sentence)
        self._close()

    def failed(self, error: P2pshareError) -> None:
        """Tell that the service ends because of an error; the end of the pipe tells that it has ended."""
        if not self._in_foreground:
            self._tell(failed=str(error), code=error.exit_code)
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


def into_background(about: Background, reactor: object, wait_max: float = START_WAIT_MAX) -> Launch:
    """Return in the daemon, which goes on to run the service; this process ends when the service is ready.

    Args:
        about: the service.
        reactor: runs in the daemon; one that does not survive a fork is told of it.
        wait_max: seconds that this process waits.

    Raises:
        CannotStart: no process can be forked.
    """
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()  # or both processes write what is left in it
    hooks = IReactorDaemonize(reactor, None)
    if hooks is not None:
        hooks.beforeDaemonize()
    # A signal waits until the daemon has its own session, and this process can pass it on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = _fork()
    if child:
        os.close(writing)
        _watch_and_exit(about, reading, child, wait_max)
    os.close(reading)
    os.setsid()
    if _fork():
        os._exit(0)  # the daemon leads no session, so it can never get a terminal
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
    """Watch the start, and end this process without a trace of the service that it has prepared."""
    code = 1
    try:
        os.waitpid(child, 0)  # it ends at once, when the daemon has begun
        code = _Watch(about, pipe, time.monotonic).run(wait_max)
    finally:
        os._exit(code)


class _Signalled(BaseException):
    """A signal that ends the wait."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


class _Watch:
    """What the waiting command does."""

    def __init__(self, about: Background, pipe: int, clock: Callable[[], float]) -> None:
        """Watch the start of a service.

        Args:
            about: the service.
            pipe: on which it tells its number at once, and then how the start goes.
            clock: seconds.
        """
        self._about = about
        self._pipe = pipe
        self._clock = clock
        self._rest = b""
        self._pid = 0

    def run(self, wait_max: float) -> int:
        """Wait until the service is ready, has failed, or takes too long; returns the exit code."""
        pid = self._next_line(self._clock() + END_WAIT_MAX)
        if not pid:
            return self._ended()
        self._pid = int(pid)
        try:
            for number in _SIGNALS:
                signal.signal(number, _raise)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return self._wait(self._clock() + wait_max, wait_max)
        except _Signalled as signalled:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._end_service()
            return signalled.exit_code

    def _wait(self, deadline: float, wait_max: float) -> int:
        while (report := self._next_report(deadline)) is not None:
            match report:
                case {"warning": str(text)}:
                    self._remark(text)
                case {"ready": str(sentence)}:
                    self._announce(sentence)
                    return 0
                case {"failed": str(sentence), "code": int(code)}:
                    self._await_end()
                    self._remark(sentence)
                    return code or 1  # it was stopped on purpose, but it is not ready
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
        """The exit code of a service that has ended without a word."""
        self._remark(f"The service ended before it was ready: see its log, {self._about.log}.")
        return 1

    def _end_service(self) -> None:
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
        line = self._next_line(deadline)
        if not line:
            return {} if line is not None else None
        report: dict[str, Any] = json.loads(line)
        return report

    def _next_line(self, deadline: float) -> bytes | None:
        """The next line of the pipe; an empty one is its end, and None that of the time."""
        while b"\n" not in self._rest:
            left = deadline - self._clock()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                return None
            data = os.read(self._pipe, 4096)
            if not data:
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

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
