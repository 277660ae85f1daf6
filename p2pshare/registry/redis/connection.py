"""Connections to Redis, through txredisapi: made and logged in, in use, and once lost never again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import txredisapi
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    DNSLookupError,
)
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from p2pshare.net.dns import connect_reason

REPLY_TIMEOUT = 1.5  # seconds without a reply after which a connection is aborted
SILENT = "no reply in time"
NOT_REDIS = "it does not answer like a Redis"
NO_TLS = "it does not speak TLS"
UNTRUSTED = "its certificate is not trusted"
OTHER_HOST = "its certificate is for another host"


@dataclass(frozen=True, slots=True)
class Login:
    """The user and the database of a connection."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0


@dataclass(frozen=True, slots=True)
class RedisConnector:
    """Connects to a Redis."""

    endpoint: IStreamClientEndpoint
    login: Login
    shown: str = "Redis"
    """Its URL without secrets."""

    async def connect(
        self, beside: RedisProtocol | None = None, kind: type[RedisProtocol] | None = None
    ) -> RedisProtocol:
        """Return a new connection that can be used.

        Args:
            beside: another connection; the new one leads to the same server.
            kind: the class of the connection.

        Raises:
            RedisError: there is none; its string says why.
        """
        endpoint = self.endpoint if beside is None else beside.endpoint
        protocol = await open_connection(endpoint or self.endpoint, self.login, kind)
        try:
            await protocol.execute_command("PING")
        except BaseException:
            protocol.drop()
            raise
        return protocol


async def open_connection(
    endpoint: IStreamClientEndpoint, login: Login, kind: type[RedisProtocol] | None = None
) -> RedisProtocol:
    """Connect to a Redis or a Sentinel, and log in.

    Raises:
        RedisError: that failed; its string says why.
    """
    try:
        protocol = cast(RedisProtocol, await endpoint.connect(_Factory(login, kind)))
    except (CancelledError, txredisapi.RedisError):
        raise
    except ConnectingCancelledError as error:  # the endpoints' own word for it
        raise CancelledError from error
    except Exception as error:  # whatever it is, the link has to try again
        raise txredisapi.ConnectionError(_failure(error)) from error
    try:
        if not await protocol.usable:
            raise txredisapi.ConnectionError(protocol.why or "it hangs up")
    except BaseException:
        protocol.drop()
        raise
    return protocol


class RedisProtocol(txredisapi.RedisProtocol):
    """One connection. A command fails with `ResponseError` if Redis refuses it, and with another `RedisError` if the
    connection is lost.
    """

    why = ""
    """Why the connection cannot be used, or was lost."""
    endpoint: IStreamClientEndpoint | None = None
    """Where it leads, if the endpoint that has connected it chooses among several servers."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.usable: Deferred[bool] = Deferred()
        """Fires once: whether the login was accepted. Only `open_connection` waits for it."""
        self.gone: Deferred[None] = Deferred()
        """Fires when the connection is lost."""
        self.whenConnected().addCallback(lambda _: self.usable.callback(True))

    def drop(self) -> None:
        """Close the connection at once: commands that wait for a reply fail."""
        if self.transport is not None:
            self.transport.abortConnection()

    async def disconnect(self) -> None:
        """Close the connection; return when it is closed."""
        closed: Deferred[None] = Deferred()
        self.gone.addCallback(closed.callback)
        self.drop()
        await closed

    def eval(
        self, script: str, keys: Sequence[str] = (), args: Sequence[object] = ()
    ) -> Deferred[Any]:
        """Run a script: by its digest, or whole if Redis does not know it. It has no timeout of its own.

        The `eval` of the library does the same, but computes the digest for each call. With several scripts to a
        request that is a good part of the cost of a request.
        """
        digest, rest = _digest(script), (len(keys), *keys, *args)
        if digest not in self.script_hashes:
            return self._eval_whole(script, digest, rest)
        reply = self.execute_command("EVALSHA", digest, *rest, apply_timeout=False)
        return reply.addErrback(self._unknown_script, script, digest, rest)  # type: ignore[no-any-return]

    def _eval_whole(self, script: str, digest: str, rest: tuple[object, ...]) -> Deferred[Any]:
        self.script_hashes.add(digest)
        return self.execute_command("EVAL", script, *rest, apply_timeout=False)  # type: ignore[no-any-return]

    def _unknown_script(
        self, failure: Failure, script: str, digest: str, rest: tuple[object, ...]
    ) -> Deferred[Any]:
        failure.trap(txredisapi.ResponseError)
        if not str(failure.value).startswith("NOSCRIPT"):
            failure.raiseException()
        return self._eval_whole(script, digest, rest)

    def _build_command(self, *words: object, **_options: object) -> bytes:
        """Return a command as bytes. That of the library takes several times as long."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
        return b"".join(parts)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Parse replies. Bytes that no Redis would send end the connection."""
        try:
            super().dataReceived(data, unpause)
        except (ValueError, TypeError, AttributeError, txredisapi.RedisError):
            self.why = NOT_REDIS
            self.transport.abortConnection()

    def replyReceived(self, reply: object) -> None:  # noqa: N802 - the library calls it
        """Pass a reply on. If the connection is lost, the reason replaces the error of the library."""
        lost = self.why and isinstance(reply, txredisapi.ConnectionError)
        super().replyReceived(txredisapi.ConnectionError(self.why) if lost else reply)

    def connectionLost(self, why: Failure) -> None:
        """Let all pending commands fail."""
        self.why = self.why or _loss(why)
        super().connectionLost(why)
        if not self.usable.called:
            self.usable.callback(False)
        self.gone.callback(None)


@cache
def _digest(script: str) -> str:
    """Return the digest by which Redis knows a script; there are two dozen scripts."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _failure(error: Exception) -> str:
    """Return why a connection could not be made."""
    if isinstance(error, ConnectError | DNSLookupError):
        return connect_reason(error)
    silent = isinstance(error, ConnectingCancelledError)
    return SILENT if silent else str(error) or type(error).__name__


def _loss(failure: Failure) -> str:
    """Return why a connection ended."""
    if failure.check(ConnectionDone, ConnectionAborted):
        return ""
    if failure.check(VerificationError):
        return OTHER_HOST
    if failure.check(SSL.Error):
        return UNTRUSTED if "certificate verify failed" in str(failure.value) else NO_TLS
    return failure.getErrorMessage()


class _Factory(Factory):
    """Makes the protocol of one connection."""

    noisy = False
    isLazy = False  # noqa: N815 - the library reads it

    def __init__(self, login: Login, kind: type[RedisProtocol] | None = None) -> None:
        self._login = login
        self._kind = kind or RedisProtocol
        self._built: RedisProtocol | None = None

    def buildProtocol(self, addr: IAddress | None) -> RedisProtocol:
        """Return a protocol that logs in."""
        self._built = self._kind(
            charset=None,
            replyTimeout=REPLY_TIMEOUT,
            username=self._login.username,
            password=self._login.password,
            dbid=self._login.database or None,  # 0 is the default of the server
            convertNumbers=False,
        )
        self._built.factory = self
        return self._built

    def stopTrying(self) -> None:  # noqa: N802 - the library calls it
        """Do nothing: this factory does not reconnect."""

    def connectionError(self, why: str) -> None:  # noqa: N802 - the library calls it
        """Keep the reply of Redis to the login."""
        if self._built is not None:
            self._built.why = why
