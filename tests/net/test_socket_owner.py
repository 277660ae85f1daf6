"""Who has the other end of a connection."""

from __future__ import annotations

import os
import socket
import struct
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from p2pshare.net.socket_owner import UNKNOWN, is_told, owner_of

LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class SocketOwnerTests(SynchronousTestCase):
    """Real connections."""

    def setUp(self) -> None:
        if not is_told():
            raise SkipTest("this system does not tell")

    def connected(self, family: int, host: str) -> tuple[socket.socket, socket.socket]:
        """Return both ends of a connection, the client's first."""
        server = socket.create_server((host, 0), family=family)
        self.addCleanup(server.close)
        client = socket.create_connection(server.getsockname()[:2])
        self.addCleanup(client.close)
        accepted, _ = server.accept()
        self.addCleanup(accepted.close)
        return client, accepted

    def test_own(self) -> None:
        """A connection of this process belongs to its user, over IPv4 and over IPv6; others are unknown."""
        for family, host in LOOPBACKS:
            try:
                client, _ = self.connected(family, host)
            except OSError:
                continue  # a machine without IPv6
            ends = client.getsockname()[:2], client.getpeername()[:2]
            self.assertEqual(owner_of(*ends), os.geteuid())
            self.assertEqual(owner_of((host, 1), ends[1]), UNKNOWN)
            self.assertEqual(owner_of(ends[1], (host, 1)), UNKNOWN)  # the listening socket is none

    def test_mapped(self) -> None:
        """A client may use IPv6 for a connection over IPv4."""
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        with socket.socket(socket.AF_INET6) as client:
            try:
                client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
            except OSError as error:
                raise SkipTest("this machine has no IPv6") from error
            end = client.getsockname()[:2]
            self.assertEqual(owner_of(end, server.getsockname()), os.geteuid())

    def test_closed(self) -> None:
        """Threat 111: a socket that its process has closed, or reset, belongs to nobody, and not to root."""
        for resets in (False, True):
            client, accepted = self.connected(*LOOPBACKS[0])
            ends = client.getsockname(), client.getpeername()
            client.sendall(b"GET / HTTP/1.1\r\n")
            if resets:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            self.assertEqual(owner_of(*ends), UNKNOWN)
            if not resets:
                self.assertEqual(accepted.recv(16), b"GET / HTTP/1.1\r\n")


class OtherSystemTests(SynchronousTestCase):
    """Systems that do not tell."""

    def test_not_told(self) -> None:
        """Another system, or a kernel without this function, is known as such."""
        self.addCleanup(is_told.cache_clear)
        for change in (
            lambda: self.patch(sys, "platform", "darwin"),
            lambda: self.patch(socket, "AF_NETLINK", 99),
        ):
            is_told.cache_clear()
            change()
            self.assertFalse(is_told())

    def test_errors(self) -> None:
        """A reply that is an error, or none at all, is no user."""
        error = struct.pack("=IHHII", 36, 2, 0, 1, 0) + struct.pack("=i", -2) + bytes(200)
        ends = ("127.0.0.1", 1), ("127.0.0.1", 2)
        self.assertEqual(owner_of(*ends, lambda _: b""), UNKNOWN)
        self.assertEqual(owner_of(*ends, lambda _: error), UNKNOWN)
