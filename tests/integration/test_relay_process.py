"""The relay of a registry with several workers, as processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import unittest
from contextlib import suppress
from pathlib import Path

from p2pshare.wire.keys import to_base64url
from tests.integration.relayed import RelayedPeer, meet, reply_to
from tests.integration.test_registry_process import children
from tests.integration.test_registry_workers import (
    RegistryTestCase,
    said_until,
    wait_until,
    workers,
)

PAIRS = 16  # of which, with two workers, half have their ends at different ones


def received(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes, or fewer if the other end has closed."""
    data = b""
    with suppress(ConnectionError):
        while len(data) < size and (more := connection.recv(size - len(data))):
            data += more
    return data


def links(pid: int) -> int:
    """Return how many Unix sockets a process has open."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    unix = {line.split()[6] for line in lines[1:]}
    held = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sum(each.removeprefix("socket:[").removesuffix("]") in unix for each in held)


class WorkersTests(RegistryTestCase):
    """Two workers, and pairs whose ends came to either of them."""

    @unittest.skipUnless(sys.platform == "linux", "the kernel spreads connections on Linux only")
    def test_across_workers(self) -> None:
        """Ends meet wherever they come; a worker that is killed takes its own pairs, and frees its rooms."""
        registry = self.begin(
            "--workers", "2", "--limit", "access-key=off", "--limit", "access=off"
        )
        said_until(registry, "registry ready:")
        pids = workers(registry)
        before = [links(pid) for pid in pids]
        alice, bob = (RelayedPeer(registry.port, name) for name in ("alice", "bob"))
        pairs = [meet(alice, bob) for _ in range(PAIRS)]
        for end in (end for pair in pairs for end in pair):
            self.addCleanup(end.close)
        for number, (one, two) in enumerate(pairs):
            one.sendall(b"%2d from alice" % number)
            two.sendall(b"%2d from bob  " % number)
            self.assertEqual(received(two, 13), b"%2d from alice" % number)
            self.assertEqual(received(one, 13), b"%2d from bob  " % number)
        now = [links(pid) for pid in pids]
        self.assertTrue(all(map(int.__gt__, now, before)), (before, now))

        room = to_base64url(secrets.token_bytes(16))
        waiting = [alice.ask(room, bob.key.public) for _ in range(4)]  # the last one counts
        victim, other = pids
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in children(registry.process.pid))
        survived = []
        for one, two in pairs:
            with suppress(ConnectionError):
                one.sendall(b"x")
            if received(two, 1):
                survived.append((one, two))
            else:
                one.close()
                two.close()
        self.assertTrue(0 < len(survived) < PAIRS, len(survived))
        wait_until(lambda: links(other) <= before[pids.index(other)])
        again = alice.ask(room, bob.key.public), bob.ask(room, alice.key.public)
        for end in again:
            self.assertTrue(reply_to(end).startswith(b"HTTP/1.1 101 "))
        for end in (*waiting, *again):
            end.close()
        said_until(registry, "worker ready again:")
        one, two = meet(alice, bob)
        one.close()
        self.assertEqual(received(two, 1), b"")
        two.close()
