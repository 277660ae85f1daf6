"""The data folder of a peer: one folder, one name, one running peer."""

from __future__ import annotations

import base64
import errno
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import platformdirs

from p2pshare.errors import AlreadyRunning, FolderInUse, FolderUnusable, SecretUnusable
from p2pshare.storage.identity.known_registries import KnownRegistries
from p2pshare.storage.identity.private_file import (
    KEY_BEGIN,
    PEER_KEYS,
    REGISTRY_KEY,
    create_private,
    read_private,
    remove_unfinished,
)
from p2pshare.storage.incoming.destination import safe_name
from p2pshare.storage.locks import LOCK_NAME, FolderLock
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import Settings, default_inbox_folder
from p2pshare.wire.addresses import DEFAULT_PORTS, LAN

SECRET_NAME = "secret"
SECRET_SIZE = 32  # random bytes
LAN_PLACE = "lan"
"""In paths and files, what stands where a registry would: that of the mode without one."""

_SECRET = re.compile(rb"([A-Za-z0-9_-]{43})\n")
_SECRETS = *PEER_KEYS, REGISTRY_KEY, SECRET_NAME
_PEEKING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PEEKED = 64  # bytes of a file by which a key is known
_EXHAUSTED = errno.EMFILE, errno.ENFILE, errno.ENOMEM


