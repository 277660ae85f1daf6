"""The names in Redis (or Valkey).

Keys carry hash tags, and no script touches two of them, so that a cluster could hold them. Of a name there are::

    p2p:{bob}:owner         HASH key, seq, claim, session, beat, seen and until (ms: presence), originals (1 if original
                            clients see it, or nothing), rotated (the iat of the last rotation, if there was one), mark
                            ("BORN ID" of the store's mark under which it was claimed); expires when the ownership ends
    p2p:{bob}:signed        the rotations that led to the key, and the record, a line each; expires with it
    p2p:{bob}:location      "IP PORT" for original clients, or nothing, then on a line the location; deleted when the
                            peer leaves, and expires when the session of one that vanished has ended
    p2p:{bob}:classic       "10.0.0.5 50000 PROOF", or "-" for no proof; expires when the lease ends. Of an owned name
                            whose peer is there and speaks the classic protocol, too, with "=" for the proof
    p2p:{bob}:former        for a while, of those who owned it: "CLAIM SEEN" of the last, then "KEY SEQ" of each on a
                            line, the newest first: they stop records that are older

The hash is small, and its values are short, so that Redis packs it tightly. And of other things::

    p2p:{key:KEY}:name              the name that a key claimed last; only a hint, since the name's owner is the truth
    p2p:{invitation:ID}:holder      the key that used an invitation
    p2p:{limit:BUCKET}:tokens       "LEVEL TIME" of a token bucket that is not full

`redis_index` knows which names there are.
"""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import chain

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.batching import Gathering
from p2pshare.registry.redis.classic_names import ClassicNames
from p2pshare.registry.redis.index import GATHER_MAX, REGISTRY_KEY, Leases, RedisIndex
from p2pshare.registry.redis.keys import key_of
from p2pshare.registry.redis.link import CALL_TIMEOUT, RedisLink
from p2pshare.registry.redis.marker import MarkerCopy
from p2pshare.registry.redis.owned_names import OwnedNames
from p2pshare.registry.redis.scripts import TAKE, USE
from p2pshare.registry.redis.url import Connect
from p2pshare.registry.store import (
    NAMES_PAGE_MAX,
    Claim,
    Counts,
    EventPage,
    NamePage,
    Outcome,
    OwnerClaim,
    OwnerOutcome,
    Tokens,
)
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.registry_answers import OWNERSHIP_LEASE, PRESENCE_LEASE, PeerPage, PeerView

ENTRY_GRACE = 60  # seconds from a name's entry in the index to the first look at it
SWEEP_INTERVAL = 0.5  # seconds

_Wish = tuple[str, int, float, int]
"""A bucket, how many tokens of it are wanted, how many come in a second, and how many it holds."""


