"""The keys of the peers that one has met: `known_peers.json` in the data folder.

The first key that a name is met with stays its key here, until the peer itself says which one follows. The file has a
line for each name, so that a person can read it. Several processes may use it at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from p2pshare.errors import KnownPeersFull, KnownPeersUnusable, RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.storage.locks import waiting_lock
from p2pshare.storage.private_file import read_private, replace_private
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.strict_json import parse_object

FILE_NAME = "known_peers.json"
LOCK_NAME = "known_peers.lock"
VERSION = 1
PEERS_MAX = 10_000  # names in the file
FILE_MAX = 4 * 1024 * 1024  # bytes of it

Pins = dict[str, dict[str, PublicKey]]
"""The keys by registry and name."""


class KnownPeers:
    """What one knows of the peers in a registry. Calls may block for a while: make them in a thread."""

    def __init__(
        self, folder: Path, registry: str, *, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        """Use the file in a data folder, which is made if need be.

        Args:
            folder: the data folder.
            registry: the key of the registry as text; of one without a key, its URL.
            sleep: waits for a number of seconds.
        """
        self.path = folder / FILE_NAME
        self._registry = registry
        self._sleep = sleep

    def key(self, name: str) -> PublicKey | None:
        """The key that is known of a name.

        Raises:
            KnownPeersUnusable: the file is damaged, is not the user's alone, or cannot be read.
        """
        with self._complaining():
            return self._read().get(self._registry, {}).get(name)

    def names(self, key: PublicKey) -> list[str]:
        """The names that are known by a key.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
        with self._complaining():
            known = self._read().get(self._registry, {})
        return sorted(name for name, each in known.items() if each == key)

    def all(self) -> dict[str, PublicKey]:
        """All keys that are known, by name.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
        with self._complaining():
            return self._read().get(self._registry, {})

    def pin(
        self, name: str, key: PublicKey, instead_of: PublicKey | None, most: int | None = None
    ) -> PublicKey:
        """Know a name by a key from now on, unless something else is known than the caller believes.

        Args:
            name: a legal name.
            key: its key.
            instead_of: what `key` said; None if it knew none.
            most: names that the file may have with this one; `PEERS_MAX` if None.

        Returns:
            The key that is known now: another than `key` if another process was faster.

        Raises:
            KnownPeersUnusable: as for `key`; `KnownPeersFull` if there are `most` names in it.
        """
        with self._complaining(), self._locked():
            pins = self._read()
            known = pins.setdefault(self._registry, {}).get(name)
            if known != instead_of and known is not None:
                return known
            most = PEERS_MAX if most is None else most
            if known is None and sum(map(len, pins.values())) >= most:
                raise KnownPeersFull(path=self.path, most=most)
            pins[self._registry][name] = key
            self._write(pins)
            return key

    def forget(self, name: str) -> PublicKey | None:
        """Know a name no more; returns the key that was known of it.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
        with self._complaining(), self._locked():
            pins = self._read()
            known = pins.get(self._registry, {}).pop(name, None)
            if known is not None:
                self._write(pins)
            return known

    def take_over(self, urls: Container[str] | None = None) -> None:
        """Know in this registry what is known in the one of a URL, by which registries were known once.

        Args:
            urls: which of them are this registry's; None if all are.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
        with self._complaining(), self._locked():
            pins = self._read()
            old = [each for each in pins if "://" in each and (urls is None or each in urls)]
            for url in old:
                pins[self._registry] = pins.pop(url) | pins.get(self._registry, {})
            if old:
                self._write(pins)

    def _read(self) -> Pins:
        try:
            text = read_private(self.path, FILE_MAX + 1)
        except FileNotFoundError:
            return {}
        try:
            if len(text) > FILE_MAX:
                raise ValueError
            return _parse(text)
        except (ValueError, RemoteProtocolError):
            raise self._unusable(
                "it is damaged. Restore it, or delete it, and compare the keys of your peers anew"
            ) from None

    def _write(self, pins: Pins) -> None:
        """Put a whole file in the place of the old one; we hold the lock."""
        text = json.dumps(
            {"v": VERSION, "peers": {url: known for url, known in pins.items() if known}},
            indent=1,
            default=str,
            sort_keys=True,
        )
        replace_private(self.path, f"{text}\n".encode())

    def _locked(self) -> AbstractContextManager[None]:
        """Alone with the file: nobody else reads in order to write."""
        return waiting_lock(self.path.with_name(LOCK_NAME), self._sleep)

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(plain_reason(error)) from error

    def _unusable(self, reason: str) -> KnownPeersUnusable:
        return KnownPeersUnusable(path=self.path, reason=reason)


def _parse(text: bytes) -> Pins:
    fields = parse_object(text)
    peers = fields.get("peers")
    if fields.get("v") != VERSION or not isinstance(peers, dict):
        raise ValueError
    pins: Pins = {}
    for url, known in peers.items():
        if not isinstance(known, dict) or not all(map(is_name, known)):
            raise ValueError
        if not all(isinstance(key, str) for key in known.values()):
            raise ValueError
        pins[url] = {name: PublicKey.parse(key) for name, key in known.items()}
    return pins
