"""The link to Redis: every call through it is answered in time, or fails in time.

Theory of operation
-------------------
`RedisLink` owns one connection and replaces it when it is lost. A call never waits for a connection: while there is
none it fails at once with `StoreUnavailable`: a client is promised its 503 within 2 s.

* *A connection is used when it is prepared.* `on_connected` looks at the store's mark on each new connection. Until it
  returns, only its own calls pass: they are told apart by a context variable. Otherwise a claim could be written to a
  store that has just lost its names.
* *A connection is given up* when it is lost, when Redis is silent for the time of a whole call, or when a reply shows
  that the server is no primary (`READONLY`, `LOADING`, …). A reply that is only late does not count as silence.
* *Replicas.* With `--replicas` there is a second connection to the same server. It carries what replicas have to
  confirm, because `WAIT` blocks its connection, and look-ups must not wait for replicas. Both connections live and die
  together.

`twisted.application.internet.ClientService` does not do. If a connection is lost while `prepareConnection` runs (a
wrong password, no TLS, a replica), its state machine raises `NoTransition`, which is logged as a traceback. It also
hides why an attempt failed, logs each retry, and has no notion of a connection that is too short to count.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import RedisError, ResponseError

from p2pshare.core.back_off import BackOff
from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.batching import Batcher
from p2pshare.registry.redis.connection import SILENT, RedisConnector, RedisProtocol

P = ParamSpec("P")
T = TypeVar("T")
Work = Coroutine[Deferred[Any], Any, T]

CALL_TIMEOUT = 1.8  # seconds for a whole call of one or several commands: 503 is promised within 2
OPEN_TIMEOUT = 10.0  # seconds for one attempt to connect and to prepare the connection
RETRY_FIRST, RETRY_MAX = 0.05, 0.5  # seconds between attempts
LOG_AFTER = (
    6  # failed attempts, which take some 2 s: the registry's own Redis needs a few at the start
)
STEADY = 5.0  # seconds of use after which the next delay is the first one
REPLICAS_TIMEOUT = 0.8  # seconds for the replicas to confirm; a claim may wait for two such times
CONFIRMED_MAX = 10_000  # claims that one confirmation serves
BARRIER = "p2p:{barrier}:replicas"

_WRONG_SERVER = re.compile(r"(^|-)(READONLY|LOADING|MASTERDOWN|UNBLOCKED)\b")
"""Replies of a server that is not a primary that can serve; the reply to a script may have other words around them."""

_preparing: ContextVar[RedisProtocol | None] = ContextVar("_preparing", default=None)


async def _nothing() -> None:
    pass


class RedisLink:
    """Runs scripts and commands. While Redis is away, each call fails at once with `StoreUnavailable`."""

    _log = Logger()

    def __init__(self, connector: RedisConnector, clock: IReactorTime, replicas: int = 0) -> None:
        """Prepare a link; nothing is connected yet.

        Args:
            connector: connects to the Redis.
            clock: for deadlines.
            replicas: how many have to confirm what `run_acknowledged` writes.
        """
        self.on_connected: Callable[[], Work[None]] = _nothing
        """Prepares each new connection. If it fails with `StoreUnavailable`, Redis counts as away."""
        self._connector = connector
        self._clock = clock
        self._replicas = replicas
        self._connection: RedisProtocol | None = None
        self._claims: RedisProtocol | None = None
        """The connection that waits for replicas, if any are wanted."""
        self._confirmations: Batcher[None, None] = Batcher(
            clock, lambda _: Deferred.fromCoroutine(self._confirm()), CONFIRMED_MAX
        )
        self._are_confirming = True
        self._away = "it was not reached yet"
        """Why no call can be made; empty if calls can be made."""
        self._reached: Deferred[None] = Deferred()
        self._lost: Deferred[None] = Deferred()
        self._heard = float("-inf")
        self._refusal = ""
        self._running: Deferred[None] | None = None
        self._stopped = False

    def start(self) -> Deferred[None]:
        """Begin to connect; the Deferred fires when Redis is reached for the first time."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return self._reached

    async def stop(self) -> None:
        """Disconnect; pending calls fail."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()
        self._away = "it is stopped"
        for each in self._connections():
            await each.disconnect()

    async def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script."""
        connection = self._usable()
        return await self._reply(connection, lambda: connection.eval(script, keys, arguments))

    async def run_acknowledged(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script; return when enough replicas have what it saw and wrote."""
        connection, claims = self._usable(), self._claims
        if not self._replicas:
            return await self.run(script, keys, *arguments)
        if claims is None:
            raise StoreUnavailable(reason=self._away)
        reply = await self._reply(connection, lambda: claims.eval(script, keys, arguments))
        await self._reply(connection, lambda: self._confirmations.add(None))
        return reply

    async def call(self, *command: object) -> Any:
        """Execute one command."""
        connection = self._usable()
        return await self._reply(connection, lambda: connection.execute_command(*command))

    def in_time(self, work: Work[T]) -> Deferred[T]:
        """Run a call of several commands. It fails with `StoreUnavailable` if it takes too long as a whole."""
        started, connection = self._clock.seconds(), self._connection
        whole = Deferred.fromCoroutine(work).addTimeout(CALL_TIMEOUT, self._clock)
        return whole.addErrback(self._too_late, started, connection)

    def _usable(self) -> RedisProtocol:
        connection = self._connection
        if connection is None or (self._away and _preparing.get() is not connection):
            raise StoreUnavailable(reason=self._away)
        return connection

    async def _reply(self, connection: RedisProtocol, ask: Callable[[], Deferred[Any]]) -> Any:
        try:
            reply = await ask()
        except ResponseError as error:
            if _WRONG_SERVER.search(str(error)):
                self._give_up(str(error), connection)
            elif str(error) != self._refusal:
                self._refusal = str(error)
                self._log.warn("redis command refused: reason={reason!r}", reason=self._refusal)
            raise StoreUnavailable(reason=str(error)) from error
        except RedisError as error:
            self._give_up(str(error), connection)
            raise StoreUnavailable(reason=str(error) or SILENT) from error
        self._heard = self._clock.seconds()
        return reply

    def _too_late(
        self, failure: Failure, started: float, connection: RedisProtocol | None
    ) -> NoReturn:
        failure.trap(TimeoutError)
        if connection is not None and self._heard < started:  # otherwise Redis is only slow
            self._give_up(SILENT, connection)
        raise StoreUnavailable(reason=SILENT) from failure.value

    def _give_up(self, reason: str, connection: RedisProtocol | None) -> None:
        """Drop both connections if `connection` is still the current one."""
        if connection is self._connection and not self._lost.called:
            self._away = reason or "the connection was lost"
            self._lost.callback(None)
            for each in self._connections():
                each.drop()

    def _connections(self) -> list[RedisProtocol]:
        return [each for each in (self._claims, self._connection) if each is not None]

    async def _run(self) -> None:
        """Keep one connection until `stop`."""
        back_off = BackOff(RETRY_FIRST, RETRY_MAX)
        failures = 0
        while not self._stopped:
            self._lost, self._connection, self._claims, self._refusal = Deferred(), None, None, ""
            opening = Deferred.fromCoroutine(self._open())
            try:
                await opening.addTimeout(OPEN_TIMEOUT, self._clock)
            except (StoreUnavailable, RedisError, TimeoutError) as error:
                self._give_up(_reason(error), self._connection)
                failures += 1
                if failures == LOG_AFTER:
                    self._log.warn(
                        "redis unusable: redis={redis!r} reason={reason!r}, trying again",
                        redis=self._connector.shown,
                        reason=self._away,
                    )
            else:
                failures, began = 0, self._clock.seconds()
                await self._use()
                if self._clock.seconds() - began > STEADY:
                    back_off.reset()
            if not self._stopped:
                await deferLater(self._clock, back_off.next_delay())

    async def _open(self) -> None:
        """Connect, and prepare the connection for use."""
        connection = self._connection = await self._connector.connect()
        connection.gone.addCallback(lambda _: self._give_up(connection.why, connection))
        if self._replicas:
            claims = self._claims = await self._connector.connect(beside=connection)
            claims.gone.addCallback(lambda _: self._give_up(claims.why, connection))
        _preparing.set(connection)  # in the context of this coroutine only
        await self.in_time(self.on_connected())
        if self._lost.called:
            raise StoreUnavailable(reason=self._away)
        self._away = ""

    async def _use(self) -> None:
        """Return when the connection is lost."""
        self._log.info("redis connected: redis={redis!r}", redis=self._connector.shown)
        if not self._reached.called:
            self._reached.callback(None)
        await self._lost
        if not self._stopped:
            self._log.warn("redis lost: reason={reason!r}", reason=self._away)

    async def _confirm(self) -> None:
        """Wait until enough replicas have everything that was written before.

        https://redis.io/docs/latest/commands/wait/

        Raises:
            StoreUnavailable: too few have it.
            RedisError: the connection is lost.
        """
        claims = self._claims
        if claims is None:
            raise StoreUnavailable(reason=self._away)
        # WAIT counts from the last write of its own connection, so there must be one after all the others.
        barrier = claims.execute_command("SET", BARRIER, "")
        timeout = round(REPLICAS_TIMEOUT * 1000)
        _, had = await together(barrier, claims.execute_command("WAIT", self._replicas, timeout))
        are_enough = had >= self._replicas
        if are_enough != self._are_confirming:
            self._are_confirming = are_enough
            log = self._log.info if are_enough else self._log.warn
            log("replicas confirming: had={had} wanted={wanted}", had=had, wanted=self._replicas)
        if not are_enough:
            raise StoreUnavailable(reason=f"only {had} of {self._replicas} replicas have it")


def _reason(error: StoreUnavailable | RedisError | TimeoutError) -> str:
    if isinstance(error, StoreUnavailable):
        return str(error.fields.get("reason", error))
    return SILENT if isinstance(error, TimeoutError) else str(error)


async def together(*works: Awaitable[Any]) -> list[Any]:
    """Run all of them and wait for all; return their results, or raise the first failure."""
    running = [Deferred.fromCoroutine(_awaited(each)) for each in works]
    results = await DeferredList(running, consumeErrors=True)
    for succeeded, result in results:
        if not succeeded:
            result.raiseException()
    return [result for _, result in results]


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def in_time(method: Callable[P, Work[T]]) -> Callable[P, Deferred[T]]:
    """Give a method of an object with a `link` the deadline of a whole call."""

    @wraps(method)
    def bounded(*arguments: P.args, **keywords: P.kwargs) -> Deferred[T]:
        link: RedisLink = arguments[0].link  # type: ignore[attr-defined]
        return link.in_time(method(*arguments, **keywords))

    return bounded
