"""The routes of `/v1` for names and peers; `claims` answers those that change something."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus

from twisted.internet.defer import Deferred

from p2pshare._version import __version__
from p2pshare.errors import RemoteProtocolError
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.claims import Claims
from p2pshare.registry.api.queries import (
    arguments_of,
    boolean_of,
    limit_of,
    name_in,
    part_of_name,
)
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import NameStore
from p2pshare.web.exchange import Answer, Query, Reply, Route
from p2pshare.web.problems import NOT_FOUND
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PeerView, RegistryInfo
from p2pshare.wire.statements import is_drawn

NO_CACHE = (b"Cache-Control", b"private, no-cache")
"""Only the client may keep a reply, and it must revalidate it: addresses are withdrawn."""


class V1Routes:
    """`/v1` without its events."""

    def __init__(
        self,
        store: NameStore,
        claims: Claims,
        *,
        wall: Callable[[], float],
        authority: Authority,
        settings: RegistrySettings,
    ) -> None:
        self._store = store
        self._claims = claims
        self._wall = wall
        self._authority = authority
        self._settings = settings
        self.stun: tuple[str, ...] = ()
        """Where peers ask for their address over UDP."""

    def table(self) -> dict[bytes, Route]:
        """Return the routes by path."""
        about, claims = Route("v1-info", {b"GET": self._about}), self._claims
        peer: dict[bytes, Answer] = {
            b"GET": self._look_up,
            b"PUT": claims.claim,
            b"DELETE": claims.release,
        }
        return {
            b"v1": about,
            b"v1/": about,
            b"v1/peers": Route("v1-peers", {b"GET": self._page}),
            b"v1/peers/*": Route("v1-peer", peer),
            b"v1/peers/*/presence": Route("v1-presence", {b"POST": claims.beat}),
            b"v1/keys/*": Route("v1-key", {b"GET": self._look_up_key}),
        }

    def _about(self, query: Query) -> Reply:
        challenge = arguments_of(query, {"challenge"}).get("challenge")
        if challenge is not None and not is_drawn(challenge):
            raise RemoteProtocolError(
                reason="the challenge must be 16 to 64 characters of base64url"
            )
        info = RegistryInfo(
            __version__,
            int(self._wall()),
            self._authority.public,
            self._settings.urls,
            self._settings.invite_only,
            None if challenge is None else self._authority.prove(challenge),
            self.stun,
            self._settings.relay is not None,
        )
        return Reply(HTTPStatus.OK, (info.to_json(),), headers=(NO_CACHE,))

    def _look_up(self, query: Query) -> Deferred[Reply]:
        # By callbacks, not as a coroutine: look-ups are the most frequent requests.
        return self._store.look_up_peer(name_in(query)).addCallback(_peer, query)

    async def _look_up_key(self, query: Query) -> Reply:
        key = PublicKey.parse(query.path.rpartition(b"/")[2].decode("latin-1"))
        name = await self._store.look_up_key(str(key))
        return _peer(None if name is None else await self._store.look_up_peer(name), query)

    async def _page(self, query: Query) -> Reply:
        arguments = arguments_of(query, {"prefix", "after", "limit", "online"})
        page = await self._store.peers(
            part_of_name(arguments, "prefix"),
            part_of_name(arguments, "after"),
            limit_of(arguments),
            online=boolean_of(arguments, "online"),
        )
        return fresh(page.to_json(), query)


def fresh(body: bytes, query: Query) -> Reply:
    """Return a reply with an `ETag`; it is 304 if the client has this body already (RFC 9110, section 13.1.2)."""
    tag = b'"%b"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
    headers = (NO_CACHE, (b"ETag", tag))
    if query.has(tag):
        return Reply(HTTPStatus.NOT_MODIFIED, headers=headers)
    return Reply(HTTPStatus.OK, (body,), headers=headers)


def _peer(view: PeerView | None, query: Query) -> Reply:
    return NOT_FOUND if view is None else fresh(view.to_json(), query)
