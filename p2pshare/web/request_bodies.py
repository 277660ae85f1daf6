"""The body of a request that is passed on as it arrives, such as a file that a browser sends."""

# Most requests are small, and are answered when their body is complete (`web.site`). A route with `streams` is asked as
# soon as the head of the request is complete, and reads the body itself. While it does not read, the connection is
# paused, so the client can send no more than `BUFFER_MAX` and what the system holds. A client that sends nothing for
# `Limits.upload_stalled_max` although the route reads is broken off.
#
# The route may reply before the end, which ends the connection: the rest of the body would have to be read otherwise.

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

BUFFER_MAX = 256 * 1024  # bytes that wait for the route, besides the piece that arrived last


class ClientLeft(Exception):  # noqa: N818 - it says what has happened
    """The client has left in the middle of the body."""


class IncomingBody:
    """The bytes of a body, in order; for one reader."""

    def __init__(self, length: int | None, wait: Callable[[bool], object]) -> None:
        """Expect bytes.

        Args:
            length: bytes of the whole body; None if the client has not told it.
            wait: called with whether the client has to wait.
        """
        self.length = length
        """Bytes of the whole body; None if the client has not told it."""
        self.is_complete = False
        """Whether all of it has arrived."""
        self._wait = wait
        self._is_paused = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._has_left = False
        self._reading: Deferred[bytes] | None = None

    def read(self) -> Deferred[bytes]:
        """Return the bytes that have arrived, as soon as there are some; none at the end of the body.

        The Deferred fails with `ClientLeft` if the client leaves before the end.
        """
        assert self._reading is None, "one reader at a time"
        self._reading = reading = Deferred[bytes](self._read_cancelled)
        self._pass_on()
        return reading

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        self._pieces.append(data)
        self._size += len(data)
        self._pass_on()
        if self._size >= BUFFER_MAX and not self._is_paused:
            self._is_paused = True
            self._wait(True)

    def complete(self) -> None:
        """Take the end of the body."""
        self.is_complete = True
        self._pass_on()

    def leave(self) -> None:
        """Take the end of the connection; after the end of the body that changes nothing."""
        if not self.is_complete:
            self._has_left = True
            self._pieces, self._size = [], 0
            self._pass_on()

    def _pass_on(self) -> None:
        """Answer `read`, if it can be answered."""
        reading = self._reading
        if reading is None or not (self._pieces or self.is_complete or self._has_left):
            return
        self._reading = None
        if self._has_left:
            reading.errback(ClientLeft())
            return
        data, self._pieces, self._size = b"".join(self._pieces), [], 0
        if self._is_paused:
            self._is_paused = False
            self._wait(False)
        reading.callback(data)

    def _read_cancelled(self, _reading: Deferred[bytes]) -> None:
        self._reading = None
