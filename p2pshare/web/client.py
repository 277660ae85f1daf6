"""HTTP requests to a registry: bounded in size and time, and every failure is an error with a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    _HTTP11ClientFactory,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from p2pshare.errors import RegistryNotLookedUp, RegistryUnreachable
from p2pshare.net.dns import LookUpError, connect_reason, resolver_of
from p2pshare.net.sockets import connect_to, keep_alive
from p2pshare.web.upgrade import HEAD_MAX, UpgradeRequest
from p2pshare.wire.addresses import DEFAULT_PORTS, registry_url
from p2pshare.wire.registry_answers import Problem

TIMEOUT = (
    5.0  # seconds for a request after the look-up of the host, and for the beginning of any reply
)
REPLY_MAX = 16 * 1024  # bytes of a reply's body, by default
IDLE_TIMEOUT = 50.0  # seconds: a registry closes an idle connection after 60
PROBE_IDLE = 3  # seconds of an idle connection after which it is probed
RETRY_AFTER_MAX = 3600  # seconds of a `Retry-After` that are believed

T = TypeVar("T")

_INCOMPLETE = (ResponseFailed, RequestGenerationFailed, RequestTransmissionFailed)
BROKEN_OFF = "it broke off in the middle of its answer"
LATE = "it did not answer in time"
NO_HTTP = "it does not speak HTTP"
TOO_LONG = "its answer is too long"
TRY_HTTP = "it does not speak TLS: try http://"
UNTRUSTED = (
    "its certificate is not trusted: SSL_CERT_FILE can name an authority,"
    " and the clock of this machine must be right"
)


def pooled_agent(reactor: Any) -> tuple[PooledAgent, HTTPConnectionPool]:
    """Return an agent that keeps its connections, and their pool, which the caller closes in the end."""
    pool = _LoggedPool(reactor)
    pool.cachedConnectionTimeout = IDLE_TIMEOUT  # type: ignore[assignment]
    return PooledAgent(reactor, pool, connectTimeout=TIMEOUT), pool


class PooledAgent(Agent):
    """See `pooled_agent`; it also looks hosts up, so that the timeout of a request does not include the look-up."""

    def __init__(self, reactor: Any, pool: HTTPConnectionPool, **options: Any) -> None:
        super().__init__(reactor, pool=pool, **options)
        self.pool = pool
        self.look_up = resolver_of(reactor).look_up

    def endpoint(self, url: str) -> IStreamClientEndpoint:
        """Return where a URL leads, with the same trust in certificates as for requests."""
        return cast(IStreamClientEndpoint, self._getEndpoint(URI.fromBytes(url.encode())))


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply."""

    status: int
    body: bytes
    retry_after: int | None = None
    """Seconds of `Retry-After`, if the reply has it."""


