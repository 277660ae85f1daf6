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

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import chain
from typing import Any, NoReturn, TypeVar

import txredisapi
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis_scripts import CLAIM, DUE, ENTER, PAGE, SETTLE
from p2pshare.registry.redis_url import RETRY_MAX, Connect
from p2pshare.registry.store import PAGE_MAX, Claim, NamePage, Outcome
from p2pshare.wire.registration import PeerAddress

T = TypeVar("T")

CALL_TIMEOUT = 1.8  # seconds for a whole call, of several commands or not: 503 is promised within 2
PROBE_TIMEOUT = 30.0  # seconds for which one PING waits for a Redis that is away
ENTRY_GRACE = 60  # seconds from a name's entry in the index to the first look at it
SWEEP_INTERVAL = 5.0  # seconds
SWEEP_BATCH = 100  # names in one step
SWEEP_STEPS = 20  # steps in one sweep

SILENT = "no reply in time"

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
    """See `NameStore`. While Redis is away every call fails at once.

    The library queues what is asked of it while it is disconnected, without a bound: so nothing is
    asked of it then but one PING, whose answer tells that Redis is back.
    """

    _log = Logger()

    def __init__(
        self,
        connect: Connect,
        clock: IReactorTime,
        *,
        timeout: float = CALL_TIMEOUT,
        entry_grace: float = ENTRY_GRACE,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._timeout = timeout
        self._entry_grace = entry_grace
        self._redis: Any = None
        self._away = "it was not reached yet"
        self._reached: Deferred[None] = Deferred()
        self._lost: Deferred[None] = Deferred()
        self._heard = float("-inf")
        self._background: list[Deferred[None]] = []
        self._look_ups: _LookUps = {}

    def start(self) -> Deferred[None]:
        """Begin to connect, and to keep the index clean; fires when Redis was reached."""
        self._redis = self._connect()
        for each in (self._watch(), self._sweep_now_and_then()):
            running = Deferred.fromCoroutine(each)
            running.addErrback(lambda failure: failure.trap(CancelledError) and None)
            self._background.append(running)
        return self._reached

    async def stop(self) -> None:
        """Disconnect; calls under way fail."""
        for each in self._background:
            each.cancel()
        self._away = "it is stopped"
        await self._redis.disconnect()

    def claim(self, claim: Claim) -> Awaitable[Outcome]:
        """See `NameStore`."""
        return self._in_time(self._enter_and_claim(claim))

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`. All that is looked up in one turn of the reactor costs one command."""
        if not self._look_ups:
            self._clock.callLater(0, self._ask)
        waiting: Deferred[PeerAddress | None] = Deferred()
        self._look_ups.setdefault(name, []).append(waiting)
        return waiting

    def page(self, after: str = "", limit: int = PAGE_MAX) -> Awaitable[NamePage]:
        """See `NameStore`."""
        return self._in_time(self._page(after, limit))

    def ping(self) -> Awaitable[None]:
        """See `NameStore`."""
        return self._in_time(self._call("PING"))

    async def sweep(self) -> None:
        """Take names that died out of the index: those whose check is due, up to a bound."""
        for _ in range(SWEEP_STEPS):
            if not await self._in_time(self._sweep_some()):
                return

    async def _page(self, after: str, limit: int) -> NamePage:
        reply = await self._run(PAGE, _INDEX, f"({after}" if after else "-", limit)
        names = reply.decode().split()
        following = names[-1] if len(names) == limit else None
        keys = [_key(name) for name in names]
        if keys and await self._call("EXISTS", *keys) < len(keys):
            values = await self._call("MGET", *keys)
            names = [name for name, value in zip(names, values, strict=True) if value is not None]
        return NamePage(names, following)

    async def _sweep_some(self) -> bool:
        """One step of a sweep; whether there was something to do."""
        due = (await self._run(DUE, _INDEX, SWEEP_BATCH)).decode().split()
        if due:
            left = await gatherResults(
                [Deferred.fromCoroutine(self._call("PTTL", _key(name))) for name in due], True
            )
            await self._run(SETTLE, _INDEX, *chain(*zip(due, left, strict=True)))
        return bool(due)

    async def _enter_and_claim(self, claim: Claim) -> Outcome:
        if claim.lease:
            await self._run(ENTER, _INDEX, claim.name, round(self._entry_grace * 1000))
        address = f"{claim.address.ip} {claim.address.port}"
        proof = claim.proof or "-"
        reply = await self._run(CLAIM, [_key(claim.name)], address, proof, claim.lease * 1000)
        return Outcome(reply.decode())

    def _ask(self) -> None:
        asked, self._look_ups = self._look_ups, {}
        values = self._in_time(self._call("MGET", *[_key(name) for name in asked]))
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

    async def _run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script: by its digest, and whole where Redis does not know it (the library does that)."""
        return await self._reply(lambda: self._redis.eval(script, keys, arguments))

    async def _call(self, *command: object) -> Any:
        return await self._reply(lambda: self._redis.execute_command(*command))

    async def _reply(self, ask: Callable[[], Deferred[Any]]) -> Any:
        if self._away:
            raise StoreUnavailable(reason=self._away)
        try:
            reply = await ask()
        except txredisapi.ResponseError as error:
            self._log.warn("Redis refused a command: {error}", error=error)
            raise StoreUnavailable(reason=str(error)) from error
        except txredisapi.RedisError as error:
            self._gone(str(error))
            raise StoreUnavailable(reason=self._away) from error
        self._heard = self._clock.seconds()
        return reply

    def _in_time(self, work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        started = self._clock.seconds()
        whole = Deferred.fromCoroutine(work).addTimeout(self._timeout, self._clock)
        return whole.addErrback(self._too_late, started)

    def _too_late(self, failure: Failure, started: float) -> NoReturn:
        failure.trap(TimeoutError)
        if self._heard < started:
            self._gone(SILENT)  # else it is only slow
        raise StoreUnavailable(reason=SILENT) from failure.value

    def _gone(self, reason: str) -> None:
        if not self._away:
            self._away = reason or SILENT
            self._lost.callback(None)

    async def _watch(self) -> None:
        while True:
            try:
                await self._redis.ping().addTimeout(PROBE_TIMEOUT, self._clock)
            except (txredisapi.RedisError, TimeoutError) as error:
                self._away = str(error) or SILENT
                await deferLater(self._clock, RETRY_MAX)
                continue
            self._away = ""
            self._lost = Deferred()
            self._log.info("Redis answers")
            if not self._reached.called:
                self._reached.callback(None)
            await self._lost
            self._log.warn("Redis is away: {reason}", reason=self._away)

    async def _sweep_now_and_then(self) -> None:
        while True:
            await deferLater(self._clock, SWEEP_INTERVAL)
            try:
                await self.sweep()
            except StoreUnavailable:
                continue
