"""Paths to Unix sockets, whose addresses are shorter than many data folders."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONTROL_NAME = "peer.sock"
"""The socket in a data folder on which a running peer takes commands."""
SOCKET_PATH_MAX = 103  # bytes in the address of a Unix socket: 107 on Linux, 103 on macOS


class SocketPath:
    """The address of a socket: its path, or if that is too long, one by a link in the folder for temporary files."""

    def __init__(self, path: Path) -> None:
        path = path.absolute()
        self._folder = path.parent
        self._link: Path | None = None
        self.address = str(path)
        """Valid after `make`."""
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            self._link = Path(tempfile.gettempdir(), f"p2pshare-{secrets.token_hex(8)}", "data")
            self.address = str(self._link / path.name)

    def make(self) -> None:
        """Make the link, if one is needed.

        Raises:
            OSError: it cannot be made.
        """
        if self._link is not None:
            self._link.parent.mkdir(mode=0o700)
            self._link.symlink_to(self._folder)

    def remove(self) -> None:
        """Remove the link. May be called again."""
        if self._link is not None:
            shutil.rmtree(self._link.parent, ignore_errors=True)


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Return an address of the socket at `path` that is valid within the context."""
    short = SocketPath(path)
    try:
        short.make()
        yield short.address
    finally:
        short.remove()
