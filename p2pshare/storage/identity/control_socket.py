"""Where the socket is on which a running peer takes what verbs ask for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET_NAME = "peer.sock"
SOCKET_PATH_MAX = 103  # bytes in the address of a Unix socket: 107 on Linux, 103 on macOS


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A path to a socket that fits into an address: if need be, by a link that is there as long as the context."""
    if len(os.fsencode(path.absolute())) <= SOCKET_PATH_MAX:
        yield str(path.absolute())
        return
    with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
        link = Path(folder, "d")
        link.symlink_to(path.parent.absolute())
        yield str(link / path.name)
