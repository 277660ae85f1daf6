"""The time of `p2pshare get` over a long link, in s and in round trips.

A registry and a sharer are at the far end of a link, the user at the near end. The whole command is measured, for files
of one byte and of 4 MB, and beside it a bare TCP connection that sends the same bytes after one round trip of
question and answer. The start is the time of the same command over a link without a delay.

Run it as `python -m benchmarks.bench_start_up [SECONDS]` as root on Linux; SECONDS is the round trip (default: 0.1).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.fetching import PROGRAM
from benchmarks.long_link import FAR, Prefix, long_link
from benchmarks.reporting import print_table
from benchmarks.servers import TWISTD

SIZES = (1, 4_000_000)  # bytes
TRIES = 5
PORT = 8000
START_TIMEOUT = 20.0  # seconds
BARE_PORT = 8001
BARE_SERVER = """
import socket, sys
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(bytes(int(connection.recv(100))))
"""
BARE_CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(sys.argv[3].encode())
    while connection.recv(2**20):
        pass
"""


class World:
    """A user at the near end of a link, and the environment of all commands."""

    def __init__(self, near: Prefix, far: Prefix, folder: Path) -> None:
        self.near, self.far, self.folder = near, far, folder
        self.environ = {
            **os.environ,
            "P2PSHARE_REGISTRY": f"http://{FAR}:{PORT}",
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
        }

    def user(self, verb: str, *words: str) -> bool:
        """Run a command of bob; whether it has succeeded."""
        command = [*self.near, *PROGRAM, verb, "--quiet", "--name", "bob", *words]
        return not subprocess.run(
            command, env=self.environ, check=False, capture_output=True
        ).returncode

    def get(self, size: int) -> float:
        """Get a file; return the seconds."""
        started = time.perf_counter()
        if not self.user("get", f"alice:share/{size}", str(self.folder)):
            raise SystemExit("the file could not be fetched")
        seconds = time.perf_counter() - started
        (self.folder / f"{size}").unlink()
        return seconds

    def bare(self, size: int) -> float:
        """Let a bare connection send as much; return the seconds."""
        command = [*self.near, sys.executable, "-c", BARE_CLIENT, FAR, f"{BARE_PORT}", f"{size}"]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - started

    @contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """Run a server at the far end."""
        with subprocess.Popen(
            [*self.far, *command],
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield
            finally:
                process.terminate()


@contextmanager
def world(round_trip: float) -> Iterator[World]:
    """Yield a user far away from a registry and from alice, whom he has met."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        near, far = stack.enter_context(long_link(round_trip / 2))
        made = World(near, far, folder)
        (folder / "share").mkdir()
        for size in SIZES:
            (folder / "share" / f"{size}").write_bytes(os.urandom(size))
        twistd = (sys.executable, "-c", TWISTD, "-n")
        for command in (
            (*twistd, "p2pregistry", "--listen", f"tcp:{PORT}", "--data", str(folder / "registry")),
            (*twistd, "p2ppeer", "--name", "alice", "--share", str(folder / "share")),
            (sys.executable, "-c", BARE_SERVER, f"{BARE_PORT}"),
        ):
            stack.enter_context(made.running(*command))
        deadline = time.monotonic() + START_TIMEOUT
        while not made.user("ls", "alice"):
            if time.monotonic() > deadline:
                raise SystemExit("alice's peer did not start")
            time.sleep(0.5)
        yield made


def measure(round_trip: float) -> dict[int, tuple[float, float]]:
    """Return the seconds of `get`, and those of a bare connection, for each size."""
    with world(round_trip) as made:
        return {
            size: (
                statistics.median(made.get(size) for _ in range(TRIES)),
                statistics.median(made.bare(size) for _ in range(TRIES)),
            )
            for size in SIZES
        }


def main(seconds: str = "0.1") -> None:
    """Measure and print."""
    round_trip = float(seconds)
    near, far = measure(0.0), measure(round_trip)
    rows = []
    for size in SIZES:
        start, bare_start = near[size]
        ours, bare = far[size]
        trips, bare_trips = (ours - start) / round_trip, (bare - bare_start) / round_trip
        rows += [
            [f"{size} bytes, p2pshare", f"{ours:.2f}", f"{start:.2f}", f"{trips:.1f}"],
            [f"{size} bytes, bare TCP", f"{bare:.2f}", f"{bare_start:.2f}", f"{bare_trips:.1f}"],
        ]
    title = f"A whole command with a round trip of {round_trip * 1000:.0f} ms"
    print_table(title, ["what", "s", "s without delay", "round trips"], rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
