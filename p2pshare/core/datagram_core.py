"""The interface of every core that speaks in datagrams: bytes and the time go in, datagrams and events come out."""

from __future__ import annotations

from typing import Any, Protocol

Address = tuple[str, int]
"""An IP address in its text form, and a port."""

Outgoing = list[tuple[bytes, Address]]
"""Datagrams to send, each with its destination."""


class DatagramCore(Protocol):
    """A state machine without socket, clock or randomness; `now` is in seconds."""

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Process a datagram."""

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Return the datagrams that are due; the core does not return them again."""

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and `datagrams_to_send` next; None if only a datagram matters."""

    def handle_timer(self, now: float) -> None:
        """Process the passing of time."""

    def next_event(self) -> Any:
        """Return the oldest event that was not returned yet, or None."""
