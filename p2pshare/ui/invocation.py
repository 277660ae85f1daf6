"""The run of one command: settings, output, and the reactor."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.directory import Directory, open_directory
from p2pshare.registry.client import TIMEOUT, RegistryClient
from p2pshare.storage.identity.data_folder import PeerPlace, peer_folder
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.storage.settings import Settings
from p2pshare.ui.output import Output
from p2pshare.wire.keys import PublicKey

if TYPE_CHECKING:
    from p2pshare.ui.terminal.graphics import ITerminalReactor

PATIENCE = 3.0  # seconds without a reply of the registry after which the user is told


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of the command line."""

    reactor: IPeerReactor
    rng: random.Random
    settings: Settings
    output: Output
    cwd: Path
    """The current folder: relative paths start here, and fetched files go here."""
    wall: Callable[[], float]
    """The Unix time in s."""
    forgive_signal: Callable[[], object] = lambda: None
    """Tells `net.process_end` that a signal has stopped a transfer, and does not end the process."""

    def with_settings(self, **changes: Any) -> Self:
        """Return the same run with some settings changed."""
        return replace(self, settings=replace(self.settings, **changes))

    @asynccontextmanager
    async def registry(
        self, *, known: PublicKey | None = None, timeout: float = TIMEOUT
    ) -> AsyncIterator[Directory]:
        """The registry in the settings, or the local network in its place; it is closed with the context.

        If a registry has answered nothing after `PATIENCE`, a remark says what the command waits for.

        Args:
            known: the key that the registry must prove; None for the one that this user has met at its URL, if any.
            timeout: seconds for each request.
        """
        settings, place = self.settings, None
        if settings.name is not None or settings.data is not None:
            place = PeerPlace.of(settings, settings.name or "")
        if known is None and place is not None and place.key is not None:
            known = PublicKey.parse(place.key)
        directory, close = open_directory(
            self.reactor, settings.registry, place, self.wall, known=known, timeout=timeout
        )

        def tell() -> None:
            if isinstance(directory, RegistryClient) and directory.http.is_awaited:
                self.output.remark(f"waiting for the registry {directory.url}.")

        telling = self.reactor.callLater(PATIENCE, tell)
        try:
            yield directory
        finally:
            if telling.active():
                telling.cancel()
            await close()

    async def prepare_pictures(self) -> None:
        """Let the output find out how pictures are shown; call it before a job that shows some."""
        reactor = cast("ITerminalReactor", self.reactor)
        await self.output.detect_graphics(reactor, self.settings.pictures, os.environ)

    async def remember(self, own_name: str | None, saw: Callable[[Seen], None]) -> None:
        """Let `saw` add to the names and folders that this user has seen, which completion offers.

        It is called in a thread, and not at all if the user has neither a name nor a data folder. `own_name` is the
        name of the user if the settings have none.
        """
        name = own_name or self.settings.name
        if name is not None or self.settings.data is not None:
            seen = Seen(peer_folder(self.settings, name or ""))
            await run_in_thread(self.reactor, saw, seen)
