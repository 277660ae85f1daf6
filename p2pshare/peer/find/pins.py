"""Pins: the key that a name had at first contact, and whether the key that it has now may take its place.

A registry says which key owns a name, and nobody checks the registry. Therefore the first key that a name is met with
is kept in the data folder (`storage/identity/known_peers.py`). From then on the registry's word counts only as far as
it agrees with the pin:

    pinned   key now   result
    none     any       first contact: the key is pinned
    K        K         accepted
    K        L         accepted if rotations lead from K to L, each signed by the key before; then L is pinned
    K        L         otherwise `KeyChanged`: somebody has taken the name, or the registry lies
    K        none      `KeyGone`: a name that once had a key is never trusted without one

There is one check, because both ends of a session make the same decision. An opener checks the key before it connects
(`peer/find/lookup.py`). A sharer checks the key of an opener before it shows anything (`peer/share/admission.py`).
Completion checks and pins nothing, since pressing Tab is not a decision to trust a key.

`check` and `remember` are two steps, because they fail for different reasons. If the list cannot be read, nobody may be
trusted. If it cannot be written, for example because the disk is full, a sharer still admits an opener that it has
never met: not to remember a first contact is safe. A new key that replaces a pinned one must be written, or the old
key would be the pinned one again.

Two processes may meet a name at the same time. `KnownPeers.pin` writes under a lock and returns the key that is pinned
in the end; the process that lost the race treats any other key as a change.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.errors import KeyChanged, KeyGone, RemoteProtocolError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.directory import Directory
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PeerView
from p2pshare.wire.statements import Rotation


class Pins:
    """The pinned keys of one user in one registry."""

    def __init__(self, reactor: IPeerReactor, known: KnownPeers, registry: Directory) -> None:
        self.known = known
        self._reactor = reactor
        self._registry = registry

    async def key(self, name: str) -> PublicKey | None:
        """Return the key that is pinned for a name.

        Raises:
            KnownPeersUnusable: the list of pinned keys cannot be read.
        """
        return await run_in_thread(self._reactor, self.known.key, name)

    async def check(self, name: str, view: PeerView | None) -> PublicKey | None:
        """Compare the key that the registry shows for a name with the pinned one.

        Args:
            name: of the peer.
            view: the answer of the registry; None if it is an original one, which knows no keys.

        Returns:
            The pinned key, or None at first contact. If it is not `view.key`, the caller decides about `remember`.

        Raises:
            KeyChanged: the name has a key to which no signed rotation leads from the pinned one.
            KeyGone: the name has no key any more.
            KnownPeersUnusable: the list of pinned keys cannot be read.
        """
        pinned = await self.key(name)
        if pinned is None or (view is not None and pinned == view.key):
            return pinned
        if view is None or view.key is None:
            raise KeyGone(name=name, known=pinned.grouped)
        if not follow(pinned, view.rotations, view.key, name, await self._registry.prove()):
            raise KeyChanged(name=name, known=pinned.grouped, now=view.key.grouped)
        return pinned

    async def remember(
        self, name: str, key: PublicKey, pinned: PublicKey | None, most: int | None = None
    ) -> None:
        """Pin a key that `check` accepted.

        Args:
            name: of the peer.
            key: the key that it has now.
            pinned: the key that `check` returned.
            most: number of names from which on no new one is pinned; None for the size of the list.

        Raises:
            KeyChanged: another process has pinned another key meanwhile.
            KnownPeersFull: there are `most` names.
            KnownPeersUnusable: the list cannot be written.
        """
        now = await run_in_thread(self._reactor, self.known.pin, name, key, pinned, most)
        if now != key:
            raise KeyChanged(name=name, known=now.grouped, now=key.grouped)


def follow(
    pinned: PublicKey,
    rotations: Sequence[str],
    key: PublicKey,
    name: str,
    registry: PublicKey,
) -> bool:
    """Whether a chain of rotations, each signed by the key before, leads from one key to another.

    A rotation with an invalid signature, for another name or registry, or from another key than the one that the chain
    has reached, is skipped. Skipping is safe: the chain grows by valid signatures only.

    Args:
        pinned: where the chain begins.
        rotations: `Rotation` statements as they came, the oldest first.
        key: where it must end.
        name: whose keys they are.
        registry: the key of the registry for which the rotations must be.
    """
    reached = pinned
    for statement in rotations:
        if reached == key:
            break
        try:
            rotation = Rotation.read(statement)
        except RemoteProtocolError:
            continue
        if (rotation.name, rotation.key, rotation.aud) == (name, reached, registry):
            reached = rotation.new
    return reached == key
