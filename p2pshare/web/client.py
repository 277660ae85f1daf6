"""HTTP requests to a registry, bounded in size and time, with every failure told in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from OpenSSL import SSL
from service_identity import VerificationError
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
from twisted.logger import Logger
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
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from p2pshare.errors import RegistryNotLookedUp, RegistryUnreachable
from p2pshare.net.look_up import LookUpError, connect_reason, resolver_of
from p2pshare.wire.addresses import DEFAULT_PORTS, registry_url
from p2pshare.wire.registry_answers import Problem

TIMEOUT = 5.0  # seconds for a request once the server's name is looked up, and for the beginning of any answer
REPLY_MAX = 16 * 1024  # bytes of a reply's body, unless told otherwise
IDLE_TIMEOUT = 50.0  # seconds: a registry closes an idle connection after 60
RETRY_AFTER_MAX = 3600  # seconds that a registry can tell us to wait

T = TypeVar("T")

_BROKEN_OFF = (ResponseFailed, RequestGenerationFailed, RequestTransmissionFailed)
_BREAK = "it broke off in the middle of its answer"
_LATE = "it did not answer in time"
_TRY_HTTP = "it does not speak TLS: try http://"


def pooled_agent(reactor: Any) -> tuple[PooledAgent, HTTPConnectionPool]:
    """An agent that keeps its connections; close the pool's at the end."""
    pool = _QuietPool(reactor)
    pool.cachedConnectionTimeout = IDLE_TIMEOUT  # type: ignore[assignment]
    return PooledAgent(reactor, connectTimeout=TIMEOUT, pool=pool), pool


class PooledAgent(Agent):
    """See `pooled_agent`; it also looks names up, so that a request's timeout is not spent on that."""

    def __init__(self, reactor: Any, **options: Any) -> None:
        super().__init__(reactor, **options)
        self.look_up = resolver_of(reactor).look_up


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    retry_after: int | None = None
    """Seconds after which to come again, if it said so."""


