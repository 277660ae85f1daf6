"""`twistd` whose event loop is watched: how long it was held, and by what.

Run it as `python -m benchmarks.watched_twistd REPORT OPTION ...`. A thread looks at the loop's pulse, and keeps the
stack of the main thread when the pulse is late. The file REPORT is JSON: the longest hold in seconds, and the longest
in seconds of the main thread's processor time with its stack. The second does not count other programs on a busy
machine. The signal SIGUSR1 begins a new measurement.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

PULSE = 0.002  # seconds between two pulses
LATE = 0.02  # seconds after which the stack is worth a look
WRITE_EVERY = 0.5  # seconds


class LoopWatch:
    """Measures the longest time between two turns of the reactor."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._main = threading.get_ident()
        self._last = 0.0
        self._used = 0.0
        self._held = self._busy = 0.0
        self._stack: list[str] = []
        self._late: list[str] = []

    def start(self, reactor: Any) -> None:
        """Watch from now on."""
        self._reactor = reactor
        self.begin()
        self._beat()
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, *_: object) -> None:
        """Begin a new measurement."""
        self._held, self._busy, self._stack, self._late = 0.0, 0.0, [], []
        self._last, self._used = time.monotonic(), time.thread_time()

    def _beat(self) -> None:
        now, used = time.monotonic(), time.thread_time()
        self._held = max(self._held, now - self._last - PULSE)
        if used - self._used > self._busy:
            self._busy, self._stack = used - self._used, self._late
        self._last, self._used, self._late = now, used, []
        self._reactor.callLater(PULSE, self._beat)

    def _watch(self) -> None:
        written = 0.0
        while True:
            time.sleep(PULSE)
            now = time.monotonic()
            if now - self._last > LATE and not self._late:
                frame = sys._current_frames().get(self._main)
                self._late = traceback.format_stack(frame)[-12:]
            if now - written > WRITE_EVERY:
                written = now
                temporary = self._report.with_suffix(".new")
                told = {"held_s": self._held, "busy_s": self._busy, "stack": self._stack}
                temporary.write_text(json.dumps(told))
                os.replace(temporary, self._report)


def main() -> None:
    """Run `twistd` with a watched reactor."""
    from twisted.internet import reactor
    from twisted.scripts.twistd import run

    watch = LoopWatch(Path(sys.argv[1]))
    sys.argv[1:2] = []
    signal.signal(signal.SIGUSR1, watch.begin)
    reactor.callWhenRunning(watch.start, reactor)
    run()


if __name__ == "__main__":
    main()
