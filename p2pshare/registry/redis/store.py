"""The store of names in Redis (or Valkey); `keys.py` shows what is kept there."""

from __future__ import annotations

from itertools import chain

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.batching import Batcher
from p2pshare.registry.redis.channels import RedisChannels
from p2pshare.registry.redis.classic_names import ClassicNames
from p2pshare.registry.redis.connection import RedisConnector
from p2pshare.registry.redis.index import GATHER_MAX, Leases
from p2pshare.registry.redis.keys import REGISTRY_KEY, key_of
from p2pshare.registry.redis.link import RedisLink, in_time
from p2pshare.registry.redis.loss_mark import MarkerCopy
from p2pshare.registry.redis.owned_names import OwnedNames
from p2pshare.registry.redis.scripts import ROOM, TAKE, USE
from p2pshare.registry.store import Tokens
from p2pshare.wire.registry_answers import OWNERSHIP_LEASE, PRESENCE_LEASE

SWEEP_INTERVAL = 0.5  # seconds
LEASES = Leases(PRESENCE_LEASE * 1000, OWNERSHIP_LEASE * 1000, entry_grace=60_000)

_Wish = tuple[str, int, float, int]
"""A bucket, how many tokens of it are wanted, how many are added in a second, and how many it holds."""


class RedisNameStore(OwnedNames, ClassicNames):
    """See `NameStore`. While Redis is away every call fails at once."""

    def __init__(
        self,
        connector: RedisConnector,
        clock: IReactorTime,
        *,
        replicas: int = 0,
        marker: MarkerCopy | None = None,
        leases: Leases = LEASES,
    ) -> None:
        """Prepare a store that is not connected yet.

        Args:
            connector: connects to the Redis.
            clock: for deadlines only; leases follow the clock of Redis.
            replicas: how many must have a claim before it is acknowledged.
            marker: the mark of the store that this registry knew last; by default none.
            leases: durations of presence and ownership.
        """
        link = RedisLink(connector, clock, replicas)
        super().__init__(link, clock, leases, marker or MarkerCopy())
        self._wishes: Batcher[_Wish, dict[_Wish, Tokens]] = Batcher(
            clock, self._take, GATHER_MAX, waits=False
        )
        self._sweeping: Deferred[None] | None = None
        self.channels = RedisChannels(connector, link, clock)
        """Messages between the processes of the registry."""

    def start(self) -> Deferred[None]:
        """Begin to connect and to sweep the index; the Deferred fires when Redis is reached."""
        self._sweeping = Deferred.fromCoroutine(self._keep_sweeping())
        self._sweeping.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return self.link.start()

    async def stop(self) -> None:
        """Disconnect; pending calls fail."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.channels.stop()
        await self.link.stop()

    @in_time
    async def adopt(self, key: str) -> str:
        """Give the names to the registry with this key, unless they belong to another; return the key of the owner."""
        await self.link.call("SET", REGISTRY_KEY, key, "NX")
        owner: bytes | None = await self.link.call("GET", REGISTRY_KEY)
        if owner == key.encode():
            self.registry = key
        return owner.decode("ascii", "replace") if owner else key

    @in_time
    async def use_invitation(self, id: str, holder: str, life: int, issued: int) -> bool:
        """See `NameStore`."""
        marker = (await self.state()).marker
        if marker.lost and issued * 1000 < marker.born:
            return False
        key = key_of(f"invitation:{id}", "holder")
        return bool(await self.link.run_acknowledged(USE, [key], holder, max(1, life) * 1000))

    @in_time
    async def use_nonce(self, key: str, nonce: str, life: int) -> bool:
        """See `NameStore`."""
        used = key_of(f"nonce:{key}:{nonce}", "used")
        return bool(await self.link.call("SET", used, "", "NX", "PX", max(1, life) * 1000))

    @in_time
    async def room_home(self, room: str, home: str, life: float, instead_of: str = "") -> str:
        """See `registry.relay.links.RoomHomes`."""
        key, life_ms = key_of(f"room:{room}", "home"), round(life * 1000)
        found: bytes = await self.link.run(ROOM, [key], home, life_ms, instead_of)
        return found.decode("ascii")

    def take_tokens(
        self, bucket: str, wanted: int, per_second: float, burst: int
    ) -> Deferred[Tokens]:
        """See `NameStore`."""
        wish = (bucket, wanted, per_second, burst)
        return self._wishes.add(wish).addCallback(lambda taken: taken[wish])

    @in_time
    async def ping(self) -> None:
        """See `NameStore`."""
        await self.link.call("PING")

    @in_time
    async def _take(self, wishes: list[_Wish]) -> dict[_Wish, Tokens]:
        """Take out of many buckets by one command. (As with `VIEW`, a cluster would be asked slot by slot.)"""
        keys = [key_of(f"limit:{bucket}", "tokens") for bucket, *_ in wishes]
        numbers = chain.from_iterable(rest for _, *rest in wishes)
        replies = (await self.link.run(TAKE, keys, *numbers)).decode().split("\n")
        taken = (reply.split(" ") for reply in replies)
        return {
            wish: Tokens(int(granted), float(wait))
            for wish, (granted, wait) in zip(wishes, taken, strict=True)
        }

    async def _keep_sweeping(self) -> None:
        while True:
            await deferLater(self.clock, SWEEP_INTERVAL)
            try:
                await self.sweep()
            except StoreUnavailable:
                continue
