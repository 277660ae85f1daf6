"""Output to a terminal that may be closed at any time, with no complaint about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, TextIO

_GONE = (errno.EIO, errno.EBADF, errno.ENXIO)  # what a terminal says that was closed


class HangUpStream:
    """The stream of a terminal, which can be written to also when the terminal is gone: to no effect.

    Args:
        stream: it is left open, but leads nowhere once the terminal is gone.
        on_hang_up: hears, once, that a write has found the terminal gone.
    """

    def __init__(self, stream: TextIO, on_hang_up: Callable[[], object]) -> None:
        self._stream = stream
        self._on_hang_up = on_hang_up

    def write(self, text: str) -> int:
        """Write it, if anybody can see it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Write what is in the buffer, if anybody can see it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own."""
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        if error.errno not in _GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # so does what is still in the buffer
        os.close(nowhere)
        self._on_hang_up()
