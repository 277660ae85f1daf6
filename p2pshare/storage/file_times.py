"""The times of files, and whether they show a change."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from p2pshare.wire.transfer_messages import NANOSECONDS, TIME_MAX

TICK = 100_000_000  # nanoseconds; the kernel's clock for files ticks every 10 ms or faster
COARSE_TICK = 2_000_000_000  # nanoseconds: FAT's

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = -(2**55), 2**57  # microseconds: the years 828 and 6536


def utc_time(time_ns: int) -> datetime:
    """Return a time (ns since 1970) as a date, or the first or last date if the calendar has none for it."""
    return _EPOCH + timedelta(microseconds=max(_EARLIEST, min(time_ns // 1000, _LATEST)))


def wire_time(mtime_ns: int) -> int:
    """Return the time, in nanoseconds since 1970, that is nearest to `mtime_ns` and fits into a message."""
    return max(-TIME_MAX * NANOSECONDS, min(TIME_MAX * NANOSECONDS, mtime_ns))


def is_settled(mtime_ns: int, now_ns: int) -> bool:
    """Whether every change from now on gets another time than the last change.

    A change within the same tick of the clock cannot be seen, so content that was read then must not be cached by time.
    """
    return now_ns - mtime_ns > _tick(mtime_ns)


def may_repeat(ctime_ns: int, now_ns: int) -> bool:
    """Whether a change made now may get the same time as the last change.

    A time in the future cannot be repeated before the clock gets there.
    """
    return abs(now_ns - ctime_ns) <= _tick(ctime_ns)


def shows_changes(status: os.stat_result, now_ns: int) -> bool:
    """Whether every change from now on shows in the times of a file that was written and dated just now.

    As a rule the time of its last change lies more than a tick back. Where times are fine it may be recent if the file
    bears another date: a change within the tick sets that date, too. Only a program that sets the date back within the
    same tick, of at most 10 ms, can hide a change then. No program can on Linux 6.13 and later. Where times are coarse,
    a program would have seconds for that.

    Args:
        status: of the file.
        now_ns: time at which its content was known, in nanoseconds since 1970.
    """
    ctime_ns = status.st_ctime_ns
    if not may_repeat(ctime_ns, now_ns):
        return True
    return _tick(ctime_ns) == TICK and abs(status.st_mtime_ns - ctime_ns) > TICK


def _tick(time_ns: int) -> int:
    """Return the nanoseconds within which two changes may get the same time."""
    return COARSE_TICK if time_ns % NANOSECONDS == 0 else TICK
