"""Access statements: how a peer authorises one request to a service of the registry that only owners of names have.

A request has the header `Authorization: P2pshare STATEMENT`. The statement is signed by the peer's key and names the
registry, one use and its detail, so that it is worth nothing for another registry, service or body. Its nonce can be
used once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.json_fields import NAME, one_of, whole, words
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.statements import DRAWN, KEY, Statement, Unverified

SCHEME = "P2pshare"
"""The authentication scheme of the header (RFC 9110, section 11.4)."""
DETAIL_MAX = 256  # characters
RELAY_PROTOCOL = "p2pshare-relay"
"""The protocol to which a connection to the relay is upgraded."""


class Use(StrEnum):
    """What a statement is for."""

    SIGNALS = "signals"
    """To follow an inbox; the detail is the inbox."""
    SIGNAL = "signal"
    """To send a signal; the detail is the `detail_of_body`."""
    RELAY = "relay"
    """To meet another peer at the relay; the detail is the `detail_of_room`."""


@dataclass(frozen=True, slots=True)
class Access(Statement):
    """The authorisation of one request."""

    KIND = "access"

    name: Annotated[str, NAME]
    key: Annotated[PublicKey, KEY]
    """The owner's of the name, which signs."""
    aud: Annotated[PublicKey, KEY]
    """The key of the registry that it is for."""
    iat: Annotated[int, whole()]
    """Unix time in s."""
    nonce: Annotated[str, DRAWN]
    """16 to 64 characters of base64url; it can be used once."""
    use: Annotated[Use, one_of(Use)]
    detail: Annotated[str, words(DETAIL_MAX)]

    def to_header(self, key: SigningKey) -> str:
        """Sign it; return the value of the header `Authorization`."""
        return f"{SCHEME} {self.sign(key)}"

    @classmethod
    def parse_header(cls, value: str) -> Unverified[Access]:
        """Read the value of the header `Authorization`; the signature is not verified.

        Raises:
            RemoteProtocolError: it has another scheme, or no access statement.
        """
        scheme, _, statement = value.partition(" ")
        if scheme.lower() != SCHEME.lower():
            raise RemoteProtocolError(reason=f"the authorization is not of the scheme {SCHEME}")
        return cls.parse(statement.strip(" "))


def detail_of_body(body: bytes) -> str:
    """Return the detail that binds a statement to the body of its request: the SHA-256 in base64url."""
    return to_base64url(hashlib.sha256(body).digest())


def detail_of_room(room: str, other: PublicKey) -> str:
    """Return the detail for a room at the relay, in which the peer with the key `other` is awaited."""
    return f"{room} {other}"
