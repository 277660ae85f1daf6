"""The index of all names in Redis: which there are, who is there, and what has changed.

Its keys are in one slot::

    p2p:{index}:store       "ID BORN first" or "... lost": the mark by which a loss of the store is noticed
    p2p:{index}:registry    the public key of the registry whose names these are
    p2p:{index}:recovering  "LEFT COUNTED" in ms, after a loss: how long it recovers yet, and when that was counted
    p2p:{index}:names       ZSET, all scores 0: every live name, in lexical order, and some dead ones
    p2p:{index}:checks      ZSET, name -> when to look whether it is still alive, in ms
    p2p:{index}:here        ZSET, all scores 0: those who are there or may be
    p2p:{index}:originals   ZSET, all scores 0: those of them whom original clients see
    p2p:{index}:presence    ZSET, owned name -> when it was seen, in ms; negative while it is offline
    p2p:{index}:classic     HASH, classic name -> "REGISTERED ENDS", in ms
    p2p:{index}:events      STREAM of changes, e = "NAME KIND PRESENCE SEEN"; its first entry was made with the mark

The keys of a name are the truth about it. The index only says where to look, and is allowed one
kind of mistake: a name enters it *before* it is claimed and leaves it some time after its lease has
ended. So it may name the dead, whom a page leaves out, but never misses a live one, wherever a
registry is killed. The sweep takes the dead out: a few at a time, those whose check is due. It cannot
take out a name that is just being claimed again: that puts the check off (`ENTER`), and `SETTLE`
looks at it once more. What has become of a name is noted after the truth has changed (`NOTE`), and
only under the mark under which it did: nothing from before a loss gets into the index after it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.batching import Gathering
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
from p2pshare.registry.redis.keys import keys_of
from p2pshare.registry.redis.link import RedisLink
from p2pshare.registry.redis.marker import MarkerCopy, StoreMarker
from p2pshare.registry.redis.scripts import LEFT
from p2pshare.registry.store import Counts, EventPage, PresenceEvent
from p2pshare.wire.registry_answers import PAGE_MAX, NameKind, PeerPage, PeerSummary, Presence

GATHER_MAX = 250  # names in one command: Redis does nothing else meanwhile
NOTES_MAX = 10_000  # heartbeats that are answered before they are noted
RECOVERY_STEP = (
    2000  # ms of a recovery that one sweep may let pass: more, and no registry was there
)
LAPSE_BATCH = 500  # presences that one command lets end
SWEEP_BATCH = 100  # names looked at in one step of a sweep
SWEEP_STEPS = 20  # steps in one sweep
OPEN_ATTEMPTS = 3
UNSTABLE = "it has lost its names several times in a moment"

_WORDS = (
    "store", "recovering", "names", "checks", "here", "originals", "presence", "classic", "events"
)  # fmt: skip
KEYS = tuple(f"p2p:{{index}}:{word}" for word in _WORDS)
REGISTRY_KEY = "p2p:{index}:registry"
CLASSIC_KEY = KEYS[_WORDS.index("classic")]


@dataclass(frozen=True, slots=True)
class Entered:
    """How the store was when a name entered the index."""

    marker: StoreMarker
    recovery: int
    """Milliseconds for which it will still recover; 0 if it does not."""

    @property
    def seconds(self) -> int:
        """The same in seconds, as one tells a client."""
        return max(1, ceil(self.recovery / 1000))


@dataclass(frozen=True, slots=True)
class Leases:
    """How long what lasts, in ms."""

    presence: int
    ownership: int
    entry_grace: int
    """From a name's entry in the index to the first look at it."""


Note = tuple[str, str, str, str]
"""A name, what became of it (`claim`, `on`, `off`, `gone`, `classic` or `free`), when, and what `NOTE` says."""


