"""What a peer asks of a registry."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar, cast
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from p2pshare.errors import (
    NameTaken,
    NoSuchPeer,
    RegistryUnavailable,
    RegistryUnreachable,
    RemoteProtocolError,
)
from p2pshare.net.reasons import connect_reason
from p2pshare.wire.registration import (
    PeerAddress,
    Registration,
    parse_address,
    parse_names,
    registry_url,
)

TIMEOUT = 5.0  # seconds for a whole request; of the list of all names, for its beginning
LIST_TIMEOUT = 30.0  # seconds for the list of all names
REPLY_MAX = 16 * 1024  # bytes of a reply's body
LIST_MAX = 64 * 1024 * 1024  # bytes of the list of all names
IDLE_TIMEOUT = 50.0  # seconds: a registry closes an idle connection after 60

T = TypeVar("T")

_BROKEN_OFF = (ResponseFailed, RequestGenerationFailed, RequestTransmissionFailed)
_BREAK = "it broke off in the middle of its answer"
_NO_REGISTRY = "it does not answer like a registry"


def pooled_agent(reactor: Any) -> tuple[Agent, HTTPConnectionPool]:
    """An agent that keeps its connections; close the pool's at the end."""
    pool = _QuietPool(reactor)
    pool.cachedConnectionTimeout = IDLE_TIMEOUT  # type: ignore[assignment]
    return Agent(reactor, connectTimeout=TIMEOUT, pool=pool), pool


class RegistryClient:
    """Asks one registry.

    Every method fails with `RegistryUnavailable` if the registry says that it cannot work now, and with
    `RegistryUnreachable` if it does not answer in time, or answers what no registry would.
    """

    def __init__(
        self, agent: IAgent, url: str, clock: IReactorTime, *, timeout: float = TIMEOUT
    ) -> None:
        self._agent = agent
        self.url = registry_url(url)
        self._clock = clock
        self._timeout = timeout

    async def register(self, registration: Registration) -> None:
        """Claim a name, renew the claim or, with a lease of 0, give it up.

        Raises:
            NameTaken: somebody else has it.
        """
        status, _ = await self._ask(b"POST", "name", registration.to_json())
        if status == 400:
            raise NameTaken(name=registration.name, registry=self.url)
        self._expect_ok(status)

    async def look_up(self, name: str) -> PeerAddress:
        """Where the peer of a name is.

        Raises:
            NoSuchPeer: nobody has this name.
        """
        status, body = await self._ask(b"GET", f"user/{quote(name, safe='')}")
        if status == 400:
            raise NoSuchPeer(name=name)
        self._expect_ok(status)
        try:
            return parse_address(body)
        except RemoteProtocolError as error:
            raise self._unreachable(_NO_REGISTRY) from error

    async def list_names(self) -> list[str]:
        """Every registered name."""
        status, body = await self._ask(
            b"GET", "list", limit=LIST_MAX, timeout=max(LIST_TIMEOUT, self._timeout)
        )
        self._expect_ok(status)
        try:
            return parse_names(body)
        except RemoteProtocolError as error:
            raise self._unreachable(_NO_REGISTRY) from error

    async def _ask(
        self,
        method: bytes,
        path: str,
        body: bytes | None = None,
        *,
        limit: int = REPLY_MAX,
        timeout: float | None = None,
    ) -> tuple[int, bytes]:
        exchange = _cancellable(Deferred.fromCoroutine(self._exchange(method, path, body, limit)))
        try:
            return await exchange.addTimeout(timeout or self._timeout, self._clock)
        except TimeoutError as error:
            raise self._unreachable("it did not answer in time") from error
        except (ConnectError, DNSLookupError) as error:
            raise self._unreachable(connect_reason(error)) from error
        except (ConnectionClosed, PotentialDataLoss) as error:
            raise self._unreachable(_BREAK) from error
        except _BROKEN_OFF as error:
            broke_off = any(reason.check(ConnectionClosed) for reason in error.reasons)
            raise self._unreachable(_BREAK if broke_off else "it does not speak HTTP") from error

    async def _exchange(
        self, method: bytes, path: str, body: bytes | None, limit: int
    ) -> tuple[int, bytes]:
        beginning = self._agent.request(
            method,
            f"{self.url}/{path}".encode(),
            Headers({b"User-Agent": [b"p2pshare"]}),
            None if body is None else _Sent(body),
        )
        response = await _cancellable(beginning).addTimeout(self._timeout, self._clock)
        collected = _Body(limit)
        response.deliverBody(collected)
        whole = await collected.done
        if whole is None:
            raise self._unreachable("its answer is far too long")
        return response.code, whole

    def _expect_ok(self, status: int) -> None:
        if status == 503:
            raise RegistryUnavailable(registry=self.url, status=status)
        if status != 200:
            raise self._unreachable(f"it answered HTTP {status}, as no registry would")

    def _unreachable(self, reason: str) -> RegistryUnreachable:
        return RegistryUnreachable(registry=self.url, reason=reason)


class _QuietPool(HTTPConnectionPool):
    """Connections whose beginning and end are not worth a line in the log each."""

    def getConnection(  # noqa: N802 - the agent calls it
        self, key: Hashable, endpoint: IStreamClientEndpoint
    ) -> Deferred[Any]:
        """A connection of the pool, or a new one."""
        return super().getConnection(key, _QuietEndpoint(endpoint))


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """Connect a factory that says nothing of itself."""
        cast(Factory, protocolFactory).noisy = False
        return self._endpoint.connect(protocolFactory)


def _cancellable(exchange: Deferred[T]) -> Deferred[T]:
    """What `exchange` gives, but a `CancelledError` at once if it is cancelled.

    Twisted makes a failed look-up or a broken connection of it, as if the registry were to blame.
    """

    def cancel(own: Deferred[T]) -> None:
        own.errback(CancelledError())
        exchange.cancel()

    own: Deferred[T] = Deferred(cancel)
    exchange.addBoth(lambda result: None if own.called else own.callback(result))
    return own


@implementer(IBodyProducer)
class _Sent:
    """A body so short that it goes out at once. (Twisted's own producers want the global reactor.)"""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Send it."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing to pause."""

    def resumeProducing(self) -> None:
        """Nor to resume."""

    def stopProducing(self) -> None:
        """Nor to stop."""


class _Body(Protocol):
    """Collects a body up to a limit; `done` gives None if there was more."""

    transport: Any

    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes | None] = Deferred(self._give_up)
        self._limit = limit
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Take a part."""
        self._limit -= len(data)
        if self._limit >= 0:
            self._parts.append(data)
        elif not self.done.called:
            self._give_up()
            self.done.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is all there, or will never be."""
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)

    def _give_up(self, _done: object = None) -> None:
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None:
            abort()
