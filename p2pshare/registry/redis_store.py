"""The names in Redis (or Valkey), through txredisapi: nothing else imports it.

Keys carry hash tags, and no script touches two of them, so that a cluster could hold them::

    p2p:{bob}:classic       "10.0.0.5 50000 PROOF", or "-" for no proof; expires when the lease ends
    p2p:{index}:names       ZSET, all scores 0: every live name, in lexical order, and some dead ones
    p2p:{index}:checks      ZSET, name -> when to look whether it is still alive, in ms

The key of a name is the truth about it. The index only says where to look, and is allowed one
kind of mistake: a name enters it *before* it is claimed and leaves it some time after its lease has
ended. So it may name the dead, whom a page leaves out, but never misses a live one, wherever a
registry is killed. The sweep takes the dead out: a few at a time, those whose check is due. It cannot
take out a name that is just being claimed again: that puts the check off (`_ENTER`), and `_SETTLE`
looks at it once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

import txredisapi
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import BadSetting, StoreUnavailable
from p2pshare.registry.store import PAGE_MAX, Claim, NamePage, Outcome
from p2pshare.wire.registration import PeerAddress

REPLY_TIMEOUT = 1.5  # seconds until a connection on which Redis is silent is given up
CALL_TIMEOUT = 1.8  # seconds for a whole call: 503 is promised within 2
CONNECT_TIMEOUT = 1.5  # seconds
RETRY_FIRST, RETRY_MAX = 0.05, 0.5  # seconds between attempts to reach a Redis that is away
PROBE_TIMEOUT = 30.0  # seconds for which one PING waits for a Redis that is away
ENTRY_GRACE = 60  # seconds from a name's entry in the index to the first look at it
SWEEP_INTERVAL = 5.0  # seconds
SWEEP_BATCH = 100  # names in one step
SWEEP_STEPS = 20  # steps in one sweep

# The defaults of the library, 1 to 10 seconds, would keep us away long after Redis is back.
txredisapi.RedisFactory.initialDelay = RETRY_FIRST
txredisapi.RedisFactory.maxDelay = RETRY_MAX

_INDEX = ("p2p:{index}:names", "p2p:{index}:checks")

_CLAIM = """
local held = redis.call('GET', KEYS[1])
local address, proof, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if held then
  local held_address, held_proof = string.match(held, '^(%S+ %S+) (%S+)$')
  if held_proof ~= proof then return 'taken' end
  if proof == '-' then
    if held_address ~= address or lease == 0 then return 'taken' end
    lease = math.max(lease, redis.call('PTTL', KEYS[1]))
  end
end
if lease == 0 then
  redis.call('DEL', KEYS[1])
  return 'released'
end
redis.call('SET', KEYS[1], address .. ' ' .. proof, 'PX', lease)
return held and 'renewed' or 'claimed'
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_ENTER = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('ZADD', KEYS[2], 'GT', now + ARGV[2], ARGV[1])
"""
)

# One bulk reply with a name a line: of an array, the library's own parser takes one element in each
# turn of the reactor.
_PAGE = """
return table.concat(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2]), '\\n')
"""

_DUE = (
    _NOW
    + """
return table.concat(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1]), '\\n')
"""
)

_SETTLE = (
    _NOW
    + """
for i = 1, #ARGV, 2 do
  local name, left = ARGV[i], tonumber(ARGV[i + 1])
  local check = redis.call('ZSCORE', KEYS[2], name)
  if check and tonumber(check) <= now then
    if left < 0 then
      redis.call('ZREM', KEYS[1], name)
      redis.call('ZREM', KEYS[2], name)
    else
      redis.call('ZADD', KEYS[2], now + left + 1, name)
    end
  end
end
"""
)

Connect = Callable[[], Any]
_LookUps = dict[str, list[Deferred[PeerAddress | None]]]


def _key(name: str) -> str:
    return f"p2p:{{{name}}}:classic"


def _address(value: bytes | None) -> PeerAddress | None:
    if value is None:
        return None
    ip, port, _proof = value.decode().split(" ")
    return PeerAddress(ip, int(port))


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def connector(url: str) -> Connect:
    """A function that connects to the Redis at `url`.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS, the certificate is
            verified), or `unix:///path/of/socket[?db=1]`.

    Raises:
        BadSetting: it is none of these.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "charset": None,
        "convertNumbers": False,
        "replyTimeout": REPLY_TIMEOUT,
        "connectTimeout": CONNECT_TIMEOUT,
    }
    try:
        unix = parts.scheme == "unix" and not parts.netloc and parts.path
        host, port = parts.hostname, parts.port or 6379
        database = parse_qs(parts.query).get("db", ["0"])[0] if unix else parts.path[1:] or "0"
        options["dbid"] = int(database) or None  # SELECT 0 would say nothing
        if not unix and not (host and parts.scheme in ("redis", "rediss")):
            raise ValueError
    except ValueError:
        expected = "redis://[user:password@]host[:port][/db], rediss://... or unix:///path[?db=1]"
        shown = without_password(url)
        raise BadSetting(
            source="--redis", setting="the URL", value=shown, expected=expected
        ) from None
    options |= {
        key: unquote(value)
        for key, value in (("username", parts.username), ("password", parts.password))
        if value
    }
    if unix:
        return partial(txredisapi.lazyUnixConnection, path=unquote(parts.path), **options)
    if parts.scheme == "rediss":
        options["ssl_context_factory"] = optionsForClientTLS(host or "")
    return partial(txredisapi.lazyConnection, host=host, port=port, **options)


