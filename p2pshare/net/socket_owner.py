"""Which user has the other end of a connection within this machine.

Linux lists all its sockets, each with its user, in `/proc/net/tcp` and `tcp6`. A socket whose process has closed it
already has no user any more: its row says 0, as for root, but has no inode. Such rows do not count.
"""

from __future__ import annotations

import ipaddress
import struct
from contextlib import suppress
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
TABLE_MAX = 64 * 1024 * 1024  # bytes of a table that are read
UNKNOWN = -1
"""The user of a socket that no table has."""

End = tuple[str, int]
"""An IP address and a port."""


def owner_of(end: End, other: End, tables: tuple[Path, ...] = TABLES) -> int | None:
    """Return the user ID of the process that has the socket at `end`, connected to `other`; may block for some ms.

    Returns:
        `UNKNOWN` if there is no such socket, and None if this system does not tell.
    """
    found = None
    wanted = _packed(end), _packed(other)
    for table in tables:
        with suppress(OSError), open(table, "rb") as file:
            found = UNKNOWN if found is None else found
            owner = _search(file.read(TABLE_MAX), wanted)
            if owner is not None:
                return owner
    return found


def _search(table: bytes, wanted: tuple[tuple[bytes, int], tuple[bytes, int]]) -> int | None:
    ports = b":%04X " % wanted[0][1], b":%04X " % wanted[1][1]
    for line in table.splitlines()[1:]:
        if ports[0] not in line or ports[1] not in line:
            continue
        columns = line.split()
        if len(columns) < 10 or columns[9] == b"0":
            continue
        if (_parsed(columns[1]), _parsed(columns[2])) == wanted:
            return int(columns[7])
    return None


def _parsed(text: bytes) -> tuple[bytes, int]:
    """Return an address and a port of a table: the address in words of 32 bits, each in this machine's byte order."""
    address, _, port = text.partition(b":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return _short(struct.pack(f"={len(words)}I", *words)), int(port, 16)


def _packed(end: End) -> tuple[bytes, int]:
    return _short(ipaddress.ip_address(end[0].partition("%")[0]).packed), end[1]


def _short(address: bytes) -> bytes:
    """Return the 4 bytes of an IPv4 address in IPv6 notation, and any other address as it is."""
    mapped = bytes(10) + b"\xff\xff"
    return address[12:] if len(address) == 16 and address.startswith(mapped) else address
