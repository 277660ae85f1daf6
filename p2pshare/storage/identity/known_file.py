"""A JSON file of keys that a user has met, which several processes may use at once.

`known_peers` and `known_registries` are of this kind. The keys in such a file are the reason to believe a peer, so a
file that is damaged, or that others may write, is an error and never replaced. Each change reads the file, changes it
and writes it under a lock, since two verbs may run at the same time.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.storage.identity.private_file import read_private, replace_private
from p2pshare.storage.locks import waiting_lock
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.strict_json import parse_object

VERSION = 1

Content = TypeVar("Content")


class KnownFile(Generic[Content]):
    """The file. Calls may block for a while: make them in a thread.

    Every method raises `UNUSABLE` if the file is damaged, is not the user's alone, cannot be read or written, or stays
    locked by another process.
    """

    FIELD: ClassVar[str]
    """The one member of the file besides its version: an object."""
    LOCK_NAME: ClassVar[str]
    """The name of the lock, a file beside it."""
    UNUSABLE: ClassVar[type[P2pshareError]]
    """The error, with a path and a reason."""
    DAMAGED: ClassVar[str]
    """The reason, with the remedy, if the content is not valid."""

    def __init__(
        self, path: Path, bytes_max: int, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        """Use the file at `path`, of at most `bytes_max` bytes; `sleep` waits some seconds while it is locked."""
        self.path = path
        self._bytes_max = bytes_max
        self._sleep = sleep

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, so that no other process reads in order to write."""
        lock = self.path.with_name(self.LOCK_NAME)
        with self._usable(), waiting_lock(lock, self._sleep):
            yield

    @abstractmethod
    def _parse(self, known: dict[str, Any]) -> Content:
        """Return the content of `FIELD`, or raise `ValueError` or `RemoteProtocolError`."""

    def _read(self) -> Content:
        """Return the content of the file; a missing file is an empty object."""
        with self._usable():
            try:
                text = read_private(self.path, self._bytes_max + 1)
            except FileNotFoundError:
                return self._parse({})
            try:
                fields = parse_object(text) if len(text) <= self._bytes_max else {}
                known = fields.get(self.FIELD)
                if fields.get("v") != VERSION or not isinstance(known, dict):
                    raise ValueError
                return self._parse(known)
            except (ValueError, RemoteProtocolError):
                raise self.UNUSABLE(path=self.path, reason=self.DAMAGED) from None

    def _write(self, known: dict[str, Any]) -> None:
        """Replace the file; the caller holds the lock."""
        text = json.dumps({"v": VERSION, self.FIELD: known}, indent=1, default=str)
        replace_private(self.path, f"{text}\n".encode())

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.UNUSABLE(path=self.path, reason=plain_reason(error)) from error
