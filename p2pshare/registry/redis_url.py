"""The Redis at a URL: how it is reached, again and again, whatever it suffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import txredisapi
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from p2pshare.errors import BadSetting
from p2pshare.net.reasons import connect_reason

PORT = 6379
REPLY_TIMEOUT = 1.5  # seconds until a connection on which Redis is silent is given up
CONNECT_TIMEOUT = 1.5  # seconds
RETRY_FIRST, RETRY_MAX = 0.05, 0.5  # seconds between attempts to reach a Redis that is away
REJECTED_MAX = 2.0  # seconds between attempts where Redis takes connections, but not us
TELL_AFTER = 6  # attempts, which take some 2 s: our own Redis needs a few at the start

Connect = Callable[[], Any]
"""Gives a connection of txredisapi, which is made by and by, and made again when it is lost."""


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def connector(url: str, reactor: Any) -> Connect:
    """A function that connects to the Redis at `url`.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS, the certificate is
            verified), or `unix:///path/of/socket[?db=1]`.
        reactor: what connects.

    Raises:
        BadSetting: it is none of these.
    """
    try:
        parts = urlsplit(url)
        database = _database(parts)
        endpoint = _QuietEndpoint(_endpoint(parts, reactor), reactor, without_password(url))
    except ValueError:
        raise BadSetting(
            source="--redis",
            setting="the URL",
            value=without_password(url),
            expected="redis://[user:password@]host[:port][/db], rediss://... or unix:///path[?db=1]",
        ) from None

    def connect() -> Any:
        factory = _TirelessFactory(
            uuid=without_password(url),
            dbid=database or None,  # SELECT 0 would say nothing
            poolsize=1,
            isLazy=False,
            charset=None,
            username=unquote(parts.username or "") or None,
            password=unquote(parts.password or "") or None,
            replyTimeout=REPLY_TIMEOUT,
            convertNumbers=False,
        )
        factory.startConnecting(endpoint)
        return factory.handler

    return connect


def _database(parts: SplitResult) -> int:
    if parts.scheme == "unix":
        return int(parse_qs(parts.query).get("db", ["0"])[0])
    return int(parts.path[1:] or "0")


def _endpoint(parts: SplitResult, reactor: Any) -> IStreamClientEndpoint:
    """Where a URL leads; a `ValueError` if it leads nowhere."""
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return UNIXClientEndpoint(reactor, unquote(parts.path), timeout=CONNECT_TIMEOUT)
    host = parts.hostname
    if not host or parts.scheme not in ("redis", "rediss"):
        raise ValueError(parts.scheme)
    plain = HostnameEndpoint(reactor, host, parts.port or PORT, timeout=CONNECT_TIMEOUT)
    return wrapClientTLS(optionsForClientTLS(host), plain) if parts.scheme == "rediss" else plain


class _TirelessFactory(txredisapi.RedisFactory):
    """Never gives up.

    By itself the library would, once AUTH or SELECT fails: but a Redis that has just been started may answer that it
    is still loading, and one that hangs answers nothing.
    """

    _log = Logger()
    _told = ""

    def retryDelay(self, attempt: int) -> float:  # noqa: N802 - the library calls it
        """Seconds to wait after a connection was lost, for the `attempt`th time without being of any use."""
        return float(min(RETRY_FIRST * 4 ** min(attempt - 1, 10), REJECTED_MAX))

    def stopTrying(self) -> Deferred[list[None]]:  # noqa: N802 - the library calls it
        """Go on."""
        return succeed([])

    def connectionError(self, why: str) -> None:  # noqa: N802 - the library calls it
        """Say once what is wrong."""
        if why != self._told:
            self._told = why
            self._log.warn("Redis takes the connection, but not us: {why!r}", why=why)


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    """Tries until it succeeds: Twisted's `ClientService` would do so too, but log each attempt."""

    _log = Logger()

    def __init__(self, endpoint: IStreamClientEndpoint, clock: Any, shown: str) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._shown = shown

    def __repr__(self) -> str:
        return f"Redis at {self._shown}"  # as ClientService's log names it

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """Connect as soon as that is possible; cancel it to stop trying."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        attempt, delay = 0, RETRY_FIRST
        while True:
            try:
                return await self._endpoint.connect(factory)
            except (ConnectError, DNSLookupError) as error:
                attempt += 1
                if attempt == TELL_AFTER:
                    self._log.warn(
                        "{redis!r} cannot be reached ({reason}): trying until it can be",
                        redis=self,
                        reason=connect_reason(error),
                    )
            await deferLater(self._clock, delay, lambda: None)
            delay = min(2 * delay, RETRY_MAX)
