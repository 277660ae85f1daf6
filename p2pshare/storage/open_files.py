"""How many files a process may have open, sockets among them, and how they are shared out."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress

from p2pshare.errors import TooFewOpenFiles

FILES_RESERVED = 24  # open files of a process besides those that are bounded by `share_of_files`

_NONE_LEFT = {errno.EMFILE, errno.ENFILE}


def allow_open_files(wanted: int, least: int = 0) -> int:
    """Let this process have so many files open, or as many as the system lets it; returns how many.

    Shells grant 1024 by default, but let a process take more.

    Args:
        wanted: open files.
        least: open files without which there is no use in going on.

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
    """How many files this process may have open; None if there is no bound."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def share_of_files(wanted: int, part: int) -> int:
    """Return how many files one task may have open: `wanted`, or one of so many parts of what the limit leaves."""
    allowed = open_files_allowed()
    if allowed is None:
        return wanted
    return max(1, min(wanted, (allowed - FILES_RESERVED) // part))


def is_none_left(error: OSError) -> bool:
    """Whether a file could not be opened because too many are open, which passes."""
    return error.errno in _NONE_LEFT
