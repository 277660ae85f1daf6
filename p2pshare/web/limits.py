"""What a client can cost a server: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass, replace

FILES_RESERVED = 64  # for the endpoints, Redis, the log and clients of the metrics


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client can cost the server."""

    body_max: int = 16 * 1024
    """Bytes of a request's body."""
    line_max: int = 8 * 1024
    """Bytes of a request line, or of a header."""
    headers_timeout: float = 10.0
    """Seconds from a request's first byte to the end of its headers."""
    request_timeout: float = 20.0
    """Seconds from a request's first byte to its last."""
    reply_timeout: float = 60.0
    """Seconds from there until the reply is written, whoever does not read it."""
    idle_timeout: float = 60.0
    """Seconds between two requests of a connection."""
    close_timeout: float = 5.0
    """Seconds for a client to take what it was sent last, and to close."""
    connections_max: int = 1024
    connections_per_address_max: int = 128
    long_reply: int = 64 * 1024
    """Bytes: a reply above it is written only as fast as the client takes it."""
    long_replies_max: int = 32
    """Such replies under way at once."""
    long_replies_per_address_max: int = 4
    long_reply_stalled_max: float = 10.0
    """Seconds for which the client of such a reply may take nothing of it."""

    def within(self, open_files: int | None) -> Limits:
        """These, with no more connections than a process can have that may have so many files open; None: no bound."""
        if open_files is None:
            return self
        most = min(self.connections_max, max(open_files - FILES_RESERVED, open_files // 2, 1))
        own = min(self.connections_per_address_max, most)
        return replace(self, connections_max=most, connections_per_address_max=own)
