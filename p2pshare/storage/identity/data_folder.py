"""The folder in which a peer keeps what makes it itself: one folder, one name, one running peer."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import platformdirs

from p2pshare.errors import AlreadyRunning, FolderInUse, FolderUnusable, SecretUnusable
from p2pshare.storage.identity.known_registries import KnownRegistries
from p2pshare.storage.identity.private_file import create_private, read_private, remove_unfinished
from p2pshare.storage.incoming.destination import safe_name
from p2pshare.storage.locks import FolderLock
from p2pshare.storage.reasons import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.wire.addresses import DEFAULT_PORTS

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
        """By what a registry without a key knows the peer of a name again; it tells nothing of that of another.

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


@dataclass(frozen=True, slots=True)
class PeerPlace:
    """Where the peer of a name in a registry keeps its data.

    A registry is known by its key. Until that is known, the folder goes by the registry's URL; then `move_in` of
    `storage/identity/adoption.py` moves it to where it belongs.
    """

    registry: str
    """The URL."""
    name: str
    data: Path | None = None
    """The folder that the user named; None for one of this registry and name."""

    @classmethod
    def of(cls, settings: Settings, name: str) -> Self:
        """The place of the peer of `name` by the settings."""
        return cls(settings.registry, name, settings.data)

    @property
    def registries(self) -> KnownRegistries:
        """What tells the keys of registries here."""
        return KnownRegistries((self.data or data_place()).absolute())

    @property
    def key(self) -> str | None:
        """The key that the registry has proven before; None if it was never met.

        Raises:
            KnownRegistriesUnusable: the file with the keys cannot be used.
        """
        return self.registries.key(self.registry)

    @property
    def slot(self) -> str:
        """By what the registry is known in the files of the folder: its key, or its URL until that is known."""
        return self.key or self.registry

    @property
    def path(self) -> Path:
        """The folder, as far as it is known without asking the registry.

        Raises:
            KnownRegistriesUnusable: the file with the keys cannot be used.
        """
        if self.data is not None:
            return self.data.absolute()
        key = self.key
        by_url = self.by_url()
        if key is None:
            return by_url
        by_key = self.by_key(key)
        return by_url if is_place(by_url) and not by_key.exists() else by_key

    def by_key(self, key: str) -> Path:
        """Where the folder is, by default, in the registry with this key."""
        return (peers_place() / key / self.name).absolute()

    def by_url(self) -> Path:
        """Where the folder is, by default, until the key of the registry is known."""
        return (peers_place() / _place_of(self.registry) / self.name).absolute()

    def neighbours(self) -> list[Path]:
        """The folders that hold those of all names in this registry, by default."""
        above = [peers_place() / _place_of(self.registry)]
        key = self.key
        return above if key is None else [peers_place() / key, *above]


def is_place(folder: Path) -> bool:
    """Whether a data folder is here, and not only a link to where it has moved."""
    return folder.is_dir() and not folder.is_symlink()


def data_place() -> Path:
    """Where all that has keys keeps its data, unless told otherwise."""
    return platformdirs.user_data_path("p2pshare")


def peers_place() -> Path:
    """Where the data folders of peers are, unless told otherwise: `REGISTRY/NAME`."""
    return data_place() / "peers"


def private_folders(settings: Settings, name: str) -> tuple[Path, ...]:
    """What a peer of `name` shares nothing of: its own data folder, and those of others of the same user."""
    return peer_folder(settings, name), data_place().absolute()


def peer_folder(settings: Settings, name: str) -> Path:
    """The data folder of the peer of `name`, as `PeerPlace.path`."""
    return PeerPlace.of(settings, name).path


def _place_of(registry_url: str) -> str:
    url = urlsplit(registry_url)
    port = url.port or DEFAULT_PORTS[url.scheme]
    return safe_name(f"{url.hostname or ''}_{port}")
