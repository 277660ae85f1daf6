"""TLS between bytes and bytes, without a socket.

Twisted's own, `TLSMemoryBIOProtocol`, cuts what is written into records one by one and carries each of them to the
transport on its own. Here whole pieces of files go through at once, with as few copies as pyOpenSSL allows.
"""

from __future__ import annotations

from contextlib import suppress

from OpenSSL import SSL

RECORD_MAX = 16 * 1024  # bytes of plaintext (RFC 8446, section 5.1)
OVERHEAD = 64  # bytes, and more than TLS 1.3 adds to a record of any size
SMALL = 16 * 1024  # bytes that are read from OpenSSL where nobody knows how many there are


class TlsFailed(Exception):  # noqa: N818 - it is named after what happened
    """The handshake failed, or what came is no TLS of this connection; says why."""


class TlsClosed(Exception):  # noqa: N818 - it is named after what happened
    """The other side has closed the TLS connection in order: no plaintext follows."""


class TlsPump:
    """One end of a TLS connection."""

    def __init__(self, connection: SSL.Connection) -> None:
        """Use a connection without a socket, in which `set_connect_state` or `set_accept_state` was called."""
        self._connection = connection
        self._is_closed = False
        self.is_ready = False
        """Whether the handshake is over."""

    def receive_data(self, ciphertext: bytes) -> None:
        """Take what has come."""
        self._connection.bio_write(ciphertext)

    def shake_hands(self) -> None:
        """Go on with the handshake, as far as what has come allows.

        Raises:
            TlsFailed: it is over, without a connection.
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise TlsFailed(_reason(error)) from error
        self.is_ready = True

    def read_into(self, buffer: memoryview) -> int:
        """Put plaintext into a buffer of at least `RECORD_MAX` bytes.

        Returns:
            How many bytes it has now; 0 if more ciphertext must come first.

        Raises:
            TlsFailed: this is not what the other side has sent.
            TlsClosed: all was read.
        """
        filled = 0
        try:
            while room := min(RECORD_MAX, len(buffer) - filled):
                filled += self._connection.recv_into(buffer[filled:], room)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            if not filled:  # else it is said again
                raise TlsClosed from None
        except SSL.Error as error:
            if not filled:
                raise TlsFailed(_reason(error)) from error
        return filled

    def write(self, *plaintext: bytes | bytearray | memoryview) -> bytes:
        """Encrypt.

        Returns:
            The ciphertext of all, and whatever else is to go out.

        Raises:
            TlsFailed: the connection is broken.
        """
        size = 0
        try:
            for each in plaintext:
                view = memoryview(each)
                while len(view):
                    view = view[self._connection.send(view) :]
                size += len(each) + (len(each) // RECORD_MAX + 1) * OVERHEAD
        except SSL.Error as error:
            raise TlsFailed(_reason(error)) from error
        return self.data_to_send(size or SMALL)

    def data_to_send(self, size: int = SMALL) -> bytes:
        """All ciphertext that is to go out, of which there are about `size` bytes."""
        pieces = []
        try:
            while True:
                pieces.append(self._connection.bio_read(size))
                if len(pieces[-1]) < size:
                    break
        except SSL.WantReadError:
            pass
        return b"".join(pieces)

    def close(self) -> bytes:
        """Tell the other side that nothing more follows; returns what is to go out."""
        if not self._is_closed:
            self._is_closed = True
            with suppress(SSL.Error):  # amidst the handshake, or after a failure
                self._connection.shutdown()
        return self.data_to_send()


def _reason(error: SSL.Error) -> str:
    """What OpenSSL says, for the log: a stranger can choose among its sentences, but not write one."""
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][-1][-1]) or type(error).__name__
    return type(error).__name__
