"""The rendezvous of a registry, by its clients: signals, STUN servers and the relay."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence

from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.reach.signalling import Follower, OwnEnd
from p2pshare.peer.reach.stun_servers import stun_servers
from p2pshare.registry.client import RegistryClient
from p2pshare.registry.relay_client import RelayClient
from p2pshare.registry.signal_client import SignalFollower, send_signal
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey


class RegistryRendezvous:
    """The `Rendezvous` of a registry."""

    def __init__(
        self,
        reactor: IPeerReactor,
        client: RegistryClient,
        key: Callable[[], SigningKey],
        name: str,
        wall: Callable[[], float],
        rng: random.Random,
    ) -> None:
        """Args:
        reactor: for look-ups and the relay.
        client: of the registry.
        key: returns the user's present key, which owns `name`.
        name: the user's.
        wall: the Unix time in s.
        rng: draws the jitter of delays.
        """
        self._reactor = reactor
        self._client = client
        self._key = key
        self._name = name
        self._wall = wall
        self._rng = rng

    @property
    def url(self) -> str:
        """See `Rendezvous`."""
        return self._client.url

    @property
    def has_relay(self) -> bool:
        """See `Rendezvous`."""
        description = self._client.description
        return description is None or description.relay

    async def own(self) -> OwnEnd:
        """See `Rendezvous`."""
        aud = self._client.known or await self._client.prove()
        return OwnEnd(self._key(), self._name, aud, self._now, secrets.token_bytes)

    def follow(
        self,
        own: OwnEnd,
        inbox: str,
        accept: Sequence[str] | None,
        on_signal: Callable[[bytes], object],
        on_link: Callable[[bool], object],
    ) -> Follower:
        """See `Rendezvous`."""
        return SignalFollower(
            self._client,
            own.key,
            own.name,
            lambda passed: on_signal(passed.sealed),
            on_link,
            inbox=inbox,
            accept=accept,
            rng=self._rng,
        )

    async def send(self, own: OwnEnd, to: str, inbox: str, sealed: bytes) -> None:
        """See `Rendezvous`."""
        await send_signal(self._client, own.key, own.name, to, inbox, sealed)

    async def learn_time(self) -> None:
        """See `Rendezvous`."""
        await self._client.info()

    async def stun_servers(self) -> Sequence[PeerAddress]:
        """See `Rendezvous`."""
        description = self._client.description or await self._client.info()
        stun = () if description is None else description.stun
        return await stun_servers(self._reactor, stun, self._client.url)

    async def join(
        self, own: OwnEnd, room: str, other: PublicKey, user: CarrierUser, read_size: int
    ) -> None:
        """See `Rendezvous`."""
        relay = RelayClient(self._reactor, self._client.url, own.key, own.name, wall=own.now)
        await relay.join(own.aud, room, other, user, read_size=read_size)

    def _now(self) -> int:
        return int(self._wall() - (self._client.clock_ahead_s or 0.0))
