"""Cables with a delay, by TUN devices: the process that moves their packets, and its client.

The kernel's own emulation (netem) is not part of every kernel. One process serves all cables of a lab. It waits for
packets without polling, so that idle cables cost nothing; `benchmarks.tun_link` is the one for measurements of rates.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import selectors
import subprocess
import sys
import time
from typing import Any

from benchmarks.tun_link import PACKET_MAX, READS_MAX, open_tun
from tests.lab.namespaces import Namespace


class DelayedCables:
    """The process."""

    def __init__(self, delay_s: float) -> None:
        """Start it; each packet takes `delay_s` from one end of its cable to the other."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.delay", str(delay_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._count = 0

    def join(self, one: Namespace, device: str, other: Namespace, other_device: str) -> None:
        """Lay a cable between two namespaces, as `Namespace.join`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._count += 1
        names = [f"lab{os.getpid() % 100_000}.{self._count}{end}" for end in "ab"]
        self._process.stdin.write(json.dumps(names) + "\n")
        self._process.stdin.flush()
        self._process.stdout.readline()
        for name, namespace, wanted in zip(
            names, (one, other), (device, other_device), strict=True
        ):
            subprocess.run(
                ["ip", "link", "set", name, "netns", str(namespace.pid), "name", wanted],
                check=True,
            )
            namespace.later(f"link set {wanted} up")

    def close(self) -> None:
        """End the process, and with it the cables."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def main(delay_s: float) -> None:
    """Move packets until the input ends."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
    due: list[tuple[float, int, int, bytes]] = []  # when, number, device, packet
    count = 0
    while True:
        wait = max(0.0, due[0][0] - time.monotonic()) if due else None
        for key, _ in selector.select(wait):
            if key.data is None:
                if not _add(selector):
                    return
                continue
            for _ in range(READS_MAX):
                try:
                    packet = os.read(key.fd, PACKET_MAX)
                except OSError:  # there is none, or the device is not up
                    break
                count += 1
                heapq.heappush(due, (time.monotonic() + delay_s, count, key.data, packet))
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, device, packet = heapq.heappop(due)
            with contextlib.suppress(OSError):  # the device is not up
                os.write(device, packet)


def _add(selector: Any) -> bool:
    """Make the devices of a cable that the input names; return whether there was a line."""
    if not (line := sys.stdin.readline()):
        return False
    one, other = map(open_tun, json.loads(line))
    selector.register(one, selectors.EVENT_READ, other)
    selector.register(other, selectors.EVENT_READ, one)
    sys.stdout.write("\n")
    sys.stdout.flush()
    return True


if __name__ == "__main__":
    main(float(sys.argv[1]))
