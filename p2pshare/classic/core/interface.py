"""The surface that all cores share: bytes and the time go in, bytes and events come out."""

from __future__ import annotations

from typing import Any, Protocol

Address = tuple[str, int]
"""An IP address in its text form, and a port."""

Outgoing = list[tuple[bytes, Address]]
"""Datagrams to send, each with where to."""


class DatagramCore(Protocol):
    """The surface of every core that speaks in datagrams; `now` is in seconds."""

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Take in a datagram."""

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Give out what is due."""

    def get_timer(self) -> float | None:
        """When there will be something due by time alone."""

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""

    def next_event(self) -> Any:
        """What has happened, or None."""
