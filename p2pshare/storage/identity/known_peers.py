"""The keys of the peers that one has met: `known_peers.json` in the data folder.

The first key that a name is met with stays its key here, until the peer itself says which one follows. The file has a
line for each name, so that a person can read it. Several processes may use it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from p2pshare.errors import KnownPeersFull, KnownPeersUnusable
from p2pshare.names import is_name
from p2pshare.storage.identity.known_file import KnownFile
from p2pshare.wire.keys import PublicKey

FILE_NAME = "known_peers.json"
LOCK_NAME = "known_peers.lock"
PEERS_MAX = 10_000  # names in the file
FILE_MAX = 4 * 1024 * 1024  # bytes of it

Pins = dict[str, dict[str, PublicKey]]
"""The keys by registry and name."""


class KnownPeers(KnownFile[Pins]):
    """What one knows of the peers in a registry. Calls may block for a while: make them in a thread."""

    FIELD = "peers"
    LOCK_NAME = LOCK_NAME
    UNUSABLE = KnownPeersUnusable
    DAMAGED = "it is damaged. Restore it, or delete it, and compare the keys of your peers anew"

    def __init__(
        self, folder: Path, registry: str, *, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        """Use the file in a data folder, which is made if need be.

        Args:
            folder: the data folder.
            registry: the key of the registry as text; of one without a key, its URL.
            sleep: waits for a number of seconds.
        """
        super().__init__(folder / FILE_NAME, FILE_MAX, sleep)
        self._registry = registry

    def key(self, name: str) -> PublicKey | None:
        """The key that is known of a name.

        Raises:
            KnownPeersUnusable: the file is damaged, is not the user's alone, or cannot be read.
        """
        return self._read().get(self._registry, {}).get(name)

    def names(self, key: PublicKey) -> list[str]:
        """The names that are known by a key.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
        known = self._read().get(self._registry, {})
        return sorted(name for name, each in known.items() if each == key)

    def all(self) -> dict[str, PublicKey]:
        """All keys that are known, by name.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
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
        with self.locked():
            pins = self._read()
            known = pins.setdefault(self._registry, {}).get(name)
            if known != instead_of and known is not None:
                return known
            most = PEERS_MAX if most is None else most
            if known is None and sum(map(len, pins.values())) >= most:
                raise KnownPeersFull(path=self.path, most=most)
            pins[self._registry][name] = key
            self._keep(pins)
            return key

    def forget(self, name: str) -> PublicKey | None:
        """Know a name no more; returns the key that was known of it.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
        with self.locked():
            pins = self._read()
            known = pins.get(self._registry, {}).pop(name, None)
            if known is not None:
                self._keep(pins)
            return known

    def take_over(self, urls: Container[str] | None = None) -> None:
        """Know in this registry what is known in the one of a URL, by which registries were known once.

        Args:
            urls: which of them are this registry's; None if all are.

        Raises:
            KnownPeersUnusable: as for `key`.
        """
        with self.locked():
            pins = self._read()
            old = [each for each in pins if "://" in each and (urls is None or each in urls)]
            for url in old:
                pins[self._registry] = pins.pop(url) | pins.get(self._registry, {})
            if old:
                self._keep(pins)

    def _keep(self, pins: Pins) -> None:
        """Write the file, with registries and names in order, for people; the caller holds the lock."""
        self._write(
            {each: dict(sorted(known.items())) for each, known in sorted(pins.items()) if known}
        )

    def _parse(self, known: dict[str, Any]) -> Pins:
        pins: Pins = {}
        for registry, keys in known.items():
            if not isinstance(keys, dict) or not all(map(is_name, keys)):
                raise ValueError
            if not all(isinstance(key, str) for key in keys.values()):
                raise ValueError
            pins[registry] = {name: PublicKey.parse(key) for name, key in keys.items()}
        return pins
