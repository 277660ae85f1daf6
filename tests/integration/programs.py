"""Programs of the project and the original programs as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Mapping
from pathlib import Path

from tests.integration.forked import Popen
from tests.integration.test_registry_process import PATIENCE, TWISTD, Registry

PROJECT = Path(__file__).parents[2]
HOST = "127.0.0.1"


class Program:
    """A process and its output."""

    def __init__(self, folder: Path, *command: str, environ: Mapping[str, str] = {}) -> None:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self.process = Popen(
                [sys.executable, *command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until the process has printed a text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.said():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"never said {text!r}:\n{self.said()}")
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait until the process has ended, and return its exit code."""
        return self.process.wait(PATIENCE)

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal, and return the seconds until the process has ended."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.wait()
        return time.monotonic() - started

    def discard(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class ProgramsTestCase(unittest.TestCase):
    """A folder, a registry if the test needs one, and programs that end with the test."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def start_registry(self) -> Registry:
        registry = Registry(self.folder / "registry")
        self.addCleanup(registry.discard)
        registry.wait_until_ready()
        return registry

    def start(self, *command: str) -> Program:
        program = Program(self.folder, *command)
        self.addCleanup(program.discard)
        return program

    def start_peer(self, name: str, registry_port: int, *options: str) -> Program:
        """Start a real `twistd -n p2ppeer`, with its own data folder unless one is named."""
        registry = ["--registry", f"http://{HOST}:{registry_port}"]
        data = [] if "--data" in options else ["--data", str(self.folder / f"data-{name}")]
        twistd = [*TWISTD[1:], "p2ppeer", "--name", name, *registry, *data]
        return self.start(*twistd, *options)
