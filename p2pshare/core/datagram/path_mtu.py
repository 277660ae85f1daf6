"""Path MTU discovery for datagrams (DPLPMTUD, RFC 8899): the largest UDP payload that a path carries.

A probe is a padded packet that is sealed as any other. If it is acknowledged, its size works. If it is lost three
times, or the kernel refuses it, the size does not. ICMP messages are not used, because anybody can forge them.

Most paths have one of few sizes, so these are tried before the search halves the interval: first the limit, which is
what the interface allows, then what remains of Ethernet's 1500 bytes with IPv6 or a tunnel. The search ends when less
than 20 bytes are to be won. It is repeated every ten minutes, because the path may have changed.

**Black holes.** A path that carried a size may cease to. Then full-size packets vanish while smaller ones arrive, or
nothing arrives at all. Loss detection alone would send the same size again for ever. So the size falls to its base when
full-size packets were lost in three loss events in a row, none arrived in between, and a smaller one did; or when the
probe timeout has expired twice in a row. After that nothing is probed for a minute. Congestion can look the same, and
then costs a few bytes of each packet for that minute. An end that was too busy to answer looks the same, too. Then the
full-size packets from before are acknowledged after all, and the size returns.

Probes are not congestion: their rows in the ledger are not in flight, and their loss is reported here only. There is at
most one, and there is no timer: a connection asks for a probe when it has other packets to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2pshare.core.datagram.sent_packets import TrainPart

BASE = 1200  # bytes of UDP payload; every path has to carry them (RFC 9000, section 14)
LIKELY = (1472, 1452, 1432)  # bytes: Ethernet with IPv4, with IPv6, and with IPv6 in a tunnel
STEP_MIN = 20  # bytes; the search ends when less is to be won
PROBES_MAX = 3  # lost probes of a size that does not work (RFC 8899, section 5.1.2: MAX_PROBES)
RAISE_TIME = 600.0  # seconds between two searches (RFC 8899, section 5.1.1: PMTU_RAISE_TIMER)
COOL_OFF = 60.0  # seconds without probes after a black hole
BLACK_HOLE_LOSSES = 3  # loss events in a row
BLACK_HOLE_TIMEOUTS = 2  # probe timeouts in a row


class PathMtu:
    """The discovery on one path. Times are in seconds, sizes in bytes of UDP payload."""

    def __init__(self, limit: int) -> None:
        """Begin with `BASE` and search up to `limit`, which is what the interface and the peer allow."""
        self.size = BASE
        """The size that packets may have."""
        self._limit = max(limit, BASE)
        self._high = self._limit  # the largest size that may work
        self._probing: int | None = None  # the size of the probe on its way
        self._probes_lost = 0  # of the size that is being tried
        self._search_at = 0.0  # when the next search begins, if none is going on
        self._losses = 0  # loss events of full-size packets in a row
        self._smaller_arrived = False  # since the first of these losses
        self._timeouts = 0

    def probe(self, now: float) -> int | None:
        """Return the size of a probe to send now, or None. If it is sent, `probe_sent` is to be called."""
        if self._probing is not None or now < self._search_at:
            return None
        if self._candidate() is None:  # the last search has ended, long ago
            self._high = self._limit
        return self._candidate()

    def probe_sent(self, size: int) -> None:
        """Note that a probe of `size` bytes left."""
        self._probing = size

    def probe_acked(self, now: float) -> None:
        """Note that the probe has arrived."""
        if self._probing is not None:
            self.size = max(self.size, self._probing)
            self._resolve(now)

    def probe_lost(self, now: float) -> None:
        """Note that the probe was lost. It is repeated, up to a bound."""
        if self._probing is None:
            return
        self._probes_lost += 1
        if self._probes_lost >= PROBES_MAX:
            self.probe_refused(now)
        self._probing = None

    def probe_refused(self, now: float) -> None:
        """Note that the probe is too large: the kernel said so (EMSGSIZE)."""
        if self._probing is not None:
            self._high = self._probing - 1
            self._resolve(now)

    def on_acked(self, parts: Sequence[TrainPart[Any]]) -> None:
        """Note that packets have arrived."""
        self._timeouts = 0
        largest = max(_size(part) for part in parts)
        if largest >= self.size:
            self.size = largest  # larger ones are from before a fall-back that was a mistake
            self._losses = 0
            self._smaller_arrived = False
        elif self._losses:
            self._smaller_arrived = True

    def on_lost(self, parts: Sequence[TrainPart[Any]], now: float) -> None:
        """Note that packets were declared lost together, which is one loss event."""
        if any(_size(part) >= self.size for part in parts):
            self._losses += 1
            if self._losses >= BLACK_HOLE_LOSSES and self._smaller_arrived:
                self._fall_back(now)

    def on_probe_timeout(self, now: float) -> None:
        """Note that nothing was acknowledged for a probe timeout."""
        self._timeouts += 1
        if self._timeouts >= BLACK_HOLE_TIMEOUTS:
            self._fall_back(now)

    def _candidate(self) -> int | None:
        """Return the size to try next, or None if the search is at its end."""
        if self._high - self.size < STEP_MIN:
            return None
        if self._high == self._limit:
            return self._limit
        likely = (each for each in LIKELY if self.size < each <= self._high)
        return next(likely, (self.size + self._high + 1) // 2)

    def _resolve(self, now: float) -> None:
        """Go on after a size was found to work or not."""
        self._probing = None
        self._probes_lost = 0
        if self._candidate() is None:
            self._search_at = now + RAISE_TIME

    def _fall_back(self, now: float) -> None:
        """Return to the base, because the path does not carry the present size any more."""
        self._losses = self._timeouts = 0
        self._smaller_arrived = False
        if self.size == BASE:
            return
        self.size = BASE
        self._high = self._limit
        self._probing = None
        self._probes_lost = 0
        self._search_at = now + COOL_OFF


def _size(part: TrainPart[Any]) -> int:
    """Return the bytes of the largest packet of a train."""
    return part.train.segment if part.train.count > 1 else part.train.last_size
