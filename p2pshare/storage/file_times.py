"""What the time of a file's last change tells, and when it tells nothing yet."""

from __future__ import annotations

from p2pshare.wire.transfer_messages import TIME_MAX

TICK = 100_000_000  # nanoseconds; a kernel marks files with a clock that ticks each 10 ms or faster
COARSE_TICK = 2_000_000_000  # nanoseconds: FAT's

_SECOND = 1_000_000_000


def wire_time(mtime_ns: int) -> int:
    """Nanoseconds since 1970 as the microseconds that go over the wire."""
    return max(-TIME_MAX, min(TIME_MAX, mtime_ns // 1000))


def is_settled(mtime_ns: int, now_ns: int) -> bool:
    """Whether whatever changes from now on gets another time than that of the last change.

    A change within the same tick of the clock cannot be seen, so what was read then must not be remembered by it.
    """
    tick = COARSE_TICK if mtime_ns % _SECOND == 0 else TICK
    return now_ns - mtime_ns > tick
