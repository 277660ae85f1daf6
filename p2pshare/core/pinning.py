"""Whether a peer's key is the one that is known of it, or follows from that one."""

from __future__ import annotations

from collections.abc import Container, Sequence

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.peers import PeerView, RegistryInfo
from p2pshare.wire.statements import Rotation


def follow(
    pinned: PublicKey,
    rotations: Sequence[str],
    key: PublicKey,
    name: str,
    audiences: Container[str] | None = None,
) -> bool:
    """Whether a chain of rotations, each signed by the key before, leads from one key to another.

    What is not signed, is meant for another name or registry, or does not begin where the chain has come to, is
    passed over: it leads nowhere, and so can do no harm.

    Args:
        pinned: the key that is known.
        rotations: `Rotation` statements as they came, the oldest first.
        key: the key that the name has now.
        name: whose keys they are.
        audiences: the URLs of the registry for which they may be meant; None if it answers to any.
    """
    reached = pinned
    for statement in rotations:
        if reached == key:
            break
        try:
            rotation = Rotation.read(statement)
        except RemoteProtocolError:
            continue
        if rotation.name != name or rotation.key != reached:
            continue
        if audiences is None or rotation.aud in audiences:
            reached = rotation.new
    return reached == key


def follows(pinned: PublicKey, view: PeerView, info: RegistryInfo | None, registry: str) -> bool:
    """Whether the key that a registry tells of a peer is the known one, or follows from it.

    Args:
        pinned: the key that is known.
        view: what the registry says of the peer.
        info: what it says of itself.
        registry: its URL, as it was asked.
    """
    if view.key is None:
        return False
    audiences = {*info.urls, registry} if info is not None and info.urls else None
    return follow(pinned, view.rotations, view.key, view.summary.name, audiences)
