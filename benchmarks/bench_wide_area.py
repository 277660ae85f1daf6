"""Fetching a file over a long and lossy path, with the real kernel: over TCP with CUBIC and with BBR, and over UDP.

Two network namespaces are joined by an emulated link of 100 Mbit/s and a round trip of 100 ms. The registry and the
sharer are in one of them, the requester is in the other one. First, flows without p2pshare check the link: one of
constant rate that fits, one that does not, and kernel TCP.

Run it as root: `python -m benchmarks.bench_wide_area [LOSS%]... [--limit SECONDS]` (default: 0 1 5, 60 s for each
fetch). It takes about six minutes. A fetch that does not end within the limit is stopped, and what has arrived counts;
with CUBIC at 5 % loss the whole file takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import filecmp
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench_files import MEMORY, make_big
from benchmarks.fetching import PROGRAM, allocated, running, until
from benchmarks.namespaces import EmulatedLink, Namespace, joined_namespaces, why_not
from benchmarks.reporting import print_table
from benchmarks.servers import TWISTD, registry
from p2pshare.testing.links import Conditions

MEGABIT = 125_000.0  # bytes per second
RATE = 100 * MEGABIT
ROUND_TRIP = 0.1  # seconds
LINK = Conditions(rate=RATE, queue=RATE * ROUND_TRIP, delay=ROUND_TRIP / 2)
MIB = 1024**2
SIZE = 57 * MIB  # bytes: 60 MB
LIMIT = 60.0  # seconds
CHECK_SECONDS = 5.0
TCP_SECONDS = 15.0
DELAY_TOLERANCE = 0.005  # seconds, of the median of the one-way delay
RATE_TOLERANCE = 0.03
REGISTRY_PORT = 8000
FLOWS = [sys.executable, "-m", "benchmarks.flows"]


@dataclasses.dataclass(frozen=True)
class Lab:
    """The namespaces and the link: data goes from `near` to `far`."""

    near: Namespace
    far: Namespace
    link: EmulatedLink
    limit: float
    """Seconds; of a fetch that takes longer, the bytes until then count."""

    def flow(self, kind: str, *words: str, port: int) -> tuple[dict[str, float], dict[str, float]]:
        """Run a flow of `benchmarks.flows`; return the reports of the sender and the receiver."""
        receive = self.far.command(*FLOWS, f"receive-{kind}", self.far.ip, str(port))
        send = self.near.command(*FLOWS, f"send-{kind}", self.far.ip, str(port), *words)
        with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as receiver:
            assert receiver.stdout is not None
            receiver.stdout.readline()
            sent = json.loads(subprocess.run(send, check=True, stdout=subprocess.PIPE).stdout)
            return sent, json.loads(receiver.stdout.readline())


def check_link(lab: Lab) -> None:
    """Measure flows of constant rate, and stop if the link or the emulator is not what it should be."""
    rows = []
    faults = []
    for name, conditions, offered, expected in (
        ("80 Mbit/s", LINK, 80 * MEGABIT, 80 * MEGABIT),
        ("130 Mbit/s", LINK, 130 * MEGABIT, RATE),
        ("90 Mbit/s, 5 % loss", dataclasses.replace(LINK, loss=0.05), 90 * MEGABIT, 85.5 * MEGABIT),
        ("300 Mbit/s, no limit", Conditions(delay=ROUND_TRIP / 2), 300 * MEGABIT, 300 * MEGABIT),
    ):
        lab.link.change(conditions)
        sent, got = lab.flow("udp", str(offered), str(CHECK_SECONDS), port=5000)
        arrived = got["packets"] / sent["packets"]
        rows.append(
            [
                name,
                f"{got['rate'] / MEGABIT:.1f} Mbit/s",
                f"{arrived:.2%}",
                f"{got['delay_min'] * 1e3:.1f}, {got['delay_median'] * 1e3:.1f},"
                f" {got['delay_max'] * 1e3:.1f} ms",
            ]
        )
        is_full = offered > expected / 0.9
        delay_max = ROUND_TRIP / 2 + DELAY_TOLERANCE + (ROUND_TRIP if is_full else 0.0)
        if (
            abs(got["rate"] / expected - 1) > RATE_TOLERANCE
            or not ROUND_TRIP / 2 <= got["delay_median"] <= delay_max
        ):
            faults.append(name)
    print_table(
        "The link, with flows of constant rate", ["offered", "rate", "arrived", "delay"], rows
    )
    if faults:
        raise SystemExit(
            f"The link is not as it should be with {', '.join(faults)}. Is the machine idle?"
        )


def kernel_tcp(lab: Lab, loss: float) -> list[str]:
    """Return the figures of kernel TCP without p2pshare."""
    lab.link.change(dataclasses.replace(LINK, loss=loss))
    cells = []
    for port, control in enumerate(controls(), 5001):
        _, got = lab.flow("tcp", control, str(TCP_SECONDS), port=port)
        cells.append(f"{control} {got['rate'] / MEGABIT:.1f} Mbit/s")
    return [f"kernel TCP for {TCP_SECONDS:.0f} s", f"{loss:.0%}", ", ".join(cells), ""]


def controls() -> list[str]:
    """Return the congestion controls to compare that the kernel has."""
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    return [each for each in ("cubic", "bbr") if each in known]


class World:
    """A registry and a sharer in one namespace, and a requester in the other one."""

    def __init__(self, lab: Lab, folder: Path, environ: dict[str, str]) -> None:
        self._lab = lab
        self._environ = environ
        self._flags = ["--name", "bob", "--data", str(folder / "bob")]

    def command(self, verb: str, *words: str) -> list[str]:
        """Return a command of the requester."""
        return self._lab.far.command(*PROGRAM, verb, *self._flags, *words)

    def has_via(self) -> bool:
        """Whether this p2pshare can choose its carrier."""
        said = subprocess.run(self.command("get", "--help"), capture_output=True, check=True)
        return b"--via" in said.stdout

    def is_there(self) -> bool:
        """Whether the sharer answers."""
        command = self.command("ls", "--quiet", "alice")
        return subprocess.run(command, env=self._environ, capture_output=True).returncode == 0

    def get(self, item: str, target: Path, via: list[str]) -> tuple[float, int]:
        """Fetch into a folder; return the seconds, and the bytes that have arrived and are verified."""
        started = time.perf_counter()
        command = self.command("get", "--quiet", *via, item, str(target))
        with subprocess.Popen(command, env=self._environ) as process:
            try:
                process.wait(self._lab.limit)
            except subprocess.TimeoutExpired:
                process.kill()
                return self._lab.limit, allocated(target)
        seconds = time.perf_counter() - started
        assert process.returncode == 0, command
        return seconds, (target / item.rpartition("/")[2]).stat().st_size


@contextlib.contextmanager
def world(lab: Lab, folder: Path, shares: Path, control: str | None) -> Iterator[World]:
    """Start a registry and a sharer, whose TCP uses the congestion control."""
    url = f"http://{lab.near.ip}:{REGISTRY_PORT}"
    environ = {
        **os.environ,
        "P2PSHARE_REGISTRY": url,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    listen = ("--listen", f"tcp:{REGISTRY_PORT}:interface={lab.near.ip}", "--url", url)
    registering = registry(REGISTRY_PORT, str(folder / "registry"), *listen)
    program = TWISTD
    if control is not None:
        chosen = f"from benchmarks.controlled import control_all; control_all({control.encode()!r})"
        program = f"{chosen}; {TWISTD}"
    alice = [sys.executable, "-c", program, "-n", "p2ppeer", "--name", "alice"]
    alice += ["--share", str(shares), "--data", str(folder / "alice")]
    with (
        running(lab.near.command(*registering), environ),
        running(lab.near.command(*alice), environ),
    ):
        requester = World(lab, folder, environ)
        until(requester.is_there, "Alice's peer")
        yield requester


def fetch(lab: Lab, shares: Path, control: str | None, losses: list[float]) -> Iterator[list[str]]:
    """Fetch at each loss; yield rows of a table. `control` of None means UDP."""
    name = "p2pshare, UDP" if control is None else f"p2pshare, TCP, {control}"
    lab.link.change(LINK)
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
        world(lab, Path(folder), shares, control) as requester,
    ):
        has_via = requester.has_via()
        if control is None and not has_via:
            yield [name, "", "this p2pshare has no --via", ""]
            return
        via = ["--via", "udp" if control is None else "tcp"] if has_via else []
        for loss in losses:
            lab.link.change(dataclasses.replace(LINK, loss=loss))
            with tempfile.TemporaryDirectory(dir=MEMORY) as target:
                start, _ = requester.get("alice:share/tiny", Path(target), via)
                seconds, size = requester.get("alice:share/big", Path(target), via)
                is_exact = size == SIZE and filecmp.cmp(shares / "big", Path(target) / "big", False)
            rate = size / seconds / MEGABIT
            how = "exact" if is_exact else f"{size / MIB:.0f} MiB until then"
            yield [
                name,
                f"{loss:.0%}",
                f"{rate:.2f} Mbit/s, {seconds:.1f} s, {how}",
                f"{start:.2f} s",
            ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("losses", nargs="*", type=float, default=[0, 1, 5])
    parser.add_argument("--limit", type=float, default=LIMIT)
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason)
        return
    losses = [each / 100 for each in options.losses]
    with (
        joined_namespaces() as (near, far, link),
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
    ):
        lab = Lab(near, far, link, options.limit)
        check_link(lab)
        shares = Path(folder) / "share"
        shares.mkdir()
        make_big(shares / "big", SIZE)
        (shares / "tiny").write_bytes(b"x")
        rows = [kernel_tcp(lab, loss) for loss in losses]
        for control in (*controls(), None):
            rows += fetch(lab, shares, control, losses)
        print_table(
            f"{SIZE / 1e6:.0f} MB over 100 Mbit/s with a round trip of 100 ms",
            ["what", "loss", "whole command", "a file of one byte"],
            rows,
        )


if __name__ == "__main__":
    main()
