"""Which store a registry knew last: a copy, beside the store, of the mark that the store itself carries.

A store that has lost its names has lost its mark too. The copy tells that from a store that is new.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from twisted.logger import Logger

from p2pshare.storage.reasons import plain_reason

FILE_NAME = "store"
MARKER_MAX = 128  # characters

_MARKER = re.compile(r"([A-Za-z0-9_-]{1,64}) ([0-9]{1,16}) (first|lost)")


@dataclass(frozen=True, slots=True)
class StoreMarker:
    """What a store carries."""

    id: str
    """At random, anew for each store and after each loss; nothing if there is no mark."""
    born: int = 0
    """Unix time in ms at which it was set, by the store's clock."""
    lost: bool = False
    """Whether there was a store before it whose names were lost."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` writes; None if it is anything else."""
        match = _MARKER.fullmatch(text)
        return cls(match[1], int(match[2]), match[3] == "lost") if match else None

    def __str__(self) -> str:
        """As it stands in the store."""
        return f"{self.id} {self.born} {'lost' if self.lost else 'first'}"


class MarkerCopy:
    """The copy, in a file of the registry's data folder that is replaced whole; or only in memory."""

    _log = Logger()

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self.marker = None if self._path is None else self._read(self._path)
        """The last mark; None before there was one."""

    def keep(self, marker: StoreMarker) -> None:
        """Remember a mark. If the file cannot be written, a loss goes unnoticed after a restart only: it is logged."""
        if marker == self.marker:
            return
        self.marker = marker
        if self._path is None:
            return
        try:
            _replace(self._path, f"{marker}\n")
        except OSError as error:
            self._log.error(
                "{path} cannot be written: {reason}", path=self._path, reason=plain_reason(error)
            )

    def _read(self, path: Path) -> StoreMarker | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, encoding="ascii", errors="replace") as file:
                marker = StoreMarker.parse(file.read(MARKER_MAX).removesuffix("\n"))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log.error(
                "{path} cannot be read: {reason}", path=path, reason=plain_reason(error)
            )
            return None
        if marker is None:
            self._log.error("{path} is damaged: it is made anew", path=path)
        return marker


def _replace(path: Path, text: str) -> None:
    """Write a whole file or none; other processes of the registry may do so at the same time."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    unfinished.unlink(missing_ok=True)
    fd = os.open(
        unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with open(fd, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
