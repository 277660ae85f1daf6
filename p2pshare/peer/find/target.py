"""A target: what an opener needs to know of a peer in order to reach it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.candidates import Candidate, CandidateKind, Mapping


@dataclass(frozen=True, slots=True)
class Target:
    """A peer whose key has passed the pin check, with the addresses that this machine may connect to."""

    name: str
    key: PublicKey
    """The key that it must prove."""
    candidates: tuple[Candidate, ...]
    """Where it may be reached, the best first. Only addresses that `expect_elsewhere` accepts."""
    seal: str = ""
    """The key for which signals to it are sealed; empty if it takes none."""
    mapping: Mapping = Mapping.UNKNOWN
    """Of its NAT."""
    takes_calls: bool = False
    """Whether it can be called through the registry, and meets others at the relay."""
    is_remembered: bool = False
    """Whether the registry did not say where it is: the candidates are addresses at which it was seen before."""

    @classmethod
    def at(cls, name: str, key: PublicKey, *addresses: PeerAddress) -> Self:
        """Return a peer of which only addresses are known."""
        return cls(name, key, given(addresses))

    def __str__(self) -> str:
        """Return words for a log."""
        calls = " takes calls" if self.takes_calls else ""
        return f"{','.join(map(str, self.candidates))}{calls}"


def given(addresses: Iterable[PeerAddress]) -> tuple[Candidate, ...]:
    """Return candidates of which nothing but the address is known."""
    return tuple(Candidate(CandidateKind.GIVEN, each) for each in addresses)
