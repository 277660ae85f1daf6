"""A UDP port that sends and receives trains: equal segments in one buffer, in few system calls.

A train costs the kernel one way through its layers instead of one for each datagram, and costs Python few calls. On
Linux, `UDP_SEGMENT` cuts a buffer into datagrams as it is sent (GSO), and `UDP_GRO` joins datagrams that arrive.
Elsewhere a train of one segment takes the same way through this module.

Theory of operation
===================

*Receiving.* The reactor calls `doRead` when the socket is readable. It hands trains to `train_received` until nothing
is left, or until it has read `READ_MAX` bytes or for `READ_TIME`: then timers and other sockets get their turn, and the
reactor calls again. Where the kernel joins nothing, datagrams that wait are read behind each other into the buffer and
become a train here, since a train of ten costs the core little more than a single datagram. What the kernel has joined
is joined further, for the same reason. The buffer always has room for what one call may read, because the kernel cuts
off what does not fit and says so only in a flag. A train that was cut off is dropped: its last segment is damaged.

*Sending.* `send_train` gives a train to the kernel, in as few calls as it allows, or queues what is left when the
buffer of the socket is full. The protocol makes no more trains while the port `is_full`. `doWrite` drains the queue
when the socket is writable, and then calls `port_writable`.

*Falling back.* Whether the kernel can cut trains depends on the route and its device, so it shows at the first train
and may change later. `EIO`, `EINVAL` and `EMSGSIZE` for a train of several segments turn cutting off for good, and the
segments are sent one by one. `EMSGSIZE` for a single segment means that it is larger than the MTU of the interface: the
protocol hears it by `datagram_refused`. All other errors of a send count as loss in the network (`unsent`).

Fragmentation is off (`IP_PMTUDISC_PROBE`): path MTU discovery must see what a path carries, and does not believe ICMP.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet import udp
from twisted.logger import Logger

from p2pshare.core.datagram.trains import TRAIN_MAX
from p2pshare.core.datagram_core import Address
from p2pshare.net.sockets import IPeerReactor

READ_MAX = 1024 * 1024  # bytes read until timers and other sockets get their turn
READ_TIME = 0.004  # seconds likewise
QUEUE_MAX = 64  # trains that wait for room in the socket's buffer; more count as lost
RECEIVE_BUFFER = 8 * 1024 * 1024  # bytes asked for; the system may give less
SEND_BUFFER = 4 * 1024 * 1024  # bytes asked for
CUT_SEGMENTS_MAX = 64  # segments that every kernel with UDP_SEGMENT cuts in one call
CUT_BYTES_MAX = 65_507  # bytes likewise: a UDP payload over IPv4
READ_ONE_MAX = 64 * 1024  # bytes that one call may read: as many as the kernel joins

_ANCILLARY_SIZE = 128  # bytes

# Numbers of Linux that the module `socket` does not name (linux/udp.h, linux/in.h, linux/in6.h, asm-generic/socket.h).
_UDP_SEGMENT, _UDP_GRO = 103, 104
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3

_CUT_OFF = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # a plain number, which costs no call
_CANNOT_CUT = {errno.EIO, errno.EINVAL, errno.EMSGSIZE}
_CLOSED_PORT = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH}
"""Errors of an earlier send that ICMP reported; anyone can forge it."""


class TrainProtocol(Protocol):
    """Receives what happens on a `TrainPort`, besides Twisted's own calls of an `IDatagramProtocol`."""

    def train_received(self, data: memoryview, segment: int, address: Address) -> None:
        """Take a train, valid during this call, whose segments but the last have `segment` bytes."""

    def datagram_refused(self, address: Address) -> None:
        """A datagram was larger than the interface towards `address` carries, and was not sent."""

    def port_writable(self) -> None:
        """The port was full, and is not any more."""


