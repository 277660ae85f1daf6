"""The index of all names in Redis: which names exist, which are online, and what has changed.

Theory of operation
-------------------
The keys of a name are the truth about it, and each claim changes them in one atomic script. The index only says where
to look. It may be wrong in one direction: it may list an expired name, which a page leaves out, but it never misses a
live one, whenever a registry is killed. Hence this order:

1. A name *enters* the index before it is claimed (`ENTER`), with a check that is due later.
2. The claim changes the keys of the name.
3. The result is *noted* in the index (`NOTE`). A note bears the time of its change, and an older note never undoes a
   newer one. It also bears the store's mark: a note from before a loss of the store never gets in after it. If it does
   not get in, the claim fell between a loss and its notice, and the caller undoes it.
4. The *sweep* removes names that have expired, a few at a time, those whose check is due. It cannot remove a name that
   is being claimed again: entering puts the check off, and `SETTLE` looks at the check once more.

Presence expires in the index by itself, since its score is the time of the last sign of life.

The *mark* is random text in the store, with a copy in the data folder. A registry that finds another mark, or none,
knows that the names are lost. The store then recovers for one lease of presence: only claims with a receipt succeed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.batching import Batcher
from p2pshare.registry.redis.index_scripts import (
    COUNT,
    ENTER,
    EVENTS,
    LAPSE,
    NOTE,
    OPEN,
    PAGE,
    PEERS,
    SETTLE,
)
from p2pshare.registry.redis.keys import CLASSIC_KEY, INDEX_KEYS, REGISTRY_KEY, keys_of
from p2pshare.registry.redis.link import RedisLink, in_time, together
from p2pshare.registry.redis.loss_mark import MarkerCopy, StoreMarker
from p2pshare.registry.redis.scripts import LEFT
from p2pshare.registry.store import Counts, EventPage, PresenceEvent
from p2pshare.wire.registry_answers import PAGE_MAX, NameKind, PeerPage, PeerSummary, Presence

GATHER_MAX = 250  # names in one command: Redis does nothing else meanwhile
NOTES_MAX = 10_000  # heartbeats that are answered before they are noted
RECOVERY_STEP = (
    2000  # ms of a recovery that pass in one sweep at most: without a registry it stands still
)
LAPSE_BATCH = 500  # presences that one command ends
SWEEP_BATCH = 100  # names that one step of a sweep checks
SWEEP_STEPS = 20  # steps in one sweep
OPEN_ATTEMPTS = 3
UNSTABLE = "it has lost its names several times in a moment"


@dataclass(frozen=True, slots=True)
class Entered:
    """The state of the store when a name entered the index."""

    marker: StoreMarker
    recovery: int
    """Milliseconds until it has recovered; 0 if it does not recover."""

    @property
    def seconds(self) -> int:
        """The same in seconds, for clients."""
        return max(1, ceil(self.recovery / 1000))


@dataclass(frozen=True, slots=True)
class Leases:
    """Durations, in ms."""

    presence: int
    ownership: int
    entry_grace: int
    """From a name's entry in the index to its first check."""


Note = tuple[str, str, str, str, str]
"""A name, its change (`claim`, `on`, `off`, `gone`, `classic` or `free`), its time, and two arguments of `NOTE`."""


