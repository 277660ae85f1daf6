"""The keys that registries have proven, by their URLs: `registries.json`.

A URL is only a way to reach a registry. The key that it proves at first contact is remembered for the URL, so that the
right data folder is found while the registry is away, and another key is noticed. The file is in the folder that the
user named as data folder, otherwise above those of all peers. Several processes may use it at once.

Keys are kept as text here, since completion reads them and must not wait for a library of cryptography.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pshare.errors import KnownRegistriesUnusable, RemoteProtocolError
from p2pshare.storage.locks import waiting_lock
from p2pshare.storage.private_file import read_private, replace_private
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.strict_json import parse_object

FILE_NAME = "registries.json"
LOCK_NAME = "registries.lock"
VERSION = 1
REGISTRIES_MAX = 1000  # URLs in the file; the oldest is forgotten for a new one
FILE_MAX = 512 * 1024  # bytes of it

_KEY = re.compile(r"[a-z2-7]{52}")


class KnownRegistries:
    """The registries that a user has met. Calls may block for a while."""

    def __init__(self, folder: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        """Use the file in a folder, which is made if need be."""
        self.path = folder / FILE_NAME
        self._sleep = sleep

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
        with self._complaining():
            return self._read()

    def pin(self, url: str, key: str) -> str:
        """Remember the key of the registry at a URL, unless one is remembered already.

        Returns:
            The key that is remembered now.

        Raises:
            KnownRegistriesUnusable: as for `key`.
        """
        with self.locked(), self._complaining():
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
        with self.locked(), self._complaining():
            known = self._read()
            key = known.pop(url, None)
            if key is not None:
                self._write(known)
            return key

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this file, under which data folders are moved, too.

        Raises:
            KnownRegistriesUnusable: another process keeps it, or there can be none.
        """
        with self._complaining(), waiting_lock(self.path.with_name(LOCK_NAME), self._sleep):
            yield

    def _read(self) -> dict[str, str]:
        try:
            text = read_private(self.path, FILE_MAX + 1)
        except FileNotFoundError:
            return {}
        try:
            if len(text) > FILE_MAX:
                raise ValueError
            fields = parse_object(text)
            known = fields.get("registries")
            if fields.get("v") != VERSION or not isinstance(known, dict):
                raise ValueError
            if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in known.values()):
                raise ValueError
        except (ValueError, RemoteProtocolError):
            raise self._unusable(
                "it is damaged. Restore it, or delete it: it is made anew when a registry is reached"
            ) from None
        return known

    def _write(self, known: dict[str, str]) -> None:
        text = json.dumps({"v": VERSION, "registries": known}, indent=1)
        replace_private(self.path, f"{text}\n".encode())

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(plain_reason(error)) from error

    def _unusable(self, reason: str) -> KnownRegistriesUnusable:
        return KnownRegistriesUnusable(path=self.path, reason=reason)
