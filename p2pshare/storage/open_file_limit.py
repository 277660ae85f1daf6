"""The limit on the open files of a process, sockets included, and how tasks share it."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress

from p2pshare.errors import TooFewOpenFiles

FILES_RESERVED = 24  # open files of a process besides those that are bounded by `share_of_files`

_NONE_LEFT = {errno.EMFILE, errno.ENFILE}


def allow_open_files(wanted: int, least: int = 0) -> int:
    """Raise the limit of this process to `wanted`, as far as the system allows; return the limit.

    Shells grant 1024 by default, but allow a process to take more.

    Args:
        wanted: open files.
        least: open files below which the caller cannot work.

    Raises:
        TooFewOpenFiles: the system grants fewer than `least`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with suppress(OSError, ValueError):  # macOS grants less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed < least:
        raise TooFewOpenFiles(allowed=allowed, least=least)
    return allowed


def open_files_allowed() -> int | None:
    """Return the limit of this process; None if there is none."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def share_of_files(wanted: int, part: int) -> int:
    """Return the files that one task may have open: `wanted`, or one of `part` equal parts of the limit if that is
    less.
    """
    allowed = open_files_allowed()
    if allowed is None:
        return wanted
    return max(1, min(wanted, (allowed - FILES_RESERVED) // part))


def is_none_left(error: OSError) -> bool:
    """Whether a file could not be opened because too many are open, which is temporary."""
    return error.errno in _NONE_LEFT
