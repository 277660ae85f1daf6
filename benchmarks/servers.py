"""Servers for the benchmarks, each pinned to its own core."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

TWISTD = "from twisted.scripts.twistd import run; run()"


def registry(port: int, data: str, *options: str) -> list[str]:
    """Return the command of a registry that starts its own Redis."""
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1", "--data", data)
    return [sys.executable, "-c", TWISTD, "-n", "p2pregistry", *listen, *options]


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cores() -> tuple[set[int], set[int]]:
    """Return a core for the server and one for the clients, equal if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[-1]}


@contextmanager
def running(command: list[str], port: int, core: set[int]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a pinned server process, and yield once it has answered."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    try:
        deadline = time.monotonic() + 15
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[1]} did not start")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def answers(port: int) -> bool:
    """Whether a server answers on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(12).endswith(b"200")
    except OSError:
        return False
