"""Directories: where names are looked up. One is a registry, the other is the local network.

`Directory` is what the finder, admission, the keeper of the own name and the verbs need of either. An answer is a
`PeerView` in both cases, and what it is worth is the same: a name and a key, which the pin check compares with what is
known, and addresses, at which TLS proves the key.

What differs is `keeps_names`. A registry gives a name to one key, and tells everybody. On a local network each user
goes by the keys that they have met.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, cast

from twisted.internet.defer import Deferred

from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.registry.client import TIMEOUT, RegistryClient, pooled_agent
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.wire.addresses import LAN
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import (
    ClaimBody,
    Granted,
    PeerSummary,
    PeerView,
    RegistryInfo,
    ReleaseBody,
)

CLOSE_TIMEOUT = 0.3  # seconds for idle connections to a registry


class Directory(Protocol):
    """Where names are looked up and claimed. `RegistryClient` describes the methods."""

    url: str
    """Of the registry; `LAN` if there is none."""
    known: PublicKey | None
    """The key that the registry must have."""
    key: PublicKey | None
    """The key that it has proven."""
    clock_ahead_s: float | None
    """How far the clock here is ahead of the directory's."""
    description: RegistryInfo | None
    """What the registry said of itself last; None without a registry."""
    keeps_names: bool
    """Whether a name belongs to a key here, for everybody, and can be given up or change its key."""

    @property
    def trouble(self) -> P2pshareError | None:
        """What the owner of the own name should know of it."""
        ...

    async def info(self) -> RegistryInfo | None: ...  # noqa: D102
    async def prove(self) -> PublicKey: ...  # noqa: D102
    async def claim(self, name: str, body: ClaimBody) -> Granted: ...  # noqa: D102
    async def release(self, name: str, body: ReleaseBody) -> None: ...  # noqa: D102
    async def beat(self, heartbeat: Heartbeat, mac_key: bytes) -> bool: ...  # noqa: D102
    async def look_up_peer(  # noqa: D102
        self, name: str, *, by_registry_clock: bool = False
    ) -> PeerView: ...
    async def look_up_key(self, key: PublicKey) -> PeerView | None: ...  # noqa: D102
    async def list_names(self) -> list[str]: ...  # noqa: D102
    def check(self, name: str, view: PeerView) -> None: ...  # noqa: D102
    def peers(self, prefix: str = "", online: bool = False) -> AsyncIterator[PeerSummary]: ...  # noqa: D102
    async def watch(  # noqa: D102
        self,
        names: Sequence[str],
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object] = lambda: None,
        *,
        on_link: Callable[[bool, P2pshareError | None], object] = lambda *_: None,
        rng: random.Random | None = None,
    ) -> None: ...


def greeting_name(directory: Directory, own_name: str) -> str:
    """Return what the user is called in a greeting; empty if there is a registry that says it."""
    return "" if directory.keeps_names else own_name


Close = Callable[[], Deferred[None]]
"""Ends what a directory has open."""


def open_directory(
    reactor: IPeerReactor,
    url: str,
    place: PeerPlace | None,
    wall: Callable[[], float],
    *,
    known: PublicKey | None = None,
    timeout: float = TIMEOUT,
    on_notice: Callable[[str], object] = lambda _: None,
) -> tuple[Directory, Close]:
    """Return the directory of a user, and what closes it.

    Args:
        reactor: runs it.
        url: of the registry, or `LAN`.
        place: the data folder of the user, where keys of peers are known; None if there is none.
        wall: the Unix time in s.
        known: the key that the registry must have; None at first contact.
        timeout: seconds for each request to a registry.
        on_notice: called with a sentence that the user should read.
    """
    if url == LAN:
        from p2pshare.peer.lan.directory import LanDirectory
        from p2pshare.peer.lan.dns_sd import DnsSd  # takes its time: zeroconf, and asyncio

        lan = LanDirectory(reactor, DnsSd(reactor), place, wall, on_notice=on_notice)
        return lan, lambda: Deferred.fromCoroutine(lan.close())
    agent, pool = pooled_agent(reactor)
    client = RegistryClient(agent, url, reactor, timeout=timeout, wall=wall, known=known)

    def close() -> Deferred[None]:
        closing = cast("Deferred[None]", pool.closeCachedConnections())
        return closing.addTimeout(CLOSE_TIMEOUT, reactor, lambda *_: None)

    return client, close
