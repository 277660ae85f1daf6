"""A registry, a sharer and a requester, run as the programs that users start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import memory
from benchmarks.servers import TWISTD, answers, free_port, registry
from p2pshare.storage.incoming import saved_files
from p2pshare.storage.incoming.journal import RECORD_SIZE

START_TIMEOUT = 20.0  # seconds
GET_TIMEOUT = 300.0  # seconds
MIB = 1024**2
IDLE_SESSIONS = 50
IDLE_NAMES = 5  # a peer may have so many sessions, and no more
IDLE_SECONDS = 20.0
PROGRAM = [sys.executable, "-c", "import sys; from p2pshare.ui.main import main; sys.exit(main())"]


class Sharer:
    """The process of alice's peer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def memory_now(self) -> int:
        """Bytes."""
        return memory(self._process.pid)["VmRSS"]

    def memory_at_most(self) -> int:
        """Bytes, so far."""
        return memory(self._process.pid)["VmHWM"]

    def cpu_seconds(self) -> float:
        """Return the processor time used, in seconds (proc(5))."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


class Requester:
    """Bob, who fetches from Alice."""

    def __init__(self, folder: Path, environ: dict[str, str], name: str = "bob") -> None:
        self._folder = folder
        self._environ = environ
        self._name = name
        self._flags = ["--name", name, "--data", str(folder / name)]

    def friend(self, name: str) -> Requester:
        """Return another requester, who has met Alice once."""
        friend = Requester(self._folder, self._environ, name)
        subprocess.run(
            friend.command("ls", "--quiet", "alice"),
            env=self._environ,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return friend

    def command(self, verb: str, *words: str) -> list[str]:
        """Start a command as Bob."""
        return [*PROGRAM, verb, *self._flags, *words]

    def get(self, item: str, target: Path) -> float:
        """Fetch, and return the seconds from the start of the command to its end."""
        started = time.perf_counter()
        command = self.command("get", "--quiet", item, str(target))
        subprocess.run(command, env=self._environ, check=True, timeout=GET_TIMEOUT)
        return time.perf_counter() - started

    def stream(self, item: str) -> float:
        """Pipe a file to a program that reads and forgets it, and return the seconds."""
        started = time.perf_counter()
        command = self.command("get", "--quiet", item, "-")
        with subprocess.Popen(command, env=self._environ, stdout=subprocess.PIPE) as getting:
            subprocess.run(
                ["dd", "of=/dev/null", "bs=1M"],
                stdin=getting.stdout,
                check=True,
                stderr=subprocess.DEVNULL,
                timeout=GET_TIMEOUT,
            )
        assert getting.returncode == 0
        return time.perf_counter() - started

    def list(self, item: str) -> float:
        """List a whole tree, and return the seconds from the start of the command to its end."""
        started = time.perf_counter()
        command = self.command("ls", "-R", item)
        subprocess.run(
            command, env=self._environ, check=True, timeout=GET_TIMEOUT, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - started

    def forget_saved(self) -> None:
        """Delete the records of fetched files."""
        for path in (self._folder / self._name).glob(f"{saved_files.FILE_NAME}*"):
            path.unlink()

    def get_and_remove(self, item: str, target: Path) -> float:
        """Fetch a single file as `get` does, and remove it."""
        seconds = self.get(item, target)
        (target / item.rpartition("/")[2]).unlink()
        return seconds

    def memory(self, item: str, target: Path) -> int:
        """Return the memory of a fetch above that for a file of one byte, in bytes."""
        peaks = []
        for each in ("alice:share/tiny", item):
            command = self.command("get", "--quiet", each, str(target))
            peaks.append(_peak(command, self._environ))
            got = target / each.rpartition("/")[2]
            shutil.rmtree(got) if got.is_dir() else got.unlink()
        return peaks[1] - peaks[0]

    def resume(self, item: str, target: Path, size: int) -> tuple[int, int]:
        """Kill a fetch half-way and run it again. Return the bytes kept and the bytes fetched the second time."""
        command = self.command("get", "--quiet", "--limit", "200MB/s", item, str(target))
        with subprocess.Popen(command, env=self._environ) as process:
            while allocated(target) < size // 2 and process.poll() is None:
                time.sleep(0.05)
            time.sleep(1.5)
            process.kill()
        run = subprocess.run(
            self.command("get", "--json", item, str(target)),
            env=self._environ,
            check=True,
            timeout=GET_TIMEOUT,
            stdout=subprocess.PIPE,
        )
        events = [json.loads(line) for line in run.stdout.splitlines()]
        (saved,) = (each for each in events if each["event"] == "saved")
        Path(saved["path"]).unlink()
        return size - saved["fetched"], saved["fetched"]

    def probe(self, what: str, *words: str) -> dict[str, float]:
        """Run `benchmarks.session_probe`, and return its measurements."""
        with self.probing(what, *words) as process:
            assert process.stdout is not None
            return dict(json.loads(process.stdout.readline()))

    @contextlib.contextmanager
    def probing(self, what: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start `benchmarks.session_probe`."""
        command = [sys.executable, "-m", "benchmarks.session_probe", what, *words]
        with subprocess.Popen(
            [*command, str(self._folder / self._name), self._environ["P2PSHARE_REGISTRY"]],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def idle_load(sharer: Sharer, requester: Requester) -> float:
    """Return the fraction of a core that the sharer uses while its sessions are idle."""
    with contextlib.ExitStack() as stack:
        for number in range(IDLE_NAMES):
            friend = requester.friend(f"friend{number}")
            count = str(IDLE_SESSIONS // IDLE_NAMES)
            process = stack.enter_context(friend.probing("idle", count))
            assert process.stdout is not None
            process.stdout.readline()  # once they are open
        time.sleep(2)
        before = sharer.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        return (sharer.cpu_seconds() - before) / IDLE_SECONDS


@contextlib.contextmanager
def fetching_world(folder: Path, shares: Path) -> Iterator[tuple[Sharer, Requester]]:
    """Alice's peer, which shares the folder `shares`, and bob, with a registry; all below `folder`."""
    port = free_port()
    environ = {
        **os.environ,
        "P2PSHARE_REGISTRY": f"http://127.0.0.1:{port}",
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(registry(port, str(folder / "registry")), environ))
        until(lambda: answers(port), "The registry")
        alice = [sys.executable, "-c", TWISTD, "-n", "p2ppeer", "--name", "alice"]
        alice += ["--share", str(shares), "--data", str(folder / "alice")]
        sharer = Sharer(stack.enter_context(running(alice, environ)))
        requester = Requester(folder, environ)

        def is_there() -> bool:
            command = requester.command("ls", "--quiet", "alice")
            done = subprocess.run(command, env=environ, check=False, capture_output=True)
            return done.returncode == 0

        until(is_there, "Alice's peer")
        yield sharer, requester


@contextlib.contextmanager
def running(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program without its output, until the block ends."""
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def until(is_so: object, what: str) -> None:
    """Wait until `is_so()` is true."""
    assert callable(is_so)
    deadline = time.monotonic() + START_TIMEOUT
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not start")
        time.sleep(0.2)


def _peak(command: list[str], environ: dict[str, str]) -> int:
    """Return the peak memory of a process in bytes."""
    if not (child := os.fork()):
        os.execve(command[0], command, environ)
    _, status, usage = os.wait4(child, 0)
    assert status == 0, command
    return usage.ru_maxrss * 1024  # it is in KiB (getrusage(2))


def allocated(folder: Path) -> int:
    """Return the bytes that the journals in a folder cover: a record per block."""
    journals = [each.stat().st_size for each in folder.glob(".p2pshare-*.journal")]
    return sum(journals) // RECORD_SIZE * MIB
