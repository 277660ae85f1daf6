"""The speed of a picture between two processes over UDP, and over a network that loses a tenth.

Each time is from the first datagram to the file under its name. The rate of the large picture is that of its rows,
beside the rate of equal datagrams between two bare sockets in the same run.

Run it as `python benchmarks/bench_picture.py`; it takes about half a minute.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.peers import fetch, first_line, process, sharing
from benchmarks.reporting import print_table
from p2pshare.pictures.pixels import Pixels

TRIES = 20
LARGE_TRIES = 5
LOSS = 0.1
ROW_BYTES = 3 * 4000 + 5
RAW_ROWS = 9000


def photo(width: int, height: int) -> Pixels:
    """Draw an image that compresses like a photograph: smooth shapes and some noise."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width]
    shapes = [np.sin(x / 97 + y / 53), np.cos(x / 41), np.sin(y / 77)]
    smooth = 128 + 90 * np.stack(shapes, axis=-1)
    noisy = smooth + rng.normal(0, 6, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def make_share(folder: Path, width: int, height: int) -> Pixels:
    """Create a share with one picture, and return the expected pixels."""
    folder.mkdir()
    path = folder / "my_file.jpg"
    Image.fromarray(photo(width, height)).save(path, quality=90)
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def judge(name: str, tries: list[dict[str, Any]], pixels: Pixels, saved: Path) -> list[str]:
    """Return a row of the table. Every try was verified row by row, and the last one also pixel by pixel."""
    times = [each["seconds"] for each in tries if "seconds" in each]
    with Image.open(saved) as image:
        exact = np.array_equal(np.array(image), pixels)
    return [
        name,
        f"{len(times)} of {len(tries)}" + ("" if exact else ", NOT EXACT"),
        f"{statistics.median(times):.3f} s",
        f"{max(times):.3f} s",
    ]


def small_picture(folder: Path) -> list[list[str]]:
    """Measure 1200 x 900 pixels, directly and through the relay."""
    pixels = make_share(folder / "small", 1200, 900)
    saved = folder / "picture.png"
    with sharing(folder / "small") as (_, port):
        direct = judge("loopback", fetch("picture", port, folder, TRIES), pixels, saved)
        with process("benchmarks.relay", str(port), str(LOSS), "1") as relay:
            tries = fetch("picture", int(first_line(relay)), folder, TRIES)
        lossy = judge(f"{LOSS:.0%} lost each way", tries, pixels, saved)
    return [direct, lossy]


def large_picture(folder: Path) -> list[str]:
    """Measure the rate of the rows of 4000 x 3000 pixels, and of bare sockets."""
    make_share(folder / "large", 4000, 3000)
    with sharing(folder / "large") as (_, port):
        tries = fetch("picture", port, folder, LARGE_TRIES)
    rate = statistics.median(each["bytes"] / each["transfer_seconds"] for each in tries) / 1e6
    bare = statistics.median(bare_rate() for _ in range(LARGE_TRIES)) / 1e6
    return ["4000 x 3000", f"{rate:.0f} MB/s", f"{bare:.0f} MB/s", f"{rate / bare:.2f}"]


def bare_rate() -> float:
    """Return the bytes per second of rows between two bare sockets, without any protocol."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
    receiver.settimeout(0.5)
    if not (child := os.fork()):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.connect(receiver.getsockname())
        row = bytes(ROW_BYTES)
        for _ in range(RAW_ROWS):
            sender.send(row)
        os._exit(0)
    arrived, started, last = 0, time.perf_counter(), 0.0
    try:
        while True:
            arrived += len(receiver.recv(65_536))
            last = time.perf_counter()
    except TimeoutError:
        os.waitpid(child, 0)
        receiver.close()
    return arrived / (last - started)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        header = ["1200 x 900", "complete", "median", "slowest"]
        print_table("A picture from request to file", header, small_picture(folder))
        header = ["picture", "its rows", "bare sockets", "ratio"]
        print_table("The rate of a large picture", header, [large_picture(folder)])


if __name__ == "__main__":
    main()