class DataFolder:
    """A peer's folder, locked until `close`.

    A folder made here is private to its owner. An existing one keeps its mode, since it may have other uses; every file
    of a peer in it is private to its owner.
    """

    def __init__(self, path: Path, lock: FolderLock) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path, owner: str) -> Self:
        """Make the folder if need be, and lock it.

        Args:
            path: the folder.
            owner: the name of the peer, for the error.

        Raises:
            AlreadyRunning: another process has it open.
            FolderUnusable: it cannot be made or locked.
        """
        try:
            lock = FolderLock.take(path)
        except FolderInUse as error:
            raise AlreadyRunning(name=owner, pid=error.fields["pid"]) from error
        remove_unfinished(path)
        return cls(path, lock)

    def token(self, registry_url: str, name: str) -> str:
        """Return the token by which a registry without keys recognises the peer of a name; it reveals no other token.

        It is derived from the folder's secret, which is made at the first call.

        Raises:
            SecretUnusable: the secret is damaged, or others may read it; it is never replaced.
            FolderUnusable: the folder cannot be read or written.
        """
        message = f"p2pshare token\0{registry_url}\0{name}".encode()
        digest = hmac.digest(self._secret(), message, "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _secret(self) -> bytes:
        path = self.path / SECRET_NAME
        try:
            match = _SECRET.fullmatch(read_private(path, 1024))
        except FileNotFoundError:
            return self._make_secret(path)
        except OSError as error:
            raise SecretUnusable(path=path, reason=plain_reason(error)) from error
        if match is None:
            raise SecretUnusable(
                path=path,
                reason="it is damaged. Restore it, or delete it and wait until the name is free.",
            )
        return match[1]

    def _make_secret(self, path: Path) -> bytes:
        """Write a secret; the lock ensures that none was made meanwhile."""
        secret = secrets.token_urlsafe(SECRET_SIZE).encode()
        try:
            create_private(path, secret + b"\n")
        except OSError as error:
            raise FolderUnusable(path=self.path, reason=plain_reason(error)) from error
        return secret

    def remove(self, name: str) -> None:
        """Remove a file, if it exists.

        Raises:
            FolderUnusable: it cannot be removed.
        """
        self._lock.remove(name)

    def close(self) -> None:
        """Release the folder. May be called again."""
        self._lock.release()


@dataclass(frozen=True, slots=True)
class PeerPlace:
    """The place of the data of a name's peer in a registry.

    A registry is known by its key. Until the key is known, the folder goes by the registry's URL; then `move_in` of
    `storage/identity/adoption.py` moves it.
    """

    registry: str
    """The URL; `LAN` if there is none."""
    name: str
    data: Path | None = None
    """The folder that the user named; None for the one of this registry and name."""

    @classmethod
    def of(cls, settings: Settings, name: str) -> Self:
        """Return the place of the peer of `name` by the settings."""
        return cls(settings.registry, name, settings.data)

    @property
    def registries(self) -> KnownRegistries:
        """Return the known registries."""
        return KnownRegistries((self.data or data_place()).absolute())

    @property
    def key(self) -> str | None:
        """Return the known key of the registry; None if it was never met, or there is none.

        Raises:
            KnownRegistriesUnusable: the file with known keys cannot be used.
        """
        return None if self.is_lan else self.registries.key(self.registry)

    @property
    def is_lan(self) -> bool:
        """Whether there is no registry, and the folder is that for the local network."""
        return self.registry == LAN

    @property
    def slot(self) -> str:
        """Return the registry's name in the files of the folder: its key, or its URL until the key is known."""
        return LAN_PLACE if self.is_lan else self.key or self.registry

    @property
    def path(self) -> Path:
        """Return the folder, as far as it is known without asking the registry.

        Raises:
            KnownRegistriesUnusable: the file with known keys cannot be used.
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
        """Return the default folder in the registry with this key."""
        return (peers_place() / key / self.name).absolute()

    def by_url(self) -> Path:
        """Return the default folder until the key of the registry is known."""
        return (peers_place() / _place_of(self.registry) / self.name).absolute()

    def neighbours(self) -> list[Path]:
        """Return the default folders that contain those of all names in this registry."""
        above = [peers_place() / _place_of(self.registry)]
        key = self.key
        return above if key is None else [peers_place() / key, *above]


def is_place(folder: Path) -> bool:
    """Whether this is a data folder, and not only a link to its new place."""
    return folder.is_dir() and not folder.is_symlink()


def data_place() -> Path:
    """Return the default folder of all data with keys."""
    return platformdirs.user_data_path("p2pshare")


def peers_place() -> Path:
    """Return the default folder of all peers' data folders: `REGISTRY/NAME`."""
    return data_place() / "peers"


def private_folders(settings: Settings, name: str) -> tuple[Path, ...]:
    """Return the folders that a peer of `name` never shares: its data folder, and those of other peers of the same
    user.
    """
    return peer_folder(settings, name), data_place().absolute()


def unshared_folders(settings: Settings, name: str) -> tuple[Path, ...]:
    """Return the folders of which a peer of `name` shares nothing: the private ones, and the one where offers are
    saved. So what somebody sends reaches nobody else before the user has moved it.
    """
    return *private_folders(settings, name), inbox_folder(settings)


def inbox_folder(settings: Settings) -> Path:
    """Return where accepted offers are saved, each in a folder with the name of its sender."""
    return (settings.inbox_folder or default_inbox_folder()).absolute()


def holds_keys(folder: str, at: int | None = None) -> bool:
    """Whether a folder is the data folder of any peer or registry: it has a lock, and a key or a secret.

    For other folders this is one look at the lock, so that it can be done for each folder of a share.

    Args:
        folder: its path.
        at: open folder that a relative path begins at.

    Raises:
        OSError: too many files are open.
    """
    try:
        os.stat(f"{folder}/{LOCK_NAME}", dir_fd=at, follow_symlinks=False)
        return any(_is_secret(f"{folder}/{name}", at) for name in _SECRETS)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        return False


def is_among_keys(path: Path) -> bool:
    """Whether a path without links is a folder that `holds_keys`, or lies in one.

    Raises:
        OSError: too many files are open.
    """
    return any(holds_keys(str(each)) for each in (path, *path.parents))


def _is_secret(path: str, at: int | None) -> bool:
    try:
        fd = os.open(path, _PEEKING, dir_fd=at)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        return False
    with open(fd, "rb") as file:
        begin = file.read(_PEEKED) or b""
    return begin.startswith(KEY_BEGIN) or _SECRET.fullmatch(begin) is not None


def peer_folder(settings: Settings, name: str) -> Path:
    """Return the data folder of the peer of `name`, as `PeerPlace.path`."""
    return PeerPlace.of(settings, name).path


def _place_of(registry_url: str) -> str:
    if registry_url == LAN:
        return LAN_PLACE
    url = urlsplit(registry_url)
    port = url.port or DEFAULT_PORTS[url.scheme]
    return safe_name(f"{url.hostname or ''}_{port}")
