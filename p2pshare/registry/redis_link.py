"""The connection to Redis: what is asked through it is answered in time, or fails in time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar

import txredisapi
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis_url import RETRY_MAX, Connect

T = TypeVar("T")
Work = Coroutine[Deferred[Any], Any, T]

CALL_TIMEOUT = 1.8  # seconds for a whole call, of several commands or not: 503 is promised within 2
PROBE_TIMEOUT = 30.0  # seconds for which one PING waits for a Redis that is away

SILENT = "no reply in time"

_let_through: ContextVar[RedisLink | None] = ContextVar("_let_through", default=None)


async def _nothing() -> None:
    pass


class RedisLink:
    """Runs scripts and commands. While Redis is away every call fails at once, with `StoreUnavailable`.

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
        replicas: int = 0,
    ) -> None:
        self.on_connected: Callable[[], Work[None]] = _nothing
        """Run each time that Redis is reached; only its own calls pass before it is done.

        If it fails with `StoreUnavailable`, Redis counts as away, and is tried again.
        """
        self._connect = connect
        self._clock = clock
        self._timeout = timeout
        self._replicas = replicas
        self._redis: Any = None
        self._away = "it was not reached yet"
        self._reached: Deferred[None] = Deferred()
        self._lost: Deferred[None] = Deferred()
        self._heard = float("-inf")
        self._watching: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Begin to connect; fires when Redis was reached."""
        self._redis = self._connect()
        self._watching = Deferred.fromCoroutine(self._watch())
        self._watching.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return self._reached

    async def stop(self) -> None:
        """Disconnect; calls under way fail."""
        if self._watching is not None:
            self._watching.cancel()
        self._away = "it is stopped"
        await self._redis.disconnect()

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script: by its digest, and whole where Redis does not know it (the library does that)."""
        return await self._reply(lambda: self._redis.eval(script, keys, arguments))

    async def run_acknowledged(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script, and return when as many replicas as wanted have what it wrote."""
        return await self.run(script, keys, *arguments)

    async def call(self, *command: object) -> Any:
        """Have one command executed."""
        return await self._reply(lambda: self._redis.execute_command(*command))

    def in_time(self, work: Work[T]) -> Deferred[T]:
        """Let a call of several commands fail with `StoreUnavailable` if it takes too long as a whole."""
        started = self._clock.seconds()
        whole = Deferred.fromCoroutine(work).addTimeout(self._timeout, self._clock)
        return whole.addErrback(self._too_late, started)

    async def _reply(self, ask: Callable[[], Deferred[Any]]) -> Any:
        if self._away and _let_through.get() is not self:
            raise StoreUnavailable(reason=self._away)
        try:
            reply = await ask()
        except txredisapi.ResponseError as error:
            self._log.warn("Redis refused a command: {error}", error=error)
            raise StoreUnavailable(reason=str(error)) from error
        except txredisapi.RedisError as error:
            self._gone(str(error))
            raise StoreUnavailable(reason=str(error) or SILENT) from error
        self._heard = self._clock.seconds()
        return reply

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
                await self._prepare()
            except (txredisapi.RedisError, TimeoutError, StoreUnavailable) as error:
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

    async def _prepare(self) -> None:
        let_through = _let_through.set(self)
        try:
            await self.in_time(self.on_connected())
        finally:
            _let_through.reset(let_through)
