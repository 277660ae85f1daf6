"""The client of a registry's relay: it meets another peer in a room, and gets a carrier for a session with it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from p2pshare.errors import P2pshareError, RegistryBusy, RelayRefused
from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.net.session.relay import RelayCarrier
from p2pshare.net.session.tcp import FILE_READ
from p2pshare.web.client import HttpClient, Reply, pooled_agent
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.reach.access import RELAY_PROTOCOL, Access, Use, detail_of_room
from p2pshare.wire.registry_answers import PROBLEM_PREFIX, Problem

WAIT_MAX = (
    15.0  # seconds from the look-up of the host until both ends are there; a registry waits for 10
)
NONCE_SIZE = 16  # random bytes
RETRY_AFTER_DEFAULT = 5  # seconds, for a registry that is busy and sends no `Retry-After`


class RelayClient:
    """Meets other peers at the relay of one registry."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        key: SigningKey,
        name: str,
        *,
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Prepare the client; nothing is connected yet.

        Args:
            reactor: connects, and measures timeouts.
            url: of the registry.
            key: of this peer.
            name: that this key owns in the registry.
            wall: returns the Unix time in s, by the registry's clock as far as that is known.
            random_bytes: draws nonces.
        """
        agent, _ = pooled_agent(reactor)
        self._http = HttpClient(agent, url, reactor)
        self._key = key
        self._name = name
        self._wall = wall
        self._random_bytes = random_bytes

    async def join(
        self,
        registry: PublicKey,
        room: str,
        other: PublicKey,
        user: CarrierUser,
        *,
        read_size: int = FILE_READ,
    ) -> None:
        """Wait in a room for another peer, and return when `user` has its carrier.

        Args:
            registry: the key that the registry has proven.
            room: 16 to 64 characters of base64url, which both peers know and nobody else.
            other: the key of the other peer, which joins the room with this one's.
            user: of the carrier.
            read_size: bytes that are read at once.

        Raises:
            RelayRefused: the other peer did not come, or the relay has no room or no right for this one.
            RegistryBusy: a limit is reached.
            RegistryUnreachable: there is no proper reply in time.
        """
        access = Access(
            self._name,
            self._key.public,
            registry,
            int(self._wall()),
            to_base64url(self._random_bytes(NONCE_SIZE)),
            Use.RELAY,
            detail_of_room(room, other),
        )
        reply = await self._http.upgrade(
            f"v1/relay?room={room}&with={other}",
            RELAY_PROTOCOL,
            {"Authorization": access.to_header(self._key)},
            lambda: RelayCarrier(user, read_size),
            WAIT_MAX,
        )
        if reply is not None:
            raise self._refusal(reply)

    def _refusal(self, reply: Reply) -> P2pshareError:
        problem, registry = Problem.parse(reply.status, reply.body), self._http.url
        if not problem.type.startswith(PROBLEM_PREFIX):
            return self._http.unreachable(f"it answered HTTP {reply.status}, as no registry would")
        if reply.status == 429:
            wait = reply.retry_after or RETRY_AFTER_DEFAULT
            return RegistryBusy(registry=registry, retry_after=wait)
        reason = problem.detail or problem.title
        if problem.word == "not-found":
            reason = "it has no relay"
        return RelayRefused(registry=registry, reason=reason, word=problem.word)
