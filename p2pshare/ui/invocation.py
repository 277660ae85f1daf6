"""What every verb works with."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred

from p2pshare.net.sockets import IPeerReactor
from p2pshare.registry.client import RegistryClient, pooled_agent
from p2pshare.storage.settings import Settings
from p2pshare.ui.output import Output


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of the command line."""

    reactor: IPeerReactor
    rng: random.Random
    settings: Settings
    output: Output
    cwd: Path
    """The folder that relative paths start from, and where fetched files go."""
    wall: Callable[[], float]
    """The Unix time in s."""

    @asynccontextmanager
    async def registry(self) -> AsyncIterator[RegistryClient]:
        """The registry of the settings, for as long as the context lasts."""
        agent, pool = pooled_agent(self.reactor)
        try:
            yield RegistryClient(agent, self.settings.registry, self.reactor, wall=self.wall)
        finally:
            await cast("Deferred[None]", pool.closeCachedConnections())
