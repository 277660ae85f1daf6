"""The routes of `/v1`: names that are owned, and who is there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Coroutine, Set
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred

from p2pshare._version import __version__
from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX, is_name
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.claims import Claims
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.store import NameStore
from p2pshare.web.exchange import Answer, Query, Reply, Route
from p2pshare.web.problems import NOT_FOUND, RequestError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PAGE_MAX, PeerView, RegistryInfo
from p2pshare.wire.statements import is_challenge

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
LIMIT = re.compile("[0-9]{1,3}")
BOOLEANS = {"0": False, "1": True, "false": False, "true": True}
NO_CACHE = (b"Cache-Control", b"private, no-cache")
"""To be asked again each time, with the ETag, and kept by nobody but the client: addresses are withdrawn."""


class V1Routes:
    """`/v1`."""

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

    def table(self) -> dict[bytes, Route]:
        """The routes by path."""
        about = Route("v1-info", {b"GET": self._about})
        return {
            b"v1": about,
            b"v1/": about,
            b"v1/peers": Route("v1-peers", {b"GET": _coroutine(self._page)}),
            b"v1/peers/*": Route(
                "v1-peer",
                {
                    b"GET": self._look_up,
                    b"PUT": _with_name(self._claims.claim),
                    b"DELETE": _with_name(self._claims.release),
                },
            ),
            b"v1/peers/*/presence": Route("v1-presence", {b"POST": _with_name(self._claims.beat)}),
            b"v1/keys/*": Route("v1-key", {b"GET": _coroutine(self._look_up_key)}),
        }

    def _about(self, query: Query) -> Reply:
        challenge = arguments_of(query, {"challenge"}).get("challenge")
        if challenge is not None and not is_challenge(challenge):
            raise RemoteProtocolError(
                reason="the challenge is not 16 to 64 characters of base64url"
            )
        info = RegistryInfo(
            __version__,
            int(self._wall()),
            self._authority.public,
            self._settings.urls,
            self._settings.invite_only,
            None if challenge is None else self._authority.prove(challenge),
        )
        return Reply(HTTPStatus.OK, (info.to_json(),), headers=(NO_CACHE,))

    def _look_up(self, query: Query) -> Deferred[Reply]:
        found = self._store.look_up_peer(name_in(query))
        return found.addCallback(_seen, query)

    async def _look_up_key(self, query: Query) -> Reply:
        key = PublicKey.parse(query.path.rpartition(b"/")[2].decode("latin-1"))
        name = await self._store.look_up_key(str(key))
        return NOT_FOUND if name is None else fresh(b'{"name": "%b"}' % name.encode(), query)

    async def _page(self, query: Query) -> Reply:
        arguments = arguments_of(query, {"prefix", "after", "limit", "online"})
        page = await self._store.peers(
            part_of_name(arguments, "prefix"),
            part_of_name(arguments, "after"),
            _limit(arguments),
            online=_boolean(arguments, "online"),
        )
        return fresh(page.to_json(), query)


def fresh(body: bytes, query: Query) -> Reply:
    """A body, or 304 if the client has it already (RFC 9110, section 13.1.2)."""
    tag = b'"%b"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
    headers = (NO_CACHE, (b"ETag", tag))
    if query.has(tag):
        return Reply(HTTPStatus.NOT_MODIFIED, headers=headers)
    return Reply(HTTPStatus.OK, (body,), headers=headers)


def arguments_of(query: Query, known: Set[str]) -> dict[str, str]:
    """What follows the `?`: `key=value`s, percent-encoded UTF-8.

    Raises:
        RemoteProtocolError: it is no such thing, or a key is not known or stands twice.
    """
    found: dict[str, str] = {}
    for pair in filter(None, query.arguments.split(b"&")):
        key, value = (_decoded(part) for part in (pair.partition(b"=")[::2]))
        if key in found or key not in known:
            named = ", ".join(sorted(known))
            raise RemoteProtocolError(reason=f"only {named} can be asked for, each once")
        found[key] = value
    return found


def name_in(query: Query) -> str:
    """The name in `v1/peers/NAME…`, as it stands there; what can be no name is not found."""
    name = query.path.split(b"/", 3)[2].decode("latin-1")
    if not is_name(name):
        raise RequestError("not-found", "that can be no name")
    return name


def part_of_name(arguments: dict[str, str], key: str) -> str:
    """An argument that is how a name begins; empty if it is not there.

    Raises:
        RemoteProtocolError: no name begins so.
    """
    value = arguments.get(key, "")
    if len(value) > NAME_MAX or not NAME_CHARACTERS.issuperset(value):
        raise RemoteProtocolError(reason=f"the {key} can be no part of a name")
    return value


def _coroutine(answer: Callable[[Query], Coroutine[Deferred[Any], Any, Reply]]) -> Answer:
    return lambda query: Deferred.fromCoroutine(answer(query))


def _with_name(answer: Callable[[Query, str], Coroutine[Deferred[Any], Any, Reply]]) -> Answer:
    return lambda query: Deferred.fromCoroutine(answer(query, name_in(query)))


def _seen(view: PeerView | None, query: Query) -> Reply:
    return NOT_FOUND if view is None else fresh(view.to_json(), query)


def _decoded(part: bytes) -> str:
    try:
        return unquote_to_bytes(part.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError(reason="an argument is no UTF-8") from None


def _limit(arguments: dict[str, str]) -> int:
    value = arguments.get("limit", str(PAGE_MAX))
    if not LIMIT.fullmatch(value) or not 1 <= int(value) <= PAGE_MAX:
        raise RemoteProtocolError(reason=f"the limit is not from 1 to {PAGE_MAX}")
    return int(value)


def _boolean(arguments: dict[str, str], key: str) -> bool:
    value = arguments.get(key, "0")
    if value not in BOOLEANS:
        raise RemoteProtocolError(reason=f"{key} is not one of {', '.join(BOOLEANS)}")
    return BOOLEANS[value]
