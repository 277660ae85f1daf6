"""The folder in which a peer keeps what makes it itself: one folder, one name, one running peer."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import platformdirs

from p2pshare.errors import AlreadyRunning, FolderInUse, FolderUnusable, SecretUnusable
from p2pshare.storage.destination import safe_name
from p2pshare.storage.locks import FolderLock
from p2pshare.storage.private_file import create_private, read_private, remove_unfinished
from p2pshare.storage.reasons import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.wire.registration import DEFAULT_PORTS

SECRET_NAME = "secret"
SECRET_SIZE = 32  # random bytes

_SECRET = re.compile(rb"([A-Za-z0-9_-]{43})\n")


class DataFolder:
    """A peer's folder, locked for as long as this is open.

    A folder made here is its owner's alone. One that was there keeps its mode, since it may be
    there for more than this; every file in it is readable by its owner alone.
    """

    def __init__(self, path: Path, lock: FolderLock) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path, owner: str) -> Self:
        """Make the folder if need be and lock it; `close` it when the peer ends.

        Args:
            path: the folder.
            owner: the name of the peer, for the sentence that says that it runs already.

        Raises:
            AlreadyRunning: another process has it open.
            FolderUnusable: it cannot be made, or not be locked.
        """
        try:
            lock = FolderLock.take(path)
        except FolderInUse as error:
            raise AlreadyRunning(name=owner, pid=error.fields["pid"]) from error
        remove_unfinished(path)
        return cls(path, lock)

    def token(self, registry_url: str, name: str) -> str:
        """By what a registry knows the peer of a name again; it tells nothing of that of another.

        It follows from the folder's secret, which is made at the first call.

        Raises:
            SecretUnusable: others may read it, or it is damaged; it is never replaced.
            FolderUnusable: it cannot be read or written.
        """
        message = f"p2pshare token\0{registry_url}\0{name}".encode()
        digest = hmac.digest(self._secret().encode(), message, "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _secret(self) -> str:
        try:
            return _read_secret(self.path / SECRET_NAME)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SecretUnusable(
                path=self.path / SECRET_NAME, reason=plain_reason(error)
            ) from error
        try:
            return self._make_secret()
        except OSError as error:
            raise FolderUnusable(path=self.path, reason=plain_reason(error)) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            FolderUnusable: it cannot be removed.
        """
        self._lock.remove(name)

    def close(self) -> None:
        """Give the folder free. May be called again."""
        self._lock.release()

    def _make_secret(self) -> str:
        """Write a whole secret or none; we hold the lock, so none has come up since we looked."""
        secret = secrets.token_urlsafe(SECRET_SIZE)
        create_private(self.path / SECRET_NAME, secret.encode() + b"\n")
        return secret


def _read_secret(path: Path) -> str:
    match = _SECRET.fullmatch(read_private(path, 1024))
    if match is None:
        raise SecretUnusable(
            path=path,
            reason="it is damaged. Restore it, or delete it and wait until the name is free again.",
        )
    return match[1].decode()


def default_peer_folder(registry_url: str, name: str) -> Path:
    """Where the peer of a name in a registry keeps its data, unless told otherwise."""
    url = urlsplit(registry_url)
    port = url.port or DEFAULT_PORTS[url.scheme]
    registry = safe_name(f"{url.hostname or ''}_{port}")
    return data_place() / "peers" / registry / name


def data_place() -> Path:
    """Where all that has keys keeps its data, unless told otherwise."""
    return platformdirs.user_data_path("p2pshare")


def private_folders(settings: Settings, name: str) -> tuple[Path, ...]:
    """What a peer of `name` shares nothing of: its own data folder, and those of others of the same user."""
    return peer_folder(settings, name), data_place().absolute()


def peer_folder(settings: Settings, name: str) -> Path:
    """The data folder of the peer of `name`."""
    return (settings.data or default_peer_folder(settings.registry, name)).absolute()
