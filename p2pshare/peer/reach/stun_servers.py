"""The STUN servers of a registry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from p2pshare.net.dns import LookUpError, look_up
from p2pshare.wire.addresses import PeerAddress, address_fault, is_loopback, stun_place


async def stun_servers(reactor: Any, stun: Sequence[str], url: str) -> tuple[PeerAddress, ...]:
    """Return the addresses at which a registry answers STUN requests: for each place one of either family.

    A place that cannot be looked up is left out. So is an address that no other machine has: a registry must not make
    its peers send datagrams to programs on their own machines. The registry's own host may be this machine, since its
    URL is the user's choice.

    Args:
        reactor: looks names up.
        stun: the places in the registry's description, at most `STUN_MAX`.
        url: of the registry, whose host stands for a missing one.
    """
    own, found = urlsplit(url).hostname or "", dict[PeerAddress, None]()
    for text in stun:
        host, port = stun_place(text)
        answer: Sequence[str] = ()
        with suppress(LookUpError):
            answer = await look_up(reactor, host or own)
        for is_ipv6 in (False, True):
            ip = next((each for each in answer if (":" in each) == is_ipv6), None)
            if ip is not None and not address_fault(ip) and not (host and is_loopback(ip)):
                found[PeerAddress(ip, port)] = None
    return tuple(found)
