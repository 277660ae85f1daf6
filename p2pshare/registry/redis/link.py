"""The link to Redis: what is asked through it is answered in time, or fails in time."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import RedisError, ResponseError

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.connection import SILENT, RedisConnection
from p2pshare.registry.redis.replicas import Replicas
from p2pshare.registry.redis.url import Connect

T = TypeVar("T")
Work = Coroutine[Deferred[Any], Any, T]

CALL_TIMEOUT = 1.8  # seconds for a whole call, of several commands or not: 503 is promised within 2
OPEN_TIMEOUT = 10.0  # seconds for one attempt to reach Redis
RETRY_FIRST, RETRY_MAX = 0.05, 0.5  # seconds between attempts to reach a Redis that is away
TELL_AFTER = 6  # attempts, which take some 2 s: our own Redis needs a few at the start
CHECK_INTERVAL = 1.0  # seconds between questions whether the primary is still the primary

STEADY = 5.0  # seconds of use after which a loss counts as the first one

_WRONG_SERVER = re.compile(r"(^|-)(READONLY|LOADING|MASTERDOWN|UNBLOCKED)\b")
"""What a server answers that is no primary, or not yet, or no longer; in a script, maybe amid other words."""

_let_through: ContextVar[RedisConnection | None] = ContextVar("_let_through", default=None)


async def _nothing() -> None:
    pass


class RedisLink:
    """Runs scripts and commands. While Redis is away every call fails at once, with `StoreUnavailable`.

    A connection that is lost, or leads to the wrong server, is replaced by a new one. With replicas there is a second
    connection, for what has to reach them: it waits for them, and the first one for nothing. They live and die
    together.
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
        """Run on each new connection; only its own calls pass before it is done.

        If it fails with `StoreUnavailable`, Redis counts as away, and is tried again.
        """
        self._connect = connect
        self._clock = clock
        self._timeout = timeout
        self._wanted = replicas
        self._connection: RedisConnection | None = None
        self._replicas: Replicas | None = None
        self._away = "it was not reached yet"
        self._reached: Deferred[None] = Deferred()
        self._lost: Deferred[str] = Deferred()
        self._heard = float("-inf")
        self._refusal = ""
        self._stopped = False
        self._watching: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Begin to connect; fires when Redis was reached."""
        self._watching = Deferred.fromCoroutine(self._watch())
        self._watching.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return self._reached

    async def stop(self) -> None:
        """Disconnect; calls under way fail."""
        self._stopped = True
        if self._watching is not None:
            self._watching.cancel()
        self._away = "it is stopped"
        for each in self._connections():
            await each.disconnect()

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script: by its digest, and whole where Redis does not know it."""
        connection = self._usable()
        return await self._reply(connection, lambda: connection.eval(script, keys, arguments))

    async def run_acknowledged(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script, and return when as many replicas as wanted have what it saw and wrote."""
        connection, replicas = self._usable(), self._replicas
        if not self._wanted:
            return await self.run(script, keys, *arguments)
        if replicas is None:
            raise StoreUnavailable(reason=self._away)
        claims = replicas.connection
        reply = await self._reply(connection, lambda: claims.eval(script, keys, arguments))
        await self._reply(connection, replicas.acknowledged)
        return reply

    async def call(self, *command: object) -> Any:
        """Have one command executed."""
        connection = self._usable()
        return await self._reply(connection, lambda: connection.execute_command(*command))

    def in_time(self, work: Work[T]) -> Deferred[T]:
        """Let a call of several commands fail with `StoreUnavailable` if it takes too long as a whole."""
        started, connection = self._clock.seconds(), self._connection
        whole = Deferred.fromCoroutine(work).addTimeout(self._timeout, self._clock)
        return whole.addErrback(self._too_late, started, connection)

    def _usable(self) -> RedisConnection:
        connection = self._connection
        if connection is None or (self._away and _let_through.get() is not connection):
            raise StoreUnavailable(reason=self._away)
        return connection

    async def _reply(self, connection: RedisConnection, ask: Callable[[], Deferred[Any]]) -> Any:
        try:
            reply = await ask()
        except ResponseError as error:
            if _WRONG_SERVER.search(str(error)):
                self._gone(str(error), connection)
            elif str(error) != self._refusal:
                self._refusal = str(error)
                self._log.warn("Redis refused a command: {error}", error=error)
            raise StoreUnavailable(reason=str(error)) from error
        except RedisError as error:
            self._gone(str(error), connection)
            raise StoreUnavailable(reason=str(error) or SILENT) from error
        self._heard = self._clock.seconds()
        return reply

    def _too_late(
        self, failure: Failure, started: float, connection: RedisConnection | None
    ) -> NoReturn:
        failure.trap(TimeoutError)
        if self._heard < started:
            self._gone(SILENT, connection)  # else it is only slow
        raise StoreUnavailable(reason=SILENT) from failure.value

    def _gone(self, reason: str, connection: RedisConnection | None) -> None:
        """Give a connection up, with its sister."""
        if connection is self._connection and not self._lost.called:
            self._away = reason or "the connection was lost"
            self._lost.callback(self._away)
            for each in self._connections():
                each.drop()

    def _connections(self) -> list[RedisConnection]:
        claims = [self._replicas.connection] if self._replicas is not None else []
        return claims + ([self._connection] if self._connection is not None else [])

    async def _watch(self) -> None:
        attempt, delay = 0, RETRY_FIRST
        while True:
            connection = await self._attempt()
            if self._away:
                attempt += 1
                if attempt == TELL_AFTER:
                    self._log.warn(
                        "{redis} cannot be used ({reason}): trying until it can be",
                        redis=connection.shown,
                        reason=self._away,
                    )
            else:
                attempt, began = 0, self._clock.seconds()
                await self._use(connection)
                if self._clock.seconds() - began > STEADY:
                    delay = RETRY_FIRST
            if self._stopped:  # by who was told that Redis is reached, or gone
                return
            await deferLater(self._clock, delay)
            delay = min(2 * delay, RETRY_MAX)

    async def _attempt(self) -> RedisConnection:
        """Make a connection; unless that fails, Redis is not away any more."""
        self._lost, self._replicas, self._refusal = Deferred(), None, ""
        connection = self._connection = self._connect()
        opening = Deferred.fromCoroutine(self._open(connection))
        try:
            await opening.addTimeout(OPEN_TIMEOUT, self._clock)
        except StoreUnavailable as error:
            self._gone(str(error.fields.get("reason", error)), connection)
        except (RedisError, TimeoutError) as error:
            self._gone(SILENT if isinstance(error, TimeoutError) else str(error), connection)
        if not self._lost.called:
            self._away = ""
        return connection

    async def _open(self, connection: RedisConnection) -> None:
        """Make a connection fit for use."""
        connection.lost.addCallback(lambda _: self._gone("", connection))
        await connection.ping()
        if self._wanted:
            claims = connection.another()
            self._replicas = Replicas(claims, self._wanted)
            claims.lost.addCallback(lambda _: self._gone("", connection))
            await claims.ping()
        _let_through.set(connection)  # in the context of this coroutine, which ends with it
        await self.in_time(self.on_connected())

    async def _use(self, connection: RedisConnection) -> None:
        """Return when a connection is lost."""
        self._log.info("Redis answers")
        if not self._reached.called:
            self._reached.callback(None)
        if self._stopped:
            return
        checking = Deferred.fromCoroutine(self._check_now_and_then(connection))
        checking.addErrback(lambda failure: failure.trap(CancelledError) and None)
        try:
            await self._lost
        finally:
            checking.cancel()
        self._log.warn("Redis is away: {reason}", reason=self._away)

    async def _check_now_and_then(self, connection: RedisConnection) -> None:
        while connection.may_move and connection is self._connection and not self._lost.called:
            await deferLater(self._clock, CHECK_INTERVAL)
            if not await connection.is_right():
                self._gone("another server is the primary now", connection)
