"""Output to a terminal that may be closed at any time, which is no error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, TextIO

_GONE = (errno.EIO, errno.EBADF, errno.ENXIO)  # errors of a closed terminal


class HangUpStream:
    """The stream of a terminal. Once the terminal is closed, it discards all text.

    Args:
        stream: the stream; it stays open, and its descriptor becomes /dev/null when the terminal is closed.
        on_hang_up: is called once, when a write has found the terminal closed.
    """

    def __init__(self, stream: TextIO, on_hang_up: Callable[[], object]) -> None:
        self._stream = stream
        self._on_hang_up = on_hang_up

    def write(self, text: str) -> int:
        """Write text, unless the terminal is closed."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Write the buffer, unless the terminal is closed."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        """Forward everything else to the stream."""
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        if error.errno not in _GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # the rest of the buffer goes there, too
        os.close(nowhere)
        self._on_hang_up()
