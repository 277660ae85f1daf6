"""The interface of congestion controllers, and the order in which they hear of events.

A controller decides two numbers: the congestion window in bytes, and the rate at which packets may leave. It does not
count what is in flight. The ledger of sent packets does, and the connection compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from p2pshare.core.datagram.loss import Outcome
from p2pshare.core.datagram.rtt import RttEstimator
from p2pshare.core.datagram.sent_packets import TrainPart

INITIAL_PACKETS = 10  # of the first window (RFC 9002, section 7.2)
INITIAL_BYTES = (
    14720  # bound on the first window, unless two packets have more (RFC 9002, section 7.2)
)
MINIMUM_PACKETS = 2  # of every window (RFC 9002, section 7.2)

Parts = Sequence[TrainPart[Any]]
"""Packets that count for congestion control, ascending."""


class CongestionController(Protocol):
    """A congestion controller of one path. Times are in seconds."""

    segment: int
    """The bytes of a full packet. The path MTU discovery changes it."""

    @property
    def window(self) -> int:
        """Return the bytes that may be in flight."""

    def pacing_rate(self, smoothed_rtt: float) -> float:
        """Return the bytes per second at which packets may leave."""

    def on_sent(self, size: int, in_flight: int, now: float) -> None:
        """Note that `size` bytes leave; with them there are `in_flight` bytes in flight."""

    def on_acked(self, parts: Parts, rtt: RttEstimator, now: float) -> None:
        """Note that packets have arrived that were in flight."""

    def on_lost(self, parts: Parts, now: float) -> None:
        """Note that packets were declared lost."""

    def on_spurious_loss(self, parts: Parts) -> None:
        """Note that packets have arrived that had been declared lost."""

    def on_ecn_ce(self, count: int, sent_at: float, now: float) -> None:
        """Note that `count` packets were marked "congestion experienced"; the latest of them was sent at `sent_at`."""

    def on_persistent_congestion(self) -> None:
        """Note that nothing arrived over three probe timeouts. `on_lost` has told of the packets before."""


def initial_window(segment: int) -> int:
    """Return the bytes of the first window for packets of `segment` bytes."""
    return min(INITIAL_PACKETS * segment, max(INITIAL_BYTES, MINIMUM_PACKETS * segment))


def report(
    outcome: Outcome[Any], controller: CongestionController, rtt: RttEstimator, now: float
) -> None:
    """Tell a controller what an ACK or a timer has told.

    Spurious losses come first: they may undo a reduction, before new losses cause another one. Acknowledged packets
    come last, so that they do not enlarge a window that is about to shrink (RFC 9002, appendix A.7).
    """
    if late := _counted(outcome.late):
        controller.on_spurious_loss(late)
    if lost := _counted(outcome.lost):
        controller.on_lost(lost, now)
    acked = _counted(outcome.acked)
    if outcome.ce and acked:
        controller.on_ecn_ce(outcome.ce, acked[-1].train.sent_at, now)
    if outcome.is_congestion_persistent:
        controller.on_persistent_congestion()
    if acked:
        controller.on_acked(acked, rtt, now)


def _counted(parts: Parts) -> Parts:
    """Return the packets that count for congestion control: all but the probes of the path MTU."""
    return [part for part in parts if part.train.in_flight]
