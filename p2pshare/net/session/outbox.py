"""What a session sends: gathered while it is small, encrypted, and counted while nobody takes it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from p2pshare.net.session.tls_pump import TlsPump

SMALL = 16 * 1024  # bytes up to which what is sent is gathered, to be encrypted together
UNREAD_MAX = (
    1024 * 1024
)  # bytes that the other side leaves unread before nothing more is taken from it


@implementer(IPushProducer)
class Outbox:
    """Everything between a session and its transport, on the way out."""

    def __init__(
        self,
        pump: TlsPump,
        write: Callable[[bytes], object],
        on_drained: Callable[[], object],
        on_unread: Callable[[], object],
        *,
        unread_max: int = UNREAD_MAX,
    ) -> None:
        """Encrypt with `pump`.

        Args:
            pump: encrypts.
            write: gives ciphertext to the transport, of which this is the producer.
            on_drained: hears that the transport was full, and has nothing left.
            on_unread: hears that more than `unread_max` bytes wait.
            unread_max: bytes.
        """
        self._pump = pump
        self._write = write
        self._on_drained = on_drained
        self._on_unread = on_unread
        self._unread_max = unread_max
        self._small = bytearray()
        self._unread = 0  # bytes since the transport was full
        self.is_full = False
        """Whether there is enough in front of the socket."""

    def add(self, *small: bytes | memoryview) -> bool:
        """Take something small, to be sent by the next `flush`; whether there is little enough to wait with that."""
        for each in small:
            self._small += each
        return len(self._small) <= SMALL

    def flush(self, data: bytes | memoryview = b"") -> None:
        """Send what was taken, and then `data`.

        Raises:
            TlsFailed: that cannot be.
        """
        small, self._small = self._small, bytearray()
        if plaintext := [each for each in (small, data) if each]:
            self.send_out(self._pump.write(*plaintext))

    def send_out(self, ciphertext: bytes) -> None:
        """Send what is encrypted already."""
        if not ciphertext:
            return
        if self.is_full:
            self._unread += len(ciphertext)
            if self._unread > self._unread_max:
                self._on_unread()
        self._write(ciphertext)

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self.is_full = True

    def resumeProducing(self) -> None:
        """All has gone to the kernel."""
        self.is_full = False
        self._unread = 0
        self._on_drained()

    def stopProducing(self) -> None:
        """The connection is gone, which the session hears by itself."""