class HttpClient:
    """Asks one server.

    Every method fails with `RegistryUnreachable` if there is no answer in time, or not a whole one. Each request is
    logged for debugging, without its body: that may hold a secret.
    """

    _log = Logger()

    def __init__(
        self, agent: IAgent, url: str, clock: IReactorTime, *, timeout: float = TIMEOUT
    ) -> None:
        self._agent = agent
        self.url = registry_url(url)
        self._is_found = not isinstance(agent, PooledAgent)
        self.clock = clock
        self.timeout = timeout

    async def ask(
        self,
        method: bytes,
        path: str,
        body: bytes | None = None,
        *,
        limit: int = REPLY_MAX,
        timeout: float | None = None,
    ) -> Reply:
        """Send a request, and wait for the whole answer.

        Args:
            method: of HTTP.
            path: what follows the URL and a slash, encoded.
            body: JSON.
            limit: bytes of the answer's body.
            timeout: seconds for everything.
        """

        async def exchange() -> Reply:
            return await self._collect(await self._request(method, path, body, {}), limit)

        with self._logged(method, path) as log:
            await self._translated(self._look_up(), None)
            reply = await self._translated(exchange(), timeout or self.timeout)
            log(reply)
        return reply

    async def stream(
        self,
        path: str,
        on_begun: Callable[[], object],
        on_data: Callable[[bytes], object],
        idle: float,
        headers: dict[str, str],
    ) -> Reply | None:
        """Ask for an answer without an end; returns when the server ends it.

        Args:
            path: as for `ask`.
            on_begun: hears that the server begins.
            on_data: hears each part of the body; what it raises ends the stream, and is raised.
            idle: seconds without any data after which the server counts as gone.
            headers: to send.

        Returns:
            What the server answered instead, if it was not 200.
        """

        async def exchange() -> Reply | None:
            response = await self._request(b"GET", path, None, headers)
            if response.code != 200:
                return await self._collect(response, REPLY_MAX).addTimeout(self.timeout, self.clock)
            log(Reply(response.code, b""))
            on_begun()
            streamed = _Streamed(on_data, self.clock, idle)
            response.deliverBody(streamed)
            await streamed.done
            return None

        with self._logged(b"GET", path) as log:
            await self._translated(self._look_up(), None)
            return await self._translated(exchange(), None)

    @contextmanager
    def _logged(self, method: bytes, path: str) -> Iterator[Callable[[Reply], None]]:
        """Log what becomes of a request; the result is to be told the reply."""
        began, request = self.clock.seconds(), f"{method.decode()} {self.url}/{path}"

        def log(reply: Reply) -> None:
            s, size, status = self.clock.seconds() - began, len(reply.body), reply.status
            problem = Problem.parse(status, reply.body) if status >= 400 else None
            self._log.debug(
                "answered: request={request!r} status={status} s={s:.3f} bytes={size}{problem}",
                request=request,
                status=status,
                s=s,
                size=size,
                problem=""
                if problem is None
                else f" problem={problem.word!r} detail={problem.detail!r}",
            )

        try:
            yield log
        except BaseException as error:
            self._log.debug(
                "not answered: request={request!r} s={s:.3f} why={why!r} cause={cause!r}",
                request=request,
                s=self.clock.seconds() - began,
                why=str(error) or type(error).__name__,
                cause=None
                if error.__cause__ is None
                else f"{type(error.__cause__).__name__}: {error.__cause__}",
            )
            raise

    async def _look_up(self) -> None:
        """Look the server's name up before the first request and after each failure: what works needs no DNS."""
        if not self._is_found and isinstance(self._agent, PooledAgent):
            await self._agent.look_up(urlsplit(self.url).hostname or "")
            self._is_found = True

    def _collect(self, response: IResponse, limit: int) -> Deferred[Reply]:
        collected = _Collected(limit)
        response.deliverBody(collected)

        def reply(whole: bytes | None) -> Reply:
            if whole is None:
                raise self.unreachable("its answer is far too long")
            return Reply(response.code, whole, _retry_after(response.headers))

        return collected.done.addCallback(reply)

    def _no_connection(self, reason: str) -> RegistryUnreachable:
        """The error that there is no connection; it names the port if the URL does not."""
        url = urlsplit(self.url)
        port = "" if url.port else f", at port {DEFAULT_PORTS[url.scheme]}"
        return self.unreachable(f"{reason}{port}")

    def unreachable(self, reason: str) -> RegistryUnreachable:
        """The error that says why there is no answer."""
        self._is_found = False
        return RegistryUnreachable(registry=self.url, reason=reason)

    async def _request(
        self, method: bytes, path: str, body: bytes | None, headers: dict[str, str]
    ) -> IResponse:
        sent = Headers({"User-Agent": ["p2pshare"], **{k: [v] for k, v in headers.items()}})
        if body is not None:
            sent.addRawHeader("Content-Type", "application/json")
        beginning = self._agent.request(
            method, f"{self.url}/{path}".encode(), sent, None if body is None else _Sent(body)
        )
        return await _cancellable(beginning).addTimeout(self.timeout, self.clock)

    async def _translated(
        self, exchange: Coroutine[Deferred[Any], Any, T], timeout: float | None
    ) -> T:
        going: Deferred[T] = _cancellable(Deferred.fromCoroutine(exchange))
        try:
            return await (going if timeout is None else going.addTimeout(timeout, self.clock))
        except TimeoutError as error:
            reason = _LATE
            if self.url.startswith("https:"):  # a server that waits for more of our hello
                reason += "; if it does not speak TLS, try http://"
            raise self._no_connection(reason) from error
        except LookUpError as error:
            self._is_found = False
            raise RegistryNotLookedUp(registry=self.url, reason=error.reason) from error
        except (ConnectError, DNSLookupError) as error:
            raise self._no_connection(connect_reason(error)) from error
        except (ConnectionClosed, PotentialDataLoss) as error:
            raise self.unreachable(_BREAK) from error
        except _BROKEN_OFF as error:
            raise self.unreachable(_broken_off(error.reasons)) from error


