"""The names in Redis (or Valkey), through txredisapi.

Keys carry hash tags, and no script touches two of them, so that a cluster could hold them::

    p2p:{bob}:classic       "10.0.0.5 50000 PROOF", or "-" for no proof; expires when the lease ends
    p2p:{index}:names       ZSET, all scores 0: every live name, in lexical order, and some dead ones
    p2p:{index}:checks      ZSET, name -> when to look whether it is still alive, in ms

The key of a name is the truth about it. The index only says where to look, and is allowed one
kind of mistake: a name enters it *before* it is claimed and leaves it some time after its lease has
ended. So it may name the dead, whom a page leaves out, but never misses a live one, wherever a
registry is killed. The sweep takes the dead out: a few at a time, those whose check is due. It cannot
take out a name that is just being claimed again: that puts the check off (`ENTER`), and `SETTLE`
looks at it once more.
"""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import chain

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis_link import CALL_TIMEOUT, RedisLink
from p2pshare.registry.redis_scripts import CLAIM, DUE, ENTER, PAGE, SETTLE
from p2pshare.registry.redis_url import Connect
from p2pshare.registry.store import PAGE_MAX, Claim, NamePage, Outcome
from p2pshare.wire.registration import PeerAddress

ENTRY_GRACE = 60  # seconds from a name's entry in the index to the first look at it
SWEEP_INTERVAL = 5.0  # seconds
SWEEP_BATCH = 100  # names in one step
SWEEP_STEPS = 20  # steps in one sweep

_OWNER = "p2p:{index}:registry"
_INDEX = ("p2p:{index}:names", "p2p:{index}:checks")

_LookUps = dict[str, list[Deferred[PeerAddress | None]]]


def _key(name: str) -> str:
    return f"p2p:{{{name}}}:classic"


def _address(value: bytes | None) -> PeerAddress | None:
    if value is None:
        return None
    ip, port, _proof = value.decode().split(" ")
    return PeerAddress(ip, int(port))


class RedisNameStore:
    """See `NameStore`. While Redis is away every call fails at once."""

    def __init__(
        self,
        connect: Connect,
        clock: IReactorTime,
        *,
        timeout: float = CALL_TIMEOUT,
        entry_grace: float = ENTRY_GRACE,
    ) -> None:
        self._link = RedisLink(connect, clock, timeout=timeout)
        self._clock = clock
        self._entry_grace = entry_grace
        self._sweeping: Deferred[None] | None = None
        self._look_ups: _LookUps = {}

    def start(self) -> Deferred[None]:
        """Begin to connect, and to keep the index clean; fires when Redis was reached."""
        self._sweeping = Deferred.fromCoroutine(self._sweep_now_and_then())
        self._sweeping.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return self._link.start()

    async def stop(self) -> None:
        """Disconnect; calls under way fail."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._link.stop()

    def claim(self, claim: Claim) -> Awaitable[Outcome]:
        """See `NameStore`."""
        return self._link.in_time(self._enter_and_claim(claim))

    def adopt(self, key: str) -> Awaitable[str]:
        """Say that the names are those of the registry with this key, if nobody has said so yet; whose they are."""
        return self._link.in_time(self._adopt(key))

    async def _adopt(self, key: str) -> str:
        await self._link.call("SET", _OWNER, key, "NX")
        owner: bytes | None = await self._link.call("GET", _OWNER)
        return owner.decode("ascii", "replace") if owner else key

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`. All that is looked up in one turn of the reactor costs one command."""
        if not self._look_ups:
            self._clock.callLater(0, self._ask)
        waiting: Deferred[PeerAddress | None] = Deferred()
        self._look_ups.setdefault(name, []).append(waiting)
        return waiting

    def page(self, after: str = "", limit: int = PAGE_MAX) -> Awaitable[NamePage]:
        """See `NameStore`."""
        return self._link.in_time(self._page(after, limit))

    def ping(self) -> Awaitable[None]:
        """See `NameStore`."""
        return self._link.in_time(self._link.call("PING"))

    async def sweep(self) -> None:
        """Take names that died out of the index: those whose check is due, up to a bound."""
        for _ in range(SWEEP_STEPS):
            if not await self._link.in_time(self._sweep_some()):
                return

    async def _page(self, after: str, limit: int) -> NamePage:
        reply = await self._link.run(PAGE, _INDEX, f"({after}" if after else "-", limit)
        names = reply.decode().split()
        following = names[-1] if len(names) == limit else None
        keys = [_key(name) for name in names]
        if keys and await self._link.call("EXISTS", *keys) < len(keys):
            values = await self._link.call("MGET", *keys)
            names = [name for name, value in zip(names, values, strict=True) if value is not None]
        return NamePage(names, following)

    async def _sweep_some(self) -> bool:
        """One step of a sweep; whether there was something to do."""
        due = (await self._link.run(DUE, _INDEX, SWEEP_BATCH)).decode().split()
        if due:
            left = await gatherResults(
                [Deferred.fromCoroutine(self._link.call("PTTL", _key(name))) for name in due], True
            )
            await self._link.run(SETTLE, _INDEX, *chain(*zip(due, left, strict=True)))
        return bool(due)

    async def _enter_and_claim(self, claim: Claim) -> Outcome:
        if claim.lease:
            await self._link.run(ENTER, _INDEX, claim.name, round(self._entry_grace * 1000))
        address = f"{claim.address.ip} {claim.address.port}"
        proof = claim.proof or "-"
        reply = await self._link.run(CLAIM, [_key(claim.name)], address, proof, claim.lease * 1000)
        return Outcome(reply.decode())

    def _ask(self) -> None:
        asked, self._look_ups = self._look_ups, {}
        values = self._link.in_time(self._link.call("MGET", *[_key(name) for name in asked]))
        addresses = values.addCallback(lambda found: [_address(value) for value in found])
        addresses.addCallback(self._tell, asked).addErrback(self._tell_failure, asked)

    def _tell(self, addresses: list[PeerAddress | None], asked: _LookUps) -> None:
        for address, waiting in zip(addresses, asked.values(), strict=True):
            for each in waiting:
                each.callback(address)

    def _tell_failure(self, failure: Failure, asked: _LookUps) -> None:
        for waiting in asked.values():
            for each in waiting:
                each.errback(failure)

    async def _sweep_now_and_then(self) -> None:
        while True:
            await deferLater(self._clock, SWEEP_INTERVAL)
            try:
                await self.sweep()
            except StoreUnavailable:
                continue