class RedisIndex:
    """Reads and writes the index."""

    _log = Logger()

    def __init__(
        self,
        link: RedisLink,
        clock: IReactorTime,
        leases: Leases,
        copy: MarkerCopy,
        random_id: Callable[[], str] = lambda: secrets.token_urlsafe(12),
    ) -> None:
        self.registry = ""
        """The public key of the registry whose names these are; with it a store that was lost is marked as its own."""
        self._link = link
        self._leases = leases
        self._copy = copy
        self._random_id = random_id
        self._entering: Gathering[str, Entered] = Gathering(
            clock, lambda names: link.in_time(self._enter(names)), GATHER_MAX
        )
        self._noting: Gathering[tuple[StoreMarker, Note], set[StoreMarker]] = Gathering(
            clock, lambda notes: link.in_time(self._note(notes)), GATHER_MAX
        )

    async def open(self) -> None:
        """Look at the store's mark, or set it; see whether the store was lost."""
        kept = self._copy.marker
        reply = await self._run(
            OPEN, kept.id if kept else "", self._random_id(), self._leases.presence
        )
        marker = StoreMarker.parse(reply)
        if marker is None:
            raise StoreUnavailable(reason=f"its mark {reply!r} is not one of ours")
        if kept is not None and kept != marker:
            self._log.warn("the store of names was lost: names can be claimed back with a receipt")
            if self.registry:
                await self._link.call("SET", REGISTRY_KEY, self.registry, "NX")
        self._copy.keep(marker)

    def enter(self, name: str) -> Deferred[Entered]:
        """Let the index know a name that may be about to be claimed."""
        return self._entering.add(name)

    async def state(self) -> Entered:
        """How the store is."""
        return await self._enter([])

    async def note(self, entered: Entered, note: Note) -> bool:
        """Note what has become of a name; false if the store was lost since the name `entered`."""
        return entered.marker in await self._noting.add((entered.marker, note))

    async def note_soon(self, note: Note, *, wait: bool) -> None:
        """Note what the next heartbeat, or the end of a lease, would make known too; what fails is no failure.

        Who does not `wait` still does if there are too many of these.
        """
        marker = self._copy.marker
        if marker is not None:
            noting = self._noting.add((marker, note)).addErrback(_trap_unavailable)
            if wait or self._noting.size > NOTES_MAX:
                await noting

    async def page(self, after: str, limit: int) -> list[str]:
        """The names that original clients may see."""
        return (await self._run(PAGE, f"({after}" if after else "-", limit)).split()

    async def peers(self, prefix: str, after: str, limit: int, *, online: bool) -> PeerPage:
        """See `NameStore`."""
        low = f"({after}" if after and after >= prefix else f"[{prefix}" if prefix else "-"
        high = f"({prefix}{{" if prefix else "+"  # "{" follows all that a name consists of
        reply = await self._run(
            PEERS,
            low,
            high,
            max(1, min(limit, PAGE_MAX)),
            self._leases.presence,
            self._leases.ownership,
            int(online),
        )
        following, *lines = reply.split("\n")
        return PeerPage(tuple(_summary(*line.split(" ")) for line in lines), following or None)

    async def events(self, after: str | None, limit: int) -> EventPage:
        """See `NameStore`."""
        first, *lines = (await self._run(EVENTS, after or "", max(1, limit))).split("\n")
        last, complete = first.split(" ")
        events = []
        for line in lines:
            id, *peer = line.split(" ")
            events.append(PresenceEvent(id, _summary(*peer)))
        return EventPage(tuple(events), last, complete == "1")

    async def count(self) -> Counts:
        """See `NameStore`."""
        return Counts(*map(int, (await self._run(COUNT, self._leases.presence)).split(" ")))

    async def registered(self, names: Sequence[str]) -> dict[str, int]:
        """When classic names were registered last, in Unix time in s; those of which that is known."""
        found: list[bytes | None] = await self._link.call("HMGET", CLASSIC_KEY, *names)
        return {
            name: int(text.split()[0]) // 1000
            for name, text in zip(names, found, strict=True)
            if text
        }

    async def sweep(self) -> None:
        """End the presences that lapsed, and take names that died out of the index; up to a bound."""
        for _ in range(SWEEP_STEPS):
            if not await self._link.in_time(self._sweep_some()):
                return

    async def _sweep_some(self) -> bool:
        """One step of a sweep; whether there may be more to do."""
        leases, marker = self._leases, self._copy.marker
        reply = await self._run(
            LAPSE, leases.presence, leases.ownership, LAPSE_BATCH, SWEEP_BATCH, RECOVERY_STEP
        )
        lapsed, *due = reply.split("\n")
        if due:
            asked = [Deferred.fromCoroutine(self._left(name)) for name in due]
            left = await gatherResults(asked, True).addErrback(_unwrap)
            await self._run(SETTLE, marker, leases.ownership, *chain(*left))
        return int(lapsed) == LAPSE_BATCH or bool(due)

    async def _left(self, name: str) -> list[str]:
        reply = await self._link.run(LEFT, keys_of(name, "owner", "classic"))
        return [name, *reply.decode().split(" ")]

    async def _enter(self, names: Sequence[str]) -> Entered:
        for _ in range(OPEN_ATTEMPTS):
            reply = await self._run(ENTER, self._leases.entry_grace, *names)
            text, _, left = reply.partition("\n")
            marker = StoreMarker.parse(text)
            if marker is not None and marker == self._copy.marker:
                return Entered(marker, int(left))
            await self.open()
        raise StoreUnavailable(reason=UNSTABLE)

    async def _note(self, notes: list[tuple[StoreMarker, Note]]) -> set[StoreMarker]:
        """Write notes; which of the marks they name is the store's."""
        of_marker: dict[StoreMarker, list[Note]] = {}
        for marker, note in notes:
            of_marker.setdefault(marker, []).append(note)
        valid = set()
        for marker, some in of_marker.items():
            if await self._run(NOTE, marker, self._leases.entry_grace, *chain(*some)) == str(
                marker
            ):
                valid.add(marker)
        if self._copy.marker not in valid:
            await self.open()
        return valid

    async def _run(self, script: str, *arguments: object) -> str:
        reply: bytes | None = await self._link.run(script, KEYS, *map(_plain, arguments))
        return reply.decode() if reply else ""


def _plain(argument: object) -> object:
    return str(argument) if isinstance(argument, StoreMarker) else argument


def _summary(name: str, kind: str, presence: str, seen: str) -> PeerSummary:
    return PeerSummary(name, NameKind(kind), Presence(presence), int(seen) // 1000)


def _unwrap(failure: Failure) -> Failure:
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


def _trap_unavailable(failure: Failure) -> set[StoreMarker]:
    failure.trap(StoreUnavailable)
    return set()
