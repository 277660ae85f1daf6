"""A sharer and a requester as processes, for the benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FETCHES_TIMEOUT = 300.0  # seconds for all tries of one requester


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python module as a process that ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def first_line(child: subprocess.Popen[str]) -> str:
    """Return the first line that a process prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


@contextmanager
def sharing(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a process that shares a folder, and yield its welcome port."""
    with process("benchmarks.peer_process", "share", str(folder)) as sharer:
        yield sharer, int(first_line(sharer))


def fetch(kind: str, port: int, folder: Path, tries: int) -> list[dict[str, Any]]:
    """Fetch in a process, and return its report of each try."""
    with process(
        "benchmarks.peer_process", "fetch", kind, str(port), str(folder), str(tries)
    ) as requester:
        output, _ = requester.communicate(timeout=FETCHES_TIMEOUT)
    return [json.loads(line) for line in output.splitlines()]


def memory(pid: int | str) -> dict[str, int]:
    """Return the memory of a process in bytes: VmRSS now, VmHWM at its peak (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = (line.split() for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM")))
    return {name.rstrip(":"): 1024 * int(size) for name, size, _ in fields}
