"""Who may open a session: those whose key owns a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pshare.net.sockets import IPeerReactor
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Refusal


class NotAdmitted(Exception):  # noqa: N818 - it is named after what happened
    """Somebody is turned away."""

    def __init__(self, why: Refusal, retry_after: int = 0) -> None:
        super().__init__(why, retry_after)
        self.why = why
        self.retry_after = retry_after
        """Seconds."""


class Admission:
    """Finds the name of who opens a session."""

    def __init__(
        self,
        reactor: IPeerReactor,
        client: RegistryClient,
        known: KnownPeers,
        wall: Callable[[], float],
    ) -> None: ...

    async def admit(self, key: PublicKey) -> str:
        """The name; raises `NotAdmitted`."""
        raise NotImplementedError

    async def resolve(self, names: Iterable[str]) -> None:
        """Pin the keys of names as soon as the registry has them."""
        raise NotImplementedError
