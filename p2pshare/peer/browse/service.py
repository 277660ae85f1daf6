"""The parts through which the user of a running peer looks at what others share."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.browse.archive import Archives
from p2pshare.peer.browse.completion import Completion
from p2pshare.peer.browse.listing import Listings
from p2pshare.peer.browse.pictures import RemotePictures
from p2pshare.peer.browse.reading import Readings
from p2pshare.peer.browse.sessions import RemoteSessions
from p2pshare.peer.control import Action
from p2pshare.peer.fetch.remote import SessionOpener
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import PeerFinder


class Finders(Protocol):
    """Makes what finds peers for the user."""

    def __call__(self, *, pins_new_keys: bool) -> PeerFinder:
        """Return a finder that remembers first contacts, or one that does not."""


class Browsing:
    """Completion, listings, previews, readings and archives, and the sessions that they share."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        registry: Directory,
        finders: Finders,
        opener: SessionOpener,
        data: Path,
    ) -> None:
        """Browse as the user of a running peer.

        Args:
            reactor: for sessions, timers and threads.
            rng: source of jitter.
            registry: is asked for names.
            finders: make what finds the peers.
            opener: opens sessions.
            data: the data folder.
        """
        finder, pinning = finders(pins_new_keys=False), finders(pins_new_keys=True)
        self._sessions = RemoteSessions(reactor, rng, finder, pinning, opener)
        self._completion = Completion(registry, self._sessions, data)
        self.readings = Readings(self._sessions)
        """Bytes of files."""
        self.pictures = RemotePictures(self._sessions)
        """Previews."""
        self.archives = Archives(self._sessions, self.readings)
        """Zips."""
        self.listings = Listings(self._sessions)
        """Folders."""
        self.actions: Mapping[str, Action] = {
            "complete": self._completion.complete,
            "list": self.listings.list,
        }
        """What the control socket performs."""

    def count_bytes(self, count: Callable[[int], object]) -> None:
        """Call `count` with the number of bytes of files and previews that have arrived."""
        self.readings.on_bytes = self.pictures.on_bytes = count

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of everything that is looked at together; None is no limit."""
        self._sessions.limit(bytes_per_second)

    async def stop(self) -> None:
        """Cancel all questions, and close all sessions."""
        self._completion.stop()
        self.archives.stop()
        self.pictures.stop()
        self.readings.stop()
        await self._sessions.stop()
