"""Whether enough replicas have what was written: https://redis.io/docs/latest/commands/wait/."""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.connection import RedisConnection

REPLICAS_TIMEOUT = (
    0.8  # seconds for which replicas are waited for; a claim may wait for two such times
)
BARRIER = "p2p:{barrier}:replicas"


class Replicas:
    """Counts the replicas that have what a connection, and any other before, wrote.

    One count serves all who wait when it begins; while it runs Redis does nothing else on that connection, and
    those who come meanwhile share the next one.
    """

    _log = Logger()

    def __init__(self, connection: RedisConnection, wanted: int) -> None:
        self.connection = connection
        self._wanted = wanted
        self._waiting: list[Deferred[None]] = []
        self._counting = False
        self._enough = True

    def acknowledged(self) -> Deferred[None]:
        """Fires when as many as wanted have all that was written before; else fails as unavailable or as Redis does."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if not self._counting:
            self._counting = True
            Deferred.fromCoroutine(self._count())
        return waiting

    async def _count(self) -> None:
        while self._waiting:
            told, self._waiting = self._waiting, []
            failure: Exception | None = None
            try:
                had = await self._had()
            except Exception as error:  # whatever it is, who waits has to hear of it
                failure = error
            else:
                self._say(had)
                if had < self._wanted:
                    reason = f"only {had} of {self._wanted} replicas have it"
                    failure = StoreUnavailable(reason=reason)
            for each in told:
                if failure is None:
                    each.callback(None)
                else:
                    each.errback(failure)
        self._counting = False

    async def _had(self) -> int:
        """How many have it, after a while."""
        # WAIT counts from the last write of its own connection: let there be one, after all the others.
        commands = (
            ("SET", BARRIER, ""),
            ("WAIT", self._wanted, round(REPLICAS_TIMEOUT * 1000)),
        )
        asked = [self.connection.execute_command(*command) for command in commands]
        for succeeded, reply in await DeferredList(asked, consumeErrors=True):
            if not succeeded:
                reply.raiseException()
        return int(reply)

    def _say(self, had: int) -> None:
        enough = had >= self._wanted
        if self._enough and not enough:
            self._log.warn(
                "only {had} of {wanted} replicas have what was written: no claim is acknowledged",
                had=had,
                wanted=self._wanted,
            )
        elif enough and not self._enough:
            self._log.info("enough replicas have what was written: claims are acknowledged again")
        self._enough = enough
