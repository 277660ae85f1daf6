"""Whether a peer's key is the one that is known of it, or follows from that one."""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PeerView
from p2pshare.wire.statements import Rotation


def follow(
    pinned: PublicKey,
    rotations: Sequence[str],
    key: PublicKey,
    name: str,
    registry: PublicKey,
) -> bool:
    """Whether a chain of rotations, each signed by the key before, leads from one key to another.

    What is not signed, is meant for another name or registry, or does not begin where the chain has come to, is
    passed over: it leads nowhere, and so can do no harm.

    Args:
        pinned: the key that is known.
        rotations: `Rotation` statements as they came, the oldest first.
        key: the key that the name has now.
        name: whose keys they are.
        registry: the key of the registry for which they must be meant.
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
        if rotation.aud == registry:
            reached = rotation.new
    return reached == key


def follows(pinned: PublicKey, view: PeerView, registry: PublicKey) -> bool:
    """Whether the key that a registry tells of a peer is the known one, or follows from it.

    Args:
        pinned: the key that is known.
        view: what the registry says of the peer.
        registry: the key that the registry has proven.
    """
    if view.key is None:
        return False
    return follow(pinned, view.rotations, view.key, view.summary.name, registry)
