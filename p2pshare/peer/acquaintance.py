"""Where others are, for a peer that looks at them by itself: they are held to the keys that are known of them.

Nobody becomes known by that: whom the user has not met yet is looked at by the key that the registry tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.core.pinning import follows
from p2pshare.errors import ClassicOnly, KeyChanged, KeyGone
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.whereabouts import AWAY, address_of, last_seen_at, remember_address
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.storage.seen import Seen
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registration import PeerAddress


async def acquaintance(
    reactor: IPeerReactor, registry: RegistryClient, known: KnownPeers, seen: Seen, name: str
) -> tuple[Sequence[PeerAddress], PublicKey]:
    """Where a peer is, and which key it must have; while the registry is away, where it was seen last.

    Raises:
        NoSuchPeer: nobody has this name.
        ClassicOnly: it has no key.
        KeyChanged: it has another key, and has not said so.
        KeyGone: it had a key, and has none.
        PeerNotReachable: it has no IPv4 address to which one may connect.
        Unreachable: the registry is away, and the peer was not met before.
    """
    try:
        view = await registry.look_up_peer(name)
    except AWAY:
        last = await run_in_thread(reactor, last_seen_at, known, seen, name)
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
    address = await address_of(reactor, view, registry.url)
    await run_in_thread(reactor, remember_address, seen, view, address)
    return (address,), view.key
