"""The names in large folders, in order: `folders.sqlite` in the data folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

FILE_NAME = "folders.sqlite"
SCAN_MAX = 5000  # names up to which a folder is read anew at each page
FOLDERS_MAX = 64
BYTES_MAX = 1024 * 1024 * 1024  # of the database


class FolderIndex:
    """Serves any page of a folder of any size, at once if it was read before. Usable from any thread; it never fails."""

    def __init__(
        self,
        path: Path | None,
        *,
        scan_max: int = SCAN_MAX,
        folders_max: int = FOLDERS_MAX,
        bytes_max: int = BYTES_MAX,
        wall_ns: Callable[[], int] = time.time_ns,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Use a database, which is made if need be, and made anew if it is damaged.

        Args:
            path: the database; None: each page of a large folder reads all of it.
            scan_max: names up to which a folder is read anew at each page.
            folders_max: folders that are remembered.
            bytes_max: of the database.
            wall_ns: nanoseconds since 1970, as the times of folders have them.
            on_trouble: called, in whatever thread, with a sentence when the index is rebuilt or cannot be used.
        """
        raise NotImplementedError

    def names(self, folder: int, beyond: str, count: int) -> list[str]:
        """The first `count` names that come after `beyond` in the folder with this open descriptor, ascending.

        Hidden names and those that are no Unicode text are left out, and what is neither file, folder nor link. Fewer
        than `count` means that there are no more.

        Raises:
            OSError: the folder cannot be read.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the database. May be called again."""
        raise NotImplementedError
