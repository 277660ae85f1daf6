"""Netlink: what Linux tells of interfaces and their addresses, on demand and when they change.

Only the messages and attributes that are needed here are read; see rtnetlink(7), and linux/if_addr.h for the flags.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

READ_MAX = 64 * 1024  # bytes of one read: more than the kernel puts into one message
DUMP_MESSAGES_MAX = 4096  # messages of one answer that are read
DUMP_TIMEOUT = 1.0  # seconds that the kernel, which answers at once, is waited for
EVENTS_MAX = 64  # reads until others in the reactor get their turn

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
_ADDRESS = struct.Struct("=BBBBI")  # family, length of the prefix, flags, scope, index
_LINK = struct.Struct("=BxHiII")  # family, device, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")

_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x301
_ATTRIBUTE_NUMBER = 0x3FFF  # the bits above are flags
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFLA_NAME = 1, 2, 8, 3
_UP_AND_RUNNING = 0x1 | 0x40
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links; addresses and routes of IPv4, and of IPv6

TEMPORARY, DEPRECATED = 0x01, 0x20
UNUSABLE = 0x08 | 0x40
"""Flags of an address that another machine has, or that is not yet known to be free."""


@dataclass(frozen=True, slots=True)
class LinkedAddress:
    """An address of an interface, as the kernel has it."""

    ip: str
    prefix: int
    """Bits that the addresses of the network share."""
    interface: str
    flags: int


def linked_addresses() -> list[LinkedAddress]:
    """Return the addresses of all interfaces that are up and have a carrier.

    Raises:
        OSError: this system has no netlink, or does not answer.
    """
    with socket.socket(_family(), socket.SOCK_RAW | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(DUMP_TIMEOUT)
        asking.bind((0, 0))
        links = dict(filter(None, map(_link, _dump(asking, _GETLINK))))
        found = [_address(payload, links) for payload in _dump(asking, _GETADDR)]
    return [each for each in found if each is not None]


@implementer(IReadDescriptor)
class NetworkEvents:
    """Calls a function when the kernel reports a change of links, addresses or routes."""

    def __init__(self, reactor: IReactorFDSet, on_event: Callable[[], object]) -> None:
        """Begin to listen.

        Raises:
            OSError: this system has no netlink.
        """
        self._reactor = reactor
        self._on_event = on_event
        self._socket = socket.socket(_family(), socket.SOCK_RAW | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._socket.close()
            raise
        reactor.addReader(self)

    def fileno(self) -> int:
        """Return the descriptor; see `IReadDescriptor`."""
        return self._socket.fileno()

    def doRead(self) -> None:
        """Drop the messages, since the state is read anew, and tell that there were some."""
        for _ in range(EVENTS_MAX):
            try:
                self._socket.recv(READ_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # messages were lost, which is an event, too
                    self.stop()
                    break
        self._on_event()

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket; see `IReadDescriptor`."""
        self._socket.close()

    def logPrefix(self) -> str:  # noqa: N802 - the interface has it
        """Return a name; see `IReadDescriptor`."""
        return "netlink"

    def stop(self) -> None:
        """Stop listening."""
        if self._socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self.connectionLost(Failure(ConnectionDone()))


def _family() -> int:
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        raise OSError(errno.EAFNOSUPPORT, "no netlink")
    return int(family)


def _dump(asking: socket.socket, kind: int) -> Iterator[bytes]:
    """Yield the payloads of all messages by which the kernel answers a request."""
    asking.sendto(_HEADER.pack(_HEADER.size + 1, kind, _REQUEST_DUMP, kind, 0) + b"\0", (0, 0))
    for _ in range(DUMP_MESSAGES_MAX):
        for number, payload in messages(asking.recv(READ_MAX)):
            if number == _DONE:
                return
            if number == _ERROR:
                raise OSError(-struct.unpack_from("=i", payload)[0], "netlink")
            yield payload
    raise OSError(errno.EMSGSIZE, "too many interfaces")


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each message in what was read."""
    start = 0
    while start + _HEADER.size <= len(data):
        size, number, *_ = _HEADER.unpack_from(data, start)
        if not _HEADER.size <= size <= len(data) - start:
            return
        yield number, data[start + _HEADER.size : start + size]
        start += size + -size % 4


def _attributes(data: bytes, start: int) -> dict[int, bytes]:
    found = {}
    while start + _ATTRIBUTE.size <= len(data):
        size, number = _ATTRIBUTE.unpack_from(data, start)
        if size < _ATTRIBUTE.size:
            break
        found[number & _ATTRIBUTE_NUMBER] = data[start + _ATTRIBUTE.size : start + size]
        start += size + -size % 4
    return found


def _link(payload: bytes) -> tuple[int, str] | None:
    """Return index and name of an interface; None if it is down."""
    _family_of, _device, index, flags, _change = _LINK.unpack_from(payload)
    if flags & _UP_AND_RUNNING != _UP_AND_RUNNING:
        return None
    name = _attributes(payload, _LINK.size).get(_IFLA_NAME, b"")
    return index, name.rstrip(b"\0").decode(errors="replace")


def _address(payload: bytes, links: dict[int, str]) -> LinkedAddress | None:
    """Return an address; None if its interface is down."""
    family, prefix, flags, _scope, index = _ADDRESS.unpack_from(payload)
    found = _attributes(payload, _ADDRESS.size)
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)  # the latter may be the other end's
    if index not in links or packed is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    if _IFA_FLAGS in found:
        flags = struct.unpack("=I", found[_IFA_FLAGS])[0]
    with contextlib.suppress(ValueError):
        return LinkedAddress(socket.inet_ntop(family, packed), prefix, links[index], flags)
    return None
