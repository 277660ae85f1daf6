"""The paths of the sessions that are open now, by the names at their other ends.

Sessions of both directions count: those that others have opened (`peer/share/open_sessions.py`), and those that this
peer has dialled, for whatever purpose. A session is held weakly, so that this table keeps none alive.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakSet

from p2pshare.core.session_interface import Session, SessionPath
from p2pshare.net.reach.interfaces import IPNetwork

RELAY = "relay"
_RANKS = {"lan": 0, "direct": 1, RELAY: 2}
"""Which path is shown of several with one person: the best one."""


class OpenPaths:
    """Knows how each person is connected now."""

    def __init__(
        self,
        accepted: Callable[[], Iterable[Session]],
        networks: Callable[[], Iterable[IPNetwork]],
    ) -> None:
        """Args:
        accepted: returns the sessions that others have opened.
        networks: returns the networks that this machine reaches without a router.
        """
        self._accepted = accepted
        self._networks = networks
        self._dialled: WeakSet[Session] = WeakSet()

    def dialled(self, session: Session) -> None:
        """Add a session that this peer has opened."""
        self._dialled.add(session)

    def by_name(self) -> Mapping[str, dict[str, Any]]:
        """Return the path to each person with whom a session is open, as a JSON object with `kind`, `carrier` and
        `address`.
        """
        networks, found = tuple(self._networks()), dict[str, dict[str, Any]]()
        for session in (*self._accepted(), *self._dialled):
            if not session.is_open:
                continue
            path = shown_path(session.path, networks)
            before = found.get(session.name)
            if before is None or _RANKS[path["kind"]] < _RANKS[before["kind"]]:
                found[session.name] = path
        return found


def shown_path(path: SessionPath, networks: Iterable[IPNetwork]) -> dict[str, Any]:
    """Return a path as a JSON object.

    The `kind` is `relay`, `lan` for an address on this machine or in one of its `networks`, or else `direct`. A relay
    is an HTTP connection, so its carrier is TCP, and its address that of the registry.
    """
    kind, carrier = "direct", path.carrier
    if path.carrier == RELAY:
        kind, carrier = RELAY, "tcp"
    else:
        ip = ipaddress.ip_address(path.address.ip)
        is_near = ip.is_loopback or ip.is_link_local
        if is_near or any(ip.version == each.version and ip in each for each in networks):
            kind = "lan"
    return {"kind": kind, "carrier": carrier, "address": str(path.address)}
