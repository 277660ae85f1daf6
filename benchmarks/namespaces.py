"""Two network namespaces joined by an emulated link, for measurements with the real kernel. They need root on Linux.

Nothing of this outlives the process that made it: see `tests.lab.namespaces`; a TUN device ends with the emulator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2pshare.testing.links import Conditions
from tests.lab import namespaces

NEAR_IP = "10.87.0.1"
FAR_IP = "10.87.0.2"
QUEUE_LENGTH = (
    10_000  # packets between the kernel and the emulator, so that only the emulated queue drops
)


def why_not() -> str | None:
    """Return why the link cannot be made here, as a sentence; None if it can."""
    if (reason := namespaces.why_not()) is not None:
        return reason
    if not Path("/dev/net/tun").exists():
        return "The lab needs /dev/net/tun. Load the kernel module tun."
    return None


class Namespace(namespaces.Namespace):
    """A network namespace with one address."""

    def __init__(self, ip: str) -> None:
        super().__init__()
        self.ip = ip

    def take(self, device: str, peer: str) -> None:
        """Move a TUN device into the namespace, and give it the namespace's address."""
        subprocess.run(["ip", "link", "set", device, "netns", str(self.pid)], check=True)
        self.run("ip", "addr", "add", self.ip, "peer", peer, "dev", device)
        self.run("ip", "link", "set", device, "up", "txqueuelen", str(QUEUE_LENGTH))


class EmulatedLink:
    """The process of the emulator (`benchmarks.tun_link`)."""

    def __init__(self, near: Namespace, far: Namespace) -> None:
        devices = f"p2pshare{os.getpid() % 100_000}a", f"p2pshare{os.getpid() % 100_000}b"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tun_link", *devices],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.change(Conditions())
        near.take(devices[0], far.ip)
        far.take(devices[1], near.ip)

    def change(self, conditions: Conditions) -> list[dict[str, Any]]:
        """Change both directions, and return what was counted in each since the last change."""
        assert self._process.stdin is not None and self._process.stdout is not None
        fields = dataclasses.asdict(conditions)
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the emulator."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@contextlib.contextmanager
def joined_namespaces() -> Iterator[tuple[Namespace, Namespace, EmulatedLink]]:
    """Make two namespaces and the link between them."""
    with contextlib.ExitStack() as stack:
        near, far = Namespace(NEAR_IP), Namespace(FAR_IP)
        stack.callback(far.close)
        stack.callback(near.close)
        link = EmulatedLink(near, far)
        stack.callback(link.close)
        yield near, far, link