class IndexedStore:
    """The index, and the part of `NameStore` that reads it alone. The parts for names extend it."""

    _log = Logger()

    def __init__(
        self, link: RedisLink, clock: IReactorTime, leases: Leases, copy: MarkerCopy
    ) -> None:
        self.registry = ""
        """The public key of the registry that has these names; a new store is marked with it after a loss."""
        self.link = link
        self.clock = clock
        self.leases = leases
        self._copy = copy
        self._entering: Batcher[str, Entered] = Batcher(clock, self._enter, GATHER_MAX)
        self._noting: Batcher[tuple[StoreMarker, Note], set[StoreMarker]] = Batcher(
            clock, self._note, GATHER_MAX
        )
        link.on_connected = self._open

    @in_time
    async def peers(
        self, prefix: str = "", after: str = "", limit: int = 500, *, online: bool = False
    ) -> PeerPage:
        """See `NameStore`."""
        low = f"({after}" if after and after >= prefix else f"[{prefix}" if prefix else "-"
        high = f"({prefix}{{" if prefix else "+"  # "{" sorts after every character of a name
        reply = await self._run(
            PEERS,
            low,
            high,
            max(1, min(limit, PAGE_MAX)),
            self.leases.presence,
            self.leases.ownership,
            int(online),
        )
        following, *lines = reply.split("\n")
        return PeerPage(tuple(_summary(*line.split(" ")) for line in lines), following or None)

    @in_time
    async def events(self, after: str | None = None, limit: int = 500) -> EventPage:
        """See `NameStore`."""
        first, *lines = (await self._run(EVENTS, after or "", max(1, limit))).split("\n")
        last, complete = first.split(" ")
        events = []
        for line in lines:
            id, *peer = line.split(" ")
            events.append(PresenceEvent(id, _summary(*peer)))
        return EventPage(tuple(events), last, complete == "1")

    @in_time
    async def count(self) -> Counts:
        """See `NameStore`."""
        return Counts(*map(int, (await self._run(COUNT, self.leases.presence)).split(" ")))

    async def sweep(self) -> None:
        """End presences and remove names that have expired, up to a bound; to be called now and then."""
        for _ in range(SWEEP_STEPS):
            if not await self._sweep_some():
                return

    def enter(self, name: str) -> Deferred[Entered]:
        """Add a name that may be claimed next."""
        return self._entering.add(name)

    def state(self) -> Deferred[Entered]:
        """Return the state of the store."""
        return self._enter([])

    async def note(self, entered: Entered, note: Note) -> bool:
        """Note a change of a name; return False if the store was lost since the name `entered`."""
        return entered.marker in await self._noting.add((entered.marker, note))

    async def note_soon(self, note: Note, *, wait: bool) -> None:
        """Note a change that the next heartbeat, or the end of a lease, would note as well. It never fails.

        It returns at once, unless told to `wait`, or more than `NOTES_MAX` notes are pending.
        """
        marker = self._copy.marker
        if marker is not None:
            noting = self._noting.add((marker, note)).addErrback(_trap_unavailable)
            if wait or self._noting.size > NOTES_MAX:
                await noting

    async def names_for_originals(self, after: str, limit: int) -> list[str]:
        """Return the names that original clients may see."""
        return (await self._run(PAGE, f"({after}" if after else "-", limit)).split()

    async def registered(self, names: Sequence[str]) -> dict[str, int]:
        """Return when classic names were last registered, in Unix time in s; without those that are unknown."""
        found: list[bytes | None] = await self.link.call("HMGET", CLASSIC_KEY, *names)
        return {
            name: int(text.split()[0]) // 1000
            for name, text in zip(names, found, strict=True)
            if text
        }

    async def _open(self) -> None:
        """Read the store's mark, or set one; notice whether the store was lost."""
        kept = self._copy.marker
        new_id = secrets.token_urlsafe(12)
        reply = await self._run(OPEN, kept.id if kept else "", new_id, self.leases.presence)
        marker = StoreMarker.parse(reply)
        if marker is None:
            raise StoreUnavailable(reason=f"its mark {reply!r} is not one of ours")
        if kept is not None and kept != marker:
            self._log.warn("store lost: names can be claimed again with a receipt")
            if self.registry:
                await self.link.call("SET", REGISTRY_KEY, self.registry, "NX")
        self._copy.keep(marker)

    @in_time
    async def _sweep_some(self) -> bool:
        """Do one step of a sweep; return whether there may be more to do."""
        leases, marker = self.leases, self._copy.marker
        reply = await self._run(
            LAPSE, leases.presence, leases.ownership, LAPSE_BATCH, SWEEP_BATCH, RECOVERY_STEP
        )
        lapsed, *due = reply.split("\n")
        if due:
            left = await together(*[self._left(name) for name in due])
            await self._run(SETTLE, marker, leases.ownership, *chain(*left))
        return int(lapsed) == LAPSE_BATCH or bool(due)

    async def _left(self, name: str) -> list[str]:
        reply = await self.link.run(LEFT, keys_of(name, "owner", "classic"))
        return [name, *reply.decode().split(" ")]

    @in_time
    async def _enter(self, names: Sequence[str]) -> Entered:
        for _ in range(OPEN_ATTEMPTS):
            reply = await self._run(ENTER, self.leases.entry_grace, *names)
            text, _, left = reply.partition("\n")
            marker = StoreMarker.parse(text)
            if marker is not None and marker == self._copy.marker:
                return Entered(marker, int(left))
            await self._open()
        raise StoreUnavailable(reason=UNSTABLE)

    @in_time
    async def _note(self, notes: list[tuple[StoreMarker, Note]]) -> set[StoreMarker]:
        """Write notes; return which of their marks is that of the store."""
        by_marker: dict[StoreMarker, list[Note]] = {}
        for marker, note in notes:
            by_marker.setdefault(marker, []).append(note)
        valid = set()
        for marker, some in by_marker.items():
            held = await self._run(NOTE, marker, self.leases.entry_grace, *chain(*some))
            if held == str(marker):
                valid.add(marker)
        if self._copy.marker not in valid:
            await self._open()
        return valid

    async def _run(self, script: str, *arguments: object) -> str:
        reply: bytes | None = await self.link.run(script, INDEX_KEYS, *arguments)
        return reply.decode() if reply else ""


def _summary(name: str, kind: str, presence: str, since: str) -> PeerSummary:
    return PeerSummary(name, NameKind(kind), Presence(presence), int(since) // 1000)


def _trap_unavailable(failure: Failure) -> set[StoreMarker]:
    failure.trap(StoreUnavailable)
    return set()
