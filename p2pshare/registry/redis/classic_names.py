"""The classic names in Redis, and the owned ones as original clients see them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import StoreRecovering, StoreUnavailable
from p2pshare.registry.redis.batching import Batcher
from p2pshare.registry.redis.index import UNSTABLE, IndexedStore, Note
from p2pshare.registry.redis.keys import key_of, keys_of
from p2pshare.registry.redis.link import in_time
from p2pshare.registry.redis.scripts import CLAIM, UNDO
from p2pshare.registry.store import NAMES_PAGE_MAX, Claim, NamePage, Outcome
from p2pshare.wire.addresses import PeerAddress

CLAIM_ATTEMPTS = 3  # while the store is being lost
LOOK_UPS_MAX = 250  # names that one command looks up


class ClassicNames(IndexedStore):
    """The part of `NameStore` for classic names."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._look_ups: Batcher[str, dict[str, PeerAddress]] = Batcher(
            self.clock, self._addresses, LOOK_UPS_MAX, waits=False
        )

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`. All look-ups of one turn of the reactor are one command."""
        return self._look_ups.add(name).addCallback(lambda found: found.get(name))

    @in_time
    async def claim(self, claim: Claim) -> Outcome:
        """See `NameStore`."""
        address, proof = f"{claim.address.ip} {claim.address.port}", claim.proof or "-"
        keys = keys_of(claim.name, "classic", "owner")
        for _ in range(CLAIM_ATTEMPTS):
            entered = await self.enter(claim.name)
            reply = await self.link.run_acknowledged(
                CLAIM, keys, address, proof, claim.lease * 1000, int(entered.recovery > 0)
            )
            word, *times = reply.decode().split(" ")
            if word == "recovering":
                raise StoreRecovering(seconds=entered.seconds)
            outcome = Outcome(word)
            if outcome is Outcome.TAKEN:
                return outcome
            state = "free" if outcome is Outcome.RELEASED else "classic"
            note: Note = (claim.name, state, times[0], times[1], "0")
            if await self.note(entered, note) or outcome is Outcome.RELEASED:
                return outcome
            keys_to_undo = keys_of(claim.name, "owner", "signed", "classic", "location")
            await self.link.run_acknowledged(UNDO, keys_to_undo, f"{address} {proof}")
        raise StoreUnavailable(reason=UNSTABLE)

    @in_time
    async def page(self, after: str = "", limit: int = NAMES_PAGE_MAX) -> NamePage:
        """See `NameStore`."""
        names = await self.names_for_originals(after, limit)
        following = names[-1] if len(names) == limit else None
        keys = [key_of(name, "classic") for name in names]
        if keys and await self.link.call("EXISTS", *keys) < len(keys):
            values = await self.link.call("MGET", *keys)
            names = [name for name, value in zip(names, values, strict=True) if value is not None]
        return NamePage(names, following)

    @in_time
    async def _addresses(self, names: list[str]) -> dict[str, PeerAddress]:
        names = list(dict.fromkeys(names))
        values = await self.link.call("MGET", *[key_of(name, "classic") for name in names])
        return {name: _address(value) for name, value in zip(names, values, strict=True) if value}


def _address(value: bytes) -> PeerAddress:
    ip, port, _proof = value.decode().split(" ")
    return PeerAddress(ip, int(port))
