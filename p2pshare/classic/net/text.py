"""The transfer of a text over TCP: the sharer sends a file and closes, the requester reads to the end of the stream.

Files are read and written in threads, one chunk at a time. A few chunks at each end bound the memory, whatever the size
of the text, and however slow the other end or the disk is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.errors import TextCutShort
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread

READ_SIZE = 1024 * 1024  # bytes read from the file at once
WRITE_SIZE = 128 * 1024  # bytes given to the socket at once
SAVE_SIZE = 1024 * 1024  # bytes received before they are written to the file
UNSAVED_MAX = 4 * 1024 * 1024  # bytes received but not written, at which the sender must wait
STALL_MAX = 30.0  # seconds without a byte moved


class _Transfer(Protocol, TimeoutMixin):
    """One end of a transfer: its result, and its timeout."""

    def __init__(self, reactor: IPeerReactor, stall_max: float) -> None:
        self._reactor = reactor
        self._stall_max = stall_max
        self.moved = 0
        """Bytes that were sent or received."""
        self.done: Deferred[int] = Deferred(lambda _: self._abort())
        """Fires with the number of bytes after an orderly close of the connection; cancel it to abort."""

    @property
    def _connection(self) -> Connection:
        return cast("Connection", self.transport)

    def callLater(self, delay: float, work: Callable[[], object]) -> IDelayedCall:
        """Use the reactor of this transfer for the timeouts of `TimeoutMixin`."""
        return self._reactor.callLater(delay, work)

    def timeoutConnection(self) -> None:
        """Fail, as no byte has moved for too long."""
        self._fail(Failure(TextCutShort(done=self.moved, reason="it stalled")))

    def _abort(self) -> None:
        self.setTimeout(None)
        if self.connected:
            self._connection.abortConnection()

    def _fail(self, failure: Failure) -> None:
        self._abort()
        if not self.done.called:
            self.done.errback(failure)

    def _lost(self, reason: Failure) -> None:
        self._fail(Failure(TextCutShort(done=self.moved, reason=reason.getErrorMessage())))


@implementer(IPullProducer)
class TextSender(_Transfer):
    """The sharer's end: it sends a file and closes."""

    def __init__(
        self, reactor: IPeerReactor, read: Callable[[int], bytes], *, stall_max: float = STALL_MAX
    ) -> None:
        """Send all that `read` returns, which is called in threads until it returns nothing."""
        super().__init__(reactor, stall_max)
        self._read = read
        self._chunk = b""
        self._offset = 0
        self._reading = False
        self._hungry = False

    def connectionMade(self) -> None:
        """Start: the transport requests the first bytes at once."""
        self.setTimeout(self._stall_max)
        self._connection.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Continue, as the transport has sent everything so far."""
        self._hungry = True
        self.resetTimeout()
        self._feed()

    def stopProducing(self) -> None:
        """Stop, as the connection is gone; `connectionLost` gets the reason."""
        self._hungry = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Finish; a requester that closes may have all that it wants."""
        if reason.check(ConnectionDone):
            self.setTimeout(None)
            if not self.done.called:
                self.done.callback(self.moved)
        else:
            self._lost(reason)

    def _feed(self) -> None:
        if self._offset < len(self._chunk):
            piece = self._chunk[self._offset : self._offset + WRITE_SIZE]
            self._offset += len(piece)
            self.moved += len(piece)
            self._hungry = False
            self._connection.write(piece)
        elif not self._reading:
            self._reading = True
            reading = run_in_thread(self._reactor, self._read, READ_SIZE)
            reading.addCallbacks(self._have_read, self._fail)

    def _have_read(self, chunk: bytes) -> None:
        self._reading = False
        self._chunk, self._offset = chunk, 0
        if not self._hungry:
            return
        if chunk:
            self._feed()
        else:
            self._connection.unregisterProducer()
            self._connection.loseConnection()


class TextReceiver(_Transfer):
    """The requester's end: it writes the stream to a file."""

    def __init__(
        self,
        reactor: IPeerReactor,
        write: Callable[[bytes], object],
        on_began: Callable[[TextReceiver], object] = lambda _: None,
        *,
        stall_max: float = STALL_MAX,
    ) -> None:
        """Pass the stream to `write`, in threads; call `on_began` at the first byte, or at the end of an empty text."""
        super().__init__(reactor, stall_max)
        self._write = write
        self._on_began = on_began
        self._unsaved: list[bytes] = []
        self._unsaved_size = 0
        self._saving = False
        self._paused = False
        self._at_end = False

    def connectionMade(self) -> None:
        """Wait for the first bytes."""
        self.setTimeout(self._stall_max)

    def dataReceived(self, data: bytes) -> None:
        """Keep the bytes, and write them when there are enough."""
        self.resetTimeout()
        self._unsaved.append(data)
        self._unsaved_size += len(data)
        self.moved += len(data)
        if self.moved == len(data):
            self._on_began(self)
        self._save_if_enough()
        if self._unsaved_size >= UNSAVED_MAX and not self._paused:
            self._paused = True
            self.setTimeout(None)
            self._connection.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Finish the text if the sharer closed the connection in order."""
        self.setTimeout(None)
        if reason.check(ConnectionDone):
            self._at_end = True
            if not self.moved:
                self._on_began(self)
            self._save_if_enough()
        else:
            self._lost(reason)

    def _save_if_enough(self) -> None:
        if self._saving or self.done.called:
            return
        if self._unsaved and (self._at_end or self._unsaved_size >= SAVE_SIZE):
            pieces, self._unsaved, self._unsaved_size = self._unsaved, [], 0
            self._saving = True
            saving = run_in_thread(self._reactor, self._save, pieces)
            saving.addCallbacks(self._saved, self._fail)
        elif self._at_end:
            self.done.callback(self.moved)

    def _save(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._write(piece)

    def _saved(self, _: None) -> None:
        self._saving = False
        if self.done.called:
            return
        if self._paused and not self._at_end:
            self._paused = False
            self.setTimeout(self._stall_max)
            self._connection.resumeProducing()
        self._save_if_enough()
