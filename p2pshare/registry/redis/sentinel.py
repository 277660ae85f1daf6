"""An endpoint that leads to the primary of a set of Redis servers, as the Sentinels name it.

https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from txredisapi import ConnectionError, RedisError, ResponseError
from zope.interface import implementer

from p2pshare.registry.redis.connection import SILENT, Login, RedisProtocol, open_connection

SENTINEL_PORT = 26379
SENTINELS_MAX = 9
SENTINEL_TIMEOUT = 0.5  # seconds for the reply of one Sentinel
CHECK_INTERVAL = 1.0  # seconds between checks whether the primary is still the primary
HOST_MAX = 253  # characters

Address = tuple[str, int]
"""Host and port."""


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """Connects to the primary that is called `name`.

    The Sentinel that answered last is asked first. A Sentinel whose primary turns out to be unusable moves to the end.
    While a connection lasts, the Sentinels and the server are asked once a second; if the server is no longer the
    primary, the connection is aborted.
    """

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
        self._logged: dict[Address, str] = {}

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """Find the primary and connect to it; takes up to `SENTINEL_TIMEOUT` for each Sentinel."""
        return cast(Deferred[IProtocol], Deferred.fromCoroutine(self._connect(protocolFactory)))

    async def _connect(self, factory: IProtocolFactory) -> RedisProtocol:
        address = await self._find()
        if address is None:
            raise ConnectionError(f"no Sentinel says where {self._name!r} is")
        endpoint = self._endpoint(*address)
        protocol: RedisProtocol | None = None
        try:
            protocol = cast(RedisProtocol, await endpoint.connect(factory))
            # The reply does not depend on the database, so the command may follow the login at once.
            if not await _is_primary(protocol):
                raise ConnectionError("it is no primary")
        except BaseException:
            if protocol is not None:
                protocol.drop()
            self._sentinels.append(self._sentinels.pop(0))
            raise
        protocol.endpoint = endpoint
        watching = Deferred.fromCoroutine(self._watch(protocol, address))
        watching.addErrback(lambda failure: failure.trap(CancelledError, RedisError) and None)
        protocol.gone.addCallback(lambda _: watching.cancel())
        return protocol

    async def _watch(self, protocol: RedisProtocol, address: Address) -> None:
        """Abort a connection when its server is no longer the primary."""
        while True:
            await deferLater(self._clock, CHECK_INTERVAL)
            if await self._find() not in (address, None) or not await _is_primary(protocol):
                protocol.why = "another server is the primary now"
                protocol.drop()
                return

    async def _find(self) -> Address | None:
        """Return the address of the primary; None if no Sentinel names one."""
        for sentinel in list(self._sentinels):
            asking = Deferred.fromCoroutine(self._ask(sentinel))
            address, problem = None, ""
            try:
                address = await asking.addTimeout(SENTINEL_TIMEOUT, self._clock)
            except (TimeoutError, RedisError, ValueError) as error:
                problem = SILENT if isinstance(error, TimeoutError) else str(error)
            self._log_problem(sentinel, problem)
            if address is not None:
                self._sentinels.sort(key=lambda each: each != sentinel)
                return address
        return None

    async def _ask(self, sentinel: Address) -> Address:
        protocol = await open_connection(self._endpoint(*sentinel), self._login)
        try:
            question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            return _address(await protocol.execute_command(*question))
        finally:
            protocol.drop()

    def _log_problem(self, sentinel: Address, problem: str) -> None:
        """Log the problem of a Sentinel once, until it has another one."""
        if problem and problem != self._logged.get(sentinel):
            host, port = sentinel
            self._log.warn(
                "sentinel failed: sentinel={host}:{port} primary={name!r} reason={reason!r}",
                host=host,
                port=port,
                name=self._name,
                reason=problem,
            )
        self._logged[sentinel] = problem


async def _is_primary(protocol: RedisProtocol) -> bool:
    """Return whether a server is a primary, by its own account; True if it does not say."""
    try:
        role = await protocol.execute_command("ROLE")
    except ResponseError:
        return True  # the user may not ask: a write to a replica fails anyway
    return isinstance(role, list) and role[:1] == [b"master"]


def _address(reply: object) -> Address:
    """Read the reply of a Sentinel.

    Raises:
        ValueError: it names no address.
    """
    if reply is None:
        raise ValueError("it knows no primary of this name")
    match reply:
        case [bytes(host), bytes(port)] if host.isascii() and port.isdigit():
            address = host.decode(), int(port)
            if 0 < len(host) <= HOST_MAX and host.decode().isprintable() and 0 < address[1] < 65536:
                return address
    raise ValueError("it does not answer like a Sentinel")
