"""The speed and memory of a text of 1 GiB between two processes over TCP.

The time is from the first byte to the synced file under its name. It is printed beside the time for the same bytes
through two bare sockets into a file, without a sync, in the same run.

Run it as `python benchmarks/bench_text.py`; it takes about half a minute, and 3 GiB of the temporary folder.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.peers import fetch, memory, sharing
from benchmarks.reporting import print_table

SIZE = 1024**3  # bytes
TRIES = 5
MIB = 1024 * 1024


def make_share(folder: Path) -> Path:
    """Create a share with one text of random bytes."""
    folder.mkdir()
    path = folder / "my_file.txt"
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(SIZE // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


def bare_rate(source: Path, target: Path) -> float:
    """Return the bytes per second from a file over two bare sockets into a file."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if not (child := os.fork()):
            with (
                socket.create_connection(server.getsockname()) as sender,
                source.open("rb") as file,
            ):
                while chunk := file.read(MIB):
                    sender.sendall(chunk)
            os._exit(0)
        started = time.perf_counter()
        connection, _ = server.accept()
        with connection, target.open("wb") as file:
            while chunk := connection.recv(65_536):
                file.write(chunk)
        seconds = time.perf_counter() - started
        os.waitpid(child, 0)
    target.unlink()
    return SIZE / seconds


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    with one.open("rb") as first, other.open("rb") as second:
        while chunk := first.read(MIB):
            if chunk != second.read(MIB):
                return False
        return not second.read(1)


def measure(folder: Path) -> list[list[str]]:
    """Return the rows of the table."""
    source = make_share(folder / "share")
    with sharing(folder / "share") as (sharer, port):
        idle = memory(sharer.pid)["VmRSS"]
        tries = fetch("text", port, folder, TRIES)
        grown = memory(sharer.pid)["VmHWM"] - idle
    whole = same(source, folder / "text.png")
    bare = statistics.median(bare_rate(source, folder / "bare") for _ in range(TRIES))
    rate = statistics.median(each["bytes"] / each["seconds"] for each in tries)
    return [
        ["text of 1 GiB", f"{rate / 1e6:.0f} MB/s" + ("" if whole else ", NOT THE SAME")],
        ["bare sockets", f"{bare / 1e6:.0f} MB/s"],
        ["ratio", f"{rate / bare:.2f}"],
        ["memory of the sharer above idle", f"{grown / MIB:.1f} MiB"],
        [
            "memory of the requester above idle",
            f"{max(each['memory'] for each in tries) / MIB:.1f} MiB",
        ],
    ]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        print_table("A text from request to file", ["what", "figure"], measure(Path(folder)))


if __name__ == "__main__":
    main()