def _broken_off(reasons: Sequence[Failure]) -> str:
    """Why an answer did not come whole."""
    for reason in reasons:
        if reason.check(VerificationError):
            return "its certificate is for another host"
        if reason.check(SSL.Error):
            if "certificate verify failed" in str(reason.value):
                return (
                    "its certificate is not trusted: SSL_CERT_FILE can name an authority, and the clock of this machine"
                    " must be right"
                )
            return _TRY_HTTP
    broke_off = any(reason.check(ConnectionClosed) for reason in reasons)
    return _BREAK if broke_off else "it does not speak HTTP"


def _retry_after(headers: Headers) -> int | None:
    """The seconds of `Retry-After`; a date is not read."""
    values = headers.getRawHeaders(b"Retry-After") or [b""]
    if not re.fullmatch(rb"[0-9]{1,9}", values[0]):
        return None
    return min(int(values[0]), RETRY_AFTER_MAX)


class _QuietPool(HTTPConnectionPool):
    """Connections whose beginning and end are not worth a line in the log each."""

    def getConnection(  # noqa: N802 - the agent calls it
        self, key: Hashable, endpoint: IStreamClientEndpoint
    ) -> Deferred[Any]:
        """A connection of the pool, or a new one."""
        scheme, host, port = cast(tuple[bytes, bytes, int], key)
        there = f"{scheme.decode()}://{host.decode()}:{port}"
        return super().getConnection(key, _QuietEndpoint(endpoint, there, self._reactor))


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    _log = Logger()

    def __init__(self, endpoint: IStreamClientEndpoint, there: str, clock: IReactorTime) -> None:
        self._endpoint = endpoint
        self._there = there
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """Connect a factory that says nothing of itself."""
        cast(Factory, protocolFactory).noisy = False
        connecting = self._endpoint.connect(protocolFactory)
        return connecting.addBoth(self._logged, self._clock.seconds())

    def _logged(self, result: IProtocol | Failure, began: float) -> IProtocol | Failure:
        s = self._clock.seconds() - began
        if isinstance(result, Failure):
            self._log.debug(
                "connection failed: to={there} s={s:.3f} why={why!r}",
                there=self._there,
                s=s,
                why=result.getErrorMessage(),
            )
        else:
            peer = getattr(getattr(result, "transport", None), "getPeer", lambda: None)()
            self._log.debug(
                "connected: to={there} address={address} s={s:.3f}",
                there=self._there,
                address=getattr(peer, "host", peer),
                s=s,
            )
        return result


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


class _Collected(Protocol):
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
        _abort(self.transport)


class _Streamed(Protocol):
    """Hands a body on as it comes; `done` fires at its end, however it ends."""

    transport: Any

    def __init__(
        self, on_data: Callable[[bytes], object], clock: IReactorTime, idle: float
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._stop())
        self._on_data = on_data
        self._idle = idle
        self._silence = clock.callLater(idle, self._end)

    def dataReceived(self, data: bytes) -> None:
        """Hand a part on."""
        if self.done.called:
            return
        self._silence.reset(self._idle)
        try:
            self._on_data(data)
        except Exception:
            self._end(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is no more."""
        self._end()

    def _end(self, failure: Failure | None = None) -> None:
        if not self.done.called:
            self._stop()
            if failure is None:
                self.done.callback(None)
            else:
                self.done.errback(failure)

    def _stop(self) -> None:
        if self._silence.active():
            self._silence.cancel()
        _abort(self.transport)


def _abort(transport: Any) -> None:
    abort = getattr(transport, "abortConnection", None)
    if abort is not None:
        abort()
