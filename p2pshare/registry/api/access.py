"""Access control for the requests that only the owner of a name may make: streams of signals, signals, and the relay.

The other requests carry their proof in the body (`claims`). These carry an `Access` statement in `Authorization`, since
two of them have no body.
"""

# The checks stand in the order of their cost, as those of a claim do, and each protects the ones below it: first the
# form, the purpose and the times, which cost microseconds and read no state; then the limit of the client's address;
# then the signature; then the limit of the key, which only its holder can use up; then the owner of the name and the
# nonce, each a question to the store.
#
# The nonce comes last. So a request that is refused for any other reason does not use it, and the store remembers only
# the nonces of owners, as many as the limit of a key allows until their `iat` is too old.

from __future__ import annotations

from collections.abc import Callable

from p2pshare.errors import RemoteProtocolError
from p2pshare.registry.api.rate_limits import Limiter
from p2pshare.registry.api.verification import check_signature, check_statement
from p2pshare.registry.store import NameStore
from p2pshare.web.exchange import Query
from p2pshare.web.problems import RequestError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.access import SCHEME, Access, Use
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX


class AccessControl:
    """Decides whether a request comes from the owner of a name."""

    def __init__(
        self,
        store: NameStore,
        limiter: Limiter,
        *,
        wall: Callable[[], float],
        registry: PublicKey,
    ) -> None:
        """Decide for the registry with the key `registry`; `wall` returns Unix time in s."""
        self._store = store
        self._limiter = limiter
        self._wall = wall
        self._registry = registry

    async def admit(self, query: Query, use: Use, detail: str, name: str | None = None) -> Access:
        """Return the verified statement of a request; it cannot be used again.

        Args:
            query: the request.
            use: what the statement must be for.
            detail: the detail that it must have.
            name: the name that it must be for; None for any.

        Raises:
            RequestError, RemoteProtocolError, StoreUnavailable: the request is refused.
        """
        header = query.header(b"Authorization")
        if not header:
            raise RequestError("unauthorized", f"this needs an Authorization of scheme {SCHEME}")
        unverified = Access.parse_header(header)
        access = unverified.statement
        if (access.use, access.detail) != (use, detail):
            raise RemoteProtocolError(reason="the access statement is for another request")
        now = self._wall()
        check_statement(access, access.name if name is None else name, self._registry, now)

        origin = self._limiter.origin(query)
        await self._limiter.admit("access", origin)
        key = str(check_signature(unverified))
        await self._limiter.admit("access-key", origin, key)

        view = await self._store.look_up_peer(access.name)
        if view is None or view.key != access.key:
            raise RequestError("not-owner", f"the key does not own {access.name}")
        life = int(access.iat + CLOCK_SKEW_MAX - now) + 1
        if not await self._store.use_nonce(key, access.nonce, life):
            raise RequestError("replayed", "draw a new nonce for each request")
        return access
