"""Where the primary of a set of Redis servers is: the Sentinels say.

https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from txredisapi import RedisError

from p2pshare.registry.redis.connection import (
    SILENT,
    FixedTarget,
    Login,
    RedisConnection,
    TargetUnknownError,
)

SENTINEL_PORT = 26379
SENTINELS_MAX = 9
SENTINEL_TIMEOUT = 0.5  # seconds for which one is waited for
HOST_MAX = 253  # characters

Address = tuple[str, int]
"""Host and port."""


class SentinelTarget:
    """See `Target`: the primary that is called `name`, as the first Sentinel says that says anything.

    The one that answered last is asked first, until what it said turns out to be no use.
    """

    may_move = True
    _log = Logger()

    def __init__(
        self,
        sentinels: Sequence[Address],
        name: str,
        endpoint: Callable[[str, int], IStreamClientEndpoint],
        login: Login,
        clock: IReactorTime,
    ) -> None:
        self._sentinels = list(sentinels)
        self._name = name
        self._endpoint = endpoint
        self._login = login
        self._clock = clock
        self._address: Address | None = None
        self._found: IStreamClientEndpoint | None = None
        self._told: dict[Address, str] = {}

    async def find(self) -> IStreamClientEndpoint:
        """See `Target`; takes up to `SENTINEL_TIMEOUT` for each Sentinel."""
        for sentinel in list(self._sentinels):
            found = await self._ask(sentinel)
            if found is not None:
                self._sentinels.sort(key=lambda each: each != sentinel)
                return found
        raise TargetUnknownError(string=f"no Sentinel says where {self._name!r} is")

    def doubt(self) -> None:
        """See `Target`: another Sentinel may know more."""
        self._sentinels.append(self._sentinels.pop(0))

    async def _ask(self, sentinel: Address) -> IStreamClientEndpoint | None:
        connection = RedisConnection(FixedTarget(self._endpoint(*sentinel)), self._login)
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        found, reason = None, ""
        try:
            asked: Deferred[object] = connection.execute_command(*question)
            found = self._at(_address(await asked.addTimeout(SENTINEL_TIMEOUT, self._clock)))
        except (TimeoutError, RedisError, ValueError) as error:
            reason = SILENT if isinstance(error, TimeoutError) else str(error)
        finally:
            connection.drop()
        self._tell(sentinel, reason)
        return found

    def _at(self, address: Address) -> IStreamClientEndpoint:
        if self._found is None or address != self._address:
            self._found = self._endpoint(*address)
            self._address = address
        return self._found

    def _tell(self, sentinel: Address, reason: str) -> None:
        """Log once what a Sentinel suffers from, until it suffers from something else."""
        if reason and reason != self._told.get(sentinel):
            self._log.warn(
                "the Sentinel at {host}:{port} does not say where {name!r} is: {reason}",
                host=sentinel[0],
                port=sentinel[1],
                name=self._name,
                reason=reason,
            )
        self._told[sentinel] = reason


def _address(reply: object) -> Address:
    """What a Sentinel said; a `ValueError` if that is no address."""
    if reply is None:
        raise ValueError("it knows no primary of this name")
    match reply:
        case [bytes(host), bytes(port)] if host.isascii() and port.isdigit():
            address = host.decode(), int(port)
            if 0 < len(host) <= HOST_MAX and host.decode().isprintable() and 0 < address[1] < 65536:
                return address
    raise ValueError("it does not answer like a Sentinel")
