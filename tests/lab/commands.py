"""Commands of users in the homes of the lab, and when they say what."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL_S = 0.005
PATIENCE = 60.0  # s for a process on a busy machine
BEFORE_FILES = 64 * 1024  # bytes that a host receives before the first bytes of a file, at most

Event = dict[str, Any]


def received_by(host: int) -> int:
    """Return the bytes that the interfaces of a host have received (proc(5)); `host` is a process there."""
    lines = Path(f"/proc/{host}/net/dev").read_text().splitlines()[2:]
    devices = [line.split(":") for line in lines]
    return sum(int(counts.split()[0]) for name, counts in devices if name.strip() != "lo")


@dataclass
class Command:
    """A command with `--json` that runs in a host."""

    process: subprocess.Popen[Any]
    host: int
    """A process in the host's namespace."""
    errors: Path
    started: float = field(default_factory=time.monotonic)
    events: list[Event] = field(default_factory=list)
    """Each with its time since the start of the command as `at`."""
    first_byte_s: float | None = None
    """From the start of the command until bytes of files came to the host; None: never."""
    _rest: bytes = b""
    _received_before: int = 0

    def __post_init__(self) -> None:
        """Remember what the host had received before."""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._received_before = received_by(self.host)

    def until(self, holds: Callable[[Event], bool], patience: float = PATIENCE) -> Event:
        """Wait for an event, also among those that have come, and return it."""
        deadline, seen = time.monotonic() + patience, 0
        while True:
            has_ended = self.process.poll() is not None
            self.look()
            for event in self.events[seen:]:
                if holds(event):
                    return event
            seen = len(self.events)
            assert not has_ended and time.monotonic() < deadline, str(self)
            time.sleep(POLL_S)

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for the end of the command, and return its exit code."""
        deadline = time.monotonic() + patience
        while self.process.poll() is None and time.monotonic() < deadline:
            self.look()
            time.sleep(POLL_S)
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait(PATIENCE)
        self.look()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def look(self) -> None:
        """Read the events that have come, and notice the first byte."""
        assert self.process.stdout is not None
        now = time.monotonic() - self.started
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.process.stdout.fileno(), 1 << 20):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        self.events += [{**json.loads(line), "at": round(now, 3)} for line in lines]
        threshold = self._received_before + BEFORE_FILES
        if self.first_byte_s is None and received_by(self.host) > threshold:
            self.first_byte_s = now

    def __str__(self) -> str:
        """Return what it has said, for a failed test."""
        told = "\n".join(json.dumps(event) for event in self.events[-5:])
        return f"{told}\n{self.errors.read_text()[-2000:]}"
