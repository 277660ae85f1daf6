"""The bounds on the cost of a client: sizes, numbers and times."""

# Where each bound is. A stranger can open connections, send bytes or stop sending, and read or stop reading; each costs
# a bounded amount of memory, for a bounded time.
#
# * Connections (`site.Site.buildProtocol`, `connections.Connections`): `connections_max` in all and
#   `connections_per_address_max` for one client, which is an IPv4 address or a /64 of IPv6. A full server does not
#   refuse newcomers: it closes a connection that waits for a request, of the client that has most of those. An attacker
#   who opens thousands of connections and keeps them silent therefore displaces its own.
# * Time (`site.Channel`): a connection is always in one phase, and each phase has a deadline. The deadline counts from
#   the first byte of the request, so that dripping bytes does not extend it (slowloris). One timer of the site looks at
#   all deadlines once a second; a `callLater` for each would cost more than the requests do.
# * A request: one line has at most `line_max` bytes, twisted.web allows 500 headers and 16 KiB of them, and a body has
#   at most `body_max`, announced or chunked. Requests of one connection are answered in turn: twisted.web stops
#   reading while one is being answered.
# * The body of a request to a route with `streams` has no bound of its own, but `upload_stalled_max`, and
#   `request_bodies.BUFFER_MAX` for what waits in memory. The route bounds the rest.
# * A reply in memory of up to `long_reply` bytes is written at once; the transport keeps it until the client reads, or
#   the connection's next deadline passes. A longer one goes through `outlets.Outlet`. The number of long replies is
#   bounded, they may stall for `long_reply_stalled_max`, and `reply_timeout` is for the whole of one in memory.
# * An event stream goes through an `Outlet` as well: see `StreamLimits` and `SignalLimits` in `registry.api`. Each peer
#   holds a stream of signals, so these are most of a registry's connections.
# * A connection that was upgraded to another protocol has the bounds of that protocol. It still counts, and is never
#   closed to make room.
#
# A request that is refused before it is understood gets a problem, and then the connection ends. The server closes its
# half and reads on for `close_timeout`. If it closed both halves at once, its kernel would answer the bytes still under
# way with a reset, which can overtake the reply.

from __future__ import annotations

from dataclasses import dataclass, replace

FILES_RESERVED = 64  # for the endpoints, Redis, the log and clients of the metrics


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one server."""

    body_max: int = 16 * 1024
    """Bytes of a request's body."""
    line_max: int = 8 * 1024
    """Bytes of a request line, or of a header."""
    headers_timeout: float = 10.0
    """Seconds from a request's first byte to the end of its headers."""
    request_timeout: float = 20.0
    """Seconds from a request's first byte to its last."""
    upload_stalled_max: float = 60.0
    """Seconds for which the client may send nothing of a body that is passed on as it arrives."""
    reply_timeout: float = 60.0
    """Seconds from there until the reply is written, even if the client does not read it."""
    idle_timeout: float = 60.0
    """Seconds between two requests of a connection."""
    close_timeout: float = 5.0
    """Seconds for a client to read the last reply, and to close."""
    connections_max: int = 3072
    connections_per_address_max: int = 512
    long_reply: int = 64 * 1024
    """Bytes; a longer reply is written only as fast as the client reads it."""
    long_replies_max: int = 32
    """Long replies under way at once."""
    long_replies_per_address_max: int = 4
    long_reply_stalled_max: float = 10.0
    """Seconds for which the client of a long reply may read nothing."""

    def within(self, open_files: int | None) -> Limits:
        """Return these limits with fewer connections than the process may have open files; None: no bound."""
        if open_files is None:
            return self
        most = min(self.connections_max, max(open_files - FILES_RESERVED, open_files // 2, 1))
        own = min(self.connections_per_address_max, most)
        return replace(self, connections_max=most, connections_per_address_max=own)