class HttpClient:
    """Sends requests to one server.

    Every method fails with `RegistryUnreachable` if there is no complete reply in time. Redirects are not followed.
    Each request is logged for `--debug`, without its body, which may hold a secret.
    """

    _log = Logger()

    def __init__(
        self, agent: IAgent, url: str, clock: IReactorTime, *, timeout: float = TIMEOUT
    ) -> None:
        self._agent = agent
        self.url = registry_url(url)
        self._is_looked_up = not isinstance(agent, PooledAgent)
        self.clock = clock
        self.timeout = timeout
        self.has_answered = False
        """Whether a request of `ask` has had a reply."""
        self._asking = 0

    @property
    def is_awaited(self) -> bool:
        """Whether a request waits, and none has had a reply yet."""
        return self._asking > 0 and not self.has_answered

    async def ask(
        self,
        method: bytes,
        path: str,
        body: bytes | None = None,
        *,
        limit: int = REPLY_MAX,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send a request, and return the complete reply.

        Args:
            method: of HTTP.
            path: encoded; it follows the URL and a slash.
            body: JSON.
            limit: bytes of the reply's body.
            timeout: seconds for the request and the reply, after the look-up of the host.
            headers: to send.
        """

        async def exchange() -> Reply:
            return await self._collect(
                await self._request(method, path, body, headers or {}), limit
            )

        self._asking += 1
        try:
            with self._reported(method, path) as log:
                await self._look_up()
                asking = _cancellable(Deferred.fromCoroutine(exchange()))
                reply = await asking.addTimeout(timeout or self.timeout, self.clock)
                log(reply)
        finally:
            self._asking -= 1
        self.has_answered = True
        return reply

    async def stream(
        self,
        path: str,
        on_begun: Callable[[], object],
        on_data: Callable[[bytes], object],
        idle: float,
        headers: dict[str, str],
    ) -> Reply | None:
        """Send a GET whose reply has no end, and return when the server ends it.

        Args:
            path: as for `ask`.
            on_begun: called when the head of the reply has arrived.
            on_data: called with each part of the body; an exception that it raises ends the stream, and is raised.
            idle: seconds without data after which the stream counts as broken.
            headers: to send.

        Returns:
            The reply if its status is not 200.
        """
        with self._reported(b"GET", path) as log:
            await self._look_up()
            response = await self._request(b"GET", path, None, headers)
            if response.code != 200:
                collecting = self._collect(response, REPLY_MAX)
                return await collecting.addTimeout(self.timeout, self.clock)
            log(Reply(response.code, b""))
            on_begun()
            body = _Body(on_data, self.clock, idle)
            response.deliverBody(body)
            await body.done
        return None

    def close_idle(self) -> None:
        """Close the connections that wait for a request: they may be of a network that this machine has left."""
        if isinstance(self._agent, PooledAgent):
            self._agent.pool.closeCachedConnections()

    async def upgrade(
        self,
        path: str,
        protocol: str,
        headers: dict[str, str],
        make: Callable[[], IProtocol],
        timeout: float,
    ) -> Reply | None:
        """Send a GET on a connection of its own, which another protocol gets if the server agrees.

        Args:
            path: as for `ask`.
            protocol: the value of `Upgrade`, in lower case.
            headers: to send.
            make: makes the protocol that gets the connection.
            timeout: seconds from the look-up of the host until the server has agreed.

        Returns:
            The reply if the server refuses.
        """
        assert isinstance(self._agent, PooledAgent)
        url = urlsplit(self.url)
        lines = [f"GET {url.path}/{path} HTTP/1.1", f"Host: {url.netloc}", "User-Agent: p2pshare"]
        lines += ["Connection: Upgrade", f"Upgrade: {protocol}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        asking = UpgradeRequest("\r\n".join([*lines, "", ""]).encode(), protocol, make)
        endpoint = self._agent.endpoint(self.url)

        async def exchange() -> Reply | None:
            await connect_to(endpoint, asking)
            refusal = await asking.done
            if refusal is None:
                return None
            status, head, body = refusal
            return Reply(status, body, _retry_after(head))

        with self._reported(b"GET", path) as log:
            await self._look_up()
            exchanging = _cancellable(Deferred.fromCoroutine(exchange()))
            reply = await exchanging.addTimeout(timeout, self.clock)
            log(reply or Reply(HTTPStatus.SWITCHING_PROTOCOLS, b""))
        return reply

    def unreachable(self, reason: str) -> RegistryUnreachable:
        """Return the error for a missing or unexpected reply; the host is looked up again for the next request."""
        self._is_looked_up = False
        return RegistryUnreachable(registry=self.url, reason=reason)

    async def _look_up(self) -> None:
        """Look the host up before the first request and after each failure; a connection that works needs no DNS."""
        if not self._is_looked_up and isinstance(self._agent, PooledAgent):
            await self._agent.look_up(urlsplit(self.url).hostname or "")
            self._is_looked_up = True

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

    def _collect(self, response: IResponse, limit: int) -> Deferred[Reply]:
        content = bytearray()

        def collect(data: bytes) -> None:
            content.extend(data)
            if len(content) > limit:
                raise self.unreachable(TOO_LONG)

        body = _Body(collect)
        response.deliverBody(body)
        retry_after = _retry_after(response.headers)
        return body.done.addCallback(lambda _: Reply(response.code, bytes(content), retry_after))

    @contextmanager
    def _reported(self, method: bytes, path: str) -> Iterator[Callable[[Reply], None]]:
        """Translate what a request raises, and log its outcome; the result is to be called with the reply."""
        began, request = self.clock.seconds(), f"{method.decode()} {self.url}/{path}"

        def log(reply: Reply) -> None:
            problem = Problem.parse(reply.status, reply.body) if reply.status >= 400 else None
            self._log.debug(
                "answered: request={request!r} status={status} s={s:.3f} bytes={size}{problem}",
                request=request,
                status=reply.status,
                s=self.clock.seconds() - began,
                size=len(reply.body),
                problem=f" problem={problem.word!r} detail={problem.detail!r}" if problem else "",
            )

        try:
            with self._translated():
                yield log
        except BaseException as error:
            cause = error.__cause__
            self._log.debug(
                "not answered: request={request!r} s={s:.3f} why={why!r} cause={cause!r}",
                request=request,
                s=self.clock.seconds() - began,
                why=str(error) or type(error).__name__,
                cause=cause and f"{type(cause).__name__}: {cause}",
            )
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise the errors of Twisted as ours."""
        try:
            yield
        except TimeoutError as error:
            reason = LATE
            if self.url.startswith("https:"):  # a server that waits for more of our hello
                reason += "; if it does not speak TLS, try http://"
            raise self._not_connected(reason) from error
        except LookUpError as error:
            self._is_looked_up = False
            raise RegistryNotLookedUp(registry=self.url, reason=error.reason) from error
        except (ConnectError, DNSLookupError) as error:
            raise self._not_connected(connect_reason(error)) from error
        except (ConnectionClosed, PotentialDataLoss) as error:
            raise self.unreachable(BROKEN_OFF) from error
        except _INCOMPLETE as error:
            raise self.unreachable(_reason(error.reasons)) from error

    def _not_connected(self, reason: str) -> RegistryUnreachable:
        """Return the error for a missing connection; it names the port if the URL does not."""
        url = urlsplit(self.url)
        port = "" if url.port else f", at port {DEFAULT_PORTS[url.scheme]}"
        return self.unreachable(f"{reason}{port}")


def _reason(reasons: Sequence[Failure]) -> str:
    """Return why a reply is incomplete."""
    for reason in reasons:
        if reason.check(_HeadTooLong):
            return TOO_LONG
        if reason.check(VerificationError):
            return "its certificate is for another host"
        if reason.check(SSL.Error):
            return UNTRUSTED if "certificate verify failed" in str(reason.value) else TRY_HTTP
    is_broken_off = any(reason.check(ConnectionClosed) for reason in reasons)
    return BROKEN_OFF if is_broken_off else NO_HTTP


def _retry_after(headers: Headers) -> int | None:
    """Return the seconds of `Retry-After`; a date is ignored."""
    values = headers.getRawHeaders(b"Retry-After") or [b""]
    if not re.fullmatch(rb"[0-9]{1,9}", values[0]):
        return None
    return min(int(values[0]), RETRY_AFTER_MAX)


class _HeadTooLong(Exception):  # noqa: N818 - it is the reason of an error
    """The head of a reply has more than `HEAD_MAX` bytes."""


@dataclass(eq=False, slots=True)
class _Head:
    """The head of a reply that is awaited."""

    size: int = 0
    """Bytes that have arrived of it."""


class _BoundedConnection(HTTP11ClientProtocol):
    """A connection that is aborted if the head of a reply is too long: Twisted bounds its lines, not their number."""

    transport: Any
    _head: _Head | None = None
    """The head that is awaited; None between the head of a reply and the next request."""

    def request(self, request: Any) -> Deferred[IResponse]:
        """Send a request, and return its response as soon as the head is complete."""
        head = self._head = _Head()

        def ended(result: IResponse | Failure) -> IResponse | Failure:
            self._head = None
            is_too_long = head.size > HEAD_MAX and isinstance(result, Failure)
            return Failure(ResponseFailed([Failure(_HeadTooLong())])) if is_too_long else result

        return super().request(request).addBoth(ended)

    def dataReceived(self, data: bytes) -> None:
        """Parse bytes. They may end a reply, after which the next request begins at once: they are not of its head."""
        head = self._head
        super().dataReceived(data)
        if head is not None and head is self._head:
            head.size += len(data)
            if head.size > HEAD_MAX:
                self.transport.abortConnection()


class _BoundedFactory(_HTTP11ClientFactory):
    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:
        return _BoundedConnection(self._quiescentCallback)


class _LoggedPool(HTTPConnectionPool):
    """Connections that are bounded, and logged for `--debug` by us, not by Twisted's factories at every start."""

    _factory = _BoundedFactory

    def getConnection(  # noqa: N802 - the agent calls it
        self, key: Hashable, endpoint: IStreamClientEndpoint
    ) -> Deferred[Any]:
        """Return a connection of the pool, or a new one."""
        scheme, host, port = cast(tuple[bytes, bytes, int], key)
        url = f"{scheme.decode()}://{host.decode()}:{port}"
        return super().getConnection(key, _LoggedEndpoint(endpoint, url, self._reactor))


@implementer(IStreamClientEndpoint)
class _LoggedEndpoint:
    _log = Logger()

    def __init__(self, endpoint: IStreamClientEndpoint, url: str, clock: IReactorTime) -> None:
        self._endpoint = endpoint
        self._url = url
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """Connect, and log the outcome."""
        cast(Factory, protocolFactory).noisy = False
        began = self._clock.seconds()

        def log(result: IProtocol | Failure) -> IProtocol | Failure:
            facts: dict[str, Any] = {"to": self._url, "s": self._clock.seconds() - began}
            if isinstance(result, Failure):
                why = result.getErrorMessage()
                self._log.debug(
                    "connection failed: to={to} s={s:.3f} why={why!r}", why=why, **facts
                )
            else:
                keep_alive(getattr(result, "transport", None), PROBE_IDLE)
                peer = getattr(getattr(result, "transport", None), "getPeer", lambda: None)()
                host = getattr(peer, "host", peer)
                self._log.debug("connected: to={to} address={host} s={s:.3f}", host=host, **facts)
            return result

        return self._endpoint.connect(protocolFactory).addBoth(log)


def _cancellable(exchange: Deferred[T]) -> Deferred[T]:
    """Return a Deferred like `exchange` that fails with `CancelledError` at once if it is cancelled.

    Twisted turns the cancellation into a failed look-up or a broken connection, for which the registry would be blamed.
    """

    def cancel(own: Deferred[T]) -> None:
        own.errback(CancelledError())
        exchange.cancel()

    own: Deferred[T] = Deferred(cancel)
    exchange.addBoth(lambda result: None if own.called else own.callback(result))
    return own


@implementer(IBodyProducer)
class _Sent:
    """A body that is sent at once. (Twisted's own producers use the global reactor.)"""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Send it."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: it is sent already."""

    resumeProducing = stopProducing = pauseProducing


class _Body(Protocol):
    """Receives a body; `done` fires at its end, and fails if the body is incomplete or `on_data` raises."""

    transport: Any

    def __init__(
        self,
        on_data: Callable[[bytes], object],
        clock: IReactorTime | None = None,
        idle: float = 0.0,
    ) -> None:
        """Call `on_data` with each part.

        With a `clock`, the body is a stream: it may end anywhere, and it is ended after `idle` seconds without data.
        """
        self.done: Deferred[None] = Deferred(lambda _: self._abort())
        self._on_data = on_data
        self._idle = idle
        self._silence: IDelayedCall | None = None
        if clock is not None:
            self._silence = clock.callLater(idle, self._stop)
        self._is_over = False

    def dataReceived(self, data: bytes) -> None:
        """Pass a part on."""
        if self._is_over:
            return
        if self._silence is not None:
            self._silence.reset(self._idle)
        try:
            self._on_data(data)
        except Exception:
            self._stop(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the body; it is complete if `reason` says so."""
        if not self._is_over:
            is_regular = self._silence is not None or reason.check(ResponseDone)
            self._end()
            self.done.callback(cast(Any, None if is_regular else reason))

    def _stop(self, failure: Failure | None = None) -> None:
        self._abort()
        self.done.callback(cast(Any, failure))  # a Failure fails it

    def _end(self) -> None:
        self._is_over = True
        if self._silence is not None and self._silence.active():
            self._silence.cancel()

    def _abort(self) -> None:
        self._end()
        # The transport here is Twisted's proxy, which cannot abort. Nothing waits to be sent, so it closes at once.
        lose = getattr(self.transport, "loseConnection", None)
        if lose is not None:
            lose()
