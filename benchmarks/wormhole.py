"""The program magic-wormhole as a comparison, with a mailbox and a transit relay on this machine.

It is installed once, into its own virtual environment below `build/`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import free_port

PACKAGES = (
    "magic-wormhole==0.24.0",
    "magic-wormhole-mailbox-server==0.8.0",
    "magic-wormhole-transit-relay==0.5.0",
)
HOME = Path(__file__).parents[1] / "build" / "wormhole"
START_TIMEOUT = 20.0  # seconds
TRANSFER_TIMEOUT = 300.0  # seconds


def install() -> Path:
    """The folder with its programs."""
    programs = HOME / "bin"
    if not (programs / "wormhole").exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *PACKAGES], check=True)
    return programs


class Wormholes:
    """magic-wormhole with its servers, ready to send files."""

    def __init__(self, programs: Path, mailbox: int, transit: int) -> None:
        self._base = [
            str(programs / "wormhole"),
            "--relay-url",
            f"ws://127.0.0.1:{mailbox}/v1",
            "--transit-helper",
            f"tcp:127.0.0.1:{transit}",
        ]
        self._number = 0

    def send(self, path: Path, folder: Path) -> float:
        """Return the seconds from the start of the receiver, with a waiting sender, until the file is in `folder`."""
        self._number += 1
        code = f"{self._number}-bench-mark"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        sender = subprocess.Popen(
            [*self._base, "send", "--code", code, "--hide-progress", str(path)],
            **quiet,  # type: ignore[call-overload]
        )
        try:
            time.sleep(2)  # until it waits
            started = time.perf_counter()
            receive = ["receive", "--accept-file", "--hide-progress", code]
            subprocess.run(
                [*self._base, *receive],
                cwd=folder,
                check=True,
                timeout=TRANSFER_TIMEOUT,
                **quiet,  # type: ignore[call-overload]
            )
            seconds = time.perf_counter() - started
            sender.wait(20)
        finally:
            if sender.poll() is None:
                sender.kill()
                sender.wait()
        (folder / path.name).unlink()
        return seconds


@contextmanager
def wormholes(folder: Path) -> Iterator[Wormholes]:
    """Start magic-wormhole's servers, which keep their data in `folder`."""
    programs = install()
    mailbox, transit = free_port(), free_port()
    local = "interface=127.0.0.1"
    commands = (
        ["wormhole-mailbox", "-p", f"tcp:{mailbox}:{local}"],
        ["transitrelay", "-p", f"tcp:{transit}:{local}"],
    )
    servers = [
        subprocess.Popen(
            [str(programs / "twist"), *command],
            cwd=folder,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not all(map(_listens, (mailbox, transit))):
            if time.monotonic() > deadline or any(each.poll() is not None for each in servers):
                raise SystemExit("magic-wormhole's servers did not start")
            time.sleep(0.2)
        yield Wormholes(programs, mailbox, transit)
    finally:
        for each in servers:
            each.terminate()
            each.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
