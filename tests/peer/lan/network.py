"""A local network in memory, with what peers and strangers announce on it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace

from p2pshare.errors import LanUnusable
from p2pshare.peer.lan.announcement import Announcement
from p2pshare.peer.lan.directory import Heard
from p2pshare.wire.addresses import LAN, PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import CAP_SESSIONS

HOME = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("fd00::/64"))


def key_of(number: int) -> PublicKey:
    """Return one of some keys."""
    return SigningKey(bytes([number]) * 32).public


def announced(
    name: str, number: int = 1, host: int | None = None, port: int = 50_000
) -> Announcement:
    """Return what the peer `name` with a key announces, at an address of its own."""
    addresses = (PeerAddress(f"192.0.2.{number if host is None else host}", port),)
    return Announcement(name, key_of(number), addresses, (CAP_SESSIONS,))


class Network:
    """A network; `machines` are connected to it."""

    def __init__(self, *, answers_queries: bool = False) -> None:
        self.machines: list[Machine] = []
        self.answers_queries = answers_queries
        """Whether a machine that begins to listen hears what was announced before."""

    def say(self, *announcements: Announcement) -> None:
        """Let somebody announce peers."""
        for each in self.machines:
            if each.heard is not None:
                each.heard(announcements, ())

    def leave(self, *instances: str) -> None:
        """Let somebody say that peers have left."""
        for each in self.machines:
            if each.heard is not None:
                each.heard((), instances)

    def machine(self, host: int = 100) -> Machine:
        """Connect one more machine."""
        self.machines.append(Machine(self, host))
        return self.machines[-1]


class Machine:
    """A machine on the network: a `Multicast`."""

    def __init__(self, network: Network, host: int) -> None:
        self.heard: Heard | None = None
        self.announced: Announcement | None = None
        self.repeats = 0
        self.is_unplugged = False
        self._network = network
        self._host = host

    async def open(self, heard: Heard) -> None:
        if self.is_unplugged:
            raise LanUnusable(registry=LAN, reason="it has no address in a network")
        self.heard = heard
        if self._network.answers_queries:
            for each in self._network.machines:
                await each.repeat()

    async def announce(self, announcement: Announcement | None) -> None:
        before, self.announced = self.announced, announcement
        if before is not None and announcement is None:
            self._network.leave(before.instance)
        await self.repeat()

    async def repeat(self) -> None:
        self.repeats += 1
        if self.announced is not None:
            port = self.announced.addresses[0].port
            here: Sequence[PeerAddress] = (PeerAddress(f"192.0.2.{self._host}", port),)
            self._network.say(replace(self.announced, addresses=tuple(here)))

    async def close(self) -> None:
        if self.announced is not None:
            await self.announce(None)
        self.heard = None
