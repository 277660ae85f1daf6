"""A reply without an end, over HTTP: what it costs is bounded, also where the client does not read it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from p2pshare.web.exchange import LastingRequest

EVENT_STREAM = b"text/event-stream"
HEADERS = (
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),  # a proxy is not to wait for more
    (b"X-Content-Type-Options", b"nosniff"),
)


class StreamOutlet:
    """Writes a stream as fast as the client takes it (an `IPushProducer`)."""

    stalled_since: float | None = None

    def __init__(self, request: LastingRequest, unsent_max: int, now: Callable[[], float]) -> None:
        """Write to `request`, and keep up to `unsent_max` bytes while the client takes none; `now` gives seconds."""
        self._request = request
        self._unsent_max = unsent_max
        self._now = now
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._is_over = False
        self._drained: Deferred[None] | None = None
        self._then: Callable[[], None] = lambda: None
        request.notifyFinish().addBoth(self._over)
        request.registerProducer(self, True)

    def when_over(self, then: Callable[[], None]) -> None:
        """Call this when the stream is over, or now if it is already."""
        self._then = then
        if self._is_over:
            then()

    def write(self, text: bytes) -> None:
        """Write as soon as the client takes it; one that leaves too much is cut off."""
        if self._is_over:
            return
        if self.stalled_since is None:
            self._request.write(text)
            return
        self._unsent.append(text)
        self._unsent_size += len(text)
        if self._unsent_size > self._unsent_max:
            self.drop()

    def drained(self) -> Deferred[None]:
        """Fires when all was taken, or the stream is over."""
        if self._is_over or self.stalled_since is None:
            return succeed(None)
        if self._drained is None:
            self._drained = Deferred()
        return self._drained

    def finish(self) -> None:
        """End the stream."""
        if self._is_over:
            return
        self._flush()
        self._request.unregisterProducer()
        self._request.finish()

    def drop(self) -> None:
        """Cut the client off."""
        if not self._is_over:
            self._request.cut()
            self._over(None)

    def resumeProducing(self) -> None:
        """Write what has come together."""
        self.stalled_since = None
        if not self._is_over:
            self._flush()
        if self.stalled_since is None:
            self._tell_drained()

    def pauseProducing(self) -> None:
        """Keep what comes."""
        if self.stalled_since is None:
            self.stalled_since = self._now()

    def stopProducing(self) -> None:
        """Stop: the client has left."""
        self._over(None)

    def _flush(self) -> None:
        unsent, self._unsent, self._unsent_size = b"".join(self._unsent), [], 0
        if unsent:
            self._request.write(unsent)

    def _over(self, _result: object) -> None:
        if not self._is_over:
            self._is_over = True
            self._unsent = []
            self._then()
            self._tell_drained()

    def _tell_drained(self) -> None:
        waiting, self._drained = self._drained, None
        if waiting is not None:
            waiting.callback(None)
