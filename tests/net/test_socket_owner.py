"""Who has the other end of a connection."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from p2pshare.net.socket_owner import UNKNOWN, owner_of

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {} {} 01 00000000:00000000 00:00000000 00000000  {}        0 {} 1 0000 20 4 30 10 -1\n"


def shown(ip: str, port: int) -> str:
    """Return an end as the kernel shows it."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    packed = socket.inet_pton(family, ip)
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    text = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return f"{text}:{port:04X}"


class SocketOwnerTests(SynchronousTestCase):
    """Real sockets, and tables with others."""

    def setUp(self) -> None:
        self.table = Path(self.mktemp())

    def owner(self, *rows: tuple[str, str, int, int]) -> int | None:
        """Return who has 127.0.0.1:4000, connected to 127.0.0.1:8080, by a table of these rows."""
        self.table.write_text(HEAD + "".join(ROW.format(*row) for row in rows))
        return owner_of(("127.0.0.1", 4000), ("127.0.0.1", 8080), (self.table,))

    def test_own(self) -> None:
        """A connection of this process belongs to its user, over IPv4 and over IPv6."""
        if not Path("/proc/net/tcp").exists():
            raise SkipTest("this system does not tell")
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as listening:
                try:
                    listening.bind((host, 0))
                except OSError:
                    continue  # a machine without IPv6
                listening.listen()
                with socket.create_connection(listening.getsockname()[:2]) as client:
                    ends = client.getsockname()[:2], client.getpeername()[:2]
                    self.assertEqual(owner_of(*ends), os.geteuid())
                    self.assertEqual(owner_of((host, 1), ends[1]), UNKNOWN)

    def test_tables(self) -> None:
        """The row of the client's end counts, not that of the server's; IPv4 may stand in IPv6 notation."""
        client, server = shown("127.0.0.1", 4000), shown("127.0.0.1", 8080)
        self.assertEqual(self.owner((server, client, 1, 5), (client, server, 1234, 6)), 1234)
        self.assertEqual(self.owner((server, client, 1, 5)), UNKNOWN)
        mapped = shown("::ffff:127.0.0.1", 4000), shown("::ffff:127.0.0.1", 8080)
        self.assertEqual(self.owner((*mapped, 77, 6)), 77)
        self.assertEqual(self.owner((shown("127.0.0.2", 4000), server, 77, 6)), UNKNOWN)

    def test_closed(self) -> None:
        """Threat 111: the row of a socket that its process has closed says root, and does not count."""
        client, server = shown("127.0.0.1", 4000), shown("127.0.0.1", 8080)
        self.assertEqual(self.owner((client, server, 0, 0)), UNKNOWN)

    def test_no_table(self) -> None:
        """A system without the table does not tell."""
        self.assertIsNone(owner_of(("127.0.0.1", 1), ("127.0.0.1", 2), (Path("/nothing"),)))
