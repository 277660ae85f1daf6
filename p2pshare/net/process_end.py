"""The end of a process that a thread, a hanging disk or a computation in C keeps running.

The interpreter waits for every thread before it exits. It runs the handler of a signal only in the main thread, between
two instructions. So neither may decide when a process ends: `end_process` does not wait for threads,
`end_process_within` does not wait for the main thread, and `SignalWatch` notices a signal without it. Services use the
second (`net/shutdown.py`), commands all three. Nothing here imports Twisted, because completion of words must start
fast.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, Timer
from typing import NoReturn

FLUSH_MAX = 0.1  # seconds before the end, for writing standard output and error
END_MAX = 0.45  # seconds from a signal to the end of a command: 0.5 are promised
READ_MAX = 64  # signals taken at once
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FORGIVEN = 0  # no signal has this number


def end_process(status: int) -> NoReturn:
    """Flush the output and exit, without waiting for threads."""
    _flush()
    os._exit(status)


def end_process_within(seconds: float, status: Callable[[], int]) -> Callable[[], None]:
    """Exit after `seconds`, whatever is still running; return a function that prevents it."""

    def end() -> None:
        os._exit(status())

    # Two threads: the first one blocks if no program reads the output.
    timers = Timer(max(seconds - FLUSH_MAX, 0.0), _flush), Timer(seconds, end)
    for timer in timers:
        timer.daemon = True  # an earlier exit does not wait for it
        timer.start()

    def prevent() -> None:
        for timer in timers:
            timer.cancel()

    return prevent


class SignalWatch:
    """Ends the process within `END_MAX` of a signal, and within `FLUSH_MAX` of a second one.

    The main thread gets each signal as well. Usually it cleans up and ends the process earlier, or calls `forgive` if
    the process goes on. The system reports a closed terminal several times, so a second SIGHUP changes nothing.
    """

    def __init__(
        self,
        end_within: Callable[[float, Callable[[], int]], Callable[[], None]] = end_process_within,
    ) -> None:
        """Begin to watch; `end_within` replaces `end_process_within`."""
        self._end_within = end_within
        self._prevent: list[Callable[[], None]] = []
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._before = -1
        self._is_ending = False
        Thread(target=self._run, args=(reading,), daemon=True).start()
        self.take()

    def take(self) -> None:
        """Receive all signals from now on. Call it again after a reactor has started, which takes them over."""
        self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def forgive(self) -> None:
        """Let the process go on after the signals so far: they have ended what they were meant to end."""
        with suppress(BlockingIOError):  # the pipe is full of signals, which then end the process
            os.write(self._writing, bytes([_FORGIVEN]))  # after those that were not read yet

    def _run(self, reading: int) -> None:
        while True:
            for number in os.read(reading, READ_MAX):
                if number == _FORGIVEN:
                    self._go_on()
                else:
                    self._signalled(number)

    def _go_on(self) -> None:
        prevent, self._prevent = self._prevent, []
        for each in prevent:
            each()
        self._is_ending = False

    def _signalled(self, number: int) -> None:
        if number in SIGNALS and (not self._is_ending or number != signal.SIGHUP):
            seconds = FLUSH_MAX if self._is_ending else END_MAX
            self._is_ending = True
            self._prevent.append(self._end_within(seconds, lambda: 128 + number))
        with suppress(OSError):  # the reactor has ended, or its pipe is full
            if self._before >= 0:
                os.write(self._before, bytes([number]))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
