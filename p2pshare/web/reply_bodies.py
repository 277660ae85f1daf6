"""Bodies that are written only as fast as the client reads them: long replies, files, and event streams."""

# A body that is not written at once goes through an `Outlet`, whoever produces it. The outlet registers itself as the
# push producer of the request, so the transport pauses it as soon as more than 64 KiB wait for the client.
#
# * A producer that can wait (a list in pieces, a file) writes one piece and awaits `drained` before it reads the next
#   one. So a reply costs the transport's buffer and one piece, however long its body is: `send_pieces`.
# * A producer that cannot wait (presence events) calls `write` at any time. The outlet keeps up to `unsent_max` bytes
#   while it is paused, and drops a client that lets more accumulate.
#
# `stalled_since` tells a slow reader. The outlet sets it, and its owner compares it with the clock: `LongReplies` for
# long replies, the event hub for streams. A long source has no deadline for the whole body, as that would cut large
# downloads. Its client has to read the next 64 KiB within `long_reply_stalled_max` instead.
#
# Twisted's own pull producers are not used: `HTTPChannel` drives them by the cooperator of the global reactor.

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from p2pshare.net.sockets import tcp_socket
from p2pshare.web.limits import Limits

PIECE_MAX = 64 * 1024  # bytes that are read from a source at once
READ_TIMEOUT = 30.0  # seconds for one read of a source
PATIENCE = 1.0  # seconds for which a reply may stall before it has to make room for another one


class Source(Protocol):
    """A body that is read piece by piece while it is sent, so that it is never whole in memory.

    `close` is called once in any case, also if nothing of it is read: it may hold something open from the beginning.
    """

    length: int
    """Bytes of the whole body."""
    can_seek: bool
    """Whether `read` may begin anywhere; otherwise it is called in order, from 0."""

    def select(self, part: range) -> None:
        """Learn which bytes `read` will be called for, in order; called once before the first `read`."""

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """Return exactly `size` bytes from `start`, at most `PIECE_MAX` of them."""

    def close(self) -> None:
        """Release what is open; called once after the last `read`. A `read` that is under way is cancelled before."""


class BytesSource:
    """A `Source` of bytes in memory."""

    can_seek = True

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.length = len(content)

    def select(self, part: range) -> None:
        """See `Source`."""

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """See `Source`."""
        return succeed(self.content[start : start + size])

    def close(self) -> None:
        """See `Source`."""


