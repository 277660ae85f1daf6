"""The speed of p2pshare's datagram transport on loopback, beside aioquic in the same run.

Each has two processes, encrypts, and writes the bytes into a file in memory. The time counts from the end of the
handshake to the last byte. aioquic is taken from this environment if it is there, else it is installed once into its
own environment below `build`. It gets datagrams of its default size and of the size that Ethernet carries; the faster
of the two counts.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench_files import MEMORY
from benchmarks.peers import first_line
from benchmarks.reporting import print_table

AIOQUIC = "aioquic==1.7.2"
HOME = Path(__file__).parents[1] / "build" / "aioquic"
MIB = 1024**2
SIZE = 256 * MIB  # bytes
AIOQUIC_SIZE = 24 * MIB  # bytes; it takes as long
DATAGRAMS = 1200, 1472  # bytes of UDP payload
TRIES = 3
TIMEOUT = 120.0  # seconds


def python_with_aioquic() -> str:
    """Return a Python that has aioquic, which is installed if necessary."""
    if importlib.util.find_spec("aioquic") is not None:
        return sys.executable
    python = HOME / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, AIOQUIC], check=True)
    return str(python)


def measure(serve: list[str], fetch: Callable[[str], list[str]], path: Path, size: int) -> float:
    """Run a server and a client, which writes `path`; return bytes per second."""
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            done = subprocess.run(
                fetch(first_line(server)), check=True, stdout=subprocess.PIPE, timeout=TIMEOUT
            )
        finally:
            server.kill()
    assert path.stat().st_size == size
    path.unlink()
    return size / float(json.loads(done.stdout)["seconds"])


def ours(folder: Path) -> float:
    """Measure p2pshare."""
    process = [sys.executable, "-m", "benchmarks.datagram_process"]
    path = folder / "ours"
    return measure(
        [*process, "serve", str(SIZE)],
        lambda port: [*process, "fetch", port, str(path)],
        path,
        SIZE,
    )


def theirs(python: str, datagram: int, folder: Path) -> float:
    """Measure aioquic."""
    process = [python, "-m", "benchmarks.quic_process"]
    path = folder / "theirs"
    return measure(
        [*process, "serve", str(AIOQUIC_SIZE), str(datagram), str(folder)],
        lambda port: [*process, "fetch", port, str(datagram), str(path)],
        path,
        AIOQUIC_SIZE,
    )


def main() -> None:
    """Measure and print."""
    python = python_with_aioquic()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        for _ in range(TRIES):
            rates.setdefault("p2pshare datagrams", []).append(ours(Path(name)))
            for datagram in DATAGRAMS:
                rate = theirs(python, datagram, Path(name))
                rates.setdefault(f"aioquic, datagrams of {datagram} bytes", []).append(rate)
    mine, *others = (statistics.median(each) for each in rates.values())
    rows = [
        [
            who,
            f"{statistics.median(each) / 1e6:.1f} MB/s",
            f"{min(each) / 1e6:.1f} to {max(each) / 1e6:.1f}",
        ]
        for who, each in rates.items()
    ]
    rows.append(["ratio to the faster aioquic", f"{mine / max(others):.1f}", ""])
    print_table("Datagrams on loopback, into memory", ["what", "median", "range"], rows)


if __name__ == "__main__":
    main()
