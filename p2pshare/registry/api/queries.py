"""The parts of a query to `/v1` that are not its body: the name in its path, and its arguments."""

from __future__ import annotations

import re
from collections.abc import Set
from urllib.parse import unquote_to_bytes

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX, is_name
from p2pshare.web.exchange import Query
from p2pshare.web.problems import RequestError
from p2pshare.wire.registry_answers import PAGE_MAX

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
LIMIT = re.compile("[0-9]{1,3}")
BOOLEANS = {"0": False, "1": True, "false": False, "true": True}


def name_in(query: Query) -> str:
    """Return the name in `v1/peers/NAME…`; raises `RequestError` (`not-found`) if it cannot be a name."""
    name = query.path.split(b"/", 3)[2].decode("latin-1")
    if not is_name(name):
        raise RequestError("not-found", "This is not a valid name.")
    return name


def arguments_of(query: Query, known: Set[str]) -> dict[str, str]:
    """Return the arguments after the `?`: `key=value` pairs in percent-encoded UTF-8.

    Raises:
        RemoteProtocolError: they are malformed, or a key is unknown or repeated.
    """
    found: dict[str, str] = {}
    for pair in filter(None, query.arguments.split(b"&")):
        key, value = (_decoded(part) for part in (pair.partition(b"=")[::2]))
        if key in found or key not in known:
            allowed = ", ".join(sorted(known))
            raise RemoteProtocolError(reason=f"the arguments can be {allowed}, each once")
        found[key] = value
    return found


def part_of_name(arguments: dict[str, str], key: str) -> str:
    """Return an argument that is the beginning of a name; empty if it is absent. Raises `RemoteProtocolError`."""
    value = arguments.get(key, "")
    if len(value) > NAME_MAX or not NAME_CHARACTERS.issuperset(value):
        raise RemoteProtocolError(reason=f"{key} cannot be the beginning of a name")
    return value


def limit_of(arguments: dict[str, str]) -> int:
    """Return the argument `limit`. Raises `RemoteProtocolError`."""
    value = arguments.get("limit", str(PAGE_MAX))
    if not LIMIT.fullmatch(value) or not 1 <= int(value) <= PAGE_MAX:
        raise RemoteProtocolError(reason=f"limit must be 1 to {PAGE_MAX}")
    return int(value)


def boolean_of(arguments: dict[str, str], key: str) -> bool:
    """Return a boolean argument, by default false. Raises `RemoteProtocolError`."""
    value = arguments.get(key, "0")
    if value not in BOOLEANS:
        raise RemoteProtocolError(reason=f"{key} must be one of {', '.join(BOOLEANS)}")
    return BOOLEANS[value]


def _decoded(part: bytes) -> str:
    try:
        return unquote_to_bytes(part.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError(reason="an argument is not valid UTF-8") from None
