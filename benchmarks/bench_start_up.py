"""The time of `p2pshare get` over a long link, in s and in round trips.

A registry and a sharer are at the far end of a link, the user at the near end. The work of the command is measured,
from the end of its imports to its summary, for files of one byte and of 4 MB. Beside it, a bare TCP connection sends
the same bytes after one round trip of question and answer. The same commands over a link without a delay show what the
machine itself takes. Each figure is the least of some tries, as other load only adds to it.

Run it as `python -m benchmarks.bench_start_up [SECONDS]` as root on Linux; SECONDS is the round trip (default: 0.1).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.fetching import PROGRAM, running, until
from benchmarks.namespaces import Namespace, joined_namespaces, why_not
from benchmarks.reporting import print_table
from benchmarks.servers import TWISTD
from p2pshare.testing.links import Conditions

SIZES = (1, 4_000_000)  # bytes
TRIES = 5
PORT = 8000
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
    """A user at the near end of a link; a registry and alice, who shares files, at the far end."""

    def __init__(self, near: Namespace, far: Namespace, folder: Path) -> None:
        self._near, self._far, self._folder = near, far, folder
        self._environ = {
            **os.environ,
            "P2PSHARE_REGISTRY": f"http://{far.ip}:{PORT}",
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
        }

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the registry, alice's peer and the bare server; bob meets alice."""
        share, registry = self._folder / "share", self._folder / "registry"
        share.mkdir()
        for size in SIZES:
            (share / f"{size}").write_bytes(os.urandom(size))
        twistd = (sys.executable, "-c", TWISTD, "-n")
        with ExitStack() as stack:
            for command in (
                (*twistd, "p2pregistry", "--listen", f"tcp:{PORT}", "--data", str(registry)),
                (*twistd, "p2ppeer", "--name", "alice", "--share", str(share)),
                (sys.executable, "-c", BARE_SERVER, f"{BARE_PORT}"),
            ):
                stack.enter_context(running(self._far.command(*command), self._environ))
            until(lambda: not self._run("ls", "alice").returncode, "Alice's peer")
            yield

    def get(self, size: int) -> float:
        """Get a file; return the seconds of the command without the start of Python and the imports."""
        done = self._run("--json", "get", f"alice:share/{size}", str(self._folder))
        summary = json.loads(done.stdout.splitlines()[-1])
        if summary["event"] != "summary" or summary["files"] != 1:
            raise SystemExit("the file could not be fetched")
        (self._folder / f"{size}").unlink()
        return float(summary["seconds"])

    def bare(self, size: int) -> float:
        """Let a bare connection send as much; return the seconds of the command."""
        words = (sys.executable, "-c", BARE_CLIENT, self._far.ip, f"{BARE_PORT}", f"{size}")
        started = time.perf_counter()
        subprocess.run(self._near.command(*words), check=True)
        return time.perf_counter() - started

    def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command of bob."""
        command = self._near.command(*PROGRAM, *words, "--name", "bob")
        return subprocess.run(command, env=self._environ, check=False, capture_output=True)


def measure(round_trips: Sequence[float]) -> list[dict[int, tuple[float, float]]]:
    """Return, for each round trip in s, the least seconds of `get` and of a bare connection, by size."""
    with joined_namespaces() as (near, far, link), TemporaryDirectory() as folder:
        world = World(near, far, Path(folder))
        with world.serving():
            results = []
            for each in round_trips:
                link.change(Conditions(delay=each / 2))
                results.append({
                    size: (
                        min(world.get(size) for _ in range(TRIES)),
                        min(world.bare(size) for _ in range(TRIES)),
                    )
                    for size in SIZES
                })  # fmt: skip
            return results


def main(seconds: str = "0.1") -> None:
    """Measure and print."""
    if (reason := why_not()) is not None:
        raise SystemExit(reason)
    round_trip = float(seconds)
    near, far = measure((0.0, round_trip))
    rows = []
    for size in SIZES:
        start, bare_start = near[size]
        ours, bare = far[size]
        trips, bare_trips = (ours - start) / round_trip, (bare - bare_start) / round_trip
        rows += [
            [f"{size} bytes, p2pshare", f"{ours:.2f}", f"{start:.2f}", f"{trips:.1f}"],
            [f"{size} bytes, bare TCP", f"{bare:.2f}", f"{bare_start:.2f}", f"{bare_trips:.1f}"],
        ]
    title = f"The work of a command with a round trip of {round_trip * 1000:.0f} ms"
    print_table(title, ["what", "s", "s without delay", "round trips"], rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