class Outlet:
    """Writes the body of a reply as fast as the client reads it (an `IPushProducer`)."""

    def __init__(self, request: Request, now: Callable[[], float], unsent_max: float = inf) -> None:
        """Write to `request`; keep up to `unsent_max` bytes while the client reads none; `now` returns seconds."""
        self.unsent_max = unsent_max
        self.stalled_since: float | None = None
        """When the client stopped reading; None while it reads."""
        self.is_over = False
        self._request = request
        self._now = now
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._drained: Deferred[None] | None = None
        self._piece: Deferred[bytes] | None = None  # what is awaited to be written
        self._then: Callable[[], object] = lambda: None
        request.notifyFinish().addBoth(self._end)
        request.registerProducer(self, True)

    def when_over(self, then: Callable[[], object]) -> None:
        """Call `then` when the body is complete or the client has left; at once if that is so already."""
        self._then = then
        if self.is_over:
            then()

    def write(self, data: bytes) -> None:
        """Write `data` as soon as the client reads; drop a client for which more than `unsent_max` bytes wait."""
        if self.is_over:
            return
        if self.stalled_since is None:
            self._request.write(data)
            return
        self._unsent.append(data)
        self._unsent_size += len(data)
        if self._unsent_size > self.unsent_max:
            self.drop()

    async def take(self, piece: Deferred[bytes]) -> None:
        """Write a piece when it is there. It is cancelled if the client leaves before."""
        self._piece = piece
        try:
            self.write(await piece)
        except CancelledError:
            if not self.is_over:
                raise
        finally:
            self._piece = None

    def limit_unacknowledged(self, seconds: float) -> None:
        """Break the connection off when the client's machine has acknowledged nothing of what is sent for so long.

        Without that, a connection to a machine that has vanished lasts for a quarter of an hour. Only Linux can do it.
        """
        connection = tcp_socket(getattr(self._request, "channel", None))
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if connection is not None and option is not None:
            with suppress(OSError):  # a Unix socket
                connection.setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when the client has read all, or the body is over."""
        if self.is_over or self.stalled_since is None:
            return succeed(None)
        if self._drained is None:
            self._drained = Deferred()
        return self._drained

    def finish(self) -> None:
        """End the body."""
        if not self.is_over:
            self._flush()
            self._request.unregisterProducer()
            self._request.finish()

    def drop(self) -> None:
        """Break the connection off."""
        if not self.is_over:
            transport: Any = self._request.transport
            transport.abortConnection()
            self._end(None)

    def resumeProducing(self) -> None:
        """Write the bytes that have accumulated."""
        self.stalled_since = None
        if not self.is_over:
            self._flush()
        if self.stalled_since is None:
            self._fire_drained()

    def pauseProducing(self) -> None:
        """Keep what is written from now on."""
        if self.stalled_since is None:
            self.stalled_since = self._now()

    def stopProducing(self) -> None:
        """Stop: the client has left."""
        self._end(None)

    def _flush(self) -> None:
        unsent, self._unsent, self._unsent_size = b"".join(self._unsent), [], 0
        if unsent:
            self._request.write(unsent)

    def _end(self, _result: object) -> None:
        if not self.is_over:
            self.is_over = True
            self._unsent = []
            self._then()
            self._fire_drained()
            if self._piece is not None:
                self._piece.cancel()

    def _fire_drained(self) -> None:
        waiting, self._drained = self._drained, None
        if waiting is not None:
            waiting.callback(None)


async def send_pieces(
    outlet: Outlet, pieces: Generator[bytes | Deferred[bytes], None, None]
) -> None:
    """Write a body piece by piece, the next one when the client has read the one before, and end it."""
    with closing(pieces):
        for piece in pieces:
            if isinstance(piece, bytes):
                outlet.write(piece)
            else:
                await outlet.take(piece)
            await outlet.drained()
            if outlet.is_over:
                return
    outlet.finish()


def read_pieces(
    source: Source, part: range, clock: IReactorTime
) -> Generator[Deferred[bytes], None, None]:
    """Read a part of a source in pieces, and close it.

    Each piece fails with `TimeoutError` after `READ_TIMEOUT`, and with `EOFError` if it has the wrong size: the head of
    the reply has promised another length.
    """

    def check(piece: bytes, size: int) -> bytes:
        if len(piece) != size:
            raise EOFError(f"{len(piece)} bytes were read instead of {size}")
        return piece

    try:
        source.select(part)
        for at in part[::PIECE_MAX]:
            size = min(PIECE_MAX, part.stop - at)
            reading = source.read(at, size).addTimeout(READ_TIMEOUT, clock)
            yield reading.addCallback(check, size)
    finally:
        source.close()


class LongReplies:
    """The long replies under way: at most so many in all, and so many to one client.

    A reply that its client does not read keeps its place for `long_reply_stalled_max` only, and for `PATIENCE` if
    another reply needs the place.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all: dict[Outlet, str] = {}

    def has_room(self, origin: str, now: float) -> bool:
        """Whether one more reply to this client can begin; if necessary, a stalled one is dropped for it."""
        own = [each for each, whose in self._all.items() if whose == origin]
        if len(own) >= self._limits.long_replies_per_address_max:
            return self._drop_one(own, now)
        return len(self._all) < self._limits.long_replies_max or self._drop_one(
            list(self._all), now
        )

    def add(self, outlet: Outlet, origin: str) -> None:
        """Count a reply until it is over."""
        self._all[outlet] = origin
        outlet.when_over(lambda: self._all.pop(outlet, None))

    def check(self, now: float) -> None:
        """Drop the replies that have stalled for too long."""
        for outlet in list(self._all):
            if _stalled(outlet, now) >= self._limits.long_reply_stalled_max:
                outlet.drop()

    def _drop_one(self, among: list[Outlet], now: float) -> bool:
        longest = max(among, key=lambda each: _stalled(each, now))
        if _stalled(longest, now) < PATIENCE:
            return False
        longest.drop()
        return True


def _stalled(outlet: Outlet, now: float) -> float:
    return 0.0 if outlet.stalled_since is None else now - outlet.stalled_since