class TrainPort(udp.Port):
    """A UDP port for a `TrainProtocol`; an `IListeningPort` like its base class."""

    _log = Logger()

    def __init__(
        self, port: int, protocol: TrainProtocol, interface: str, reactor: IPeerReactor
    ) -> None:
        """Make the port; `startListening` binds it."""
        super().__init__(port, protocol, interface, TRAIN_MAX, reactor)
        self._buffer = memoryview(bytearray(TRAIN_MAX))
        self._queue: deque[tuple[memoryview, int, Address]] = deque()
        self._cuts_trains = False
        self._seconds: Callable[[], float] = reactor.seconds
        self.unsent = 0
        """Trains and datagrams that could not be sent, and count as lost."""
        self.cut_off = 0
        """Trains that did not fit into the buffer, and were dropped."""

    @property
    def cuts_trains(self) -> bool:
        """Whether the kernel cuts trains as they are sent."""
        return self._cuts_trains

    @property
    def is_full(self) -> bool:
        """Whether trains wait for room in the socket's buffer."""
        return bool(self._queue)

    def send_train(
        self, data: bytes | bytearray | memoryview, segment: int, address: Address
    ) -> None:
        """Send a train whose segments but the last have `segment` bytes; the buffer may not change any more."""
        view = memoryview(data)
        if not self._queue and self._send(view, segment, address):
            return
        if len(self._queue) < QUEUE_MAX:
            self._queue.append((view, segment, address))
            self.startWriting()
        else:
            self.unsent += 1

    def send_with_ttl(self, data: bytes, ttl: int, address: Address) -> bool:
        """Send a datagram that `ttl` routers may forward (IPv6: hop limit), or drop it if there is no room; whether it
        was sent.
        """
        level, option = socket.IPPROTO_IP, socket.IP_TTL
        if self.addressFamily == socket.AF_INET6:
            level, option = socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS
        usual = self.socket.getsockopt(level, option)
        try:
            self.socket.setsockopt(level, option, ttl)
            self.socket.sendto(data, address)
            return True
        except OSError:
            self.unsent += 1
            return False
        finally:
            self.socket.setsockopt(level, option, usual)

    def doRead(self) -> None:
        """Read trains until nothing is left, or others must have their turn."""
        until, read = self._seconds() + READ_TIME, 0
        train = _Arriving(self._buffer)
        while self.connected and read < READ_MAX and self._seconds() <= until:
            try:
                size, ancillary, flags, address = self.socket.recvmsg_into(
                    [train.room], _ANCILLARY_SIZE
                )
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _CLOSED_PORT or error.errno == errno.EINTR:
                    continue
                break  # such as ENOMEM; raising it would close the port for good
            read += size
            if flags & _CUT_OFF:
                self.cut_off += 1
            elif size:
                self._arrived(train, size, _segment_of(ancillary) or size, address[:2])
        self._hand_over(train)

    def _arrived(self, train: _Arriving, size: int, segment: int, source: Address) -> None:
        """Add what was read to a train, or hand that over and begin another one."""
        if not train.continues(size, segment, source):
            self._hand_over(train)
            train.begin(segment, source)
        train.end += size
        if train.is_over:
            self._hand_over(train)
            train.rewind()

    def _hand_over(self, train: _Arriving) -> None:
        if self.connected and train.end > train.start:
            try:
                self.protocol.train_received(train.data, train.segment, train.source)
            except Exception:  # a defect, which must not close the port of all sessions
                self._log.failure("train not handled: source={source}", source=train.source)
        train.start = train.end

    def doWrite(self) -> None:
        """Send what waits, and tell the protocol when nothing does."""
        waiting, self._queue = self._queue, deque()
        while waiting and not self._queue:
            if not self._send(*waiting[0]):
                break
            waiting.popleft()
        self._queue += waiting  # behind the rest of a train that was sent in part
        if not self._queue:
            self.stopWriting()
            self.protocol.port_writable()

    def connectionLost(self, reason: object = None) -> None:
        """Drop what waits, and close the socket."""
        self._queue.clear()
        super().connectionLost(reason)

    def createInternetSocket(self) -> socket.socket:  # noqa: N802 - Twisted has it
        """Make the socket; one for IPv6 leaves the IPv4 port of the number alone."""
        made: socket.socket = super().createInternetSocket()
        if self.addressFamily == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return made

    def _bindSocket(self) -> None:
        super()._bindSocket()
        _set(self.socket, socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER, socket.SO_RCVBUF)
        _set(self.socket, socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER, socket.SO_SNDBUF)
        if self.addressFamily == socket.AF_INET6:
            _set(self.socket, socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            _set(self.socket, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        _set(self.socket, socket.IPPROTO_UDP, _UDP_GRO, 1)
        # 0 leaves datagrams as they are: it only asks whether the kernel knows the option.
        self._cuts_trains = _set(self.socket, socket.IPPROTO_UDP, _UDP_SEGMENT, 0)

    def _send(self, data: memoryview, segment: int, address: Address) -> bool:
        """Give a train to the kernel; False if there is no room, and then nothing of it was sent."""
        start = 0
        while start < len(data) and (size := self._send_some(data[start:], segment, address)):
            start += size
        if 0 < start < len(data):
            self._queue.appendleft((data[start:], segment, address))
            self.startWriting()
        return start > 0

    def _send_some(self, data: memoryview, segment: int, address: Address) -> int:
        """Send as many segments as one call takes, and return their bytes; 0 if there is no room."""
        part = data[: segment * min(CUT_SEGMENTS_MAX, max(1, CUT_BYTES_MAX // segment))]
        if self._cuts_trains and len(part) > segment:
            cut = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", segment))]
            try:
                self.socket.sendmsg([part], cut, 0, address)
                return len(part)
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno not in _CANNOT_CUT:
                    self.unsent += 1
                    return len(part)
                self._cuts_trains = False
        return len(data[:segment]) if self._send_one(data[:segment], address) else 0

    def _send_one(self, data: memoryview, address: Address) -> bool:
        try:
            self.socket.sendto(data, address)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                self.protocol.datagram_refused(address)
            else:
                self.unsent += 1
        return True


def listen_trains(
    reactor: IPeerReactor, port: int, protocol: TrainProtocol, interface: str
) -> TrainPort:
    """Open a port.

    Raises:
        CannotListenError: the port is in use, or reserved.
    """
    listening = TrainPort(port, protocol, interface, reactor)
    listening.startListening()
    return listening


class _Arriving:
    """A train that is being read into a buffer: `data` has arrived, and `room` takes the next datagram."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self.start = self.end = 0
        self.segment = 0
        self.source: Address = "", 0

    @property
    def data(self) -> memoryview:
        return self._buffer[self.start : self.end]

    @property
    def room(self) -> memoryview:
        return self._buffer[self.end :]

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow: a shorter segment was the last one, or there is no room."""
        return (self.end - self.start) % self.segment > 0 or len(self.room) < READ_ONE_MAX

    def continues(self, size: int, segment: int, source: Address) -> bool:
        """Whether datagrams from `source` belong to the train."""
        is_equal = segment == self.segment or segment == size < self.segment
        return self.end > self.start and is_equal and source == self.source

    def begin(self, segment: int, source: Address) -> None:
        """Begin a train with what was read last."""
        self.segment, self.source = segment, source

    def rewind(self) -> None:
        """Use the buffer from its beginning, after all of it was handed over."""
        self.start = self.end = 0


def _segment_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return the size of the segments that the kernel has joined; 0 if it has joined none."""
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO) and len(value) == 4:
            return int(struct.unpack("=i", value)[0])
    return 0


def _set(
    bound: socket.socket, level: int, option: int, value: int, otherwise: int | None = None
) -> bool:
    """Set an option, or the one `otherwise`, that may be unknown here or not allowed; whether the first was set."""
    try:
        bound.setsockopt(level, option, value)
        return True
    except OSError:
        if otherwise is not None:
            with contextlib.suppress(OSError):
                bound.setsockopt(level, otherwise, value)
        return False
