"""Candidates: the addresses at which a peer may be reachable, with how the peer knows each of them.

A candidate is one text on the wire, `KIND/IP:PORT`. Its address is one that a peer may have: see
`p2pshare.wire.addresses`. The kind tells an opener what to try first, and over what: an address that STUN has found is
one for UDP, since a NAT gives a TCP connection another port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.addresses import PeerAddress, endpoint_fault
from p2pshare.wire.json_fields import Codec, Fields
from p2pshare.wire.strict_json import texts

CANDIDATES_MAX = 8
TEXT_MAX = 64  # characters of a candidate, and of an address with its port

T = TypeVar("T")


class CandidateKind(StrEnum):
    """How a peer knows an address."""

    GIVEN = "given"
    """By the user, with `--address`."""
    FORWARDED = "forwarded"
    """By a port mapping that the router has granted."""
    HOST = "host"
    """It is an interface's."""
    SEEN = "seen"
    """The registry was asked from it; the port is the welcome port's."""
    MAPPED = "mapped"
    """By STUN; it is for UDP only."""


class Mapping(StrEnum):
    """How the NAT in front of a peer maps its UDP port. RFC 4787, section 4.1."""

    NONE = "none"
    """There is no NAT: the mapped address is one of the peer's own."""
    INDEPENDENT = "independent"
    """To one address, whatever the destination is, so that others can use it."""
    DEPENDENT = "dependent"
    """To an address for each destination, so that others cannot use it."""
    BLOCKED = "blocked"
    """There was no answer over UDP."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address at which a peer may be reachable."""

    kind: CandidateKind
    address: PeerAddress

    def __str__(self) -> str:
        """Return `KIND/IP:PORT`, with brackets around an IPv6 address."""
        return f"{self.kind}/{self.address}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the canonical form, and no other. Whether a peer can have the address is not checked.

        Raises:
            ValueError: it is not a candidate in this form.
        """
        kind, _, address = text.partition("/")
        return cls(CandidateKind(kind), PeerAddress.parse(address))

    @property
    def has_tcp(self) -> bool:
        """Whether the address may be one for TCP, too."""
        return self.kind is not CandidateKind.MAPPED


def tcp_addresses(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """Return the different `IP:PORT`s of candidates that may have TCP, in their order."""
    return tuple(dict.fromkeys(str(each.address) for each in candidates if each.has_tcp))


def distinct(
    what: str, most: int, parse: Callable[[str], T], address_of: Callable[[T], PeerAddress]
) -> Codec:
    """Return the codec of a tuple of at most `most` different values with addresses that a peer may have.

    Args:
        what: name of a value in an error.
        most: values in the array.
        parse: reads a value in its canonical form, or raises `ValueError`.
        address_of: returns the address of a value.
    """

    def read_one(text: str) -> T:
        try:
            value = parse(text)
        except ValueError:
            raise RemoteProtocolError(reason=f"{text!r} is no {what} in canonical form") from None
        fault = endpoint_fault(str(address_of(value)))
        if fault is not None:
            raise RemoteProtocolError(reason=f"the {what} {text!r} {fault}")
        return value

    def read(fields: Fields, key: str) -> tuple[T, ...]:
        found = texts(fields, key, most, TEXT_MAX)
        if len(set(found)) < len(found):
            raise RemoteProtocolError(reason=f"one of the {key} stands twice")
        return tuple(map(read_one, found))

    return Codec(read, _written)


def _written(values: Iterable[Any]) -> list[str]:
    return list(map(str, values))


def _itself(address: PeerAddress) -> PeerAddress:
    return address


def _address_of(candidate: Candidate) -> PeerAddress:
    return candidate.address


CANDIDATES = distinct("candidate", CANDIDATES_MAX, Candidate.parse, _address_of)
"""The candidates of a peer, the best first."""


def endpoints(most: int) -> Codec:
    """Return the codec of a tuple of at most `most` different `PeerAddress`es."""
    return distinct("address", most, PeerAddress.parse, _itself)
