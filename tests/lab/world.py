"""A registry and peers as processes in the homes of the lab, and fetches between them."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pshare.storage.socket_paths import CONTROL_NAME, socket_address
from tests.integration.forked import Popen
from tests.lab.commands import BEFORE_FILES, PATIENCE, POLL_S, Command, received_by
from tests.lab.homes import REGISTRY_IPV4, Home, Internet

PORT = 8000
SIZE = 20_000_000  # bytes of the file that is fetched
FILE = "share/film.bin"

_ENTER = (
    "import ctypes, os; fd = os.open({!r}, os.O_RDONLY); "
    "assert ctypes.CDLL(None).setns(fd, 0) == 0; os.close(fd); "
)
_COMMAND = "import sys; from p2pshare.ui.main import main; sys.exit(main())"
_TWISTD = "from twisted.scripts.twistd import run; run()"


@dataclass
class Fetch:
    """What became of a fetch."""

    exit_code: int
    events: list[dict[str, Any]]
    """Of `get --json`, each with its time since the start of the process as `at`."""
    first_byte_s: float | None
    """From the start of the process until bytes of the file came to the host; None: never."""
    stall_s: float
    """The longest time in which no byte arrived, from the first to the last one."""
    seconds: float
    is_exact: bool
    log: str

    @property
    def paths(self) -> list[str]:
        """The carriers that were used, in their order."""
        return [each["via"] for each in self.events if each["event"] == "connected"]

    @property
    def is_direct(self) -> bool:
        """Whether the first path was a direct one."""
        return bool(self.paths) and self.paths[0] != "relay"

    def __str__(self) -> str:
        """Return a word for a table."""
        if self.exit_code or not self.is_exact:
            return "failed"
        return f"{'>'.join(self.paths)} {self.first_byte_s or 0:.2f} s"


@dataclass
class Running:
    """A fetch that is under way."""

    process: subprocess.Popen[Any]
    target: Path
    original: Path
    started: float
    errors: Path
    host: int
    """A process in the host's namespace."""
    events: list[dict[str, Any]] = field(default_factory=list)
    first_byte_s: float | None = None
    stall_s: float = 0.0
    _rest: bytes = b""
    _received_before: int = 0
    _seen: int = 0
    """The bytes that were there, and when they changed last."""
    _changed: float = 0.0

    def __post_init__(self) -> None:
        """Remember what the host had received before."""
        self._received_before = received_by(self.host)

    def wait_for_bytes(self, count: int) -> None:
        """Wait until so many bytes of the file have arrived, or the fetch has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and self._arrived() < count:
            assert time.monotonic() < deadline, f"{count} bytes did not arrive: {self.events}"
            self._look()

    def end(self, patience: float = PATIENCE) -> Fetch:
        """Wait for the end of the fetch."""
        deadline = time.monotonic() + patience
        while self.process.poll() is None and time.monotonic() < deadline:
            self._look()
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait(PATIENCE)
        seconds = time.monotonic() - self.started
        self._look()
        assert self.process.stdout is not None
        self.process.stdout.close()
        found = self.target / self.original.name
        is_exact = found.exists() and filecmp.cmp(found, self.original, shallow=False)
        found.unlink(missing_ok=True)
        log = self.errors.read_text()
        return Fetch(code, self.events, self.first_byte_s, self.stall_s, seconds, is_exact, log)

    def _look(self) -> None:
        """Read the events that have come, and notice the first byte."""
        assert self.process.stdout is not None
        time.sleep(POLL_S)
        now = time.monotonic() - self.started
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self.process.stdout.fileno(), 1 << 20)
        *lines, self._rest = self._rest.split(b"\n")
        self.events += [{**json.loads(line), "at": round(now, 3)} for line in lines]
        threshold = self._received_before + BEFORE_FILES
        if self.first_byte_s is None and received_by(self.host) > threshold:
            self.first_byte_s = now
        told = [each["done"] for each in self.events[-1:] if each["event"] == "progress"]
        seen = max(self._arrived(), *told, 0)
        if seen > self._seen:
            if self._seen:
                self.stall_s = max(self.stall_s, now - self._changed)
            self._seen, self._changed = seen, now

    def _arrived(self) -> int:
        """Return the bytes that the disk has for the file."""
        total = 0
        for each in self.target.iterdir():
            with contextlib.suppress(FileNotFoundError):
                stat = each.stat()
                if not each.name.endswith(".journal"):
                    total += min(512 * stat.st_blocks, stat.st_size)
        return total


class World:
    """A registry on the internet, and the peers of homes."""

    def __init__(self, net: Internet, folder: Path, *, has_registry: bool = True) -> None:
        """Start the registry.

        Args:
            net: where it is.
            folder: for all files.
            has_registry: whether there is one; without it, peers find each other on their local network.
        """
        self.net = net
        self.folder = folder
        self._has_registry = has_registry
        self._children: list[subprocess.Popen[Any]] = []
        shared = folder / "share"
        shared.mkdir()
        (shared / "film.bin").write_bytes(random.Random(1).randbytes(SIZE))
        if has_registry:
            self.registry = self.start_registry()

    def start_registry(self) -> subprocess.Popen[Any]:
        """Start the registry, also again, and wait until it answers."""
        words = ("p2pregistry", "--data", "registry")
        self.registry = self._twistd(self.net.registry.pid, "registry", *words)
        deadline = time.monotonic() + PATIENCE
        while self.names() is None:
            assert time.monotonic() < deadline, self.log("registry")
            time.sleep(0.05)
        return self.registry

    def share(self, home: Home, name: str, *flags: str) -> subprocess.Popen[Any]:
        """Start a peer that shares the folder with the file, and wait until it is online."""
        return self.serve(home, name, "--share", str(self.folder / "share"), *flags)

    def serve(self, home: Home, name: str, *flags: str) -> subprocess.Popen[Any]:
        """Start a peer, also again, and wait until it is online."""
        words = ["p2ppeer", "--name", name, *self._place(home, name), *flags]
        before = self._registrations(name)
        made = self._twistd(home.host.pid, name, *words)
        deadline = time.monotonic() + PATIENCE
        while self._registrations(name) == before:
            assert made.poll() is None and time.monotonic() < deadline, self.log(name)
            time.sleep(0.05)
        return made

    def names(self) -> list[str] | None:
        """Return the names of the peers that are online; None while the registry does not answer."""
        request = f"http://{REGISTRY_IPV4}:{PORT}/v1/peers"
        try:
            with self.net.registry.entered(), urllib.request.urlopen(request, timeout=5) as reply:
                peers = json.load(reply)["peers"]
        except OSError:
            return None
        return [each["name"] for each in peers if each.get("presence") == "online"]

    def fetch(self, home: Home, name: str, sharer: str, *flags: str) -> Running:
        """Start to fetch the file as the user `name`, and return at once."""
        target = Path(tempfile.mkdtemp(dir=self.folder))
        words = ["get", "--json", "--name", name, *self._place(home, name), *flags]
        words += [f"{sharer}:{FILE}", str(target)]
        errors = target.with_suffix(".log")
        started = time.monotonic()
        with open(errors, "w") as log:
            process = Popen(
                [sys.executable, "-c", _entering(home.host.pid) + _COMMAND, *words],
                env=self._environ(name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return Running(process, target, self.folder / FILE, started, errors, home.host.pid)

    def run(self, home: Home, name: str, *words: str) -> str:
        """Run a command of a user to its end, with the user's settings alone, and return its output."""
        process = Popen(
            [sys.executable, "-c", _entering(home.host.pid) + _COMMAND, *words],
            cwd=self.folder,
            env=self._environ(name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return str(process.communicate(timeout=PATIENCE)[0])

    def command(self, home: Home, name: str, *words: str) -> Command:
        """Start a command of the user `name` with `--json`, and return at once."""
        number, errors = tempfile.mkstemp(".log", dir=self.folder)
        with open(number, "w") as log:
            process = Popen(
                [
                    *(sys.executable, "-c", _entering(home.host.pid) + _COMMAND),
                    *(*words, "--json", "--name", name, *self._place(home, name)),
                ],
                cwd=self.folder,
                env=self._environ(name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._children.append(process)
        return Command(process, home.host.pid, Path(errors))

    def ask(self, who: str, do: str, **fields: Any) -> dict[str, Any]:
        """Return the reply of a service to an action of the control protocol, which has to succeed."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            with socket_address(self.folder / who / CONTROL_NAME) as address:
                connection.connect(address)
            connection.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
            with connection.makefile() as lines:
                reply: dict[str, Any] = json.loads(lines.readline())
        assert reply.pop("ok"), reply
        return reply

    def _registrations(self, name: str) -> int:
        """Return how often a service has registered."""
        log = self.folder / f"{name}.log"
        return log.read_text().count(f"registered: name={name}") if log.exists() else 0

    def _place(self, home: Home, name: str) -> list[str]:
        """Return the flags of a user's registry and data folder."""
        flags = ["--data", str(self.folder / name)]
        return [*flags, "--registry", url_of(home)] if self._has_registry else flags

    def log(self, name: str) -> str:
        """Return the log of a service."""
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        """End all services."""
        for each in self._children:
            if each.poll() is None:
                each.send_signal(signal.SIGTERM)
        for each in self._children:
            try:
                each.wait(10)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait(PATIENCE)
        for each in self._children:
            if each.stdout is not None:
                each.stdout.close()

    def _twistd(self, pid: int, name: str, *words: str) -> subprocess.Popen[Any]:
        with open(self.folder / f"{name}.log", "a") as log:
            process = Popen(
                [sys.executable, "-c", _entering(pid) + _TWISTD, "-n", *words],
                cwd=self.folder,
                env=self._environ(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._children.append(process)
        return process

    def _environ(self, name: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("P2PSHARE_")}
        return kept | {
            "XDG_CONFIG_HOME": str(self.folder / f"config-{name}"),
            "XDG_DATA_HOME": str(self.folder / f"data-{name}"),
        }


def url_of(home: Home) -> str:
    """Return the URL of the registry for a home."""
    ip = home.registry_ip
    return f"http://[{ip}]:{PORT}" if ":" in ip else f"http://{ip}:{PORT}"


def _entering(pid: int) -> str:
    """Return code that enters the namespace of a process; the forkserver of the tests can run what follows."""
    return _ENTER.format(f"/proc/{pid}/ns/net")


@contextlib.contextmanager
def world(net: Internet, *, has_registry: bool = True) -> Iterator[World]:
    """Start a registry on an internet of homes, if there is to be one, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="p2pshare-lab-") as folder:
        made = None
        try:
            made = World(net, Path(folder), has_registry=has_registry)
            yield made
        finally:
            if made is not None:
                made.close()
