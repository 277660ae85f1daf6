"""The mark of a store, and a copy of it in the data folder of the registry.

A store that has lost its names has also lost its mark. The copy distinguishes it from a new store.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from twisted.logger import Logger

from p2pshare.storage.identity.private_file import replace_private
from p2pshare.storage.os_errors import plain_reason

FILE_NAME = "store"
MARKER_MAX = 128  # characters

_MARKER = re.compile(r"([A-Za-z0-9_-]{1,64}) ([0-9]{1,16}) (first|lost)")


@dataclass(frozen=True, slots=True)
class StoreMarker:
    """The mark of a store."""

    id: str
    """Random, and new for each store and after each loss."""
    born: int = 0
    """When it was set, in Unix time in ms, by the clock of the store."""
    lost: bool = False
    """Whether an earlier store lost its names."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the result of `str`; return None for any other text."""
        match = _MARKER.fullmatch(text)
        return cls(match[1], int(match[2]), match[3] == "lost") if match else None

    def __str__(self) -> str:
        """Return the text in the store."""
        return f"{self.id} {self.born} {'lost' if self.lost else 'first'}"


class MarkerCopy:
    """The copy, in a file of the data folder, or in memory only."""

    _log = Logger()

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self.marker = None if self._path is None else self._read(self._path)
        """The last mark; None before the first."""

    def keep(self, marker: StoreMarker) -> None:
        """Keep a mark. If the file cannot be written, that is logged: a loss is then not noticed after a restart."""
        if marker == self.marker:
            return
        self.marker = marker
        if self._path is None:
            return
        try:
            replace_private(self._path, f"{marker}\n".encode())
        except OSError as error:
            self._log_problem("cannot be written", plain_reason(error))

    def _read(self, path: Path) -> StoreMarker | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, encoding="ascii", errors="replace") as file:
                marker = StoreMarker.parse(file.read(MARKER_MAX).removesuffix("\n"))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log_problem("cannot be read", plain_reason(error))
            return None
        if marker is None:
            self._log_problem("is damaged", "it is written again")
        return marker

    def _log_problem(self, problem: str, reason: str) -> None:
        self._log.error(
            "store mark {problem}: path={path} reason={reason!r}",
            problem=problem,
            path=self._path,
            reason=reason,
        )