class RedisNameStore:
    """See `NameStore`. While Redis is away every call fails at once.

    The library queues what is asked of it while it is disconnected, without a bound: so nothing is
    asked of it then but one PING, whose answer tells that Redis is back.
    """

    _log = Logger()

    def __init__(
        self,
        connect: Connect,
        clock: IReactorTime,
        *,
        timeout: float = CALL_TIMEOUT,
        entry_grace: float = ENTRY_GRACE,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._timeout = timeout
        self._entry_grace = entry_grace
        self._redis: Any = None
        self._away = "it was not reached yet"
        self._reached: Deferred[None] = Deferred()
        self._lost: Deferred[None] = Deferred()
        self._background: list[Deferred[None]] = []
        self._look_ups: dict[str, list[Deferred[PeerAddress | None]]] = {}

    def start(self) -> Deferred[None]:
        """Begin to connect, and to keep the index clean; fires when Redis was reached."""
        self._redis = self._connect()
        for each in (self._watch(), self._sweep_now_and_then()):
            running = Deferred.fromCoroutine(each)
            running.addErrback(lambda failure: failure.trap(CancelledError) and None)
            self._background.append(running)
        return self._reached

    async def stop(self) -> None:
        """Disconnect; calls under way fail."""
        for each in self._background:
            each.cancel()
        self._away = "it is stopped"
        await self._redis.disconnect()

    def claim(self, claim: Claim) -> Awaitable[Outcome]:
        """See `NameStore`."""
        whole = Deferred.fromCoroutine(self._enter_and_claim(claim))
        return whole.addTimeout(self._timeout, self._clock).addErrback(self._failed)

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`. All that is looked up in one turn of the reactor costs one command."""
        if not self._look_ups:
            self._clock.callLater(0, self._ask)
        waiting: Deferred[PeerAddress | None] = Deferred()
        self._look_ups.setdefault(name, []).append(waiting)
        return waiting

    async def page(self, after: str = "", limit: int = PAGE_MAX) -> NamePage:
        """See `NameStore`."""
        reply = await self._run(_PAGE, _INDEX, f"({after}" if after else "-", limit)
        names = reply.decode().split()
        following = names[-1] if len(names) == limit else None
        keys = [_key(name) for name in names]
        if keys and await self._call("EXISTS", *keys) < len(keys):
            values = await self._call("MGET", *keys)
            names = [name for name, value in zip(names, values, strict=True) if value is not None]
        return NamePage(names, following)

    async def ping(self) -> None:
        """See `NameStore`."""
        await self._call("PING")

    async def sweep(self) -> None:
        """Take names that died out of the index: those whose check is due, up to a bound."""
        for _ in range(SWEEP_STEPS):
            due = (await self._run(_DUE, _INDEX, SWEEP_BATCH)).decode().split()
            if not due:
                return
            left = await gatherResults([self._call("PTTL", _key(name)) for name in due], True)
            await self._run(_SETTLE, _INDEX, *chain(*zip(due, left, strict=True)))

    async def _enter_and_claim(self, claim: Claim) -> Outcome:
        if claim.lease:
            await self._run(_ENTER, _INDEX, claim.name, round(self._entry_grace * 1000))
        address = f"{claim.address.ip} {claim.address.port}"
        proof = claim.proof or "-"
        reply = await self._run(_CLAIM, [_key(claim.name)], address, proof, claim.lease * 1000)
        return Outcome(reply.decode())

    def _ask(self) -> None:
        asked, self._look_ups = self._look_ups, {}
        values = self._call("MGET", *[_key(name) for name in asked])
        addresses = values.addCallback(lambda found: [_address(value) for value in found])
        addresses.addCallback(self._tell, asked).addErrback(self._tell_failure, asked)

    def _tell(self, addresses: list[PeerAddress | None], asked: _LookUps) -> None:
        for address, waiting in zip(addresses, asked.values(), strict=True):
            for each in waiting:
                each.callback(address)

    def _tell_failure(self, failure: Failure, asked: _LookUps) -> None:
        for waiting in asked.values():
            for each in waiting:
                each.errback(failure)

    def _run(self, script: str, keys: Sequence[str], *arguments: object) -> Deferred[Any]:
        """Run a script: by its digest, and whole where Redis does not know it (the library does that)."""
        return self._bounded(lambda: self._redis.eval(script, keys, arguments))

    def _call(self, *command: object) -> Deferred[Any]:
        return self._bounded(lambda: self._redis.execute_command(*command))

    def _bounded(self, call: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        if self._away:
            return fail(StoreUnavailable(reason=self._away))
        return call().addTimeout(self._timeout, self._clock).addErrback(self._failed)

    def _failed(self, failure: Failure) -> NoReturn:
        failure.trap(txredisapi.RedisError, TimeoutError)
        if failure.check(txredisapi.ResponseError):
            self._log.warn("Redis refused a command: {error}", error=failure.getErrorMessage())
        elif not self._away:
            self._away = failure.getErrorMessage() or "no reply in time"
            self._lost.callback(None)
        raise StoreUnavailable(reason=failure.getErrorMessage()) from failure.value

    async def _watch(self) -> None:
        while True:
            try:
                await self._redis.ping().addTimeout(PROBE_TIMEOUT, self._clock)
            except (txredisapi.RedisError, TimeoutError) as error:
                self._away = str(error) or "no reply in time"
                await deferLater(self._clock, RETRY_MAX)
                continue
            self._away = ""
            self._lost = Deferred()
            self._log.info("Redis answers")
            if not self._reached.called:
                self._reached.callback(None)
            await self._lost
            self._log.warn("Redis is away: {reason}", reason=self._away)

    async def _sweep_now_and_then(self) -> None:
        while True:
            await deferLater(self._clock, SWEEP_INTERVAL)
            try:
                await self.sweep()
            except StoreUnavailable:
                continue
