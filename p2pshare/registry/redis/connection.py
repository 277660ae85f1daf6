"""One connection to Redis, through txredisapi: it is made, it is there, and once lost it stays so."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, cast

import txredisapi
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, DNSLookupError
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from p2pshare.net.reasons import connect_reason

REPLY_TIMEOUT = 1.5  # seconds until a connection on which Redis is silent is given up
SILENT = "no reply in time"


class Target(Protocol):
    """Where the Redis is that is meant."""

    may_move: bool
    """Whether another server may take its place; then one has to ask now and then whether it `is_right`."""

    async def find(self) -> IStreamClientEndpoint:
        """Where it is now: the same object as long as that is the same place.

        Raises:
            TargetUnknownError: nobody says.
        """

    def doubt(self) -> None:
        """Hear that what `find` gave was no use."""


class TargetUnknownError(ConnectError):
    """Nobody says where the server is; its string says why."""


class FixedTarget:
    """It is where it is."""

    may_move = False

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    async def find(self) -> IStreamClientEndpoint:
        """See `Target`."""
        return self._endpoint

    def doubt(self) -> None:
        """See `Target`."""


@dataclass(frozen=True, slots=True)
class Login:
    """As whom, and to what, a connection is made."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0


class RedisConnection:
    """Begins to connect at once. A command that is given before it is there waits for it.

    What fails, fails with an error of txredisapi: `ResponseError` if Redis refused a command, another
    `RedisError` if there is no connection.
    """

    def __init__(self, target: Target, login: Login, shown: str = "Redis") -> None:
        self.lost: Deferred[None] = Deferred()
        """Fires when the connection is lost, or could not be made."""
        self.may_move = target.may_move
        self._target = target
        self._login = login
        self.shown = shown
        self._endpoint: IStreamClientEndpoint | None = None
        self._protocol: _Protocol | None = None
        self._waiting: list[Deferred[None]] = []
        self._failure = ""
        self._opening = Deferred.fromCoroutine(self._open())
        self._opening.addCallbacks(self._opened, self._could_not)

    def another(self) -> RedisConnection:
        """A second connection to the same server; this one has to be there."""
        assert self._endpoint is not None
        return RedisConnection(FixedTarget(self._endpoint), self._login, self.shown)

    def ping(self) -> Deferred[Any]:
        """Ask whether Redis is there."""
        return self.execute_command("PING")

    def execute_command(self, *command: object) -> Deferred[Any]:
        """Have a command executed."""
        if self._protocol is None:
            return Deferred.fromCoroutine(self._later("execute_command", *command))
        return self._protocol.execute_command(*command)  # type: ignore[no-any-return]

    def eval(self, script: str, keys: Sequence[str], arguments: Sequence[object]) -> Deferred[Any]:
        """Run a script: by its digest, and whole where Redis does not know it. It has no timeout of its own."""
        if self._protocol is None:
            return Deferred.fromCoroutine(self._later("eval", script, keys, arguments))
        return self._protocol.eval(script, keys, arguments)

    async def is_right(self) -> bool:
        """Whether it still leads to the server that is meant, or nobody knows better."""
        try:
            if await self._target.find() is not self._endpoint:
                return False
            return self._protocol is None or await self._leads(self._protocol)
        except (TargetUnknownError, txredisapi.RedisError):  # if it is lost it says so by itself
            return True

    def drop(self) -> None:
        """Give the connection up at once: what waits for a reply fails."""
        self._opening.cancel()
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.abortConnection()

    async def disconnect(self) -> None:
        """Give the connection up; return when it is gone."""
        self.drop()
        gone: Deferred[None] = Deferred()
        self.lost.addCallback(gone.callback)
        await gone

    async def _open(self) -> _Protocol:
        endpoint = self._endpoint = await self._target.find()
        protocol: _Protocol | None = None
        try:
            protocol = cast(_Protocol, await endpoint.connect(_Factory(self._login)))
            if not await protocol.usable:
                raise txredisapi.ConnectionError(protocol.why or "it hangs up")
            if self.may_move and not await self._leads(protocol):
                raise txredisapi.ConnectionError("it is no primary")
        except BaseException:
            if protocol is not None and protocol.transport is not None:
                protocol.transport.abortConnection()
            self._target.doubt()
            raise
        return protocol

    async def _leads(self, protocol: _Protocol) -> bool:
        try:
            role = await protocol.execute_command("ROLE")
        except txredisapi.ResponseError:
            return True  # we may not ask: a write to a replica will tell
        return isinstance(role, list) and role[:1] == [b"master"]

    def _opened(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        protocol.gone.addCallback(self.lost.callback)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _could_not(self, failure: Failure) -> None:
        self._failure = _reason(failure.value)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
        self.lost.callback(None)

    async def _later(self, method: str, *arguments: Any) -> Any:
        if not self._failure:
            opened: Deferred[None] = Deferred()
            self._waiting.append(opened)
            await opened
        if self._failure:
            raise txredisapi.ConnectionError(self._failure)
        return await getattr(self._protocol, method)(*arguments)


@cache
def _digest(script: str) -> str:
    """By what Redis knows a script; there are a dozen."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _reason(error: BaseException | None) -> str:
    if isinstance(error, TargetUnknownError):
        return str(error.args[0])
    if isinstance(error, ConnectError | DNSLookupError):
        return connect_reason(error)
    return SILENT if isinstance(error, CancelledError) else str(error) or type(error).__name__


def _loss(failure: Failure) -> str:
    """Why a connection ended."""
    if failure.check(ConnectionDone, ConnectionAborted):
        return ""
    if failure.check(VerificationError):
        return "its certificate is for another host"
    if failure.check(SSL.Error):
        untrusted = "certificate verify failed" in str(failure.value)
        return "its certificate is not to be trusted" if untrusted else "it does not speak TLS"
    return failure.getErrorMessage()


class _Protocol(txredisapi.RedisProtocol):
    """The library's, which also says when it is usable, and why it is not."""

    why = ""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.usable: Deferred[bool] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.whenConnected().addCallback(lambda _: self.usable.callback(True))

    def eval(
        self, script: str, keys: Sequence[str] = (), args: Sequence[object] = ()
    ) -> Deferred[Any]:
        """Run a script.

        The library's own `eval` does the same, but works out the digest each time, among other things: with several
        scripts to a request that is a good part of what a request costs.
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
        """A command as Redis reads it; the library's own takes several times as long."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
        return b"".join(parts)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Take what Redis says; what no Redis would say ends the connection."""
        try:
            super().dataReceived(data, unpause)
        except (ValueError, TypeError, AttributeError, txredisapi.RedisError):
            self.why = "it does not answer like a Redis"
            self.transport.abortConnection()

    def replyReceived(self, reply: object) -> None:  # noqa: N802 - the library calls it
        """Hand a reply on; where it is that there will be none, say why if we know."""
        lost = self.why and isinstance(reply, txredisapi.ConnectionError)
        super().replyReceived(txredisapi.ConnectionError(self.why) if lost else reply)

    def connectionLost(self, why: Failure) -> None:
        """Let all that waits fail."""
        self.why = self.why or _loss(why)
        super().connectionLost(why)
        if not self.usable.called:
            self.usable.callback(False)
        self.gone.callback(None)


class _Factory(Factory):
    """What the library's protocol tells its factory."""

    noisy = False
    isLazy = False  # noqa: N815 - the library reads it

    def __init__(self, login: Login) -> None:
        self._login = login
        self._built: _Protocol | None = None

    def buildProtocol(self, addr: IAddress | None) -> _Protocol:
        """Make a protocol that logs in."""
        self._built = _Protocol(
            charset=None,
            replyTimeout=REPLY_TIMEOUT,
            username=self._login.username,
            password=self._login.password,
            dbid=self._login.database or None,  # SELECT 0 would say nothing
            convertNumbers=False,
        )
        self._built.factory = self
        return self._built

    def stopTrying(self) -> None:  # noqa: N802 - the library calls it
        """There is one try anyway."""

    def connectionError(self, why: str) -> None:  # noqa: N802 - the library calls it
        """Keep what Redis said to our login."""
        if self._built is not None:
            self._built.why = why
