"""The classic names in Redis, and the owned ones as original clients see them; `redis_store` shows their keys."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from p2pshare.errors import StoreRecovering, StoreUnavailable
from p2pshare.registry.api.batching import Gathering
from p2pshare.registry.redis.index import UNSTABLE, Note, RedisIndex
from p2pshare.registry.redis.keys import key_of, keys_of
from p2pshare.registry.redis.link import RedisLink
from p2pshare.registry.redis.scripts import CLAIM, UNDO
from p2pshare.registry.store import Claim, NamePage, Outcome
from p2pshare.wire.addresses import PeerAddress

CLAIM_ATTEMPTS = 3  # while the store is being lost
LOOK_UPS_MAX = 250  # names that are looked up by one command


def _address(value: bytes) -> PeerAddress:
    ip, port, _proof = value.decode().split(" ")
    return PeerAddress(ip, int(port))


class ClassicNames:
    """Does what `NameStore` says of classic names; without a deadline but for look-ups."""

    def __init__(self, link: RedisLink, index: RedisIndex, clock: IReactorTime) -> None:
        self._link = link
        self._index = index
        self._looking: Gathering[str, dict[str, PeerAddress]] = Gathering(
            clock, lambda names: link.in_time(self._addresses(names)), LOOK_UPS_MAX, waits=False
        )

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`. All that is looked up in one turn of the reactor costs one command."""
        return self._looking.add(name).addCallback(lambda found: found.get(name))

    async def claim(self, claim: Claim) -> Outcome:
        """See `NameStore`."""
        address, proof = f"{claim.address.ip} {claim.address.port}", claim.proof or "-"
        keys = keys_of(claim.name, "classic", "owner")
        for _ in range(CLAIM_ATTEMPTS):
            entered = await self._index.enter(claim.name)
            reply = await self._link.run_acknowledged(
                CLAIM, keys, address, proof, claim.lease * 1000, int(entered.recovery > 0)
            )
            word, *times = reply.decode().split(" ")
            if word == "recovering":
                raise StoreRecovering(seconds=entered.seconds)
            outcome = Outcome(word)
            if outcome is Outcome.TAKEN:
                return outcome
            state = "free" if outcome is Outcome.RELEASED else "classic"
            note: Note = (claim.name, state, times[0], times[1])
            if await self._index.note(entered, note) or outcome is Outcome.RELEASED:
                return outcome
            keys_to_undo = keys_of(claim.name, "owner", "signed", "classic", "location")
            await self._link.run_acknowledged(UNDO, keys_to_undo, f"{address} {proof}")
        raise StoreUnavailable(reason=UNSTABLE)

    async def page(self, after: str, limit: int) -> NamePage:
        """See `NameStore`."""
        names = await self._index.page(after, limit)
        following = names[-1] if len(names) == limit else None
        keys = [key_of(name, "classic") for name in names]
        if keys and await self._link.call("EXISTS", *keys) < len(keys):
            values = await self._link.call("MGET", *keys)
            names = [name for name, value in zip(names, values, strict=True) if value is not None]
        return NamePage(names, following)

    async def _addresses(self, names: list[str]) -> dict[str, PeerAddress]:
        names = list(dict.fromkeys(names))
        values = await self._link.call("MGET", *[key_of(name, "classic") for name in names])
        return {name: _address(value) for name, value in zip(names, values, strict=True) if value}
