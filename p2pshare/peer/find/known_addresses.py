"""Where others are, for a peer that looks at them by itself: they are held to the keys that are known of them.

Nobody becomes known by that: whom the user has not met yet is looked at by the key that the registry tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from p2pshare.core.pinning import follows
from p2pshare.errors import ClassicOnly, KeyChanged, KeyGone, PeerOffline
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.addresses import (
    AWAY,
    address_of,
    is_somewhere,
    last_seen_at,
    remember_address,
)
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey


async def find_known(
    reactor: IPeerReactor, registry: RegistryClient, known: KnownPeers, seen: Seen, name: str
) -> tuple[Sequence[PeerAddress], PublicKey]:
    """Where a peer is, and which key it must have; where it was seen last if it is offline or the registry away.

    Raises:
        NoSuchPeer: nobody has this name.
        ClassicOnly: it has no key.
        KeyChanged: it has another key, and has not said so.
        KeyGone: it had a key, and has none.
        PeerNotReachable: it has no IPv4 address to which one may connect.
        PeerOffline: it is offline, and no address is known at which it was.
        Unreachable: the registry is away, and the peer was not met before.
    """
    try:
        view = await registry.look_up_peer(name)
    except AWAY:
        last = await last_seen_at(reactor, known, seen, name, registry.url)
        if last is None:
            raise
        return last.addresses, last.key
    pinned = await run_in_thread(reactor, known.key, name)
    if view.key is None:
        if pinned is not None:
            raise KeyGone(name=name, known=pinned.grouped)
        raise ClassicOnly(name=name)
    if (
        pinned is not None
        and pinned != view.key
        and not follows(pinned, view, await registry.prove())
    ):
        raise KeyChanged(name=name, known=pinned.grouped, now=view.key.grouped)
    if not is_somewhere(view):
        last = await last_seen_at(reactor, known, seen, name, registry.url)
        if last is None or last.key != view.key:
            at = datetime.fromtimestamp(view.summary.last_seen or 0, UTC)
            raise PeerOffline(name=name, seen=f"{at:%Y-%m-%d %H:%M} UTC", tried="")
        return last.addresses, last.key
    address = await address_of(reactor, view, registry.url)
    await run_in_thread(reactor, remember_address, seen, view, address)
    return (address,), view.key
