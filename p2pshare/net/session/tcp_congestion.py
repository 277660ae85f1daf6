"""The congestion control of TCP connections: `bbr` where the kernel allows it.

`cubic`, which most systems use, takes every lost packet for a full queue. On a radio link, or across an ocean, a loss
of 1 % then leaves a small part of the bandwidth: of 100 Mbit/s at 100 ms, 4 Mbit/s with cubic and 76 with bbr, which
measures the bandwidth instead. The choice is one of each socket, and needs no privilege if the administrator allows
it (`net.ipv4.tcp_allowed_congestion_control`). Elsewhere the system's own choice stays.
"""

from __future__ import annotations

import functools
import socket
from contextlib import suppress

from twisted.logger import Logger

WANTED = b"bbr"
NAME_MAX = 16  # bytes of a name (TCP_CA_NAME_MAX of Linux)

_log = Logger()


def prefer_bbr(connection: socket.socket) -> None:
    """Ask for `bbr` on a TCP socket, and log once for each process and algorithm which one is in force."""
    _tell(_choose(connection))


def congestion_control() -> str | None:
    """Return the algorithm of this process's connections; None if the system does not tell."""
    try:
        with socket.socket() as probe:
            return _choose(probe)
    except OSError:  # too many open files
        return None


def _choose(connection: socket.socket) -> str | None:
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is None:
        return None
    with suppress(OSError):  # not built into this kernel, or not allowed
        connection.setsockopt(socket.IPPROTO_TCP, option, WANTED)
    try:
        name = connection.getsockopt(socket.IPPROTO_TCP, option, NAME_MAX)
    except OSError:
        return None
    return name.rstrip(b"\0").decode("ascii", "replace")


@functools.cache
def _tell(algorithm: str | None) -> None:
    _log.info("tcp congestion control: algorithm={algorithm}", algorithm=algorithm or "unknown")
