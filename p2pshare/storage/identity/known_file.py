"""A JSON file of keys that a user has met, which several processes may use at once.

`known_peers` and `known_registries` are of this kind. A file that is damaged, or that others may write, is an error. It
is never replaced, since the keys in it are the reason to believe a peer.
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
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.strict_json import parse_object

VERSION = 1

Content = TypeVar("Content")


class KnownFile(Generic[Content]):
    """The file. Calls may block for a while."""

    FIELD: ClassVar[str]
    """The one field of the file beside its version: an object."""
    LOCK_NAME: ClassVar[str]
    """The name of the lock, a file beside it."""
    UNUSABLE: ClassVar[type[P2pshareError]]
    """The error that it cannot be used, with a path and a reason."""
    DAMAGED: ClassVar[str]
    """The reason, with the remedy, if its content is not valid."""

    def __init__(
        self, path: Path, bytes_max: int, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        """Use the file at a path; its folder is made if need be.

        Args:
            path: the file.
            bytes_max: that it may have.
            sleep: waits for a number of seconds while another process holds the lock.
        """
        self.path = path
        self._bytes_max = bytes_max
        self._sleep = sleep

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, so that no other process reads in order to write.

        Raises:
            UNUSABLE: another process keeps it, or there can be none.
        """
        lock = self.path.with_name(self.LOCK_NAME)
        with self._complaining(), waiting_lock(lock, self._sleep):
            yield

    @abstractmethod
    def _parse(self, known: dict[str, Any]) -> Content:
        """Return the content that `FIELD` has; raises `ValueError` or `RemoteProtocolError`."""

    def _read(self) -> Content:
        """Return the content of the file; if there is no file, it is that of an empty object."""
        with self._complaining():
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
        """Put a whole file in the place of the old one; the caller holds the lock."""
        text = json.dumps({"v": VERSION, self.FIELD: known}, indent=1, default=str)
        replace_private(self.path, f"{text}\n".encode())

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.UNUSABLE(path=self.path, reason=plain_reason(error)) from error
