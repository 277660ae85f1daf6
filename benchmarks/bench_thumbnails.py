"""The rate of thumbnails on one core, and how long the event loop of a peer is held that serves them.

The first table makes previews of 256 pixels, and those of 64 pixels with them, in one thread. Beside it stands what
Pillow takes to decode the same file at an eighth of its size and nothing else: no program that uses libjpeg can make
thumbnails faster, since it has to read every bit of the file. Each figure is the best of some rounds in turn, as other
load only adds to it.

In the second table a whole peer serves previews to another one, which asks for many at a time. A call that is due each
millisecond tells how long the sharer's event loop was held at most, and how much of that it was at work itself: other
load on the machine delays the call as well, as the row without previews shows.

Run it as `python -m benchmarks.bench_thumbnails`; it takes about a minute.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.bench_picture import photo
from benchmarks.peers import first_line, process
from benchmarks.reporting import print_table
from benchmarks.servers import cores, free_port, registry, running
from p2pshare.pictures.thumbnails import make_thumbnails

EDGE = 256
EDGES = (64, EDGE)
QUALITY = 85  # of JPEG
ROUNDS = 4
EACH = 6  # thumbnails in a round
IDLE = 3  # seconds in which nothing is served, for comparison
SERVED = 120  # pictures that are served
SIZES = {"12 MP": (4000, 3000), "24 MP": (6000, 4000)}


def encoded(width: int, height: int, format: str = "JPEG") -> bytes:
    """Return a picture file that is as large as one of a camera."""
    file = io.BytesIO()
    options = {
        "JPEG": {"quality": QUALITY},
        "WEBP": {"quality": 80, "method": 0},
        "PNG": {"compress_level": 1},
    }
    Image.fromarray(photo(width, height)).save(file, format, **options[format])
    return file.getvalue()


def decode(data: bytes) -> None:
    """Decode a JPEG at the smallest size that suffices for a thumbnail, and nothing else."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (EDGE, EDGE * image.height // image.width))
        image.load()


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one piece of work."""
    began = time.process_time()
    for _ in range(EACH):
        work()
    return (time.process_time() - began) / EACH


def on_one_core(name: str, data: bytes, has_limit: bool) -> list[str]:
    """Return a row of the first table."""
    make, limit = float("inf"), float("inf")
    for _ in range(ROUNDS):
        make = min(make, seconds(lambda: make_thumbnails(io.BytesIO(data), EDGES)))
        if has_limit:
            limit = min(limit, seconds(lambda: decode(data)))
    rates = [f"{1 / make:.1f}/s", "", ""]
    if has_limit:
        rates[1:] = [f"{1 / limit:.1f}/s", f"{limit / make:.2f}"]
    return [name, f"{len(data) / 2**20:.1f} MiB", *rates]


def held(sharer: subprocess.Popen[str]) -> list[str]:
    """Return for how long the sharer's event loop was held at most since the last call: clock and processor."""
    assert sharer.stdin is not None
    sharer.stdin.write("report\n")
    sharer.stdin.flush()
    return [f"{1000 * float(each):.1f} ms" for each in first_line(sharer).split()]


def served(folder: Path) -> list[list[str]]:
    """Return the rows of the second table."""
    (folder / "pictures").mkdir()
    for number in range(SERVED):
        name = "12 MP" if number % 2 else "24 MP"
        (folder / "pictures" / f"{number:04}.jpg").write_bytes(_JPEGS[name])
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(registry(port, str(folder / "registry")), port, cores()[0]):
        made = viewed(url, folder, "made", "from memory")
        return [*made, *viewed(url, folder, "from the disk, after a restart")]


def viewed(url: str, folder: Path, *titles: str) -> list[list[str]]:
    """Return a row for each time that all previews of one peer are looked at."""
    words = ("benchmarks.preview_process", "view", url, str(folder), str(EDGE))
    own = {"cwd": Path(__file__).parents[1], "capture_output": True, "text": True, "check": True}
    rows = []
    with process("benchmarks.preview_process", "share", url, str(folder)) as sharer:
        assert first_line(sharer) == "ready"
        held(sharer)
        time.sleep(IDLE)
        rows.append([f"none, for {IDLE} s", "", "", "", *held(sharer)])
        for title in titles:
            told = json.loads(
                subprocess.run([sys.executable, "-m", *words], **own).stdout  # type: ignore[call-overload]
            )
            rate = told["previews"] / told["seconds"]
            size = f"{told['bytes'] / told['previews'] / 1024:.1f} KiB"
            rows.append([title, str(told["previews"]), f"{rate:.0f}/s", size, *held(sharer)])
    return rows


_JPEGS: dict[str, bytes] = {}


def main() -> None:
    """Measure, and print the tables."""
    _JPEGS.update({name: encoded(*size) for name, size in SIZES.items()})
    rows = [on_one_core(f"JPEG, {name}", data, True) for name, data in _JPEGS.items()]
    width, height = SIZES["12 MP"]
    rows += [
        on_one_core(f"{each}, 12 MP", encoded(width, height, each), False)
        for each in ("PNG", "WEBP")
    ]
    header = ["picture", "file", "thumbnails on one core", "decoding alone", "ratio"]
    print_table(f"Thumbnails of {EDGE} and 64 pixels", header, rows)
    with tempfile.TemporaryDirectory() as folder:
        header = [
            "previews",
            "number",
            "rate",
            "size",
            "event loop held at most",
            "of it in processor time",
        ]
        print_table("Previews that a peer serves to another one", header, served(Path(folder)))


if __name__ == "__main__":
    main()
