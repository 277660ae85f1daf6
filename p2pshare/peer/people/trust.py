"""The trust in the keys of people, as the list of people shows it.

The pins are in a file that other processes change, too (`p2pshare peers`). It is looked at every second while somebody
looks at the list, and read again in a thread if it has changed.

    new         no key is pinned for the name
    known       a key is pinned
    compared    a key is pinned, and the user has compared it with its owner
    changed     the directory shows another key than the pinned one, and nothing signed explains it
    waiting     without a registry: somebody with this name wants to see the shares, and waits until the user accepts
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from p2pshare.errors import KnownPeersUnusable, NotFound
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.lan.admission import AcceptedPeers
from p2pshare.storage.identity.known_peers import KnownPeers, Pin
from p2pshare.wire.keys import PublicKey

CHANGED_MAX = 1000  # names that are remembered as `changed`


class Trust:
    """The pins of the user as they are now, and who waits."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        known: KnownPeers,
        is_lan: bool,
        waiting: Callable[[], list[dict[str, Any]]],
        on_change: Callable[[str], object],
        *,
        changed_max: int = CHANGED_MAX,
    ) -> None:
        """Read the pins at the first `refresh`.

        Args:
            reactor: for threads.
            known: the list of pinned keys.
            is_lan: whether there is no registry.
            waiting: returns the keys that wait, as the status has them.
            on_change: called with each name whose trust has changed.
            changed_max: names that are remembered as `changed`.
        """
        self._reactor = reactor
        self._known = known
        self._is_lan = is_lan
        self._told_waiting = waiting
        self._on_change = on_change
        self._changed_max = changed_max
        self._pins: Mapping[str, Pin] = {}
        self._stamp: tuple[int, ...] | None = None  # of the file that was read
        self._waiting: dict[str, str] = {}
        self._changed: dict[
            str, PublicKey
        ] = {}  # the key that the directory shows; the latest last

    @property
    def names(self) -> set[str]:
        """The names of which a key is pinned, or that wait."""
        return {*self._pins, *self._waiting}

    def __contains__(self, name: str) -> bool:
        """Whether a key is pinned for a name, or waits under it."""
        return name in self._pins or name in self._waiting

    def is_pinned(self, name: str) -> bool:
        """Whether a key is pinned for a name."""
        return name in self._pins

    def pin(self, name: str) -> Pin | None:
        """Return the pin of a name."""
        return self._pins.get(name)

    def waiting_key(self, name: str) -> PublicKey | None:
        """Return the key that waits under a name."""
        text = self._waiting.get(name)
        return None if text is None else PublicKey.parse(text)

    def state(self, name: str, *, is_other: bool = False) -> str:
        """Return the trust in a name; `is_other` is whether only another key was seen under it."""
        pin = self._pins.get(name)
        if pin is None:
            return "waiting" if name in self._waiting else "new"
        if is_other or name in self._changed:
            return "changed"
        return "compared" if pin.compared else "known"

    def show_changed(self, name: str, key: PublicKey | None) -> None:
        """Remember that the directory shows a key that must not be trusted; None if it shows the right one."""
        before = self._changed.pop(name, None)
        if key is not None:
            while len(self._changed) >= self._changed_max:
                del self._changed[next(iter(self._changed))]
            self._changed[name] = key
        if (before is None) != (key is None):
            self._on_change(name)

    async def refresh(self) -> None:
        """Look whether something has changed, and tell."""
        waiting = {str(each["name"]): str(each["key"]) for each in self._told_waiting()}
        before, self._waiting = self._waiting, waiting
        for name in before.keys() ^ waiting.keys():
            self._on_change(name)
        stamp = self._stamp_now()
        if stamp != self._stamp:
            await self._read()
            self._stamp = stamp

    async def compared(self, name: str, key: PublicKey) -> None:
        """Remember that the user has compared a key.

        Raises:
            KeyChanged: another key is pinned.
            KnownPeersUnusable: the list cannot be written, or is full.
        """
        await run_in_thread(self._reactor, self._known.compared, name, key)
        self.show_changed(name, None)
        await self._read()

    async def forget(self, name: str) -> PublicKey:
        """Forget the key of a name; return it.

        Raises:
            NotFound: none is pinned.
            KnownPeersUnusable: the list cannot be read or written.
        """
        forget = (
            AcceptedPeers(self._known.path.parent).forget if self._is_lan else self._known.forget
        )
        key = await run_in_thread(self._reactor, forget, name)
        if key is None:
            raise NotFound(reason=f"No key of {name!r} is known.")
        self.show_changed(name, None)
        await self._read()
        return key

    async def _read(self) -> None:
        try:
            pins = await run_in_thread(self._reactor, self._known.pins)
        except KnownPeersUnusable as error:
            self._log.warn("pins not read: {why}", why=error)
            return
        before, self._pins = self._pins, pins
        for name in before.keys() | pins.keys():
            if before.get(name) != pins.get(name):
                self._changed.pop(name, None)
                self._on_change(name)

    def _stamp_now(self) -> tuple[int, ...]:
        try:
            found = self._known.path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino
