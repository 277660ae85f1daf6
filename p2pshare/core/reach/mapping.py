"""How the NAT in front of a peer maps its UDP port, by what STUN servers have answered."""

from __future__ import annotations

import collections.abc
import ipaddress

from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.candidates import Mapping

Answers = collections.abc.Mapping[PeerAddress, PeerAddress | None]
"""The servers that were asked from one UDP port, and the mapped address in each answer; None if none came."""


def classify(answers: Answers, own: collections.abc.Iterable[str]) -> Mapping:
    """Return how the NAT maps, by RFC 4787, section 4.1.

    Two ports of one server show a mapping that depends on the port, as that of nearly every symmetric NAT does. One
    that depends on the address alone shows with two servers only. IPv4 decides if an IPv4 server was asked and has
    answered, since NATs are in front of IPv4. If only one server has answered, the result is `UNKNOWN`, unless the
    mapped address is one of the peer's own.

    Args:
        answers: of servers of both families.
        own: IP addresses of the peer's interfaces.
    """
    for family in False, True:
        mapped = [
            answer
            for server, answer in answers.items()
            if answer is not None and server.is_ipv6 == family
        ]
        if mapped:
            return _classify_family(mapped, own)
    return Mapping.BLOCKED if answers else Mapping.UNKNOWN


def _classify_family(mapped: list[PeerAddress], own: collections.abc.Iterable[str]) -> Mapping:
    found = {ipaddress.ip_address(address.ip) for address in mapped}
    if found <= set(map(ipaddress.ip_address, own)):
        return Mapping.NONE
    if len(set(mapped)) > 1:
        return Mapping.DEPENDENT
    return Mapping.INDEPENDENT if len(mapped) > 1 else Mapping.UNKNOWN
