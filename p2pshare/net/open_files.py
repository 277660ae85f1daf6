"""How many files a process may have open, sockets among them."""

from __future__ import annotations

import resource
from contextlib import suppress


def allow_open_files(wanted: int) -> int:
    """Let this process have so many files open, or as many as the system lets it; returns how many.

    Shells grant 1024 by default, but let a process take more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with suppress(OSError, ValueError):  # macOS grants less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def open_files_allowed() -> int | None:
    """How many files this process may have open; None if there is no bound."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
