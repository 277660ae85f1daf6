"""The user at the other end of a connection within this machine.

Linux tells by `sock_diag(7)`, for one connection in some µs. (The table `/proc/net/tcp` has the same, but reading it
takes 10 ms and more, as long as anybody likes who opens many connections.) A socket whose process has closed it has no
user any more: the kernel says 0, as for root, but such a socket has no inode. It does not count.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache

UNKNOWN = -1
"""The user of a socket that does not exist, or that nobody has any more."""

End = tuple[str, int]
"""An IP address and a port."""
Ask = Callable[[bytes], bytes]
"""Returns the kernel's reply to a request."""

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBBI")  # the beginning of struct inet_diag_req_v2
_ID = struct.Struct("!HH16s16s12s")  # struct inet_diag_sockid
_REPLY = struct.Struct("=BBBB48sIIIII")  # struct inet_diag_msg
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_NLM_F_REQUEST = 1
_NETLINK_SOCK_DIAG = 4
_ALL_STATES = 0xFFFFFFFF
_LISTENING = 10  # TCP_LISTEN
_ANY_COOKIE = bytes(4) + b"\xff" * 8  # any interface, INET_DIAG_NOCOOKIE
_REPLY_MAX = 8192  # bytes
_TIMEOUT = 1.0  # seconds; the kernel replies before the request returns


def owner_of(end: End, other: End, ask: Ask | None = None) -> int:
    """Return the user ID of the process that has the socket at `end`, connected to `other`.

    Returns:
        `UNKNOWN` if there is no such socket, or the system does not tell; see `is_told`.
    """
    try:
        owner = _look_up(end, other, ask or _ask)
    except OSError:
        owner = None
    return UNKNOWN if owner is None else owner


@cache
def is_told(host: str = "127.0.0.1") -> bool:
    """Return whether this system tells: whether it knows a connection that this function makes to `host`, loopback.

    That one's own end is unknown would not tell the same: a client may have reset the connection.
    """
    if not sys.platform.startswith("linux"):
        return False
    with (
        suppress(OSError),
        socket.create_server((host, 0)) as server,
        socket.create_connection(server.getsockname(), _TIMEOUT) as client,
    ):
        return owner_of(client.getsockname(), server.getsockname()) == os.geteuid()
    return False


def _look_up(end: End, other: End, ask: Ask) -> int | None:
    """Return the user who owns a socket; None if there is no such socket."""
    addresses = [_packed(ip) for ip, _ in (end, other)]
    family = socket.AF_INET if len(addresses[0]) == 4 else socket.AF_INET6
    sockets = _ID.pack(end[1], other[1], *addresses, _ANY_COOKIE)
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + sockets
    size = _HEADER.size + len(body)
    reply = ask(_HEADER.pack(size, _BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body)
    if len(reply) < _HEADER.size + _REPLY.size:
        return None
    if _HEADER.unpack_from(reply)[1] != _BY_FAMILY:  # else it is an error
        return None
    _, state, _, _, found, _, _, _, user, inode = _REPLY.unpack_from(reply, _HEADER.size)
    if state == _LISTENING or not inode or found[:4] != sockets[:4]:
        return None
    return int(user)


def _ask(request: bytes) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_TIMEOUT)
        netlink.sendto(request, (0, 0))
        return netlink.recv(_REPLY_MAX)


def _packed(ip: str) -> bytes:
    """Return an address; one of IPv4 in IPv6 notation as what it stands for."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).packed
