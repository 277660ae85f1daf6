"""The keys that registries have proven, by their URLs: `registries.json`.

A URL is only a way to reach a registry. The key that it proves at first contact is remembered for the URL, so that the
right data folder is found while the registry is away, and another key is noticed. The file is in the folder that the
user named as data folder, otherwise above those of all peers. Several processes may use it at once.

Keys are kept as text here, since completion reads them and must not wait for a library of cryptography.
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
REGISTRIES_MAX = 1000  # URLs in the file; the oldest is forgotten for a new one
FILE_MAX = 512 * 1024  # bytes of it

_KEY = re.compile(r"[a-z2-7]{52}")


class KnownRegistries(KnownFile[dict[str, str]]):
    """The registries that a user has met. Data folders are moved under the lock, too."""

    FIELD = "registries"
    LOCK_NAME = LOCK_NAME
    UNUSABLE = KnownRegistriesUnusable
    DAMAGED = "it is damaged. Restore it, or delete it: it is made anew when a registry is reached"

    def __init__(self, folder: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        """Use the file in a folder, which is made if need be."""
        super().__init__(folder / FILE_NAME, FILE_MAX, sleep)

    def key(self, url: str) -> str | None:
        """The key that the registry at this URL has proven; None if it was never met.

        Raises:
            KnownRegistriesUnusable: the file is damaged, is not the user's alone, or cannot be read.
        """
        return self.all().get(url)

    def all(self) -> dict[str, str]:
        """All keys by URL, the one that was met first in front.

        Raises:
            KnownRegistriesUnusable: as for `key`.
        """
        return self._read()

    def pin(self, url: str, key: str) -> str:
        """Remember the key of the registry at a URL, unless one is remembered already.

        Returns:
            The key that is remembered now.

        Raises:
            KnownRegistriesUnusable: as for `key`.
        """
        with self.locked():
            known = self._read()
            if url not in known:
                while len(known) >= REGISTRIES_MAX:
                    del known[next(iter(known))]
                known[url] = key
                self._write(known)
            return known[url]

    def forget(self, url: str) -> str | None:
        """Accept the next key at a URL as it comes; returns the key that was remembered.

        Raises:
            KnownRegistriesUnusable: as for `key`.
        """
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