class RedisNameStore:
    """See `NameStore`. While Redis is away every call fails at once."""

    def __init__(
        self,
        connect: Connect,
        clock: IReactorTime,
        *,
        timeout: float = CALL_TIMEOUT,
        replicas: int = 0,
        marker: MarkerCopy | None = None,
        entry_grace: float = ENTRY_GRACE,
        presence_lease: float = PRESENCE_LEASE,
        ownership_lease: float = OWNERSHIP_LEASE,
    ) -> None:
        """Make a store that is not connected yet.

        Args:
            connect: makes a connection.
            clock: for deadlines only; what is kept goes by the time of Redis.
            timeout: seconds for a whole call.
            replicas: how many must have a claim before it is acknowledged.
            marker: what is known of the store from before; nothing, by default.
            entry_grace: seconds from a name's entry in the index to the first look at it.
            presence_lease: seconds from a sign of life until a peer counts as offline.
            ownership_lease: seconds from a sign of life until a name is free.
        """
        self._link = RedisLink(connect, clock, timeout=timeout, replicas=replicas)
        self._clock = clock
        seconds = (presence_lease, ownership_lease, entry_grace)
        leases = Leases(*(round(1000 * each) for each in seconds))
        self._index = RedisIndex(self._link, clock, leases, marker or MarkerCopy())
        self._owned = OwnedNames(self._link, self._index, clock, leases)
        self._classic = ClassicNames(self._link, self._index, clock)
        self._link.on_connected = self._index.open
        self._taking: Gathering[_Wish, dict[_Wish, Tokens]] = Gathering(
            clock, lambda wishes: self._link.in_time(self._take(wishes)), GATHER_MAX, waits=False
        )
        self._sweeping: Deferred[None] | None = None

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

    def adopt(self, key: str) -> Awaitable[str]:
        """Say that the names are those of the registry with this key, if nobody has said so yet; whose they are."""
        return self._link.in_time(self._adopt(key))

    def claim_owned(self, claim: OwnerClaim) -> Awaitable[OwnerOutcome]:
        """See `NameStore`."""
        return self._link.in_time(self._owned.claim_owned(claim))

    def release_owned(self, name: str, key: str, seq: int) -> Awaitable[OwnerOutcome]:
        """See `NameStore`."""
        return self._link.in_time(self._owned.release_owned(name, key, seq))

    def beat(self, name: str, session: str, beat: int, *, online: bool) -> Awaitable[bool]:
        """See `NameStore`."""
        return self._link.in_time(self._owned.beat(name, session, beat, online))

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        """See `NameStore`."""
        return self._owned.look_up_peer(name)

    def look_up_key(self, key: str) -> Awaitable[str | None]:
        """See `NameStore`."""
        return self._link.in_time(self._owned.look_up_key(key))

    def peers(
        self, prefix: str = "", after: str = "", limit: int = 500, *, online: bool = False
    ) -> Awaitable[PeerPage]:
        """See `NameStore`."""
        return self._link.in_time(self._index.peers(prefix, after, limit, online=online))

    def events(self, after: str | None = None, limit: int = 500) -> Awaitable[EventPage]:
        """See `NameStore`."""
        return self._link.in_time(self._index.events(after, limit))

    def use_invitation(self, id: str, holder: str, life: int, issued: int) -> Awaitable[bool]:
        """See `NameStore`."""
        return self._link.in_time(self._use_invitation(id, holder, life, issued))

    def take_tokens(
        self, bucket: str, wanted: int, per_second: float, burst: int
    ) -> Awaitable[Tokens]:
        """See `NameStore`."""
        wish = (bucket, wanted, per_second, burst)
        return self._taking.add(wish).addCallback(lambda taken: taken[wish])

    def count(self) -> Awaitable[Counts]:
        """See `NameStore`."""
        return self._link.in_time(self._index.count())

    def claim(self, claim: Claim) -> Awaitable[Outcome]:
        """See `NameStore`."""
        return self._link.in_time(self._classic.claim(claim))

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`. All that is looked up in one turn of the reactor costs one command."""
        return self._classic.look_up(name)

    def page(self, after: str = "", limit: int = NAMES_PAGE_MAX) -> Awaitable[NamePage]:
        """See `NameStore`."""
        return self._link.in_time(self._classic.page(after, limit))

    def ping(self) -> Awaitable[None]:
        """See `NameStore`."""
        return self._link.in_time(self._link.call("PING"))

    async def sweep(self) -> None:
        """Let end what has to end by now; it is done now and then."""
        await self._index.sweep()

    async def _adopt(self, key: str) -> str:
        await self._link.call("SET", REGISTRY_KEY, key, "NX")
        owner: bytes | None = await self._link.call("GET", REGISTRY_KEY)
        if owner == key.encode():
            self._index.registry = key
        return owner.decode("ascii", "replace") if owner else key

    async def _use_invitation(self, id: str, holder: str, life: int, issued: int) -> bool:
        marker = (await self._index.state()).marker
        if marker.lost and issued * 1000 < marker.born:
            return False
        key = key_of(f"invitation:{id}", "holder")
        return bool(await self._link.run_acknowledged(USE, [key], holder, max(1, life) * 1000))

    async def _take(self, wishes: list[_Wish]) -> dict[_Wish, Tokens]:
        """Take out of many buckets by one command. (As with `VIEW`, a cluster would be asked slot by slot.)"""
        keys = [key_of(f"limit:{bucket}", "tokens") for bucket, *_ in wishes]
        numbers = chain.from_iterable(rest for _, *rest in wishes)
        replies = (await self._link.run(TAKE, keys, *numbers)).decode().split("\n")
        taken = (reply.split(" ") for reply in replies)
        return {
            wish: Tokens(int(granted), float(wait))
            for wish, (granted, wait) in zip(wishes, taken, strict=True)
        }

    async def _sweep_now_and_then(self) -> None:
        while True:
            await deferLater(self._clock, SWEEP_INTERVAL)
            try:
                await self.sweep()
            except StoreUnavailable:
                continue
