"""Whether a statement is meant for this registry and of this time, whoever has signed it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from p2pshare.errors import RemoteProtocolError
from p2pshare.registry.problems import RequestError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.peers import CLOCK_SKEW_MAX, RECORD_LIFE
from p2pshare.wire.registration import DEFAULT_PORTS, registry_url
from p2pshare.wire.statements import Record, Release, Rotation, Unverified

End = tuple[str, int] | None
"""The IP address and the port of our end of a connection."""


class Audience:
    """The URLs of this registry."""

    def __init__(self, urls: Iterable[str], machine: str) -> None:
        """Make the audience of these URLs.

        With none it is any URL that leads to our end of the connection: by its address, by `localhost` if it is
        that, and by the name of the machine. What the client calls us (`Host`) proves nothing.

        Raises:
            ValueError: one is no URL of a registry.
        """
        self._urls = frozenset(map(registry_url, urls))
        self._machine = machine.lower()

    def includes(self, aud: str, end: End) -> bool:
        """Whether a statement for `aud` is meant for us."""
        if self._urls or end is None:
            return aud in self._urls
        parts = urlsplit(aud)
        host = parts.hostname or ""
        ip = _address(end[0])
        if ip is None or (parts.port or DEFAULT_PORTS[parts.scheme]) != end[1]:
            return False
        return (
            host == self._machine
            or (ip.is_loopback and host == "localhost")
            or _address(host) == ip
        )


class Judge:
    """Judges all of a statement but its signature."""

    def __init__(self, wall: Callable[[], float], audience: Audience) -> None:
        self._wall = wall
        self._audience = audience

    def judge(self, statement: Record | Release, name: str, end: End) -> None:
        """Judge a statement about a name, that came over a connection with this end of ours.

        Raises:
            RequestError: it is about another name, for another registry, or of another time.
        """
        self._judge_whose(statement, name, end)
        now = self._wall()
        if abs(now - statement.iat) > CLOCK_SKEW_MAX:
            raise self._wrong_time("the iat is too far from the time here")
        if isinstance(statement, Record) and not now < statement.exp <= statement.iat + RECORD_LIFE:
            raise self._wrong_time(f"the exp is past, or more than {RECORD_LIFE} s after the iat")

    def judge_rotation(self, text: str, record: Record, end: End) -> Unverified[Rotation]:
        """Judge the rotation that came with a record.

        Raises:
            RequestError, RemoteProtocolError: it is none for this record.
        """
        unverified = Rotation.parse(text)
        rotation = unverified.statement
        self._judge_whose(rotation, record.name, end)
        now = self._wall()
        if rotation.iat > now + CLOCK_SKEW_MAX:
            raise self._wrong_time("the rotation is of the future")
        if rotation.key == rotation.new:
            raise RemoteProtocolError(reason="the rotation leads from a key to itself")
        if rotation.new != record.key:
            raise RemoteProtocolError(reason="the rotation does not lead to the record's key")
        return unverified

    def is_too_old(self, rotation: Rotation) -> bool:
        """Whether a rotation replaces no key any more; a client may still send it with every claim."""
        return rotation.iat <= self._wall() - RECORD_LIFE

    def _judge_whose(self, statement: Record | Release | Rotation, name: str, end: End) -> None:
        if statement.name != name:
            raise RequestError("wrong-name", f"the {statement.KIND} is about {statement.name}")
        if not self._audience.includes(statement.aud, end):
            raise RequestError("wrong-audience", f"{statement.aud} is no URL of this registry")

    def _wrong_time(self, detail: str) -> RequestError:
        return RequestError("wrong-time", detail, time=int(self._wall()))


def verify(
    unverified: Unverified[Record] | Unverified[Release] | Unverified[Rotation],
) -> PublicKey:
    """The key that has signed; raises `RequestError` if it is not the one that the statement names."""
    statement = unverified.statement
    if not unverified.is_signed_by(statement.key):
        raise RequestError("wrong-signature", f"the {statement.KIND} is not signed by its key")
    return statement.key


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
