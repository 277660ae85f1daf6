"""The keys of peers that the user has met: `known_peers.json` in the data folder.

The first key that is met for a name stays its key, until the peer itself signs which key follows. A person can read the
file: it has a line for each name, with the key, the Unix time since which it is known, and the time at which the user
has compared it. A file may have the key alone, and 0 is an unknown time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2pshare.errors import KeyChanged, KnownPeersFull, KnownPeersUnusable
from p2pshare.names import is_name
from p2pshare.storage.identity.known_file import KnownFile
from p2pshare.wire.keys import PublicKey

FILE_NAME = "known_peers.json"
LOCK_NAME = "known_peers.lock"
PEERS_MAX = 10_000  # names in the file
FILE_MAX = 4 * 1024 * 1024  # bytes of the file

TIME_MAX = 2**53  # Unix time in s that the file may have


@dataclass(frozen=True, slots=True)
class Pin:
    """The known key of a name."""

    key: PublicKey
    since: int = 0
    """The Unix time in s since which it is known; 0 if that was not kept."""
    compared: int = 0
    """The Unix time in s at which the user has compared it with its owner; 0 if that was not done."""

    def __str__(self) -> str:
        """Return the text in the file."""
        times = [self.since, self.compared] if self.compared else [self.since] if self.since else []
        return " ".join(map(str, (self.key, *times)))

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read the text in the file, or raise `ValueError` or `RemoteProtocolError`."""
        key, *times = text.split(" ")
        numbers = [int(each) for each in times if each.isascii() and each.isdigit()]
        if len(numbers) != len(times) or len(times) > 2 or any(n > TIME_MAX for n in numbers):
            raise ValueError(text)
        return cls(PublicKey.parse(key), *numbers)


Pins = dict[str, dict[str, Pin]]
"""The pins by registry and name."""


class KnownPeers(KnownFile[Pins]):
    """The known keys of the peers in one registry."""

    FIELD = "peers"
    LOCK_NAME = LOCK_NAME
    UNUSABLE = KnownPeersUnusable
    DAMAGED = "it is damaged. Restore it, or delete it and compare the keys of your peers again"

    def __init__(
        self,
        folder: Path,
        registry: str,
        *,
        sleep: Callable[[float], object] = time.sleep,
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Use the file in a data folder, which is made if need be.

        Args:
            folder: the data folder.
            registry: the key of the registry as text; the URL of a registry without a key.
            sleep: waits for a number of seconds.
            wall: the Unix time in s, which is kept with new pins; by default it is unknown.
        """
        super().__init__(folder / FILE_NAME, FILE_MAX, sleep)
        self._wall = wall
        self._registry = registry

    def key(self, name: str) -> PublicKey | None:
        """Return the known key of a name."""
        return self.all().get(name)

    def names(self, key: PublicKey) -> list[str]:
        """Return the names with this key."""
        return sorted(name for name, each in self.all().items() if each == key)

    def all(self) -> dict[str, PublicKey]:
        """Return all known keys by name."""
        return {name: pin.key for name, pin in self.pins().items()}

    def pins(self) -> dict[str, Pin]:
        """Return all pins by name."""
        return self._read().get(self._registry, {})

    def pin(
        self, name: str, key: PublicKey, instead_of: PublicKey | None, most: int | None = None
    ) -> PublicKey:
        """Remember the key of a name, unless another key is known than the caller believes.

        Args:
            name: a valid name.
            key: its key.
            instead_of: the result of `key`; None if no key was known.
            most: names that the file may have with this one; `PEERS_MAX` if None.

        Returns:
            The key that is known now; it differs from `key` if another process was faster.

        Raises:
            KnownPeersFull: the file has `most` names.
        """
        with self.locked():
            pins = self._read()
            pin = pins.setdefault(self._registry, {}).get(name)
            known = None if pin is None else pin.key
            if known is not None and (known != instead_of or known == key):
                return known
            most = PEERS_MAX if most is None else most
            if known is None and sum(map(len, pins.values())) >= most:
                raise KnownPeersFull(path=self.path, most=most)
            pins[self._registry][name] = Pin(key, int(self._wall()))
            self._keep(pins)
            return key

    def compared(self, name: str, key: PublicKey) -> Pin:
        """Remember that the user has compared the key of a name; a name that has none gets it.

        Raises:
            KeyChanged: another key is known for the name.
            KnownPeersFull: the file has `PEERS_MAX` names.
        """
        known = self.pin(name, key, None)
        with self.locked():
            pins = self._read()
            pin = pins.get(self._registry, {}).get(name)
            if pin is None or pin.key != key:
                raise KeyChanged(name=name, known=known.grouped, now=key.grouped)
            pins[self._registry][name] = replace(pin, compared=max(1, int(self._wall())))
            self._keep(pins)
            return pins[self._registry][name]

    def forget(self, name: str) -> PublicKey | None:
        """Remove a name; return its known key."""
        with self.locked():
            pins = self._read()
            known = pins.get(self._registry, {}).pop(name, None)
            if known is None:
                return None
            self._keep(pins)
            return known.key

    def take_over(self, urls: Container[str] | None = None) -> None:
        """Move the keys that were remembered by a registry's URL to its key.

        Args:
            urls: the URLs of this registry; None for all URLs in the file.
        """
        with self.locked():
            pins = self._read()
            old = [each for each in pins if "://" in each and (urls is None or each in urls)]
            for url in old:
                pins[self._registry] = pins.pop(url) | pins.get(self._registry, {})
            if old:
                self._keep(pins)

    def _keep(self, pins: Pins) -> None:
        """Write the file with registries and names in order, for people."""
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
            pins[registry] = {name: Pin.parse(key) for name, key in keys.items()}
        return pins
