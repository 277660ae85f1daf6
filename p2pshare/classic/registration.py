"""The bodies of registrations and look-ups in the classic protocol; `docs/protocol-registry.md` shows the bytes."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any

from p2pshare.errors import IllegalName, RemoteProtocolError
from p2pshare.names import check_name
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.registry_answers import CLASSIC_LEASE_MAX
from p2pshare.wire.strict_json import integer, parse_json, parse_object

TOKEN_MIN = 16  # characters: a shorter secret could be guessed
TOKEN_MAX = 128  # characters

_LEGAL_TOKEN = re.compile(rf"[!-~]{{{TOKEN_MIN},{TOKEN_MAX}}}")


@dataclass(frozen=True, slots=True)
class Registration:
    """The body of `POST name`."""

    name: str
    address: PeerAddress
    token: str | None = None
    """The secret by which a peer of ours proves that the name is its own; originals send none."""
    lease: int | None = None
    """Seconds until the name is free unless it is registered again; 0 for now, None for the registry's default."""

    def to_json(self) -> bytes:
        """Return the body of the request."""
        body: dict[str, Any] = {
            "name": self.name,
            "ip": self.address.ip,
            "port": self.address.port,
        }
        if self.token is not None:
            body["token"] = self.token
        if self.lease is not None:
            body["lease"] = self.lease
        return json.dumps(body).encode()


def parse_registration(body: bytes) -> Registration:
    """Parse the body of `POST name`; unknown keys are ignored.

    Raises:
        RemoteProtocolError: a value is missing or out of bounds.
    """
    fields = parse_object(body, "the body")
    lease = fields.get("lease")
    return Registration(
        _name(fields.get("name")),
        _address(fields),
        _token(fields.get("token")),
        None if lease is None else integer(fields, "lease", 0, CLASSIC_LEASE_MAX),
    )


def parse_address(body: bytes) -> PeerAddress:
    """Parse the reply to a look-up.

    Raises:
        RemoteProtocolError: it is not an address.
    """
    return _address(parse_object(body, "the body"))


def parse_names(body: bytes) -> list[str]:
    """Parse the reply to `GET list`.

    Raises:
        RemoteProtocolError: it is not an array of legal names.
    """
    names = parse_json(body, "the body")
    if not isinstance(names, list):
        raise RemoteProtocolError(reason="the list of names is not a JSON array")
    return [_name(each) for each in names]


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise RemoteProtocolError(reason="a name is not a string")
    try:
        return check_name(value)
    except IllegalName as error:
        raise RemoteProtocolError(reason=str(error)) from None


def _address(fields: dict[str, Any]) -> PeerAddress:
    ip = fields.get("ip")
    try:
        if not isinstance(ip, str):
            raise ValueError
        ipaddress.IPv4Address(ip)
    except ValueError:
        raise RemoteProtocolError(reason="the ip is not a dotted IPv4 address") from None
    return PeerAddress(ip, integer(fields, "port", 1, 65535))


def _token(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _LEGAL_TOKEN.fullmatch(value):
        raise RemoteProtocolError(
            reason=f"the token is not {TOKEN_MIN} to {TOKEN_MAX} printable ASCII characters"
        )
    return value
