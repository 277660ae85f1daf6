"""A registry, a peer and the command `p2pshare` as processes, on pipes and on terminals."""

from __future__ import annotations

import atexit
import codecs
import contextlib
import errno
import fcntl
import functools
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2pshare.classic.registration import Registration
from p2pshare.pictures.decoding import read_picture
from p2pshare.pictures.encoding import write_picture
from p2pshare.pictures.pixels import Pixels
from p2pshare.wire.addresses import PeerAddress
from tests.integration.forked import Popen, run
from tests.ui.screens import Screen

P2PSHARE = [sys.executable, "-c", "import sys; from p2pshare.ui.main import main; sys.exit(main())"]
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
PATIENCE = 60.0  # seconds for a process on a busy machine
DOCUMENT = Path(__file__).parents[2] / "docs" / "command-line.md"
_CUT_ESCAPE = re.compile(r"\x1b(\[[?0-9;]*)?\Z")  # one of which the rest is still to come
TEXT = b"".join(b"line %d\n" % n for n in range(50_000))


def documented_events() -> dict[str, list[set[str]]]:
    """The documented keys of each event; some events have several variants."""
    (block,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    documented: dict[str, list[set[str]]] = {}
    for line in block.splitlines():
        event = json.loads(line)
        documented.setdefault(event["event"], []).append(set(event))
    return documented


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Neighbourhood:
    """A registry and alice's peer, in a folder that is the home of every process here."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="p2p-")
        self.home = Path(self._temporary.name)
        self._closed: str | None = None
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("P2PSHARE_", "NO_COLOR"))}
        self.environ = kept | {
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "TMPDIR": str(self.home / "tmp"),
            "P2PSHARE_REGISTRY": self.url,
            "TERM": "xterm-256color",
            "COLUMNS": "80",
        }
        self.pixels: Pixels = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
        for name in ("alice", "carol", "tmp"):
            (self.home / name).mkdir()
        (self.home / "alice" / "my_file.txt").write_bytes(TEXT)
        (self.home / "alice" / "tree" / "deep").mkdir(parents=True)
        (self.home / "alice" / "tree" / "deep" / "猫.txt").write_text("miau")
        (self.home / "alice" / "tree" / "empty").touch()
        (self.home / "carol" / "my_file.txt").write_bytes(b"of carol\n")
        with open(self.home / "alice" / "my_file.png", "wb") as file:
            write_picture(self.pixels, file)
        listen = f"tcp:{port}:interface=127.0.0.1"
        self._children = [
            self._twistd("p2pregistry", "--listen", listen, "--data", "names"),
            self._twistd(
                "p2ppeer", "--name", "alice", "--share", "alice", "--data", "a", "--classic"
            ),
        ]
        deadline = time.monotonic() + PATIENCE
        while "alice" not in self.names():
            assert time.monotonic() < deadline, "the services did not start"
            time.sleep(0.05)

    def invite_only(self) -> str:
        """Return the URL of a second registry, in the folder `closed`; it is started once."""
        if self._closed is None:
            self._closed = self._start_closed()
        return self._closed

    def _start_closed(self) -> str:
        port = free_port()
        listen = f"tcp:{port}:interface=127.0.0.1"
        words = ("--listen", listen, "--data", "closed", "--invite-only")
        self._children.append(self._twistd("p2pregistry", *words))
        deadline = time.monotonic() + PATIENCE
        url = f"http://127.0.0.1:{port}"
        while True:
            with contextlib.suppress(OSError):  # also HTTP 503, until its store is ready
                urllib.request.urlopen(f"{url}/v1/peers").close()
                return url
            assert time.monotonic() < deadline, "the registry did not start"
            time.sleep(0.05)

    def _twistd(self, *words: str) -> subprocess.Popen[bytes]:
        return Popen(
            [*TWISTD, *words],
            cwd=self.home,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def names(self) -> list[str]:
        """Return the registered names; none while the registry is unreachable."""
        try:
            with urllib.request.urlopen(f"{self.url}/list", timeout=5) as reply:
                return sorted(json.load(reply))
        except urllib.error.URLError:
            return []

    def register(self, name: str, port: int, lease: int = 90) -> None:
        """Register a classic name on this machine; a lease of 0 releases it."""
        address = PeerAddress("127.0.0.1", port)
        body = Registration(name, address, token="t" * 43, lease=lease).to_json()
        urllib.request.urlopen(f"{self.url}/name", body, timeout=5).close()

    def folder(self) -> Path:
        """Return a new, empty folder."""
        return Path(tempfile.mkdtemp(dir=self.home))

    def run(
        self,
        *words: str,
        cwd: Path | None = None,
        answers: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command on pipes, and return its result."""
        return run(
            [*P2PSHARE, *words],
            cwd=cwd or self.home,
            env=self.environ | dict(environ or {}),
            input=answers,
            timeout=PATIENCE,
        )

    def end(self) -> None:
        for child in reversed(self._children):
            child.terminate()
            child.wait(PATIENCE)
        self._temporary.cleanup()


@functools.cache
def neighbourhood() -> Neighbourhood:
    """Return the shared one, because a start takes time."""
    near = Neighbourhood()
    atexit.register(near.end)
    return near


class TerminalRun:
    """The command as the foreground process of its own terminal."""

    def __init__(self, near: Neighbourhood, columns: int, *words: str, **environ: str) -> None:
        self.screen = Screen(columns)
        self.folder = near.folder()
        self.written = ""
        self._answered = 0  # the lines of the screen then
        self._fed = 0  # characters of the screen's contents
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._master, self._slave = pty.openpty()
        self._is_open = True
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.mode = termios.tcgetattr(self._slave)
        environment = {k: v for k, v in near.environ.items() if k != "COLUMNS"} | environ
        self.process = Popen(
            [*P2PSHARE[:-1], f"import os; os.login_tty(0); {P2PSHARE[-1]}", *words],
            cwd=self.folder,
            env=environment,
            stdin=self._slave,
        )

    def expect(self, text: str) -> None:
        """Wait until the text is in the last lines of the screen, or in the output since the last answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            shown = self.screen.shown()
            if text in "\n".join(shown[min(self._answered, max(0, len(shown) - 3)) :]):
                return
            assert self._read(deadline), f"{text!r} did not come, but:\n{self.shown}"

    def expect_times(self, text: str, times: int) -> None:
        """Wait until the program has written a text so many times."""
        deadline = time.monotonic() + PATIENCE
        while self.written.count(text) < times:
            assert self._read(deadline), f"{text!r} did not come {times} times, but:\n{self.shown}"

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def answer(self, question: str, line: str) -> None:
        """Wait for a question, and answer it."""
        self.expect(question)
        self._answered = len(self.screen.shown())
        self.type(line + "\r")

    def exit_code(self) -> int:
        """Wait for the end; the terminal's settings must be restored."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(time.monotonic() + 0.05)
        while self._read(time.monotonic() + 0.05):
            pass
        assert termios.tcgetattr(self._slave) == self.mode, "the terminal was not restored"
        assert not self.screen.cursor_hidden
        return self.process.wait(0)

    def hang_up(self) -> int:
        """Close the terminal, and return the exit code."""
        os.close(self._master)
        self._is_open = False
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self._is_open:
            os.close(self._master)
        os.close(self._slave)

    @property
    def shown(self) -> str:
        return "\n".join(self.screen.shown())

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        self.written += self._decoder.decode(os.read(self._master, 1 << 16))
        whole = _CUT_ESCAPE.sub("", self.written)
        self.screen.feed(whole[self._fed :])
        self._fed = len(whole)
        return True


class CommandLineTestCase(unittest.TestCase):
    def setUp(self) -> None:
        self.near = neighbourhood()

    def pixels_of(self, path: Path) -> Pixels:
        with open(path, "rb") as file:
            return read_picture(file)

    def assert_events(self, output: str) -> list[dict[str, Any]]:
        """Assert that every line is an event with exactly the documented keys."""
        documented = documented_events()
        events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
        for event in events:
            self.assertIn(set(event), documented[event["event"]])
        return events


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = (map(int, line.split()) for line in listed.stdout.splitlines())
    return [child for child, parent in pairs if parent == pid]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
