"""Peers as one meets them: looked up, and held to the key that is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from p2pshare.core.pinning import follow
from p2pshare.errors import KeyChanged, KeyGone, PeerNotReachable, PeerOffline, PeerUnreachable
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetching import Fetched
from p2pshare.peer.service import peer_folder
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.roster import last_seen
from p2pshare.ui.wanted import Wanted
from p2pshare.ui.watching import fetch_watched
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.peers import PeerView, Presence, RegistryInfo
from p2pshare.wire.registration import PeerAddress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Met:
    """A peer whose key, if it has one, is the right one."""

    name: str
    address: PeerAddress
    seen: str | None
    """When it was last seen, if it is offline."""
    invocation: Invocation

    async def fetch(self, wanted: Wanted, *, overwrite: bool = False) -> Fetched:
        """Fetch a file of it, and show how it goes.

        A peer that is offline is tried, for the registry may be the one that has missed something.

        Raises:
            PeerOffline: it is offline indeed.
            P2pshareError: what `fetch_watched` raises.
        """
        if self.seen is not None:
            remark = f"{self.name} is offline, last seen {self.seen}: trying it all the same."
            self.invocation.output.remark(remark)
        try:
            order = wanted.order(self.address, overwrite=overwrite)
            return await fetch_watched(self.invocation, order)
        except PeerUnreachable as error:
            if self.seen is None:
                raise
            raise PeerOffline(name=self.name, seen=self.seen, address=self.address) from error


class Meetings:
    """Looks peers up in one registry, for one user.

    The key with which a name is met first stays its key in the user's data folder, unless it says itself which one
    follows. Who has no name and no data folder remembers nobody.
    """

    def __init__(
        self, invocation: Invocation, registry: RegistryClient, own_name: str | None
    ) -> None:
        """Look peers up in `registry`, as the user `own_name` if they say who they are."""
        self._invocation = invocation
        self._registry = registry
        self._info: RegistryInfo | None = None
        self._is_original: bool | None = None
        self._ahead = 0.0  # seconds of the registry's clock before ours
        settings = invocation.settings
        self._known: KnownPeers | None = None
        if own_name is not None:
            self._known = KnownPeers(peer_folder(settings, own_name), registry.url)
        elif settings.data is not None:
            self._known = KnownPeers(settings.data.absolute(), registry.url)

    async def meet(self, name: str) -> Met:
        """Find out where a peer is, and that it is who it was.

        Raises:
            NoSuchPeer: nobody has this name.
            KeyChanged: it has another key, and has not said so.
            KeyGone: it had a key, and has none.
            KnownPeersUnusable: the list of keys cannot be used.
            PeerNotReachable: it has no IPv4 address.
            Unreachable: the registry is away.
        """
        if self._is_original is None:
            self._info = await self._registry.info()
            self._is_original = self._info is None
            if self._info is not None:
                self._ahead = self._info.time - self._invocation.wall()
        if self._info is None:
            address = await self._registry.look_up(name)
            await self._judge(name, None)
            return Met(name, address, None, self._invocation)
        view = await self._registry.look_up_peer(name)
        await self._judge(name, view)
        return Met(name, _ipv4_address(view), self._seen(view), self._invocation)

    async def _judge(self, name: str, view: PeerView | None) -> None:
        """Hold a peer to the key that is known; one that is met for the first time is known from now on."""
        if self._known is None:
            return
        key = None if view is None else view.key
        known = await self._in_thread(self._known.key, name)
        if key is None or view is None:
            if known is not None:
                raise KeyGone(name=name, known=known.grouped)
            return
        if known is not None and known != key and not self._follows(known, view, key):
            raise KeyChanged(name=name, known=known.grouped, now=key.grouped)
        if known == key:
            return
        pinned = await self._in_thread(self._known.pin, name, key, known)
        if pinned != key:  # another verb was faster, and has met another key
            raise KeyChanged(name=name, known=pinned.grouped, now=key.grouped)
        if known is not None:
            self._invocation.output.remark(f"{name} has a new key, which the old one has signed.")

    def _follows(self, known: PublicKey, view: PeerView, key: PublicKey) -> bool:
        urls = self._info.urls if self._info is not None else ()
        audiences = {*urls, self._registry.url} if urls else None
        return follow(known, view.rotations, key, view.summary.name, audiences)

    def _seen(self, view: PeerView) -> str | None:
        if view.summary.presence is not Presence.OFFLINE:
            return None
        return last_seen(view.summary, self._invocation.wall() + self._ahead) or "long ago"

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await run_in_thread(self._invocation.reactor, work, *args)


def _ipv4_address(view: PeerView) -> PeerAddress:
    """Its first one; for an owned name they are those of its signed record."""
    for address in view.addresses:
        ip, _, port = address.rpartition(":")
        if "[" not in ip:
            return PeerAddress(ip, int(port))
    raise PeerNotReachable(name=view.summary.name)
