"""The folder beneath which all files of a job go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from p2pshare.errors import TransferFailed
from p2pshare.storage.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.incoming import Incoming


class IncomingFolder(AbstractContextManager["IncomingFolder"]):
    """An open folder. Every call may block, and may come from any thread."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder, which must exist."""
        raise NotImplementedError

    def find(
        self, place: Place, size: int, mtime: int, origin: Origin | None = None
    ) -> Path | None:
        """The file, if it is there already."""
        raise NotImplementedError

    def make_folder(self, folder: tuple[str, ...]) -> None:
        """Make a folder, and those above it."""
        raise NotImplementedError

    def resume(
        self,
        place: Place,
        origin: Origin,
        *,
        overwrite: bool = False,
        on_progress: Callable[[int, int], object] = lambda done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Incoming | None:
        """Go on with a partial file, if there is one."""
        raise NotImplementedError

    def begin(
        self, place: Place, origin: Origin, announced: Announced, *, overwrite: bool = False
    ) -> Incoming:
        """Begin a file."""
        raise NotImplementedError

    def store_whole(self, files: Sequence[WholeFile]) -> list[Path | TransferFailed]:
        """Store small files, in one go."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the folder."""
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the folder."""
        self.close()
