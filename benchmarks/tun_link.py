"""A link between two TUN devices, as a process of its own.

    python -m benchmarks.tun_link DEVICE DEVICE

It makes the devices and moves packets from each to the other as a `p2pshare.testing.links.Link` per direction decides;
the kernel sees a network cable with a long delay. Each line of its input is a JSON object with the fields of
`Conditions`. The answer is a line with the counts of both directions since the line before. It ends with its input.

The emulator wakes up every 0.5 ms, takes all packets that the kernel has sent meanwhile, and delivers all that are due.
One wake-up per packet would cost more than the packet. It ignores marks and corruption, which a kernel would undo or
take for loss.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import gc
import heapq
import json
import os
import random
import select
import struct
import sys
import time

from p2pshare.testing.links import Bursts, Conditions, Link, LinkCounts

TICK = 0.0005  # seconds
READS_MAX = 1000  # packets from one device per tick: more would delay the other direction
PACKET_MAX = 65_535  # bytes
PRIORITY = 1  # of SCHED_RR (sched(7)): an emulator that waits for the processor measures nothing
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def open_tun(name: str) -> int:
    """Make a TUN device, and return its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


class Direction:
    """The packets from one device to the other."""

    def __init__(self, source: int, destination: int, seed: int) -> None:
        self.link = Link(Conditions(), random.Random(seed))
        self._source = source
        self._destination = destination
        self._due: list[tuple[float, int, bytes]] = []  # when, number, packet
        self._number = 0

    def accept(self) -> None:
        """Take the packets that the kernel has sent."""
        send, source = self.link.send, self._source
        for _ in range(READS_MAX):
            try:
                packet = os.read(source, PACKET_MAX)
            except BlockingIOError:
                return
            for when, _, _ in send(len(packet), time.monotonic()):
                self._number += 1
                heapq.heappush(self._due, (when, self._number, packet))

    def deliver(self, now: float) -> None:
        """Give the kernel the packets that are due."""
        due, destination = self._due, self._destination
        while due and due[0][0] <= now:
            packet = heapq.heappop(due)[2]
            try:
                os.write(destination, packet)
            except OSError as error:
                if error.errno != errno.EIO:  # the device is not up yet
                    raise

    def change(self, conditions: Conditions) -> LinkCounts:
        """Use other conditions from now on, and return the counts so far."""
        self.link.conditions = conditions
        counts, self.link.counts = self.link.counts, LinkCounts()
        return counts


def parse(line: str) -> Conditions:
    """Return the conditions of a line."""
    fields = json.loads(line)
    if fields["bursts"] is not None:
        fields["bursts"] = Bursts(**fields["bursts"])
    return Conditions(**fields)


def main(near: str, far: str) -> None:
    """Move packets until the input ends."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    gc.disable()  # no cycles here, and a collection would delay packets
    tuns = open_tun(near), open_tun(far)
    directions = Direction(tuns[0], tuns[1], 1), Direction(tuns[1], tuns[0], 2)
    while True:
        if select.select([sys.stdin], [], [], TICK)[0]:
            if not (line := sys.stdin.readline()):
                return
            counts = [dataclasses.asdict(each.change(parse(line))) for each in directions]
            print(json.dumps(counts), flush=True)
        for each in directions:
            each.accept()
            each.deliver(time.monotonic())


if __name__ == "__main__":
    main(*sys.argv[1:])
