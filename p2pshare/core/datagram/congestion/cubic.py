"""CUBIC (RFC 9438), for QUIC-like loss recovery (RFC 9002, section 7).

**The window over time.** After a reduction the window grows along a cubic curve whose plateau is the window before it.
First it approaches the old window quickly, then it stays near it, then it looks for more. On short round trips Reno
would be faster than that curve. There the window follows an estimate of what Reno would have (section 4.3).

**One reduction per round trip.** All packets that were sent before a reduction belong to the same congestion event.
Their losses do not reduce the window again, and their ACKs do not enlarge it (RFC 9002, section 7.3.2).

**Undo.** A reduction is taken back when all packets that were lost in its congestion event have arrived after all
(section 4.9). A single one that has not arrived keeps it. Marks of congestion are never spurious.

**Limited by the application.** A window that is not used says nothing about the path, so it does not grow
(section 5.8). It was used if the packets in flight filled it at some time while the acknowledged packet was on its way.
In slow start half of the window suffices: the window doubles each round trip, and paced packets lag behind it. The
time in which the window was not used does not count on the curve.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from math import cbrt, inf

from p2pshare.core.datagram.congestion.controller import MINIMUM_PACKETS, Parts, initial_window
from p2pshare.core.datagram.rtt import GRANULARITY, RttEstimator

C = 0.4  # segments per second cubed (RFC 9438, section 5.1)
BETA = 0.7  # of the window that a reduction leaves (RFC 9438, section 4.6)
ALPHA = (
    3 * (1 - BETA) / (1 + BETA)
)  # segments per round trip, as Reno with this BETA (RFC 9438, section 4.3)
TARGET_MAX = 1.5  # windows to which a round trip may raise the window (RFC 9438, section 4.2)
SLOW_START_GAIN = 2.0  # windows per round trip that are paced
AVOIDANCE_GAIN = (
    1.25  # windows per round trip; more than 1, so that pacing is no limit (RFC 9002, section 7.7)
)


@dataclass(slots=True)
class _Curve:
    """A stage of congestion avoidance: the curve of the window since its beginning."""

    start: float
    """When t was 0, in seconds."""
    plateau: float
    """W_max in bytes."""
    until_plateau: float
    """K in seconds."""
    reno: float
    """W_est in bytes."""

    def window(self, t: float, segment: int) -> float:
        """Return W_cubic in bytes, `t` seconds after the start."""
        return C * segment * (t - self.until_plateau) ** 3 + self.plateau


@dataclass(frozen=True, slots=True)
class _State:
    """All that a reduction changes."""

    window: float
    threshold: float
    plateau: float
    curve: _Curve | None
    reduced_at: float


class Cubic:
    """A congestion controller that reacts to losses and marks."""

    def __init__(self, segment: int) -> None:
        """Begin with the initial window for packets of `segment` bytes."""
        self.segment = segment
        self._window = float(initial_window(segment))
        self._threshold = inf  # ssthresh, bytes
        self._plateau = 0.0  # W_max, bytes; 0 if the next curve begins at its plateau
        self._curve: _Curve | None = None
        self._reduced_at = -inf
        self._filled_at = -inf  # when the window was last used up
        self._active_at = 0.0  # up to when time counts on the curve
        self._undo: _State | None = None
        self._lost = 0  # packets of this congestion event that are lost and have not arrived

    @property
    def window(self) -> int:
        """Return the bytes that may be in flight."""
        return max(int(self._window), MINIMUM_PACKETS * self.segment)  # a packet may have grown

    @property
    def in_slow_start(self) -> bool:
        """Return whether the window doubles each round trip."""
        return self._window < self._threshold

    def pacing_rate(self, smoothed_rtt: float) -> float:
        """Return the bytes per second at which packets may leave."""
        gain = SLOW_START_GAIN if self.in_slow_start else AVOIDANCE_GAIN
        return gain * self._window / max(smoothed_rtt, GRANULARITY)

    def on_sent(self, size: int, in_flight: int, now: float) -> None:
        """Note that `size` bytes leave; with them there are `in_flight` bytes in flight."""
        if in_flight == size:  # nothing was in flight before
            self._pause_curve(now)
        used = 2 * in_flight if self.in_slow_start else in_flight + self.segment
        if used >= self._window:
            self._filled_at = now

    def on_acked(self, parts: Parts, rtt: RttEstimator, now: float) -> None:
        """Grow the window, as far as it was used."""
        grown_by = sum(
            part.size for part in parts if self._reduced_at < part.train.sent_at <= self._filled_at
        )
        if not grown_by:
            self._pause_curve(now)
        elif self.in_slow_start:
            self._window += grown_by
        else:
            self._avoid_congestion(grown_by, rtt.smoothed, now)
        self._active_at = now

    def on_lost(self, parts: Parts, now: float) -> None:
        """Reduce the window, once for all packets that were sent before the reduction."""
        if parts[-1].train.sent_at > self._reduced_at:
            self._undo = self._state()
            self._lost = 0
            self._reduce(now)
        self._lost += sum(part.packets for part in parts)

    def on_spurious_loss(self, parts: Parts) -> None:
        """Take the last reduction back if no loss remains that was a reason for it."""
        if self._undo is None:
            return
        self._lost -= sum(part.packets for part in parts if part.train.lost_at >= self._reduced_at)
        if self._lost <= 0:
            self._restore(self._undo)

    def on_ecn_ce(self, count: int, sent_at: float, now: float) -> None:
        """Reduce the window as for a loss (RFC 9002, section 7.1)."""
        if sent_at > self._reduced_at:
            self._reduce(now)
        self._undo = None

    def on_persistent_congestion(self) -> None:
        """Begin again from the minimum window (RFC 9002, section 7.6.2; RFC 9438, section 4.8)."""
        self._window = float(MINIMUM_PACKETS * self.segment)
        self._plateau = 0.0
        self._curve = None
        self._reduced_at = -inf
        self._undo = None

    def _reduce(self, now: float) -> None:
        """Reduce the window, and keep the plateau of the next curve (RFC 9438, sections 4.6 and 4.7)."""
        converge = (1 + BETA) / 2 if self._window < self._plateau else 1.0  # give way to new flows
        self._plateau = converge * self._window
        self._window = max(BETA * self._window, float(MINIMUM_PACKETS * self.segment))
        self._threshold = self._window
        self._curve = None
        self._reduced_at = now

    def _avoid_congestion(self, acked: int, smoothed_rtt: float, now: float) -> None:
        """Follow the curve, or Reno if that is faster (RFC 9438, sections 4.2 to 4.5)."""
        if self._curve is None:
            plateau = max(self._plateau, self._window)
            until_plateau = cbrt((plateau - self._window) / (C * self.segment))
            self._curve = _Curve(now, plateau, until_plateau, self._window)
        curve = self._curve
        t = now - curve.start
        share = acked / self._window
        alpha = ALPHA if curve.reno < curve.plateau else 1.0
        curve.reno += alpha * self.segment * share
        if curve.window(t, self.segment) < curve.reno:
            self._window = max(self._window, curve.reno)
            return
        target = curve.window(t + smoothed_rtt, self.segment)
        target = min(max(target, self._window), TARGET_MAX * self._window)
        self._window += (target - self._window) * share

    def _pause_curve(self, now: float) -> None:
        """Leave the time since the last activity out of the curve."""
        if self._curve is not None:
            self._curve.start += max(0.0, now - self._active_at)
        self._active_at = now

    def _state(self) -> _State:
        return _State(
            self._window, self._threshold, self._plateau, copy(self._curve), self._reduced_at
        )

    def _restore(self, state: _State) -> None:
        """Return to the state before a reduction, but keep what the window has grown to."""
        self._window = max(self._window, state.window)
        self._threshold = state.threshold
        self._plateau = state.plateau
        self._curve = state.curve
        self._reduced_at = state.reduced_at
        self._undo = None
