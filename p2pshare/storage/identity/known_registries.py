"""The keys that registries have proven, by URL: `registries.json`.

A URL is only a way to reach a registry. The key that the registry proves at first contact is remembered for the URL. So
the right data folder is found while the registry is unreachable, and a changed key is noticed. The file is in the data
folder that the user named, otherwise above those of all peers.

Keys are text here, since completion reads them and must not wait for the import of a cryptographic library.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2pshare.errors import KnownRegistriesUnusable
from p2pshare.storage.identity.known_file import KnownFile

FILE_NAME = "registries.json"
LOCK_NAME = "registries.lock"
REGISTRIES_MAX = 1000  # URLs in the file; a new one replaces the oldest
FILE_MAX = 512 * 1024  # bytes of the file

_KEY = re.compile(r"[a-z2-7]{52}")


class KnownRegistries(KnownFile[dict[str, str]]):
    """The known keys of registries. Data folders are moved under its lock, too."""

    FIELD = "registries"
    LOCK_NAME = LOCK_NAME
    UNUSABLE = KnownRegistriesUnusable
    DAMAGED = (
        "it is damaged. Restore it, or delete it: the next contact with a registry makes it again"
    )

    def __init__(self, folder: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        """Use the file in a folder, which is made if need be."""
        super().__init__(folder / FILE_NAME, FILE_MAX, sleep)

    def key(self, url: str) -> str | None:
        """Return the key that the registry at this URL has proven; None if it was never met."""
        return self.all().get(url)

    def all(self) -> dict[str, str]:
        """Return all keys by URL, the oldest first."""
        return self._read()

    def pin(self, url: str, key: str) -> str:
        """Remember the key of the registry at a URL, unless one is known; return the known key."""
        with self.locked():
            known = self._read()
            if url not in known:
                while len(known) >= REGISTRIES_MAX:
                    del known[next(iter(known))]
                known[url] = key
                self._write(known)
            return known[url]

    def forget(self, url: str) -> str | None:
        """Remove a URL, so that the next key is accepted; return its known key."""
        with self.locked():
            known = self._read()
            key = known.pop(url, None)
            if key is not None:
                self._write(known)
            return key

    def _parse(self, known: dict[str, Any]) -> dict[str, str]:
        if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in known.values()):
            raise ValueError
        return known
