"""Two network namespaces with a link between them that takes a given time each way, for Linux and root.

    python -m benchmarks.long_link SECONDS

The link process prints the path of each namespace, near and far, for `nsenter --net=PATH`, and carries packets between
them until it is ended. The kernel's TCP runs at both ends, so slow start costs what it costs on a real link.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import first_line, process

NEAR, FAR = "10.77.0.1", "10.77.0.2"
"""The addresses of the two ends."""
MTU = 1500  # bytes

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET (unshare(2))
_SET_INTERFACE = 0x400454CA  # TUNSETIFF (linux/if_tun.h)
_PLAIN_PACKETS = 0x0001 | 0x1000  # IFF_TUN, IFF_NO_PI

Prefix = list[str]
"""The beginning of a command that runs in a namespace."""


@contextmanager
def long_link(seconds: float) -> Iterator[tuple[Prefix, Prefix]]:
    """Yield the prefixes of commands that run at the near end and at the far end of a link."""
    with process("benchmarks.long_link", str(seconds)) as link:
        near, far = first_line(link).split()
        yield ["nsenter", f"--net={near}"], ["nsenter", f"--net={far}"]


def _enter_new_namespace(ip: str) -> tuple[int, int]:
    """Make a namespace with one end of the link; return the descriptors of the namespace and of the device."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network namespace: this needs root")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH22x", b"tun0", _PLAIN_PACKETS))
    for words in ("link set lo up", f"addr add {ip}/24 dev tun0", f"link set tun0 mtu {MTU} up"):
        subprocess.run(["ip", *words.split()], check=True)
    return os.open("/proc/self/ns/net", os.O_RDONLY), device


def _carry(one: int, other: int, seconds: float) -> None:
    """Carry packets both ways for ever, `seconds` late."""
    target = {one: other, other: one}
    late: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        for device in select.select([one, other], [], [], wait)[0]:
            while packet := _read(device):
                late.append((time.monotonic() + seconds, target[device], packet))
        while late and late[0][0] <= time.monotonic():
            _, device, packet = late.popleft()
            os.write(device, packet)


def _read(device: int) -> bytes:
    try:
        return os.read(device, MTU)
    except BlockingIOError:
        return b""


def main(seconds: str) -> None:
    """Run the command line."""
    ends = [_enter_new_namespace(ip) for ip in (NEAR, FAR)]
    folder = Path("/proc", str(os.getpid()), "fd")
    print(*(folder / str(namespace) for namespace, _ in ends), flush=True)
    _carry(ends[0][1], ends[1][1], float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
