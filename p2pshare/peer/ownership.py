"""What the owner of a name does with it, besides keeping it: give it up, or let another key follow.

The running peer does it with these functions, and so do verbs while no peer runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity import Identity
from p2pshare.wire.peers import Granted

async def release_name(
    client: RegistryClient, identity: Identity, name: str, wall: Callable[[], float]
) -> None:
    """Give a name up for good: it is anybody's at once; a name that was nobody's is no error.

    Args:
        client: asks the registry.
        identity: the owner's.
        name: to give up.
        wall: the Unix time in s.

    Raises:
        NotOwner: the name is another key's.
        Refused: for another reason.
        Unreachable: the registry cannot be asked; nothing has changed.
    """
    raise NotImplementedError


async def rotate_key(
    client: RegistryClient,
    identity: Identity,
    name: str,
    addresses: Sequence[str] | None,
    wall: Callable[[], float],
) -> Granted:
    """Make a new key and let it follow the present one, which vouches for it; `identity.key` is then the new one.

    Killed at any moment, the next start goes on from there.

    Args:
        client: asks the registry.
        identity: the owner's.
        name: whose key it is.
        addresses: `IP:PORT`s of the running peer; None if none runs: then the old record's are said again, and the
            presence that the claim begins is ended at once.
        wall: the Unix time in s.

    Returns:
        The session that has begun, with the receipt for the new key, which is kept already.

    Raises:
        NoSuchPeer: the name is nobody's, so there is nothing to rotate: run the peer first.
        NameTaken: the name is another key's.
        Refused: for another reason.
        Unreachable: the registry cannot be asked; the present key stays.
    """
    raise NotImplementedError
